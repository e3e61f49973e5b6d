"""Runs launched from a file, and runs that get another budget."""

from pathlib import Path
from typing import Any

import pytest
import torch

import clutr
from clutr.experiments.cli.main import main
from clutr.experiments.storage import RunError


def weights(run: Path) -> dict[str, torch.Tensor]:
    student = clutr.load_student(run)
    found: dict[str, torch.Tensor] = student.state_dict()["network"]
    return found


def test_a_finished_run_goes_on_as_one_that_had_the_budget_from_its_beginning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    options: dict[str, Any] = {"evaluate_every": 0, "curriculum": {"kind": "plr", "capacity": 8}}
    clutr.train("maze-dr-debug", run=long, **options)
    total = clutr.load_run(long).experiment.total_steps
    clutr.train("maze-dr-debug", run=short, total_steps=total // 2, **options)
    assert main(["resume", str(short), "--total-steps", str(total)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"the budget was {total // 2:,} steps and is {total:,} now" in printed
    assert "learning rate" not in printed, "nothing else depends on the budget"
    assert (short / "metrics.csv").read_text() == (long / "metrics.csv").read_text()
    assert (short / "config.yaml").read_text() == (long / "config.yaml").read_text()
    torch.testing.assert_close(weights(short), weights(long), rtol=0, atol=0)


def test_what_a_schedule_makes_of_another_budget_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = {"learning_rate_schedule": "linear"}
    run = clutr.train("maze-dr-debug", run=tmp_path / "run", evaluate_every=0, student=student)
    total = run.experiment.total_steps
    longer = clutr.resume(run, total_steps=total * 4, progress=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "the learning rate goes on at 75% of the first one, where it was 0%, and reaches 0 at the new end" in said
    assert longer.experiment.total_steps == total * 4
    assert longer.metrics()["steps"][-1] == total * 4


def test_a_budget_that_is_played_already_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = clutr.train("maze-dr-debug", run=tmp_path / "run", evaluate_every=0)
    before, total = (run.path / "config.yaml").read_bytes(), run.experiment.total_steps
    assert main(["resume", str(run.path), "--total-steps", str(total)]) == 2
    said = f"has played {total:,} steps: its budget must be above that, got {total:,}"
    assert said in " ".join(capsys.readouterr().err.split())
    assert (run.path / "config.yaml").read_bytes() == before
    with run.lock(), pytest.raises(RunError, match="another process is training"):
        clutr.resume(run, total_steps=10 * total)
    assert (run.path / "config.yaml").read_bytes() == before


def test_a_file_launches_the_same_run_and_any_field_can_be_overridden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = clutr.train("maze-dr-debug", run="runs/first", evaluate_every=0)
    file = first.path / "config.yaml"
    assert main(["train", str(file), "--run", "runs/again"]) == 0
    assert Path("runs/again/metrics.csv").read_text() == (first.path / "metrics.csv").read_text()
    Path("mine.yml").write_bytes(file.read_bytes())
    assert main(["train", "mine.yml", "--seed", "2", "--total-steps", "64"]) == 0
    assert clutr.load_run("runs/mine-s2").experiment.seed == 2
    assert clutr.train(file, seed=3, total_steps=64).path == Path("runs/first-s3")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing.yaml", "cannot read missing.yaml: No such file or directory"),
        ("broken.yaml", "broken.yaml: seed must be"),
        ("./folder", "folder is a directory: `clutr resume folder` goes on with a run"),
        ("maze-clutrr", "no preset is called 'maze-clutrr'; did you mean maze-clutr"),
    ],
)
def test_what_cannot_be_launched_is_one_line(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    run = clutr.train("maze-dr-debug", run="made", evaluate_every=0, total_steps=64)
    Path("broken.yaml").write_text((run.path / "config.yaml").read_text().replace("seed: 1", "seed: one", 1))
    assert main(["train", source]) == 2
    errors = capsys.readouterr().err
    assert said in " ".join(errors.split())
    assert errors.count("\n") == 1
    assert not Path("runs").exists()
