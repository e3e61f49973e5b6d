"""Policies of Stable-Baselines3 as `clutr.agents.rollout.collect` plays them, and the distributions that they act by.

A distribution samples from the global generators, whose owner the caller has put in place
(`clutr.agents.sb3.randomness`), in the order in which Stable-Baselines3 itself would draw: given the same state, it
takes the same actions.
"""

from typing import Any, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

from clutr.agents.distributions import Distribution
from clutr.agents.rollout import RolloutPolicy
from clutr.agents.sb3.preprocessing import View
from clutr.envs.domain import Observation


class SB3Policy(RolloutPolicy, Protocol):
    """A policy that knows how observations are shown to it."""

    view: View
    """What it sees."""


class TorchCategorical:
    """One of A actions. `chosen` is a `torch.distributions.Categorical` over them."""

    def __init__(self, chosen: Any) -> None:
        self.chosen = chosen

    def sample(self, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        """One action each."""
        return self.chosen.sample()  # type: ignore[no-any-return]

    def mode(self) -> Tensor:
        """The most probable action."""
        return self.chosen.probs.argmax(-1)  # type: ignore[no-any-return]

    def log_prob(self, actions: Tensor) -> Tensor:
        """`[N]`."""
        return self.chosen.log_prob(actions)  # type: ignore[no-any-return]

    def entropy(self) -> Tensor:
        """`[N]`."""
        return self.chosen.entropy()  # type: ignore[no-any-return]

    def to_engine(self, actions: Tensor) -> Tensor:
        """As they are."""
        return actions


class Gaussian:
    """Independent normal distributions, clipped to the engine's bounds, as PPO and A2C act in it."""

    def __init__(self, normal: Any, bounds: "ActionBounds") -> None:
        self.normal, self.bounds = normal, bounds

    def sample(self, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        """Before clipping, `[N, A]`."""
        return self.normal.rsample()  # type: ignore[no-any-return]

    def mode(self) -> Tensor:
        """The mean."""
        return self.normal.mean  # type: ignore[no-any-return]

    def log_prob(self, actions: Tensor) -> Tensor:
        """Of the joint action before clipping, `[N]`."""
        return self.normal.log_prob(actions).sum(-1)  # type: ignore[no-any-return]

    def entropy(self) -> Tensor:
        """`[N]`."""
        return self.normal.entropy().sum(-1)  # type: ignore[no-any-return]

    def to_engine(self, actions: Tensor) -> Tensor:
        """Clipped."""
        return actions.clamp(self.bounds.low, self.bounds.high)


class ActionBounds:
    """Bounds of continuous actions on a device."""

    def __init__(self, space: spaces.Box, device: torch.device) -> None:
        self.low = torch.from_numpy(space.low).to(device)
        self.high = torch.from_numpy(space.high).to(device)

    def stretch(self, actions: Tensor) -> Tensor:
        """Actions in (-1, 1), `[N, A]`, stretched over the bounds."""
        return self.low + 0.5 * (actions + 1) * (self.high - self.low)


class ActorCriticPolicy:
    """The policy of PPO or A2C.

    Args:
        policy: of Stable-Baselines3.
        view: what it sees.
    """

    def __init__(self, policy: Any, view: View) -> None:
        self.policy, self.view = policy, view
        space = policy.action_space
        self.bounds = ActionBounds(space, policy.device) if isinstance(space, spaces.Box) else None

    def initial_state(self, n: int) -> Tensor:
        """Width 0: there is no recurrence."""
        return torch.zeros(n, 0, device=self.policy.device)

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """See `RolloutPolicy`."""
        actor, critic = self.policy.mlp_extractor(self.policy.extract_features(self.view.show(observation)))
        return self._act(actor), self.policy.value_net(critic).squeeze(-1), state

    def _act(self, latent: Tensor) -> Distribution:
        # the policy reuses its own distribution object; torch's is a new one each time
        distribution = self.policy._get_action_dist_from_latent(latent).distribution
        return TorchCategorical(distribution) if self.bounds is None else Gaussian(distribution, self.bounds)
