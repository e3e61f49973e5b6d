"""The peer in JAX: that it learns by the same arithmetic as ours, and what is said where it is missing."""

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clutr.agents.losses import ActionEvaluation, clipped_losses
from clutr.agents.rollout import generalised_advantages
from clutr.experiments.benchmarks import maze_train

SCRIPT = Path(maze_train.__file__).with_name("jaxued_peer.py")
INSTALLED = all(find_spec(name) for name in ("jaxued", "optax"))
needs_jaxued = pytest.mark.skipif(not INSTALLED, reason="JaxUED is not installed")


@pytest.fixture
def peer() -> Any:
    return importlib.import_module("clutr.experiments.benchmarks.jaxued_peer")


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "python"
    monkeypatch.setenv(maze_train.PEERS_PYTHON, str(path))
    return path


def test_an_interpreter_of_its_own_runs_the_peer(interpreter: Path) -> None:
    found = {"steps_per_second": 1234.5, "jax": "1", "flax": "2", "jaxued": "3", "backend": "cpu"}
    interpreter.write_text(
        f"#!/bin/sh\necho \"$@\" > {interpreter}.arguments\necho noise\necho '{json.dumps(found)}'\n"
    )
    interpreter.chmod(0o700)
    name, rate = maze_train.jaxued_steps_per_second()
    assert (name, rate) == ("the same on JaxUED's mazes in JAX, all compiled (jax 1, flax 2, jaxued 3; cpu)", 1234.5)
    assert Path(f"{interpreter}.arguments").read_text().split() == ["-P", str(SCRIPT), "--updates", "6"]


def test_a_peer_that_fails_is_said_with_its_last_line(interpreter: Path) -> None:
    interpreter.write_text("#!/bin/sh\necho first >&2\necho 'ImportError: no jax' >&2\nexit 1\n")
    interpreter.chmod(0o700)
    assert maze_train.jaxued_steps_per_second() == ("JaxUED did not run: ImportError: no jax", None)
    interpreter.unlink()
    name, rate = maze_train.jaxued_steps_per_second()
    assert rate is None
    assert "No such file" in name


def test_a_missing_peer_is_said_with_the_ways_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(maze_train.PEERS_PYTHON, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    name, rate = maze_train.jaxued_steps_per_second()
    assert rate is None
    assert 'pip install "clutr[peers]", or CLUTR_PEERS_PYTHON=' in name


@pytest.mark.skipif(not INSTALLED and maze_train.PEERS_PYTHON not in os.environ, reason="JaxUED is not installed")
def test_the_program_prints_its_rate_and_versions() -> None:
    python = os.environ.get(maze_train.PEERS_PYTHON, sys.executable)
    command = [python, "-P", str(SCRIPT), "--updates", "1", "--environments", "2", "--steps", "8"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    assert found["steps_per_second"] > 0
    assert set(found) == {"steps_per_second", "python", "jax", "jaxued", "flax", "optax", "backend"}


def moments(peer: Any, t: int = 7, n: int = 3) -> Any:
    rng = np.random.default_rng(1)
    small = {name: rng.normal(size=(t, n)).astype(np.float32) for name in ("log_prob", "value", "reward")}
    flags = {name: rng.random((t, n)) < 0.3 for name in ("start", "done")}
    images = np.zeros((t, n, 5, 5, 3), np.uint8)
    return peer.Moment(images, np.zeros((t, n), int), action=rng.integers(0, 4, (t, n)), **small, **flags)


@needs_jaxued
def test_advantages_are_ours(peer: Any) -> None:
    played, last = moments(peer), np.array([0.3, -0.2, 1.0], np.float32)
    following = torch.tensor(np.concatenate([played.value[1:], last[None]]))
    following[torch.tensor(played.done)] = 0  # for JaxUED, the end by the time limit is a termination
    ours = generalised_advantages(
        torch.tensor(played.reward), torch.tensor(played.value), following, torch.tensor(played.done), 0.995, 0.95
    )
    np.testing.assert_allclose(np.asarray(peer.advantages_of(played, last)), ours.numpy(), rtol=1e-5, atol=1e-5)


@needs_jaxued
def test_losses_are_ours(peer: Any) -> None:
    played, rng = moments(peer), np.random.default_rng(2)
    logits, values, advantages, returns = (
        rng.normal(size=shape).astype(np.float32) for shape in ((7, 3, 4), (7, 3), (7, 3), (7, 3))
    )
    chances = torch.log_softmax(torch.tensor(logits), -1)
    chosen = chances.gather(-1, torch.tensor(played.action)[..., None])[..., 0]
    new = ActionEvaluation(chosen, torch.tensor(values), -(chances.exp() * chances).sum(-1))
    old = ActionEvaluation(torch.tensor(played.log_prob), torch.tensor(played.value), torch.zeros(7, 3))
    parts = clipped_losses(new, old, torch.tensor(advantages), torch.tensor(returns), 0.2)
    expected = parts.policy + 0.5 * parts.value - 0.01 * parts.entropy
    found = peer.loss_of(chances.numpy(), values, played, advantages, returns)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@needs_jaxued
def test_a_rollout_replays_its_levels_and_an_update_learns(peer: Any) -> None:
    import jax  # noqa: PLC0415

    trainer = peer.Trainer(peer.Shape(environments=4, steps=260, hidden=8))
    played, _ = jax.jit(trainer.rollout)(trainer.weights, jax.random.PRNGKey(3))
    done, start = np.asarray(played.done), np.asarray(played.start)
    assert done.any(), "episodes end after 250 steps at the latest"
    assert (start[1:] == done[:-1]).all()
    for t, n in np.argwhere(start):
        assert (np.asarray(played.image)[t, n] == np.asarray(played.image)[0, n]).all(), "the same level again"
    before = jax.tree_util.tree_map(np.asarray, trainer.weights)
    assert np.isfinite(np.asarray(trainer.train(jax.random.PRNGKey(1)))).all()
    changed = jax.tree_util.tree_map(lambda old, new: bool((old != np.asarray(new)).any()), before, trainer.weights)
    assert all(jax.tree_util.tree_leaves(changed))
