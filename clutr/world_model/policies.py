"""Behaviour policies that episodes are recorded with: a mixture, so that frames cover what students will see."""

from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor

from clutr.agents.student import Policy
from clutr.envs.capabilities import PrivilegedObserver
from clutr.envs.domain import Observation

STICKY_STEPS = 25
"""Steps for which an action sticks, on average."""


class BehaviourPolicy(Protocol):
    """Chooses actions for all N environments of an engine; the recorder uses those of the rows that it was given."""

    name: str

    def reset(self, mask: Tensor) -> None:
        """Episodes began in the environments of `mask` `[N]` bool."""
        ...

    def act(self, observation: Observation, observer: PrivilegedObserver, rng: torch.Generator) -> Tensor:
        """Actions `[N, ...]`, as the engine takes them."""
        ...


class RandomWalk:
    """Actions that wander: Brownian motion in a box, or a random choice that is kept for a while.

    Args:
        space: of one environment's actions.
        num_envs: N.
        step: standard deviation of a step of the walk, as a share of the box; or the chance of a new choice.
    """

    name = "walk"

    def __init__(self, space: gymnasium.Space[Any], num_envs: int, step: float = 0.15) -> None:
        self._space = space
        self._step = step
        if isinstance(space, spaces.Box):
            self._low, self._high = torch.from_numpy(space.low), torch.from_numpy(space.high)
            self._now = torch.zeros(num_envs, *space.shape)
        else:
            assert isinstance(space, spaces.Discrete)
            self._now = torch.zeros(num_envs, dtype=torch.int64)

    def reset(self, mask: Tensor) -> None:
        """Start from rest."""
        self._now[mask] = 0

    def act(self, observation: Observation, observer: PrivilegedObserver, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        """The next step of the walk."""
        return self.draw(rng)

    def draw(self, rng: torch.Generator) -> Tensor:
        """The next step of the walk, which looks at nothing."""
        if isinstance(self._space, spaces.Discrete):
            fresh = torch.randint(int(self._space.n), self._now.shape, generator=rng)
            self._now = torch.where(torch.rand(self._now.shape, generator=rng) < self._step, fresh, self._now)
        else:
            noise = self._step * (self._high - self._low) * torch.randn(self._now.shape, generator=rng)
            self._now = torch.minimum(torch.maximum(self._now + noise, self._low), self._high)
        return self._now.clone()


class NoisyExpert:
    """The observer's expert action with noise, and with an aggressiveness of its own in each environment.

    Args:
        space: of one environment's actions.
        num_envs: N.
        noise: size of the random part, as a share of the box; or the chance of a random action.
        sticky_action_probability: chance a step that an action sticks: it is repeated for `STICKY_STEPS` steps on
            average. A model that has seen no mistakes does not predict what comes of them.
    """

    name = "expert"

    def __init__(
        self, space: gymnasium.Space[Any], num_envs: int, noise: float = 0.1, sticky_action_probability: float = 0.0
    ) -> None:
        self._noise, self._sticky_action_probability = noise, sticky_action_probability
        self._space = space
        self._aggressiveness = torch.linspace(0, 1, num_envs)
        self._wander = RandomWalk(space, num_envs)
        self._sticks = torch.zeros(num_envs, dtype=torch.bool)
        self._last: Tensor | None = None

    def reset(self, mask: Tensor) -> None:
        """Start the random part from rest; no action sticks."""
        self._wander.reset(mask)
        self._sticks[mask] = False

    def act(self, observation: Observation, observer: PrivilegedObserver, rng: torch.Generator) -> Tensor:
        """The expert's actions with noise, or those of the last step where they stick."""
        actions = self._noisy_action(observation, observer, rng)
        if self._sticky_action_probability:
            if self._last is not None:
                actions = torch.where(self._sticks.view(-1, *[1] * (actions.ndim - 1)), self._last, actions)
            chance = torch.rand(self._sticks.shape, generator=rng)
            self._sticks = torch.where(
                self._sticks, chance >= 1 / STICKY_STEPS, chance < self._sticky_action_probability
            )
            self._last = actions
        return actions

    def _noisy_action(self, observation: Observation, observer: PrivilegedObserver, rng: torch.Generator) -> Tensor:
        expert, wandering = observer.expert_action(self._aggressiveness), self._wander.act(observation, observer, rng)
        if isinstance(self._space, spaces.Discrete):
            return torch.where(torch.rand(expert.shape, generator=rng) < self._noise, wandering, expert)
        low, high = torch.from_numpy(self._space.low), torch.from_numpy(self._space.high)  # type: ignore[attr-defined]
        return torch.minimum(torch.maximum(expert + 2 * self._noise * wandering, low), high)


class StudentPolicy:
    """A trained student.

    Args:
        name: what to call it, such as its run and age.
        policy: the student.
        num_envs: N.
    """

    def __init__(self, name: str, policy: Policy, num_envs: int) -> None:
        self.name = name
        self._policy = policy
        self._state = policy.initial_state(num_envs)

    def reset(self, mask: Tensor) -> None:
        """Forget the episode before."""
        self._state = self._state.masked_fill(mask.view(-1, *[1] * (self._state.ndim - 1)), 0)

    @torch.no_grad()
    def act(self, observation: Observation, observer: PrivilegedObserver, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        """Sampled actions."""
        actions, self._state = self._policy.act(observation, self._state, rng)
        return actions


def shares_to_counts(shares: Sequence[float], n: int) -> list[int]:
    """Split n environments about in proportion to `shares`, one each at least if n allows; the first gets the rest."""
    each = 1 if n >= len(shares) else 0
    left = n - each * len(shares)
    counts = [each + int(left * share / sum(shares)) for share in shares]
    counts[0] += n - sum(counts)
    return counts
