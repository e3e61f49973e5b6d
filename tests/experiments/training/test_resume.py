"""A run that is killed and resumed equals the undisturbed run, bit for bit."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killing import Command

from clutr.agents.ppo import PPOConfig
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, load_state
from clutr.experiments.training.manifolds import manifold_cache
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.runner import Runner, UpdateReport
from clutr.experiments.training.train import train

DEBUG = [name for name in PRESETS if name.endswith("-debug")]


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two nested states differ; clocks are left out."""
    if isinstance(left, torch.Tensor):
        return [] if torch.equal(left, right) else [path]
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        return [
            d
            for key in left
            if not str(key).endswith("seconds")
            for d in differences(left[key], right[key], f"{path}/{key}")
        ]
    if isinstance(left, list | tuple):
        assert len(left) == len(right), path
        return [d for i, item in enumerate(left) for d in differences(item, right[i], f"{path}/{i}")]
    return [] if left == right else [path]


def assert_same_run(left: RunDirectory, right: RunDirectory) -> None:
    assert (left.path / "metrics.csv").read_bytes() == (right.path / "metrics.csv").read_bytes()
    assert differences(load_state(left.checkpoints()[-1]), load_state(right.checkpoints()[-1])) == []
    proposals = [run.proposals() for run in (left, right)]
    assert [p.update for p in proposals[0]] == [p.update for p in proposals[1]]
    assert [p.levels.key() for p in proposals[0]] == [p.levels.key() for p in proposals[1]]


def ignore(_: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def manifolds() -> Path:
    return manifold_cache()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, manifolds: Path) -> dict[str, RunDirectory]:
    runs = {}
    for name in DEBUG:
        runs[name] = RunDirectory.create(tmp_path_factory.mktemp("undisturbed") / name, PRESETS[name])
        assert train(runs[name], manifolds, ignore)
    return runs


@pytest.mark.parametrize("name", DEBUG)
def test_killed_with_sigkill_at_random_times(name: str, undisturbed: dict[str, RunDirectory], tmp_path: Path) -> None:
    """Real processes, killed at random times of the training: so many updates are done, and a part of the next."""
    rng, whole = random.Random(name), undisturbed[name]
    run = RunDirectory.create(tmp_path / name, PRESETS[name])
    updates, pace = len(whole.metrics_file.rows()), float(np.diff(whole.timing()["seconds"]).mean())
    metrics, kills, last = run.path / "metrics.csv", 0, 0
    for latest in (updates // 2, updates - 1):
        last = rng.randint(last, latest)

        def played(done: int = last) -> bool:
            return metrics.exists() and metrics.read_bytes().count(b"\n") > done

        command = Command(tmp_path, ["resume", str(run.path)])
        command.wait_until(played)
        kills += not command.wait(rng.uniform(0, pace))
    assert kills >= 1, "the run ended before it could be killed"
    assert Command(tmp_path, ["resume", str(run.path)]).wait()
    assert_same_run(run, whole)


@pytest.mark.parametrize("name", ["maze-clutr-debug", "maze-paired-debug"])
def test_stopped_after_every_update(
    name: str, undisturbed: dict[str, RunDirectory], manifolds: Path, tmp_path: Path
) -> None:
    """A runner that stops after each update and is made anew must come to the same end."""
    run = RunDirectory.create(tmp_path / name, PRESETS[name])
    experiment = PRESETS[name]
    assert train_in_pieces(run, manifolds) >= 4
    assert run.metrics()["steps"][-1] >= experiment.total_steps
    assert_same_run(run, undisturbed[name])


def test_a_learning_rate_that_falls_goes_on_where_it_was(manifolds: Path, tmp_path: Path) -> None:
    """Also where the passes of an update end early."""
    base = PRESETS["maze-dr-debug"]
    assert isinstance(base.student, PPOConfig)
    student = replace(base.student, learning_rate=0.1, learning_rate_schedule="linear", target_kl=1e-3)
    runs = [
        RunDirectory.create(tmp_path / name, replace(base, student=student, evaluate_every=0))
        for name in ("whole", "pieces")
    ]
    assert train(runs[0], manifolds, ignore)
    assert train_in_pieces(runs[1], manifolds) >= 4
    assert_same_run(*runs)
    steps = runs[0].metrics()["protagonist/gradient_steps"]
    assert steps.min() < student.epochs * student.minibatches, "no update ended early"
    state = load_state(runs[0].checkpoints()[-1])["students"]["protagonist"]["optimiser"]
    assert state["param_groups"][0]["lr"] == pytest.approx(0.1 / 6), "the last of six updates"


def train_in_pieces(run: RunDirectory, manifolds: Path) -> int:
    from clutr.experiments.training.manifolds import prepare_manifold  # noqa: PLC0415 (only here)

    pieces = 0
    finished = False
    while not finished:
        manifold = prepare_manifold(run, manifolds, lambda *_: None) if run.experiment.manifold else None
        runner = Runner(RunDirectory(run.path), manifold)

        def stop(_: UpdateReport, runner: Runner = runner) -> None:
            runner.stop_requested = True

        finished = runner.train(stop)
        pieces += 1
    return pieces


def test_corrupted_checkpoint_falls_back_and_ends_the_same(
    undisturbed: dict[str, RunDirectory], manifolds: Path, tmp_path: Path
) -> None:
    name = "maze-dr-debug"
    run = RunDirectory.create(tmp_path / name, PRESETS[name])
    assert train(run, manifolds, ignore)
    newest = run.checkpoints()[-1]
    newest.write_bytes(newest.read_bytes()[:-40])
    said: list[str] = []
    assert train(RunDirectory(run.path), manifolds, said.append)
    assert "is damaged" in said[0]
    assert "falling back to the checkpoint before" in said[0]
    assert "resuming" in said[1]
    assert_same_run(RunDirectory(run.path), undisturbed[name])


def test_other_seed_is_another_run(undisturbed: dict[str, RunDirectory], manifolds: Path, tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "other", replace(PRESETS["maze-dr-debug"], seed=2))
    train(run, manifolds, ignore)
    other = undisturbed["maze-dr-debug"]
    assert (run.path / "metrics.csv").read_bytes() != (other.path / "metrics.csv").read_bytes()


def test_full_disk_while_training_loses_nothing(
    manifolds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third checkpoint cannot be written: one error, and what was there before can be resumed."""
    run = RunDirectory.create(tmp_path / "full", PRESETS["maze-dr-debug"])
    runner = Runner(run)
    save = RunDirectory.save_checkpoint

    def fail(self: RunDirectory, update: int, state: Any) -> Path:
        if update == 4:
            raise RunError(f"cannot write {self.path}: No space left on device")
        return save(self, update, state)

    monkeypatch.setattr(RunDirectory, "save_checkpoint", fail)
    with pytest.raises(RunError, match="No space left"):
        runner.train()
    monkeypatch.undo()
    said: list[str] = []
    assert train(RunDirectory(run.path), manifolds, said.append)
    assert "resuming" in said[0]
    assert "after update 2" in said[0]
