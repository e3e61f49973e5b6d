"""Curricula without a teacher: uniformly random levels, and uniformly random points of the task manifold.

Domain randomisation is the baseline of every paper on curricula (PAIRED, arXiv 2012.02096, section 5). Random latents
are CLUTR's ablation of its teacher (arXiv 2210.10243): what is left when the task manifold stays and the regret goes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.curricula.base import CURRICULA, Context, Outcome, Proposal
from clutr.envs.domain import Domain
from clutr.envs.state import Stateful
from clutr.manifold.base import Manifold


class _NoTeacher(Stateful):
    """Curricula that learn nothing: one student, and a generator as their only state."""

    students: tuple[str, ...] = ("protagonist",)
    saved = ("rng",)

    def __init__(self, rng: torch.Generator) -> None:
        self.rng = rng

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:  # noqa: ARG002 (the protocol's name)
        """Learn nothing."""
        return {}


class DomainRandomisation(_NoTeacher):
    """Fresh random levels, always trained on.

    Args:
        domain: the domain whose `sample` draws the levels.
        rng: the only source of randomness.
    """

    def __init__(self, domain: Domain, rng: torch.Generator) -> None:
        super().__init__(rng)
        self.domain = domain

    def propose(self, n: int) -> Proposal:
        """Draw n levels."""
        return Proposal.everyone(self.domain.sample(n, self.rng), len(self.students))


class RandomLatents(_NoTeacher):
    """Levels decoded from points drawn uniformly from the manifold's box.

    Args:
        manifold: the frozen task manifold.
        rng: the only source of randomness.
    """

    def __init__(self, manifold: Manifold, rng: torch.Generator) -> None:
        super().__init__(rng)
        self.manifold = manifold

    def propose(self, n: int) -> Proposal:
        """Draw n points and decode them."""
        low, high = self.manifold.bounds
        latents = low + (high - low) * torch.rand(n, self.manifold.dim, generator=self.rng)
        return Proposal.everyone(self.manifold.decode(latents), len(self.students), latents)


@CURRICULA.register("dr")
@dataclass(frozen=True)
class DomainRandomisationConfig:
    """Domain randomisation: one student on random levels."""

    def build(self, context: Context) -> DomainRandomisation:
        """Make the curriculum."""
        return DomainRandomisation(context.domain, context.generator("levels"))


@CURRICULA.register("random-latent")
@dataclass(frozen=True)
class RandomLatentsConfig:
    """Random points of the task manifold: CLUTR without its teacher, one student."""

    def build(self, context: Context) -> RandomLatents:
        """Make the curriculum. Raises `ValueError` if the experiment has no manifold."""
        return RandomLatents(context.require_manifold("random-latent"), context.generator("latents"))
