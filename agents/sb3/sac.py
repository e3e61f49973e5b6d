"""SAC of Stable-Baselines3."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from clutr.agents.distributions import Distribution
from clutr.agents.sb3.base import Setup
from clutr.agents.sb3.off_policy import OffPolicyOptions, OffPolicyStudent
from clutr.agents.sb3.policies import ActionBounds, Gaussian
from clutr.agents.sb3.preprocessing import View
from clutr.agents.student import STUDENTS
from clutr.envs.domain import Observation

_EDGE = 1e-6


@STUDENTS.register("sb3-sac")
@dataclass(frozen=True)
class SB3SACConfig(OffPolicyOptions):
    """SAC of Stable-Baselines3, off-policy, for continuous actions."""

    rollout_steps: int = 125
    buffer_size: int = 20_000
    steps_per_gradient: int = 8
    tau: float = 0.005

    def student(self, setup: Setup) -> "SACStudent":
        """See `SB3Options`."""
        from stable_baselines3 import SAC  # noqa: PLC0415 (only when a student is made)

        setup.require_actions(spaces.Box, "continuous")
        dimensions = math.prod(setup.action_space.shape or ())
        model = self.model(SAC, setup, target_entropy=-dimensions, tau=self.tau, **self.algorithm_options())
        return SACStudent(self, model, SACPolicy(model, setup.view), setup.randomness)


class SquashedGaussian(Gaussian):
    """Normal distributions squashed by tanh into (-1, 1) and stretched over the engine's bounds, as SAC acts in it.

    Entropies are those of the normal distributions: the squashed ones' have no closed form.
    """

    def sample(self, rng: torch.Generator) -> Tensor:
        """In (-1, 1), `[N, A]`."""
        return torch.tanh(super().sample(rng))

    def mode(self) -> Tensor:
        """The squashed mean."""
        return torch.tanh(super().mode())

    def log_prob(self, actions: Tensor) -> Tensor:
        """Of the joint action in (-1, 1), `[N]`."""
        inside = actions.clamp(-1 + _EDGE, 1 - _EDGE)
        return super().log_prob(torch.atanh(inside)) - torch.log1p(_EDGE - inside.square()).sum(-1)

    def to_engine(self, actions: Tensor) -> Tensor:
        """Stretched."""
        return self.bounds.stretch(actions)


class Uniform(Gaussian):
    """Uniform on (-1, 1), stretched over the engine's bounds. Only the shape of `like` `[N, A]` counts."""

    def __init__(self, like: Tensor, bounds: ActionBounds) -> None:
        super().__init__(torch.distributions.Uniform(-torch.ones_like(like), torch.ones_like(like)), bounds)

    def to_engine(self, actions: Tensor) -> Tensor:
        """Stretched."""
        return self.bounds.stretch(actions)


class SACPolicy:
    """The policy of SAC. V is the least of the critics' Q of the squashed mean action.

    Args:
        model: of Stable-Baselines3.
        view: what it sees.
    """

    def __init__(self, model: Any, view: View) -> None:
        self.model, self.view = model, view
        self.bounds = ActionBounds(model.action_space, model.device)
        self.warming_up = False
        """Whether actions are uniform, as they are until learning starts."""

    def initial_state(self, n: int) -> Tensor:
        """Width 0: there is no recurrence."""
        return torch.zeros(n, 0, device=self.model.device)

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """See `RolloutPolicy`."""
        shown = self.view.show(observation)
        mean, log_std, _ = self.model.actor.get_action_dist_params(shown)
        policy = SquashedGaussian(torch.distributions.Normal(mean, log_std.exp()), self.bounds)
        values = torch.cat(self.model.critic(shown, policy.mode()), 1).amin(1)
        return (Uniform(mean, self.bounds) if self.warming_up else policy), values, state


class SACStudent(OffPolicyStudent):
    """SAC: acts at random until it starts to learn."""

    config: SB3SACConfig
    policy: SACPolicy

    def _explore(self) -> None:
        self.policy.warming_up = len(self.replay) < self.config.learning_starts

    def act(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """As any student; it never acts at random here."""
        self.policy.warming_up = False
        return super().act(*args, **options)
