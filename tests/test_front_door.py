"""`import clutr`: quick, and one call for each thing that the command line does."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from torch import Tensor

import clutr
from clutr.agents.ppo import PPOConfig
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.training.runner import UpdateReport

HEAVY = ("torch", "numba", "scipy", "matplotlib", "ray", "stable_baselines3", "minigrid", "rich", "tyro")


def test_heavy_modules_are_imported_on_first_use() -> None:
    code = f"import sys, clutr; print([name for name in {HEAVY} if name in sys.modules]); clutr.MazeDomain"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


LIGHT = """
import contextlib, io, json, sys
from clutr.experiments.cli.main import main
for line in sys.argv[1:]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = main(line.split())
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, said.getvalue(), list({"torch", "numba", "matplotlib"} & set(sys.modules))]))
"""


def test_help_lists_and_wrong_names_import_nothing_heavy(tmp_path: Path) -> None:
    """All calls in one process, of which none may import what takes seconds."""
    no_run, no_world = "nowhere is not a run", "nowhere holds no world model"
    calls = {
        "--help": (0, "clutr COMMAND"),
        "list --help": (0, "usage: clutr list"),
        "resume --help": (0, "usage: clutr resume"),
        "train --help": (0, "maze-dr-debug"),
        "list presets": (0, "20,000,000 steps"),
        "list manifolds --json": (0, '"set-vae": "'),
        "list students": (0, "sb3-dqn"),
        "list benches": (0, "maze-engine"),
        "list world-presets": (0, "geometric core"),
        "models": (0, "maze-dr@best"),
        "trian": (2, "did you mean train?"),
        "train maze-dr-debgu": (
            2,
            "no preset is called 'maze-dr-debgu'; did you mean maze-dr-debug? There are: car-clutr",
        ),
        "train nowhere.yaml": (2, "cannot read nowhere.yaml: No such file or directory"),
        "train maze-dr --student nobody": (2, "no student is called 'nobody'; there are: pixel-ppo, ppo"),
        "train maze-clutr --manifold quilt": (2, "no manifold is called 'quilt'; there are: fast, full"),
        "train maze-clutr --manifold maze-dr@best": (
            2,
            "no manifold is called 'maze-dr@best'; did you mean maze-set@best?",
        ),
        "train maze-dr --num-envs many": (
            2,
            "--num-envs: invalid literal for int() with base 10: 'many' (`clutr train",
        ),
        "train maze-dr --total_step 5": (2, "Unrecognized options: --total-step; did you mean --total-steps? (`clutr"),
        "train maze-dr --zzz=3 --students.hidden 5": (
            2,
            "Unrecognized options: --zzz, --students.hidden (`clutr train",
        ),
        "train maze-dr --student.hidden wide": (2, "Error parsing --student.hidden: invalid literal for int()"),
        "train maze-dr --student.learning-rate=fast": (2, "--student.learning-rate: could not convert string to float"),
        f"eval {tmp_path / 'run'} --suite moon": (2, "no suite is called 'moon'; there are: accel12"),
        f"eval {tmp_path / 'run'} --suite f1": (2, "f1 is a suite of car; this is on maze, with: accel12"),
        f"compare {tmp_path / 'run'} --suite smal": (2, "no suite is called 'smal'; did you mean small?"),
        "train maze-dr --seeds few": (2, "seeds are numbers and ranges such as 1-5 or 1,4,7, got 'few'"),
        "sweep nowhere.yaml": (2, "cannot read nowhere.yaml: No such file or directory"),
        "eval --sb3 nowhere.zip": (2, "there is no file nowhere.zip"),
        "levels draw nowhere.txt": (2, "nowhere.txt: no such file"),
        "levels list maze.txt --domain moon": (2, "no domain is called 'moon'; there are: car, maze"),
        "train maze-dr --backend=nothing": (2, "no backend is called 'nothing'; there are: native, rllib"),
        f"train maze-dr --run {tmp_path / 'run'}": (2, "already holds a run: `clutr resume "),
        "pretrain moon": (2, "no domain is called 'moon'; there are: car, maze"),
        "pretrain maze --preset slow": (2, "no preset is called 'slow'; there are: fast, full"),
        "eval run --fast": (2, "Unrecognized options: --fast"),
        "eval nowhere": (2, no_run),
        "eval maze-clutr@bset": (2, "did you mean maze-clutr@best?"),
        "eval car-world@best": (2, "car-world@best is a world model, not a student or manifold"),
        "compare nowhere": (2, no_run),
        "resume nowhere": (2, no_run),
        "report nowhere": (2, no_run),
        "export nowhere": (2, no_run),
        "probe nowhere": (2, no_run),
        "film nowhere": (2, no_run),
        "levels export nowhere": (2, no_run),
        "bench nothing": (2, "no name is called 'nothing'"),
        "world train nowhere": (2, no_world),
        "world dream nowhere": (2, no_world),
        "world report --run nowhere": (2, no_world),
        "world record --core gruu": (2, "no core is called 'gruu'; did you mean gru?"),
        "world record --preset nothing": (2, "no preset is called 'nothing'; there are: car, car-fast"),
    }
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("domain: {kind: maze}")
    done = subprocess.run([sys.executable, "-c", LIGHT, *calls], capture_output=True, text=True, check=True)
    for call, (status, words), line in zip(calls, calls.values(), done.stdout.splitlines(), strict=True):
        ended, said, heavy = json.loads(line)
        assert (ended, heavy) == (status, []), call
        assert words in said, call


def test_the_package_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["clutr", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("clutr", run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out == f"clutr {clutr.__version__}\n"


@pytest.mark.parametrize("name", clutr.__all__)
def test_every_name_resolves_and_is_documented(name: str) -> None:
    assert getattr(clutr, name).__doc__
    assert name in dir(clutr)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'clutr' has no attribute 'fly'"):
        _ = clutr.fly


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunDirectory]:
    """Two seeds of one method, trained and evaluated."""
    root = tmp_path_factory.mktemp("runs")
    runs = [clutr.train("maze-dr-debug", seed=seed, evaluate_every=0, run=root / f"dr-s{seed}") for seed in (1, 2)]
    for run in runs:
        clutr.evaluate(run, "small", episodes=2)
    return runs


def test_a_preset_is_trained_with_other_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[UpdateReport] = []
    run = clutr.train(
        "maze-clutr-debug",
        run=tmp_path / "mine",
        progress=told.append,
        student={"hidden": 8},
        manifold="combinatorial",
        total_steps=512,
        evaluate_every=0,
    )
    assert [report.steps for report in told] == [256, 512]
    assert run.experiment.student == PPOConfig(
        rollout_steps=32, hidden=8, head=8, torso="symbols", torso_width=16, epochs=2, minibatches=2
    )
    assert clutr.MANIFOLDS.name_of(type(run.experiment.manifold)) == "combinatorial"  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""
    levels = clutr.sample_levels(3, run.domain())
    assert clutr.load_manifold(tmp_path / "mine").encode(levels).shape[0] == 3
    clutr.resume(run, progress=True)
    assert "resuming" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experiment": "nothing"}, "no preset is called 'nothing'; there are: car-clutr,"),
        ({"student": "nobody"}, "no student is called 'nobody'; there are: pixel-ppo, ppo"),
        ({"curriculum": "school"}, "no curriculum is called 'school'; there are: "),
        ({"manifold": "fast"}, "there is no manifold to replace"),
        ({"speed": 3}, "no option is called 'speed'"),
        ({"student": {"hiden": 3}}, "hiden"),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"evaluate_suite": "moon"}, "no suite is called 'moon'; there are: accel12"),
    ],
)
def test_what_cannot_be_trained(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(clutr.RunError, match=message):
        clutr.train(**{"experiment": "maze-dr-debug", "run": tmp_path / "run", **options})
    assert not (tmp_path / "run").exists()


def test_a_stopped_training_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clutr.experiments.api.train_run", lambda *_: False)
    with pytest.raises(KeyboardInterrupt):
        clutr.train("maze-dr-debug", run=tmp_path / "run")


def test_runs_are_compared_and_reported(runs: list[RunDirectory]) -> None:
    comparison = clutr.compare([run.path for run in runs], "small")
    assert [len(method.runs) for method in comparison.methods] == [2]
    assert clutr.report(runs[0], beside=runs[1:]).read_text().lower().startswith("<!doctype html>")
    with pytest.raises(clutr.RunError, match="nowhere is not a run"):
        clutr.load_run("nowhere")
    with pytest.raises(clutr.RunError, match="has no pretrained manifold"):
        clutr.load_manifold(runs[0])


def test_a_student_is_evaluated_as_its_run_is(runs: list[RunDirectory]) -> None:
    student, seen = clutr.load_student(runs[0].path), []
    alone = clutr.evaluate(student, "small", 2, domain=runs[0].domain(), progress=lambda *done: seen.append(done))
    assert seen
    assert alone["levels"] == clutr.evaluate(runs[0], "small", 2)["levels"]
    assert alone["run"] == type(student).__name__


class Predicts:
    """Acts like a model of other packages."""

    def predict(self, observation: dict[str, Any], deterministic: bool = False) -> tuple[Any, None]:
        assert deterministic
        return observation["direction"] * 0, None


def test_policies_of_ones_own_are_evaluated() -> None:
    suite = clutr.suites("maze")["small"]
    result = clutr.evaluate(Predicts(), suite, 1, deterministic=True)
    assert len(result["levels"]) == len(suite.tasks)
    assert result["summary"]["mean_solved"] == 0, "it only turns left"

    def one_action(observation: dict[str, Tensor]) -> Tensor:
        return observation["direction"][:1]

    with pytest.raises(clutr.RunError, match=r"gave actions of shape \(1,\) to 3 environments"):
        clutr.evaluate(one_action, suite, 3)
    with pytest.raises(clutr.RunError, match=r"no actions of this environment: .* whole number in 0\.\.6, got \[99, "):
        clutr.evaluate(lambda seen: seen["direction"] * 0 + 99, suite, 3)
    with pytest.raises(clutr.RunError, match="3 is no policy"):
        clutr.evaluate(3, suite)
    with pytest.raises(clutr.RunError, match="episodes must be at least 1, got 0"):
        clutr.evaluate(one_action, suite, 0)
    with pytest.raises(clutr.RunError, match="episodes must be at most 1,000,000, got 1000001"):
        clutr.evaluate(one_action, suite, 1_000_001)


def test_a_model_of_stable_baselines3_is_evaluated() -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    wrapped: Any = gymnasium.wrappers.FlattenObservation(gymnasium.make("clutr/Maze-v0"))
    model = sb3.A2C("MlpPolicy", wrapped, n_steps=8, policy_kwargs={"net_arch": [8]}, device="cpu")
    assert clutr.evaluate(model, "small", 1)["run"] == "A2C"
    with pytest.raises(clutr.RunError, match="this environment those of Box"):
        clutr.evaluate(model, "bezier-small", 1, domain="car")


def test_a_manifold_is_pretrained_once(tmp_path: Path) -> None:
    told: list[int] = []
    manifold = clutr.pretrain("maze", "combinatorial", manifolds=tmp_path, progress=lambda done, *_: told.append(done))
    (kept,) = tmp_path.iterdir()
    again = clutr.pretrain("maze", "combinatorial", manifolds=tmp_path)
    assert again.dim == manifold.dim
    assert list(tmp_path.iterdir()) == [kept]
    with pytest.raises(clutr.RunError, match="no preset is called 'slow'"):
        clutr.pretrain("maze", "slow", manifolds=tmp_path)


@pytest.mark.parametrize("name", ["maze", "car"])
def test_levels_are_sampled_written_read_and_drawn(name: str, tmp_path: Path) -> None:
    levels = clutr.sample_levels(2, name)
    assert levels.key() == clutr.sample_levels(2, name, seed=1).key()
    domain: Any = clutr.DOMAINS[name]()
    path = tmp_path / "levels.txt"
    path.write_text(domain.format(levels))
    assert clutr.read_levels(path, name).key() == clutr.read_levels(path.read_text(), name).key() == levels.key()
    pictures = clutr.draw_levels(levels)
    assert pictures.dtype == torch.uint8
    assert pictures.shape[0] == 2


def test_what_is_no_level_or_no_domain_is_said(tmp_path: Path) -> None:
    with pytest.raises(clutr.LevelError, match="nonsense: no such file"):
        clutr.read_levels("nonsense")
    with pytest.raises(clutr.RunError, match="no domain is called 'moon'; there are: car, maze"):
        clutr.suites("moon")
    with pytest.raises(clutr.RunError, match="no domain draws int"):
        clutr.draw_levels(3)  # type: ignore[arg-type]
    small = clutr.sample_levels(1, clutr.MazeDomain(height=5, width=5, max_obstacles=3))
    assert clutr.draw_levels(small).shape[0] == 1, "mazes of any size"
    with pytest.raises(clutr.RunError):
        clutr.load_world_model(tmp_path)


def test_a_runs_student_plays_elsewhere(runs: list[RunDirectory], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    player = clutr.load_predictor(runs[0])
    observation, _ = gymnasium.make("clutr/Maze-v0").reset(seed=1)
    action, state = player.predict(observation)
    assert (action.shape, state.shape) == ((), (1, 2 * runs[0].experiment.student.hidden))  # type: ignore[attr-defined]
    path = clutr.export(runs[0].path, tmp_path / "student.onnx")
    assert b"rollout_steps: 32" in path.read_bytes(), "the configuration is in its metadata"
