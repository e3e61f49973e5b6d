"""Every registered curriculum in every domain: a tiny run trains, and continues bit for bit after an interruption."""

import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.agents.ppo import PPOConfig
from clutr.agents.sb3 import SB3DQNConfig
from clutr.curricula.base import CURRICULA
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.config import Experiment
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.runner import Runner, UpdateReport, require_trainable
from clutr.manifold.base import Manifold
from clutr.manifold.set_vae import SetVAEConfig

MANIFOLD = SetVAEConfig(hidden=8, latent=6, refinements=1)
UPDATES = 4
CHECKPOINT = 2
"""After so many updates one is written. The run is interrupted in the update after the next."""

EXPERIMENTS: dict[str, Experiment] = {
    "maze": Experiment(
        domain=MazeDomain(height=5, width=5, max_obstacles=6, max_steps=5),
        curriculum=CURRICULA["dr"](),
        student=PPOConfig(rollout_steps=6, hidden=8, head=8, torso="symbols", torso_width=8, epochs=1),
        manifold=MANIFOLD,
        num_envs=4,
        total_steps=UPDATES * 4 * 6,
        evaluate_every=0,
        checkpoint_every=CHECKPOINT,
        record_every=2,
    ),
    "car": Experiment(
        domain=CarDomain(max_frames=16),
        curriculum=CURRICULA["dr"](),
        student=PixelPPOConfig(torso="light", rollout_steps=2, epochs=1, minibatches=1),
        manifold=MANIFOLD,
        num_envs=4,
        total_steps=UPDATES * 4 * 2,
        evaluate_every=0,
        checkpoint_every=CHECKPOINT,
        record_every=2,
    ),
}

# A student with a memory of its own, and somebody else's network, optimiser and generators.
EXPERIMENTS["maze with sb3-dqn"] = replace(
    EXPERIMENTS["maze"],
    student=SB3DQNConfig(
        rollout_steps=6, hidden=8, buffer_size=100, learning_starts=20, batch_size=8, steps_per_gradient=8
    ),
)

SMALL: dict[str, Any] = {
    "capacity": 6,
    "minimum_fill": 0.5,
    "replay_probability": 0.6,
    "candidates": 4,
    "environments": 2,
    "kept": 2,
    "train_updates": 1,
    "fit_every": 4,
    "window": 12,
    "filters": 2,
    "recurrent": 8,
}
"""Options of whatever curriculum has them, so that a few updates see every phase of it."""


def experiment(domain: str, name: str) -> Experiment:
    config = CURRICULA[name]
    options = {field.name: SMALL[field.name] for field in fields(config) if field.name in SMALL}  # type: ignore[arg-type]
    return replace(EXPERIMENTS[domain], curriculum=config(**options))


def manifold(chosen: Experiment) -> Manifold:
    assert chosen.manifold is not None
    return chosen.manifold.build(chosen.domain, 1)


def final_state(run: RunDirectory) -> dict[str, Any]:
    state, problems = run.load_checkpoint()
    assert state is not None
    assert not problems
    return {name: value for name, value in state.items() if not name.endswith("seconds")}


def assert_equal(first: Any, second: Any, where: str = "state") -> None:
    """Two nested states are the same to the last bit."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for name in first:
            assert_equal(first[name], second[name], f"{where}/{name}")
    elif isinstance(first, list):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_equal(one, other, f"{where}/{index}")
    elif isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype, where
        assert torch.equal(first, second), where
    else:
        assert first == second, where


@pytest.mark.parametrize("domain", EXPERIMENTS)
@pytest.mark.parametrize("name", list(CURRICULA))
def test_an_interrupted_run_ends_as_if_it_had_not_been(name: str, domain: str, tmp_path: Path) -> None:
    chosen = experiment(domain, name)
    if (name, domain) == ("pace", "maze with sb3-dqn"):
        with pytest.raises(
            RunError, match="the curriculum 'pace' trains the students ppo and pixel-ppo, not a DQNStudent"
        ):
            require_trainable(chosen)
        return
    whole, parted = RunDirectory.create(tmp_path / "whole", chosen), tmp_path / "parted"

    def interrupt(report: UpdateReport) -> None:
        if report.update == CHECKPOINT + 1:  # as SIGKILL would leave it: with a row and a proposal of this update
            shutil.copytree(whole.path, parted)

    assert Runner(whole, manifold(chosen)).train(interrupt)
    resumed = Runner(RunDirectory(parted), manifold(chosen))
    assert resumed.update == CHECKPOINT
    assert resumed.train()

    assert_equal(final_state(whole), final_state(resumed.run))
    assert (whole.path / "metrics.csv").read_bytes() == (parted / "metrics.csv").read_bytes()
    rows = whole.metrics()
    assert len(rows["update"]) == UPDATES
    assert [proposal.update for proposal in whole.proposals()] == [1, 2, 4]
