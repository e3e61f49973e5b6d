"""A part of a rollout's environments, played as if all were in one process."""

from collections.abc import Callable

import torch
from torch import Tensor

from clutr.agents.distributions import Categorical, Distribution, sample_actions
from clutr.agents.networks import ActorCritic
from clutr.agents.rollout import RolloutPolicy
from clutr.envs.domain import Observation
from clutr.envs.randomness import named_generator


class Shard:
    """A network that plays environments `first` to `first + n` of `total`, with those environments' random numbers.

    Where actions are discrete, each step takes one number an environment from the generator. A shard draws the numbers
    of all environments and uses its own, so that it acts as it would in one process, and leaves the generator as it
    would be there. How many numbers a draw from a Beta distribution takes is not known; there, each shard but that of
    all environments has a generator of its own, made from the student's.
    """

    def __init__(self, network: RolloutPolicy, first: int, total: int) -> None:
        self.network, self.first, self.total = network, first, total
        self._generator: torch.Generator | None = None

    @property
    def actor_critic(self) -> ActorCritic | None:
        """See `clutr.agents.maze_rollout.Player`."""
        return self.network if isinstance(self.network, ActorCritic) else None

    def action_noise(self, steps: int, n: int, rng: torch.Generator) -> Tensor:
        """See `clutr.agents.maze_rollout.Player`."""
        return torch.rand(steps, self.total, generator=rng)[:, self.first : self.first + n].contiguous()

    def initial_state(self, n: int) -> Tensor:
        """See `RolloutPolicy`."""
        return self.network.initial_state(n)

    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """See `RolloutPolicy`."""
        policy, values, state = self.network.step(observation, state)
        return ShardDistribution(policy, self.first, self.total, self._own_generator), values, state

    def _own_generator(self, rng: torch.Generator) -> torch.Generator:
        if self._generator is None:
            seed = int(torch.randint(2**62, (), generator=rng))
            self._generator = named_generator(seed, "share", self.first)
        return self._generator


class ShardDistribution:
    """A distribution over the actions of a shard's environments; see `Shard`."""

    def __init__(
        self, policy: Distribution, first: int, total: int, own: Callable[[torch.Generator], torch.Generator]
    ) -> None:
        self.policy, self.first, self.total, self.own = policy, first, total, own
        self.mode, self.log_prob = policy.mode, policy.log_prob
        self.entropy, self.to_engine = policy.entropy, policy.to_engine

    def sample(self, rng: torch.Generator) -> Tensor:
        """See `Distribution`."""
        policy = self.policy
        if not isinstance(policy, Categorical):
            return policy.sample(self.own(rng))
        noise = torch.rand(self.total, generator=rng)
        return sample_actions(policy.log_probs, noise[self.first : self.first + len(policy.log_probs)])
