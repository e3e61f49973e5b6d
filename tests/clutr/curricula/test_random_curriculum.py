from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from clutr.curricula.base import Context
from clutr.curricula.random import DomainRandomisation, RandomLatents, RandomLatentsConfig
from clutr.envs.domain import LevelBatch


@dataclass(frozen=True)
class Points(LevelBatch):
    position: Tensor


class Line:
    """A domain whose levels are single numbers; only what domain randomisation needs of it."""

    def sample(self, n: int, rng: torch.Generator) -> Points:
        return Points(torch.rand(n, generator=rng))


class Box:
    """A manifold whose levels are its latents."""

    dim = 3
    bounds = (-4.0, 2.0)

    def decode(self, latents: Tensor) -> Points:
        return Points(latents)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_domain_randomisation_is_the_domains_own_distribution_fresh_each_time() -> None:
    curriculum, rng = DomainRandomisation(Line(), generator()), generator()  # type: ignore[arg-type]  # a part of it
    for _ in range(3):
        proposal = curriculum.propose(4)
        assert isinstance(proposal.levels, Points)
        assert torch.equal(proposal.levels.position, torch.rand(4, generator=rng))
        assert proposal.assignment.tolist() == [[0, 1, 2, 3]]
        assert proposal.train.all()
        assert proposal.latents is None


def test_random_latents_fill_the_box_and_are_what_is_decoded() -> None:
    curriculum = RandomLatents(Box(), generator())  # type: ignore[arg-type]  # a part of a manifold
    proposal = curriculum.propose(20_000)
    assert proposal.latents is not None
    assert isinstance(proposal.levels, Points)
    assert torch.equal(proposal.levels.position, proposal.latents)
    assert proposal.latents.min() >= -4
    assert proposal.latents.max() < 2
    # mean and standard deviation of the uniform distribution on [-4, 2]
    torch.testing.assert_close(proposal.latents.mean(0), torch.full((3,), -1.0), atol=0.05, rtol=0)
    torch.testing.assert_close(proposal.latents.std(0), torch.full((3,), 6 / 12**0.5), atol=0.05, rtol=0)


def test_random_latents_need_a_manifold() -> None:
    context = Context(Line(), seed=1)  # type: ignore[arg-type]  # a part of a domain
    with pytest.raises(ValueError, match="the curriculum 'random-latent' chooses latents, so the experiment needs a"):
        RandomLatentsConfig().build(context)
