"""`clutr train PRESET --student NAME`: another student in the same experiment."""

from pathlib import Path

import pytest

from clutr.agents.ppo import PPOConfig
from clutr.agents.sb3 import SB3A2CConfig, SB3DQNConfig, SB3PPOConfig
from clutr.experiments.cli.main import main
from clutr.experiments.run_directory import RunDirectory


def test_another_student_trains_resumes_and_is_tested(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--student=sb3-a2c", "--student.hidden", "8", "--evaluate-every", "0", "--run", str(run)]
    assert main(["train", "maze-robust-plr", "--num-envs", "4", "--total-steps", "2048", *options]) == 0
    student = RunDirectory(run).experiment.student
    assert student == SB3A2CConfig(rollout_steps=256, hidden=8), "the preset says how long levels are played"
    assert len(RunDirectory(run).metrics()["update"]) == 2
    assert main(["resume", str(run)]) == 0
    assert main(["eval", str(run), "--suite", "small", "--episodes", "1", "--json"]) == 0
    assert main(["report", str(run)]) == 0


@pytest.mark.parametrize(
    ("preset", "name", "expected"),
    [
        ("car-dr-debug", "sb3-ppo", SB3PPOConfig(rollout_steps=4, normalise_returns=True)),
        ("maze-dr-debug", "sb3-dqn", SB3DQNConfig(rollout_steps=32)),
        ("maze-dr-debug", "ppo", PPOConfig(rollout_steps=32)),
    ],
)
def test_what_belongs_to_the_preset_stays(
    preset: str, name: str, expected: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clutr.experiments.cli.runs._train_on", lambda *_: None)
    assert main(["train", preset, "--student", name, "--run", str(tmp_path / "run")]) == 0
    assert RunDirectory(tmp_path / "run").experiment.student == expected


def test_one_error_for_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "maze-dr-debug", "--student", "sb3-foo"]) == 2
    assert "no student is called 'sb3-foo'; there are: " in capsys.readouterr().err
    assert main(["train", "car-dr-debug", "--student", "sb3-dqn", "--run", str(tmp_path / "run")]) == 2
    assert "cannot be trained: this student takes discrete actions, not Box(" in capsys.readouterr().err
