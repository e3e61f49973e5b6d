"""CLUTR's teacher: a Beta policy on the latent box, trained with PPO as a contextual bandit.

Source: arXiv 2210.10243, section 4.2. The context is pure noise, an episode is one action, and the reward is the regret
that the decoded task caused. So the return is the reward, and the advantage is the reward minus a learned baseline.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Beta

from clutr.agents.distributions import sample_beta
from clutr.agents.losses import ActionEvaluation
from clutr.agents.networks import linear
from clutr.curricula.base import Pending
from clutr.curricula.ppo import Learner, TeacherOptions
from clutr.envs.state import Stateful


class BetaPolicy(nn.Module):
    """Independent Beta distributions over (0, 1)^dim given noise, each with one mode, and a value.

    As published, the torso has no non-linearity: noise only blends Beta parameters.

    Args:
        noise: width of the context.
        hidden: width of the torso.
        dim: number of Beta distributions.
        rng: draws the initial weights.
    """

    def __init__(self, noise: int, hidden: int, dim: int, rng: torch.Generator) -> None:
        super().__init__()
        self.torso = linear(noise, hidden, rng)
        self.alpha = linear(hidden, dim, rng)
        self.beta = linear(hidden, dim, rng)
        self.critic = linear(hidden, 1, rng)

    def forward(self, noise: Tensor) -> tuple[Beta, Tensor]:
        """Distributions `[B, dim]` and values `[B]` for noise `[B, noise]`."""
        features = self.torso(noise)
        alpha, beta = F.softplus(self.alpha(features)) + 1, F.softplus(self.beta(features)) + 1
        return Beta(alpha, beta, validate_args=False), self.critic(features).squeeze(-1)

    def evaluate(self, noise: Tensor, actions: Tensor) -> ActionEvaluation:
        """Joint log-probability over dimensions, value and joint entropy of actions `[B, dim]`, each `[B]`."""
        distribution, values = self(noise)
        return ActionEvaluation(distribution.log_prob(actions).sum(-1), values, distribution.entropy().sum(-1))


class _Batch(NamedTuple):
    noise: Tensor
    actions: Tensor
    old: ActionEvaluation


class LatentBandit(Stateful):
    """The teacher: `act` chooses points of the unit box, `learn` takes their rewards, in turn.

    Args:
        dim: dimensions of the box.
        noise: width of the context.
        hidden: width of the torso.
        options: how it learns.
        rng: draws initial weights, contexts and actions.
    """

    saved = ("_pending", "learner", "rng")

    def __init__(self, dim: int, noise: int, hidden: int, options: TeacherOptions, rng: torch.Generator) -> None:
        self.noise = noise
        self.rng = rng
        self.policy = BetaPolicy(noise, hidden, dim, rng)
        self.learner = Learner(self.policy, options, rng)
        self._pending: Pending[_Batch] = Pending()

    @torch.no_grad()
    def act(self, n: int) -> Tensor:
        """Choose n points `[n, dim]` of (0, 1)^dim. Raises `RuntimeError` if the last ones have no reward yet."""
        self._pending.require_none()
        noise = torch.rand(n, self.noise, generator=self.rng)
        policy, _ = self.policy(noise)
        actions = sample_beta(policy.concentration1, policy.concentration0, self.rng)
        self._pending.put(_Batch(noise, actions, self.policy.evaluate(noise, actions)))
        return actions

    def learn(self, rewards: Tensor) -> dict[str, Tensor]:
        """Learn from the rewards `[n]` of the last points; returns 0-d metrics by name.

        Raises:
            RuntimeError: if no points wait for rewards.
        """
        noise, actions, old = self._pending.take()
        return self.learner.update(
            lambda index: self.policy.evaluate(noise[index], actions[index]),
            old,
            advantages=rewards - old.values,
            returns=rewards,
        )
