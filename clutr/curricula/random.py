"""Curricula without a teacher: uniformly random levels, and uniformly random points of the task manifold.

Domain randomisation is the baseline of every paper on curricula (PAIRED, arXiv 2012.02096, section 5). Random latents
are CLUTR's ablation of its teacher (arXiv 2210.10243): what is left when the task manifold stays and the regret goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.curricula.base import CURRICULA, Context, Outcome, Proposal
from clutr.envs.domain import Domain
from clutr.manifold.base import Manifold


class _NoTeacher:
    """What curricula share that learn nothing: one student, and a generator for all their state."""

    students: tuple[str, ...] = ("protagonist",)

    def __init__(self, rng: torch.Generator) -> None:
        self.rng = rng

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:  # noqa: ARG002 (the protocol's name)
        """Learn nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"rng": self.rng.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.rng.set_state(state["rng"])


class DomainRandomisation(_NoTeacher):
    """Fresh random levels, always trained on.

    Args:
        domain: the world whose `sample` draws the levels.
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
