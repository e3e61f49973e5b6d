"""A student that sees latents instead of pictures: a small actor and critic, trained by PPO.

Source of the idea: Ha & Schmidhuber 2018, "World Models": a small controller on [z, h], trained in the dream. PPO takes
the place of their evolution.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from clutr.agents.distributions import Categorical, Distribution, ScaledBeta
from clutr.agents.networks import Network, linear
from clutr.agents.ppo import PPOOptions
from clutr.envs.domain import Observation
from clutr.envs.validation import require_at_least

LATENT = "latent"
"""Name of what such a student observes."""
LEAST_SPREAD = 1e-2
"""Inputs that hardly change are not blown up."""
MOST = 10.0
"""Standardised inputs are clipped to so many standard deviations."""


@dataclass(frozen=True)
class LatentPPOConfig(PPOOptions):
    """PPO without memory of its own on vectors, with continuous or discrete actions."""

    rollout_steps: int = 128
    learning_rate: float = 1e-3
    discount: float = 0.99
    gae_lambda: float = 0.95
    epochs: int = 3
    minibatches: int = 4
    shards: int = 1
    entropy_coefficient: float = 0.01
    target_kl: float = 0.03
    normalise_returns: bool = True
    hidden: int = 64
    """Width of the two hidden layers of actor and of critic."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "hidden")

    def network(
        self, observation_space: gymnasium.spaces.Dict, action_space: gymnasium.Space[Any], rng: torch.Generator
    ) -> "LatentActorCritic":
        """See `PPOOptions`."""
        return LatentActorCritic(observation_space, action_space, self.hidden, rng)


class LatentActorCritic(Network):
    """Two hidden tanh layers each for actor and critic, on one vector a step.

    Args:
        observation_space: of one environment; it has `latent`, a vector.
        action_space: of one environment: a box, or discrete.
        hidden: width of the layers.
        rng: draws the initial weights.

    Raises:
        ValueError: there is no such vector, or actions are of another kind.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        observation_space: gymnasium.spaces.Dict,
        action_space: gymnasium.Space[Any],
        hidden: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        space = observation_space.spaces.get(LATENT)
        if space is None or space.shape is None or len(space.shape) != 1:
            raise ValueError(f"this student sees a vector called `{LATENT}`, not {observation_space}")
        self.discrete = isinstance(action_space, spaces.Discrete)
        if isinstance(action_space, spaces.Discrete):
            low, high, numbers = torch.zeros(0), torch.zeros(0), int(action_space.n)
        elif isinstance(action_space, spaces.Box):
            low, high = torch.from_numpy(action_space.low), torch.from_numpy(action_space.high)
            numbers = 2 * len(low)
        else:
            raise ValueError(f"this student acts in a box or takes discrete actions, not {action_space}")
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

        self.register_buffer("mean", torch.zeros(space.shape))
        self.register_buffer("spread", torch.ones(space.shape))

        def layers(outputs: int, gain: float) -> nn.Sequential:
            first, second = linear(space.shape[0], hidden, rng), linear(hidden, hidden, rng)  # type: ignore[index]
            return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), linear(hidden, outputs, rng, gain))

        self.actor, self.critic = layers(numbers, 0.01), layers(1, 1.0)

    def standardise(self, inputs: Tensor) -> None:
        """Take means and standard deviations of inputs `[n, I]` for what is subtracted and divided by from here on."""
        self.mean.copy_(inputs.mean(0))
        self.spread.copy_(inputs.std(0) + LEAST_SPREAD)

    def initial_state(self, n: int) -> Tensor:
        """Of width 0: what is to be remembered is among the latents."""
        return torch.zeros(n, 0)

    def samples(self, column: Tensor) -> Tensor:
        """`[1, T * N, ...]`: each step stands for itself."""
        return column.flatten(0, 1).unsqueeze(0)

    def prepare(self, observations: Observation, episode_starts: Tensor) -> Tensor:  # noqa: ARG002
        """Standardised inputs `[1, T * N, I]`."""
        return self._standard(observations[LATENT].flatten(0, 1).unsqueeze(0))

    def _standard(self, inputs: Tensor) -> Tensor:
        return ((inputs - self.mean) / self.spread).clamp(-MOST, MOST)

    def forward(self, prepared: Tensor, episode_starts: Tensor) -> tuple[Distribution, Tensor]:  # noqa: ARG002
        """See `Network`."""
        numbers, values = self.actor(prepared), self.critic(prepared).squeeze(-1)
        if self.discrete:
            return Categorical(numbers.log_softmax(-1)), values
        alpha, beta = (F.softplus(half) + 1 for half in numbers.chunk(2, -1))
        return ScaledBeta(alpha, beta, self.low, self.high), values

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """See `Network`."""
        return *self.forward(self._standard(observation[LATENT]), state), state
