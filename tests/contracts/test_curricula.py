"""What every registered curriculum must do, on a tiny domain with a made-up manifold."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import CURRICULA, Context, Curriculum, Outcome, Proposal
from clutr.envs.capabilities import Parameter, Repairs
from clutr.envs.domain import Engine, LevelBatch, Suite
from clutr.experiments.storage import load_state, save_state
from clutr.manifold.set_vae import SetVAEConfig

NAMES = list(CURRICULA)


@dataclass(frozen=True)
class Cells(LevelBatch):
    """Levels of the tiny domain: which of its cells are set."""

    filled: Tensor


@dataclass(frozen=True)
class TinyDomain:
    """Grids of 3x4 cells, up to 5 of them set."""

    token_grid: tuple[int, int] = (3, 4)
    vocabulary: int = 12
    max_tokens: int = 5
    ordered_suffix_length: int = 0
    level_type = Cells
    parameters = (Parameter("filled", 0.0, 5.0, "cells that are set"), Parameter("first", 1.0, 12.0, "one of them"))

    def sample(self, n: int, rng: torch.Generator) -> Cells:
        return self.from_tokens(torch.randint(0, 13, (n, 5), generator=rng))[0]

    def to_tokens(self, levels: Cells) -> Tensor:
        order = torch.where(levels.filled, torch.arange(1, 13), 99).sort(1).values[:, :5]
        return torch.where(order == 99, 0, order)

    def from_tokens(self, tokens: Tensor) -> tuple[Cells, Repairs]:
        counts = torch.zeros(len(tokens), 13).scatter_add_(1, tokens, torch.ones(tokens.shape))[:, 1:]
        return Cells(counts > 0), Repairs({"repeated": (counts - 1).clamp(min=0).sum(1).long()})

    def mutate(self, levels: Cells, edits: int, rng: torch.Generator) -> Cells:
        flips = torch.zeros_like(levels.filled)
        flips.scatter_(1, torch.randint(12, (len(levels), edits), generator=rng), True)
        return Cells(levels.filled ^ flips)

    def sample_at(self, parameters: Tensor, rng: torch.Generator) -> Cells:
        tokens = torch.randint(1, 13, (len(parameters), 5), generator=rng)
        tokens[:, 0] = parameters[:, 1].round().long()
        return self.from_tokens(torch.where(torch.arange(5) < parameters[:, :1], tokens, 0))[0]

    def optimal_return(self, levels: Cells) -> Tensor:
        return levels.filled.float().mean(1)

    def describe(self, levels: Cells) -> dict[str, Tensor]:
        return {"solvable": torch.ones(len(levels)), "filled": levels.filled.float().sum(1)}

    def engine(self, n: int, device: torch.device | str = "cpu") -> Engine:
        space = spaces.Dict(image=spaces.Box(0, 10, (3, 4, 1), np.uint8))
        return Mock(num_envs=n, device=device, observation_space=space, action_space=spaces.Discrete(4))

    def suites(self) -> dict[str, Suite]:
        raise NotImplementedError

    def render(self, levels: LevelBatch) -> Tensor:
        raise NotImplementedError


class TinyManifold:
    """Each of its 12 coordinates is a cell, set where it is positive."""

    dim = 12
    bounds = (-4.0, 4.0)

    def encode(self, levels: Cells) -> Tensor:
        return levels.filled.float() * 4 - 2

    def decode(self, latents: Tensor) -> Cells:
        return Cells(latents > 0)


SMALL: dict[str, Any] = {
    "capacity": 10,
    "minimum_fill": 0.5,
    "replay_probability": 0.6,
    "candidates": 12,
    "environments": 2,
    "kept": 5,
    "train_updates": 2,
    "fit_every": 6,
    "window": 24,
}
"""Options of whatever curriculum has them, so that a few updates see every phase of it."""


def tiny_manifold(name: str) -> Any:
    """A manifold for the curriculum called `name`: one of them goes on training a VAE, so it needs a real one."""
    domain: Any = TinyDomain()
    return (
        SetVAEConfig(hidden=8, latent=12, refinements=1).build(domain, 1) if name == "clutr-joint" else TinyManifold()
    )


def build(name: str, seed: int = 1, manifold: Any = None) -> Curriculum:
    domain: Any = TinyDomain()
    manifold = manifold or tiny_manifold(name)
    config = CURRICULA[name]
    options = {field.name: SMALL[field.name] for field in fields(config) if field.name in SMALL}  # type: ignore[arg-type]
    return config(**options).build(Context(domain, seed, manifold))


def play(curriculum: Curriculum, proposal: Proposal, rng: torch.Generator) -> Outcome:
    """Made-up students, each with its own talent for each cell."""
    statistics = []
    assert isinstance(proposal.levels, Cells)
    for assigned in proposal.assignment:
        filled = proposal.levels.filled[assigned].float()
        best = (filled @ torch.rand(12, generator=rng)) / 12
        n = len(assigned)
        scores = {
            score: torch.rand(n, generator=rng)
            for score in ("value_l1", "positive_value_loss", "negative_value_loss", "signed_value_loss", "mean_value")
        }
        scores |= {name: torch.rand(n, generator=rng) for name in ("transition_error", "parameter_change")}
        solved = torch.rand(n, generator=rng)
        mean = best * solved
        episodes = torch.randint(0, 3, (n,), generator=rng).float()
        length = torch.full((n,), 9.0)
        statistics.append(EpisodeStatistics(mean, best, mean.square(), solved, episodes, length, scores))
    assert len(statistics) == len(curriculum.students)
    return Outcome.stack(proposal, statistics)


def run(curriculum: Curriculum, updates: int, outcomes: torch.Generator, n: int = 6) -> list[dict[str, Any]]:
    """What happened in each update, in a form that `==` compares exactly."""
    log = []
    for _ in range(updates):
        proposal = curriculum.propose(n)
        observed = curriculum.observe(play(curriculum, proposal, outcomes))
        log.append(
            {
                "levels": proposal.levels.key(),
                "assignment": proposal.assignment.tolist(),
                "train": proposal.train.tolist(),
                "latents": None if proposal.latents is None else proposal.latents.tolist(),
                **{name: value.tolist() for name, value in observed.items()},
            }
        )
    return log


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_published_curricula_are_registered() -> None:
    published = {
        "dr",
        "minimax",
        "paired",
        "flexible-paired",
        "population-paired",
        "repaired",
        "clutr",
        "random-latent",
    }
    assert published | {"plr", "robust-plr", "accel", "sfl", "ncc", "alp-gmm"} <= set(NAMES)


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize("name", NAMES)
def test_proposals_and_scores_are_well_formed(name: str, n: int) -> None:
    curriculum, outcomes = build(name), generator(7)
    assert len(set(curriculum.students)) == len(curriculum.students) >= 1
    for _ in range({1: 14, 6: 4}[n]):
        proposal = curriculum.propose(n)
        batch = len(proposal.levels)
        assert isinstance(proposal.levels, Cells)
        assert proposal.assignment.shape == (len(curriculum.students), n)
        assert proposal.assignment.dtype == torch.int64
        assert proposal.assignment.min() >= 0
        assert proposal.assignment.max() < batch
        assert proposal.train.shape == (batch,)
        assert proposal.train.dtype == torch.bool
        if proposal.latents is not None:
            assert proposal.latents.shape == (batch, TinyManifold.dim)
            assert proposal.latents.abs().max() <= 4
            assert not proposal.latents.requires_grad
        for score, value in curriculum.observe(play(curriculum, proposal, outcomes)).items():
            assert value.shape in ((), (batch,)), f"{score} has shape {tuple(value.shape)}"
            assert value.isfinite().all(), f"{score} is not finite"
            assert not value.requires_grad, f"{score} keeps a graph alive"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("dr", "dr-matched", "random-latent")])
def test_calls_out_of_turn_are_refused(name: str) -> None:
    curriculum = build(name)
    proposal = curriculum.propose(6)
    with pytest.raises(RuntimeError, match="propose was called twice"):
        curriculum.propose(6)
    with pytest.raises(RuntimeError, match="taken after observe, before propose"):
        curriculum.state_dict()
    outcome = play(curriculum, proposal, generator(7))
    curriculum.observe(outcome)
    with pytest.raises(RuntimeError, match="observe was called before propose"):
        curriculum.observe(outcome)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_run_and_another_seed_another(name: str) -> None:
    first, again, other = (run(build(name, seed), 4, generator(7)) for seed in (1, 1, 2))
    assert first == again
    assert [update["levels"] for update in first] != [update["levels"] for update in other]


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_curriculum_continues_bit_for_bit(name: str, tmp_path: Path) -> None:
    original, outcomes = build(name), generator(7)
    run(original, 5, outcomes)
    path = tmp_path / "curriculum.safetensors"
    save_state(path, original.state_dict())
    outcomes_state = outcomes.get_state()
    expected = run(original, 4, outcomes)

    restored = build(name, seed=99)  # so that whatever the state lacks, differs
    run(restored, 1, generator(8))
    restored.load_state_dict(load_state(path))
    outcomes.set_state(outcomes_state)
    assert run(restored, 4, outcomes) == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_global_generator_is_neither_used_nor_seeded(name: str) -> None:
    manifold = tiny_manifold(name)
    before = torch.get_rng_state()
    run(build(name, manifold=manifold), 2, generator(7))
    assert torch.equal(torch.get_rng_state(), before)
