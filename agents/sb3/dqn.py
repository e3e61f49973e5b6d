"""DQN of Stable-Baselines3."""

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from clutr.agents.distributions import Distribution
from clutr.agents.sb3.base import Setup
from clutr.agents.sb3.off_policy import OffPolicyOptions, OffPolicyStudent
from clutr.agents.sb3.policies import TorchCategorical
from clutr.agents.sb3.preprocessing import View
from clutr.agents.student import STUDENTS
from clutr.envs.domain import Observation
from clutr.envs.validation import require_above, require_at_least, require_within


@STUDENTS.register("sb3-dqn")
@dataclass(frozen=True)
class SB3DQNConfig(OffPolicyOptions):
    """DQN of Stable-Baselines3, off-policy, for discrete actions."""

    discount: float = 0.9
    """Gamma. The nearer to 1, the less a step that leads nowhere costs: with 0.99, mazes are not learnt."""
    target_interval: int = 500
    """Gradient steps between two updates of the target network."""
    exploration_steps: int = 200_000
    """Environment steps over which the probability of a random action (epsilon) falls linearly."""
    exploration_initial: float = 1.0
    """Epsilon at the start."""
    exploration_final: float = 0.05
    """Epsilon in the end, and in evaluations that sample."""
    max_gradient_norm: float = 10.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "target_interval", "exploration_steps")
        require_within(self, 0, 1, "exploration_initial", "exploration_final")
        require_above(self, 0, "max_gradient_norm")

    def student(self, setup: Setup) -> "DQNStudent":
        """See `SB3Options`."""
        from stable_baselines3 import DQN  # noqa: PLC0415 (only when a student is made)

        setup.require_actions(spaces.Discrete, "discrete")
        # the target network is updated by the student, who counts gradient steps
        model = self.model(DQN, setup, max_grad_norm=self.max_gradient_norm, **self.algorithm_options())
        return DQNStudent(self, model, QPolicy(model.q_net, setup.view), setup.randomness)


class QPolicy:
    """The epsilon-greedy policy of DQN. V is the best action's Q.

    Args:
        network: Q-network of Stable-Baselines3.
        view: what it sees.
    """

    def __init__(self, network: Any, view: View) -> None:
        self.network, self.view = network, view
        self.exploration = 0.0

    def initial_state(self, n: int) -> Tensor:
        """Width 0: there is no recurrence."""
        return torch.zeros(n, 0, device=self.network.device)

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """See `RolloutPolicy`."""
        values, best = self.network(self.view.show(observation)).max(-1)
        actions = int(self.network.action_space.n)
        probs = torch.full((len(best), actions), self.exploration / actions, device=best.device)
        probs.scatter_add_(1, best[:, None], torch.full_like(probs[:, :1], 1 - self.exploration))
        return TorchCategorical(torch.distributions.Categorical(probs)), values, state


class DQNStudent(OffPolicyStudent):
    """DQN: epsilon-greedy, with an epsilon that falls with the steps played."""

    config: SB3DQNConfig
    policy: QPolicy

    def _explore(self) -> None:
        config = self.config
        done = min(self.steps / config.exploration_steps, 1.0)
        change = config.exploration_final - config.exploration_initial
        self.policy.exploration = config.exploration_initial + done * change

    def act(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """As any student; sampled actions explore with the final epsilon."""
        self.policy.exploration = self.config.exploration_final
        return super().act(*args, **options)

    def _train(self, gradient_steps: int) -> None:
        from stable_baselines3.common.utils import polyak_update  # noqa: PLC0415 (only when a student is made)

        interval = self.config.target_interval
        while gradient_steps:
            part = min(gradient_steps, interval - self.model._n_updates % interval)
            super()._train(part)
            gradient_steps -= part
            if self.model._n_updates % interval == 0:
                polyak_update(self.model.q_net.parameters(), self.model.q_net_target.parameters(), self.config.tau)
