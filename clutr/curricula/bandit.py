"""CLUTR's teacher: a Beta policy on the latent box, trained with PPO as a contextual bandit.

Source: arXiv 2210.10243, section 4.2. The context is pure noise, an episode is one action, and the reward is the regret
that the decoded task caused. So the return is the reward, and the advantage is the reward minus a learned baseline.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

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

LEAST = 0.5
"""Least parameter of the Beta distributions of a policy that starts uniform. Below 1, so that Beta(1, 1) is not on the
edge of what it can express; not far below, where density piles up at the ends of (0, 1)."""


class BetaPolicy(nn.Module):
    """Independent Beta distributions over (0, 1)^dim given noise, and a value.

    As published, the torso has no non-linearity: noise only blends Beta parameters; each distribution has one mode, and
    even before training they are narrower than uniform ones (variance 0.057 instead of 1/12). One that starts uniform
    has Beta(1, 1) everywhere at first, whatever the noise, and may come to prefer both ends of (0, 1) to its middle.

    Args:
        noise: width of the context.
        hidden: width of the torso.
        dim: number of Beta distributions.
        rng: draws the initial weights.
        uniform: whether it starts uniform instead of as published.
    """

    def __init__(self, noise: int, hidden: int, dim: int, rng: torch.Generator, uniform: bool = False) -> None:
        super().__init__()
        self.least, self.shift = (LEAST, math.log(math.expm1(1 - LEAST))) if uniform else (1.0, 0.0)
        self.torso = linear(noise, hidden, rng)
        self.alpha = linear(hidden, dim, rng)
        self.beta = linear(hidden, dim, rng)
        self.critic = linear(hidden, 1, rng)
        if uniform:
            for parameter in (*self.alpha.parameters(), *self.beta.parameters()):
                nn.init.zeros_(parameter)

    def forward(self, noise: Tensor) -> tuple[Beta, Tensor]:
        """Distributions `[B, dim]` and values `[B]` for noise `[B, noise]`."""
        features = self.torso(noise)
        alpha, beta = (F.softplus(head(features) + self.shift) + self.least for head in (self.alpha, self.beta))
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
        uniform: whether it starts uniform; see `BetaPolicy`.
        rounds: of points and rewards that it gathers for each update; the policy stays the same meanwhile.
    """

    saved: ClassVar[tuple[str, ...]] = ("_pending", "learner", "rng")

    def __init__(
        self,
        dim: int,
        noise: int,
        hidden: int,
        options: TeacherOptions,
        rng: torch.Generator,
        *,
        uniform: bool = False,
        rounds: int = 1,
    ) -> None:
        self.noise = noise
        self.rng = rng
        self.rounds = rounds
        self.policy = BetaPolicy(noise, hidden, dim, rng, uniform)
        self.learner = Learner(self.policy, options, rng)
        self.gathered: dict[str, Tensor] = {}
        """Rounds of points, one behind the other, that no update has been made from yet."""
        self.round = 0
        """How many they are."""
        self._pending: Pending[_Batch] = Pending()

    def state_dict(self) -> dict[str, Any]:
        """See `Stateful`; what is gathered is a part of it only where anything can be."""
        more = {"gathered": dict(self.gathered), "round": self.round} if self.rounds > 1 else {}
        return super().state_dict() | more

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        if self.rounds > 1:
            self.gathered, self.round = dict(state["gathered"]), int(state["round"])

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
        """Learn from the rewards `[n]` of the last points; returns 0-d metrics by name, none while it only gathers.

        Raises:
            RuntimeError: if no points wait for rewards.
        """
        noise, actions, old = self._pending.take()
        found = {"noise": noise, "actions": actions, "rewards": rewards, **old._asdict()}
        if self.round:
            found = {name: torch.cat([self.gathered[name], values]) for name, values in found.items()}
        self.gathered, self.round = found, self.round + 1
        return self._update() if self.round == self.rounds else {}

    def _update(self) -> dict[str, Tensor]:
        noise, actions, rewards, *old = self.gathered.values()
        self.gathered, self.round = {}, 0
        before = ActionEvaluation(*old)
        return self.learner.update(
            lambda index: self.policy.evaluate(noise[index], actions[index]),
            before,
            advantages=rewards - before.values,
            returns=rewards,
        )
