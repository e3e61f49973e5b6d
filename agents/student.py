"""The one protocol a student offers, and what it reports of its play."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium
import torch
from torch import Tensor

from clutr.envs.domain import Engine, LevelBatch, Observation
from clutr.envs.registry import Registry

SCORE_DISCOUNT = 0.995
"""Gamma of `discounted_return`: that of the published students in mazes (arXiv 2110.02439, 2505.20659)."""


@dataclass
class Trajectories:
    """What N environments did in T steps. All tensors are time-major, `[T, N, ...]`."""

    observations: Observation
    actions: Tensor
    """In the policy's own terms (`clutr.agents.distributions.Distribution`)."""
    log_probs: Tensor
    """Of the actions, under the policy that took them."""
    rewards: Tensor
    """As the environment gave them, also where the student learns from normalised ones."""
    terminated: Tensor
    truncated: Tensor
    solved: Tensor
    """bool: this step ended its episode with success."""
    episode_starts: Tensor
    """bool: this step is an episode's first, so the recurrent state was zeroed before it."""
    values: Tensor
    """V of each observation, under the policy that acted. Values and what is made of them are in units of the rewards
    that the student learns from."""
    next_values: Tensor
    """V of the observation that each step led to: 0 where the environment terminated; the value of the episode's
    last observation where a time limit or the rollout's end cut it."""
    advantages: Tensor
    """Generalised advantage estimates (arXiv 1506.02438)."""

    @property
    def returns(self) -> Tensor:
        """Targets of the value function: advantages + values, `[T, N]`."""
        return self.advantages + self.values

    def statistics(self, levels: int = 1) -> "EpisodeStatistics":
        """Summarise the episodes of each environment on each of its levels, without a loop over steps or environments.

        Args:
            levels: K, how many each environment plays one after the other (`Student.rollout`). What environment i of N
                did on its k-th level is in column k N + i.

        Means are those of an environment's first episode alone. All finished ones would prefer short ones: of a level
        that is either solved quickly or not before the time limit, a rollout of little more than that limit sees many
        successes, or one failure. An episode that the rollout's end cuts counts as it stands then, unsolved: where
        environments play several levels, returns and `solved` of the later ones are too low for that.
        """
        done = self.terminated | self.truncated
        finished = done.sum(0)
        number = done.cumsum(0) - done.long()  # which of its environment's episodes a step belongs to
        empty = self.rewards.new_zeros(max(int(finished.max()) + 1, levels), done.shape[1], dtype=torch.float32)
        rewards = empty.scatter_add(0, number, self.rewards.to(empty.dtype))
        lengths = empty.scatter_add(0, number, torch.ones_like(number, dtype=empty.dtype))
        totals = _Episodes(number, finished, rewards, lengths)
        columns = [self._on_level(k, k + 1 == levels, totals) for k in range(levels)]
        names = [field.name for field in fields(EpisodeStatistics) if field.name != "scores"]
        joined = {name: torch.cat([getattr(column, name) for column in columns]) for name in names}
        scores = {name: torch.cat([column.scores[name] for column in columns]) for name in columns[0].scores}
        return EpisodeStatistics(**joined, scores=scores)

    def _on_level(self, k: int, last: bool, played: "_Episodes") -> "EpisodeStatistics":
        """What each environment did on its k-th level: its k-th episode, and all later ones if it is the `last`."""
        first = played.number == k
        mine = played.number >= k if last else first
        steps = mine.sum(0)
        rows = torch.arange(len(played.returns), device=first.device).unsqueeze(1)
        counted = (rows >= k if last else rows == k) & ((rows < played.finished) | (rows == k))
        since = torch.arange(len(first), device=first.device).unsqueeze(1) - (played.number < k).sum(0)

        def mean(values: Tensor) -> Tensor:
            return torch.where(mine, values, 0).sum(0) / steps.clamp(min=1)

        return EpisodeStatistics(
            mean_return=played.returns[k],
            best_return=played.returns.where(counted, -torch.inf).amax(0),
            square_return=played.returns[k].square(),
            solved=(self.solved & first).any(0).float(),
            episodes=(played.finished - k).clamp(0, None if last else 1).float(),
            length=played.lengths[k],
            scores={
                "value_l1": mean(self.advantages.abs()),
                "positive_value_loss": mean(self.advantages.clamp(min=0)),
                "negative_value_loss": mean(self.advantages.clamp(max=0).neg()),
                "signed_value_loss": mean(self.advantages),
                "mean_value": mean(self.values),
                "discounted_return": torch.where(first, self.rewards.float() * SCORE_DISCOUNT**since, 0).sum(0),
            },
            steps=steps.float(),
        )


class _Episodes(NamedTuple):
    """The episodes that N environments played in T steps; row e is each environment's e-th."""

    number: Tensor
    """Which of its environment's episodes each step belongs to, `[T, N]`."""
    finished: Tensor
    """How many each environment finished, `[N]`."""
    returns: Tensor
    """`[E, N]`; that of an episode which the rollout's end cuts is what it had earned then."""
    lengths: Tensor
    """In steps, `[E, N]`; 0 where there was none."""


@dataclass(frozen=True)
class EpisodeStatistics:
    """What one student did on each of N levels in one rollout. Each tensor is `[N]` float32.

    Means are over the first episodes of the environments that played the level (`Trajectories.statistics` says why).
    """

    mean_return: Tensor
    """Mean undiscounted return."""
    best_return: Tensor
    """Best undiscounted return of the first or any finished episode."""
    square_return: Tensor
    """Mean squared undiscounted return."""
    solved: Tensor
    """Fraction of episodes that the engine calls solved."""
    episodes: Tensor
    """Number of finished episodes, of all in the rollout."""
    length: Tensor
    """Mean length in steps."""
    scores: dict[str, Tensor]
    """Statistics of the value function over all steps of the rollout, by name: means of |A| (`value_l1`), of max(A, 0)
    (`positive_value_loss`), of max(-A, 0) (`negative_value_loss`), of A (`signed_value_loss`; arXiv 2110.02439, section
    4) and of V (`mean_value`), for generalised advantages A. And `discounted_return`: the mean return of the first
    episodes, discounted by `SCORE_DISCOUNT`."""
    steps: Tensor | None = None
    """Steps on the level, 0 where the rollout did not come to it; None: as many on each."""


class Policy(Protocol):
    """Something that acts: what evaluation needs of a student."""

    def initial_state(self, n: int) -> Tensor:
        """Recurrent state `[n, ...]` at an episode's start: zeros (of width 0 if there is no recurrence)."""
        ...

    def act(
        self, observation: Observation, state: Tensor, rng: torch.Generator, deterministic: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Actions `[N, ...]` and the next recurrent state. The caller zeroes the state where an episode starts."""
        ...


class Student(Policy, Protocol):
    """An agent that plays levels and learns from them."""

    def rollout(self, engine: Engine, levels: LevelBatch) -> Trajectories:
        """Play each level in its own environment, again and again, for the student's number of steps.

        Where there are K times as many levels as environments, environment i of N plays level i for an episode, then
        level i + N, and so on, and the last of its own from then on.
        """
        ...

    def learn(self, trajectories: Trajectories, train: Tensor | None = None) -> dict[str, float]:
        """Update from the environments where `train` `[N]` bool is set (None: all). Returns metrics by name."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit: tensors and plain values, nested in dicts and lists."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        ...


@runtime_checkable
class Scheduled(Protocol):
    """A student whose options change in the course of a run."""

    def schedule(self, progress: float) -> None:
        """Called before every update with the fraction of the run's steps that is done, 0 to 1.

        Whatever it sets follows from `progress` alone, so a resumed run goes on with the same.
        """
        ...


@runtime_checkable
class Averaged(Protocol):
    """A student that may be evaluated with other weights than it learns with."""

    def evaluated(self) -> Student:
        """As it is evaluated: itself, or with the average of its weights."""
        ...


def as_evaluated(student: Student) -> Student:
    """A student with the weights that it is evaluated with."""
    return student.evaluated() if isinstance(student, Averaged) else student


@runtime_checkable
class ParameterChange(Protocol):
    """A student that can tell how much it would change on each level alone."""

    def parameter_change(self, trajectories: Trajectories) -> Tensor:
        """Squared norm of the change of all parameters by a step on each environment alone, `[N]`; none is made."""
        ...


class StudentConfig(Protocol):
    """A frozen dataclass of a student's options, registered in `STUDENTS`."""

    def build(
        self,
        observation_space: gymnasium.spaces.Dict,
        action_space: gymnasium.Space[Any],
        seed: int,
        name: str,
        device: torch.device | str = "cpu",
    ) -> Student:
        """Make the student called `name`; every generator it needs comes from `seed` and `name`."""
        ...


STUDENTS: Registry[type[StudentConfig]] = Registry("student", "clutr.agents.*")
"""Students by name, each by the dataclass of its options."""
