"""Steps and mixtures on the task manifold by their distributions, and the children that they make."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import Context, Outcome
from clutr.curricula.latent_accel import LatentACCEL, LatentACCELConfig, mix, step
from clutr.envs.domain import LevelBatch
from clutr.envs.maze.domain import MazeDomain
from clutr.manifold.set_vae import SetVAEConfig

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=8)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(**options: Any) -> LatentACCEL:
    manifold = SetVAEConfig(hidden=8, latent=6, refinements=1).build(DOMAIN, 1)
    return LatentACCELConfig(**{"capacity": 6, "minimum_fill": 0.5} | options).build(Context(DOMAIN, 1, manifold))


def test_steps_are_gaussian_in_box_widths() -> None:
    start = torch.tensor([[1.0, -2.0, 0.5]]).expand(3_000, 3)
    moved = (step(start, 0.02, (-4.0, 6.0), generator()) - start) / (0.02 * 10)
    for dimension in moved.unbind(1):
        assert kstest(dimension.numpy(), "norm").pvalue > 0.01
    correlation = torch.corrcoef(moved.t()) - torch.eye(3)
    assert correlation.abs().max() < 0.06, "each dimension has a step of its own"


def test_steps_out_of_the_box_end_on_its_faces() -> None:
    moved = step(torch.tensor([[-4.0, 6.0]]).expand(400, 2), 0.3, (-4.0, 6.0), generator())
    assert moved[:, 0].min() == -4.0
    assert moved[:, 1].max() == 6.0
    assert moved.min() >= -4.0
    assert moved.max() <= 6.0
    assert float((moved[:, 0] == -4.0).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_a_mixture_lies_on_the_way_to_another_parent_at_a_uniform_fraction_of_it() -> None:
    parents = torch.eye(4) * 8 - 4  # no three on a line, so that a mixture tells whence and where to
    codes = parents[torch.arange(2_000) % 4]
    fractions, partners = [], torch.zeros(4, 4)
    rng = generator()
    mixed = mix(codes, 0.5, rng)
    for own, (code, child) in enumerate(zip(codes, mixed, strict=True)):
        away = child - code
        other = int(away.argmax())  # a parent's largest coordinate is its own
        fractions.append(float(away[other] / 8))
        partners[own % 4, other] += 1
        torch.testing.assert_close(child, code + fractions[-1] * (parents[other] - code))
    assert partners.diagonal().sum() == 0, "a copy of the same parent is no other parent"
    for own in range(4):
        assert chisquare([float(partners[own, other]) for other in range(4) if other != own]).pvalue > 0.01
    assert kstest(fractions, "uniform", args=(0, 0.5)).pvalue > 0.01


def test_mixtures_stay_in_the_box() -> None:
    codes = 8 * torch.rand(200, 5, generator=generator()) - 4
    mixed = mix(codes, 1.0, generator(2))
    assert mixed.abs().max() <= 4
    assert not (mixed == codes).all(1).any()


@pytest.mark.parametrize("copies", [1, 5])
def test_a_parent_without_another_stays_where_it_is(copies: int) -> None:
    codes = torch.tensor([[0.5, -1.0]]).repeat(copies, 1)
    assert torch.equal(mix(codes, 0.5, generator()), codes)


@dataclass(frozen=True)
class Points(LevelBatch):
    position: Tensor


class Identity:
    """A manifold whose levels are its points."""

    dim = 3
    bounds = (-2.0, 2.0)

    def encode(self, levels: Points) -> Tensor:
        return levels.position

    def decode(self, latents: Tensor) -> Points:
        return Points(latents)


@pytest.mark.parametrize("move", ["step", "mix"])
def test_children_are_decodes_of_moved_codes(move: Any) -> None:
    curriculum = build(move=move, size=0.2)
    plain: Any = Identity()
    curriculum.manifold = plain
    parents = Points(4 * torch.rand(8, 3, generator=generator()) - 2)
    rng = generator()
    rng.set_state(curriculum.edits_rng.get_state())
    expected = step(parents.position, 0.2, (-2.0, 2.0), rng) if move == "step" else mix(parents.position, 0.2, rng)
    children = curriculum.edit(parents)
    assert isinstance(children, Points)
    assert torch.equal(children.position, expected)
    assert not torch.equal(children.position, parents.position)


@pytest.mark.parametrize("move", ["step", "mix"])
def test_children_follow_each_replay_and_are_only_looked_at(move: Any) -> None:
    curriculum = build(move=move, size=0.3, replay_probability=1.0, parents="batch")
    kinds, ones = [], torch.ones(4)
    for _ in range(40):
        parents = curriculum.parents
        proposal = curriculum.propose(4)
        if parents is not None:
            kinds.append("children")
            assert not proposal.train.any()
            assert len(proposal.levels) == 4
        else:
            kinds.append("replay" if proposal.train.all() else "new")
        scores = {"positive_value_loss": torch.rand(4, generator=generator(len(kinds))), "value_l1": ones}
        statistics = EpisodeStatistics(ones, ones, ones, ones, ones, ones, scores)
        curriculum.observe(Outcome.stack(proposal, [statistics]))
    assert {"new", "replay", "children"} == set(kinds)
    assert all((before == "replay") == (now == "children") for before, now in pairwise(kinds))


def test_the_options_of_edits_play_no_part() -> None:
    parents = DOMAIN.sample(4, generator(2))
    assert build(edits=1).edit(parents).key() == build(edits=9).edit(parents).key()


def test_bad_options_and_a_missing_manifold() -> None:
    with pytest.raises(ValueError, match=r"size must be in 0\.\.1, got 1\.5"):
        LatentACCELConfig(size=1.5)
    with pytest.raises(ValueError, match="parents must be easy or batch, got 'none'"):
        LatentACCELConfig(parents="none")  # type: ignore[arg-type]  # a YAML file can say anything
    with pytest.raises(ValueError, match="the curriculum 'latent-accel' chooses latents, so the experiment needs a"):
        LatentACCELConfig().build(Context(DOMAIN, 1))
