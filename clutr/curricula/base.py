"""The one protocol between teacher and students. Nothing else couples them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from agents.student import EpisodeStatistics
from clutr.manifold.base import Manifold
from envs.domain import Domain, LevelBatch
from envs.randomness import named_generator
from envs.registry import Registry


@dataclass(frozen=True)
class Proposal:
    """What the students play in the next rollout."""

    levels: LevelBatch
    """B levels."""
    assignment: Tensor
    """`[S, n]` int64: student s plays level `assignment[s, i]` in its environment i."""
    train: Tensor
    """`[B]` bool: whether students learn on the level or only look at it."""
    latents: Tensor | None = None
    """`[B, dim]`: the points on the task manifold that the levels were decoded from, if there are any."""

    @classmethod
    def everyone(cls, levels: LevelBatch, students: int, latents: Tensor | None = None) -> "Proposal":
        """Every student plays and learns on every level, one an environment."""
        n = len(levels)
        return cls(levels, torch.arange(n).expand(students, n), torch.ones(n, dtype=torch.bool), latents)


@dataclass(frozen=True)
class Outcome:
    """What the students did on a proposal: `EpisodeStatistics` stacked over students, each tensor `[S, n]`."""

    proposal: Proposal
    mean_return: Tensor
    best_return: Tensor
    solved: Tensor
    episodes: Tensor
    length: Tensor
    scores: dict[str, Tensor]

    @classmethod
    def stack(cls, proposal: Proposal, students: Sequence[EpisodeStatistics]) -> "Outcome":
        """Join the students' statistics, in the order of `Curriculum.students`."""

        def join(name: str) -> Tensor:
            return torch.stack([getattr(student, name).cpu() for student in students])

        return cls(
            proposal=proposal,
            mean_return=join("mean_return"),
            best_return=join("best_return"),
            solved=join("solved"),
            episodes=join("episodes"),
            length=join("length"),
            scores={name: torch.stack([s.scores[name].cpu() for s in students]) for name in students[0].scores},
        )


class Curriculum(Protocol):
    """Who chooses the next task. Registered, by its frozen dataclass of options, in `CURRICULA`."""

    students: tuple[str, ...]
    """Names of the students it needs; the first one is the one that is evaluated."""

    def propose(self, n: int) -> Proposal:
        """Choose what each student's n environments play next."""
        ...

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Learn from what happened. Returns scores of the proposal's levels (`[B]`) and metrics (0-d), by name."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit: tensors and plain values, nested in dicts and lists."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        ...


@dataclass(frozen=True)
class Context:
    """What a curriculum may use of the experiment it is part of."""

    domain: Domain
    seed: int
    manifold: Manifold | None = None

    def generator(self, purpose: str) -> torch.Generator:
        """The curriculum's generator for `purpose`."""
        return named_generator(self.seed, "curriculum", purpose)

    def require_manifold(self, who: str) -> Manifold:
        """The task manifold. Raises `ValueError` if the experiment has none."""
        if self.manifold is None:
            raise ValueError(f"the curriculum {who!r} chooses latents, so the experiment needs a manifold")
        return self.manifold


class CurriculumConfig(Protocol):
    """A frozen dataclass of a curriculum's options."""

    def build(self, context: Context) -> Curriculum:
        """Make the curriculum."""
        ...


CURRICULA: Registry[type[CurriculumConfig]] = Registry("curriculum", "clutr.curricula.*")
