"""Curricula without a teacher: uniformly random levels, and uniformly random points of the task manifold.

Domain randomisation is the baseline of every paper on curricula (PAIRED, arXiv 2012.02096, section 5). Random latents
are CLUTR's ablation of its teacher (arXiv 2210.10243): what is left when the task manifold stays and the regret goes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.curricula.base import CURRICULA, Context, Outcome, Proposal
from clutr.envs.domain import Domain, LevelBatch
from clutr.envs.state import Stateful
from clutr.envs.validation import require_at_least
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


MOST_DRAWS = 1_000
"""Batches of levels in which matched ones are looked for."""


class MatchedRandomisation(_NoTeacher):
    """Fresh random levels of which one property lies in a range: a control for curricula that only change it.

    Args:
        config: which property, and its range.
        domain: the domain whose `sample` draws the levels, and whose `describe` knows the property.
        rng: the only source of randomness.
    """

    def __init__(self, config: "MatchedRandomisationConfig", domain: Domain, rng: torch.Generator) -> None:
        super().__init__(rng)
        self.config, self.domain = config, domain

    def propose(self, n: int) -> Proposal:
        """Draw levels until n of them match.

        Raises:
            ValueError: if the domain's levels have no such property, or hardly any of them matches.
        """
        config, kept, count = self.config, list[LevelBatch](), 0
        for _ in range(MOST_DRAWS):
            levels = self.domain.sample(n, self.rng)
            described = self.domain.describe(levels)
            if config.property not in described:
                raise ValueError(f"property must be one of {', '.join(described)}, got {config.property!r}")
            value = described[config.property]
            kept.append(levels[(value >= config.least) & (value <= config.most)])
            count += len(kept[-1])
            if count >= n:
                return Proposal.everyone(self.domain.level_type.concatenate(kept)[:n], len(self.students))
        bounds = f"{config.property} from {config.least:g} to {config.most:g}"
        raise ValueError(f"of {n * MOST_DRAWS:,} random levels only {count} have a {bounds}")


@CURRICULA.register("dr-matched")
@dataclass(frozen=True)
class MatchedRandomisationConfig:
    """Domain randomisation with levels of one kind: the control for curricula that make levels of this kind."""

    property: str = "solvable"
    """What of a level must match, by its name in the domain's `describe` (mazes: wall_count, path_length, solvable)."""
    least: float = 1.0
    """Least value that is played."""
    most: float = 1.0
    """Greatest value that is played."""

    def __post_init__(self) -> None:
        require_at_least(self, 0, "least", "most")
        if not self.least <= self.most:
            raise ValueError(f"least must be at most most ({self.most:g}), got {self.least:g}")

    def build(self, context: Context) -> MatchedRandomisation:
        """Make the curriculum."""
        return MatchedRandomisation(self, context.domain, context.generator("levels"))


@CURRICULA.register("random-latent")
@dataclass(frozen=True)
class RandomLatentsConfig:
    """Random points of the task manifold: CLUTR without its teacher, one student."""

    def build(self, context: Context) -> RandomLatents:
        """Make the curriculum. Raises `ValueError` if the experiment has no manifold."""
        return RandomLatents(context.require_manifold("random-latent"), context.generator("latents"))
