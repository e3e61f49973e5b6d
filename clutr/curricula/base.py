"""The one protocol between teacher and students. Nothing else couples them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from clutr.agents.student import EpisodeStatistics, Student, Trajectories
from clutr.envs.domain import Domain, LevelBatch
from clutr.envs.randomness import named_generator
from clutr.envs.registry import Registry
from clutr.manifold.base import Manifold


@dataclass(frozen=True)
class Proposal:
    """What the students play in the next rollout."""

    levels: LevelBatch
    """B levels."""
    assignment: Tensor
    """`[S, n]` int64: student s plays level `assignment[s, i]` in its environment i. Or `[S, K n]`: in environment i it
    plays `assignment[s, i]` for an episode, then `assignment[s, n + i]`, and so on (`Student.rollout`)."""
    train: Tensor
    """`[B]` bool: whether students learn on the level or only look at it."""
    latents: Tensor | None = None
    """`[B, dim]`: the points on the task manifold that the levels were decoded from, if there are any."""
    levels_per_rollout: int = 1
    """K: how many levels an environment plays one after the other."""

    @property
    def first(self) -> Tensor:
        """What each environment plays first, `[S, n]`."""
        return self.assignment[:, : self.assignment.shape[1] // self.levels_per_rollout]

    @classmethod
    def everyone(cls, levels: LevelBatch, students: int, latents: Tensor | None = None) -> "Proposal":
        """Every student plays and learns on every level, one an environment."""
        n = len(levels)
        everywhere = torch.arange(n).expand(students, n)
        return cls(levels, everywhere, torch.ones(n, dtype=torch.bool), latents)


@dataclass(frozen=True)
class Outcome:
    """What the students did on a proposal: `EpisodeStatistics` stacked over students, each tensor `[S, K n]`.

    Columns are those of the proposal's assignment; `by_level` has a row for each of the proposal's levels instead.
    """

    proposal: Proposal
    mean_return: Tensor
    best_return: Tensor
    square_return: Tensor
    solved: Tensor
    episodes: Tensor
    length: Tensor
    scores: dict[str, Tensor]
    steps: Tensor | None = None

    def by_level(self, student: int = 0) -> EpisodeStatistics:
        """What one student did on each of the proposal's B levels, each tensor `[B]`.

        Environments that play the same level are joined: means over them (of scores: over their steps), the best of
        all, and the sum of episodes and steps. A level that the student did not play has 0 everywhere.
        """
        assigned, zero = self.proposal.assignment[student], torch.zeros(len(self.proposal.levels))
        steps = torch.ones(len(assigned)) if self.steps is None else self.steps[student]
        played = steps > 0
        level = assigned[played]

        def total(values: Tensor) -> Tensor:
            return zero.index_add(0, level, values[played])

        def mean(values: Tensor, weights: Tensor) -> Tensor:
            return total(values[student] * weights) / total(weights).clamp(min=torch.finfo(torch.float32).tiny)

        environments, shares = torch.ones(len(assigned)), steps / steps.max()
        return EpisodeStatistics(
            mean_return=mean(self.mean_return, environments),
            best_return=zero.scatter_reduce(0, level, self.best_return[student][played], "amax", include_self=False),
            square_return=mean(self.square_return, environments),
            solved=mean(self.solved, environments),
            episodes=total(self.episodes[student]),
            length=mean(self.length, environments),
            scores={name: mean(values, shares) for name, values in self.scores.items()},
            steps=total(steps),
        )

    @classmethod
    def stack(cls, proposal: Proposal, students: Sequence[EpisodeStatistics]) -> "Outcome":
        """Join the students' statistics, in the order of `Curriculum.students`."""
        names = [field.name for field in fields(EpisodeStatistics) if field.name != "scores"]
        known = [name for name in names if getattr(students[0], name) is not None]
        joined = {name: torch.stack([getattr(student, name).cpu() for student in students]) for name in known}
        scores = {name: torch.stack([s.scores[name].cpu() for s in students]) for name in students[0].scores}
        return cls(proposal, **joined, scores=scores)


class Curriculum(Protocol):
    """Chooses the next tasks. Registered, by its frozen dataclass of options, in `CURRICULA`."""

    students: tuple[str, ...]
    """Names of the students it needs; the first one is the one that is evaluated."""

    def propose(self, n: int) -> Proposal:
        """Choose what each student's n environments play next.

        Raises:
            RuntimeError: if the outcome of the last proposal was not observed.
        """
        ...

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Learn from what happened. Returns scores of the proposal's levels (`[B]`) and metrics (0-d), by name.

        Raises:
            RuntimeError: if nothing was proposed since the last call.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit: tensors and plain values, nested in dicts and lists.

        Raises:
            RuntimeError: between `propose` and `observe`.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        ...


@runtime_checkable
class Measuring(Protocol):
    """A curriculum that wants to know more of a rollout than `EpisodeStatistics` tells."""

    def require_student(self, student: Student) -> None:
        """Raises `ValueError` if a student cannot tell what is measured."""
        ...

    def measure(self, student: Student, played: Trajectories) -> dict[str, Tensor]:
        """Called for each student after its rollout, before it learns.

        Returns:
            Numbers by name, each `[n]`, a number an environment: they join the scores of the student's statistics.
        """
        ...


Batch = TypeVar("Batch")


class Pending(Generic[Batch]):
    """What a curriculum keeps of its proposal until the outcome is known. Calls out of turn raise `RuntimeError`.

    A curriculum's state is taken between `observe` and `propose`: an unfinished proposal is no part of it.
    """

    def __init__(self) -> None:
        self._batch: Batch | None = None

    def require_none(self) -> None:
        """Called before a proposal is made."""
        if self._batch is not None:
            raise RuntimeError("propose was called twice: the teacher waits for the outcome of its last proposal")

    def put(self, batch: Batch) -> None:
        """Keep the proposal's batch."""
        self._batch = batch

    def take(self) -> Batch:
        """Give the proposal's batch back, once."""
        if self._batch is None:
            raise RuntimeError("observe was called before propose: the teacher has no proposal to learn from")
        batch, self._batch = self._batch, None
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Nothing. Raises `RuntimeError` while a proposal waits for its outcome."""
        if self._batch is not None:
            raise RuntimeError("a proposal is under way: a teacher's state is taken after observe, before propose")
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: ARG002 (the protocol's name)
        """Forget a proposal under way."""
        self._batch = None


@dataclass(frozen=True)
class Context:
    """What a curriculum may use of the experiment it is part of."""

    domain: Domain
    seed: int
    manifold: Manifold | None = None

    def generator(self, purpose: str) -> torch.Generator:
        """The curriculum's generator for `purpose`."""
        return named_generator(self.seed, "curriculum", purpose)

    def require_manifold(self, curriculum: str) -> Manifold:
        """The task manifold, for the curriculum of this name. Raises `ValueError` if the experiment has none."""
        if self.manifold is None:
            raise ValueError(f"the curriculum {curriculum!r} chooses latents, so the experiment needs a manifold")
        return self.manifold


class CurriculumConfig(Protocol):
    """A frozen dataclass of a curriculum's options."""

    def build(self, context: Context) -> Curriculum:
        """Make the curriculum."""
        ...


CURRICULA: Registry[type[CurriculumConfig]] = Registry("curriculum", "clutr.curricula.*")
"""Curricula by name, each by the dataclass of its options."""
