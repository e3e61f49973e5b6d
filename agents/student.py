"""The one protocol a student offers, and what it reports of its play."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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

    def statistics(self) -> "EpisodeStatistics":
        """Summarise the episodes of each environment, without a loop over steps or environments.

        Means are those of an environment's first episode alone. All finished ones would prefer short ones: of a level
        that is either solved quickly or not before the time limit, a rollout of little more than that limit sees many
        successes, or one failure. A first episode that the rollout's end cuts counts as it stands then, unsolved.
        """
        done = self.terminated | self.truncated
        episodes = done.sum(0)
        number = done.cumsum(0) - done.long()  # which of its environment's episodes a step belongs to
        empty = torch.zeros(int(episodes.max()) + 1, done.shape[1], device=done.device)  # the last one may be cut
        totals = empty.scatter_add(0, number, self.rewards.to(empty.dtype))
        lengths = empty.scatter_add(0, number, torch.ones_like(number, dtype=empty.dtype))
        counted = torch.arange(len(empty), device=done.device).unsqueeze(1) < episodes.clamp(min=1)
        return EpisodeStatistics(
            mean_return=totals[0],
            best_return=totals.where(counted, -torch.inf).amax(0),
            square_return=totals[0].square(),
            solved=(self.solved & (number == 0)).any(0).float(),
            episodes=episodes.float(),
            length=lengths[0],
            scores={
                "value_l1": self.advantages.abs().mean(0),
                "positive_value_loss": self.advantages.clamp(min=0).mean(0),
                "negative_value_loss": self.advantages.clamp(max=0).neg().mean(0),
                "signed_value_loss": self.advantages.mean(0),
                "mean_value": self.values.mean(0),
                "discounted_return": self._discounted_return(number == 0),
            },
        )

    def _discounted_return(self, first: Tensor) -> Tensor:
        """Discounted sum of the rewards at the steps `first` `[T, N]` bool, all from the rollout's start on. `[N]`."""
        steps = torch.arange(len(first), device=first.device, dtype=torch.float32)
        return torch.where(first, self.rewards, 0.0).float().T @ SCORE_DISCOUNT**steps


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
        """Play each level in its own environment, again and again, for the student's number of steps."""
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
