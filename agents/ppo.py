"""The native student: recurrent proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import torch
from torch import Tensor, nn

from agents.losses import Evaluation, clipped_losses, normalise
from agents.networks import ActorCritic
from agents.rollout import collect, sample_actions
from agents.student import STUDENTS, Trajectories
from envs.domain import Engine, LevelBatch, Observation
from envs.randomness import named_generator


@STUDENTS.register("ppo")
@dataclass(frozen=True)
class PPOConfig:
    """Recurrent PPO. The defaults are the published maze student of arXiv 2110.02439 and 2210.10243."""

    rollout_steps: int = 256
    """Steps T of each environment between two updates."""
    learning_rate: float = 1e-4
    """Adam's step size."""
    discount: float = 0.995
    """Gamma."""
    trace: float = 0.95
    """Lambda of generalised advantage estimation."""
    epochs: int = 5
    """Passes over each rollout."""
    minibatches: int = 1
    """Parts, each of whole sequences of some environments, into which a pass is split."""
    clip: float = 0.2
    """How far the probability ratio and the value may move in one update."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    torso: Literal["conv", "symbols"] = "conv"
    """Published 3x3 convolution, or one linear layer over one-hot symbols."""
    torso_width: int = 64
    """Features of the torso "symbols"."""
    hidden: int = 256
    """Width of the LSTM."""
    head: int = 32
    """Width of the hidden layers of actor and critic."""

    def __post_init__(self) -> None:
        for name in ("rollout_steps", "epochs", "minibatches", "torso_width", "hidden", "head"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip", "max_gradient_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.torso not in ("conv", "symbols"):
            raise ValueError(f"torso must be conv or symbols, got {self.torso!r}")

    def build(
        self,
        observation_space: gymnasium.spaces.Dict,
        action_space: gymnasium.Space[Any],
        seed: int,
        name: str,
        device: torch.device | str = "cpu",
    ) -> "PPOStudent":
        """Make the student called `name`. Raises `ValueError` if it cannot play in these spaces."""
        if not isinstance(action_space, gymnasium.spaces.Discrete):
            raise ValueError(f"this student takes discrete actions, not {action_space}")
        rng = named_generator(seed, name, "weights")
        actions = int(action_space.n)
        network = ActorCritic(observation_space, actions, self.torso, self.torso_width, self.hidden, self.head, rng).to(
            device
        )
        return PPOStudent(self, network, seed, name, device)


class PPOStudent:
    """A recurrent actor-critic that plays with `collect` and learns with PPO.

    Args:
        config: the options.
        network: actor and critic.
        seed: of the run.
        name: of the student; with the seed it determines every generator.
        device: where it plays and learns.
    """

    def __init__(
        self, config: PPOConfig, network: ActorCritic, seed: int, name: str, device: torch.device | str
    ) -> None:
        self.config = config
        self.network = network
        self.optimiser = torch.optim.Adam(network.parameters(), config.learning_rate, eps=1e-5, fused=True)
        self.action_rng = named_generator(seed, name, "actions", device=device)
        self.batch_rng = named_generator(seed, name, "minibatches")

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, 2 * hidden]`."""
        weight = self.network.core.weight_hh_l0
        return torch.zeros(n, 2 * self.config.hidden, device=weight.device)

    def act(
        self, observation: Observation, state: Tensor, rng: torch.Generator, deterministic: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Actions `[N]` and the next state; sampled unless `deterministic`."""
        log_probs, _, state = self.network.step(observation, state)
        if deterministic:
            return log_probs.argmax(-1), state
        return sample_actions(log_probs, torch.rand(len(log_probs), generator=rng, device=rng.device)), state

    def rollout(self, engine: Engine, levels: LevelBatch) -> Trajectories:
        """Play each level in its own environment for `rollout_steps` steps."""
        config = self.config
        return collect(
            self.network, engine, levels, config.rollout_steps, self.action_rng, config.discount, config.trace
        )

    def learn(self, trajectories: Trajectories, train: Tensor | None = None) -> dict[str, float]:
        """Update from the environments in `train` `[N]` bool (None: all); none of them leaves the weights as they are.

        Returns:
            Means over all gradient steps of `policy_loss`, `value_loss`, `entropy`, `approx_kl`, `clip_fraction` and
            `gradient_norm`; and `explained_variance` of the values before the update.
        """
        batch = _Batch.of(self.network, trajectories, train)
        if batch.num_envs == 0:
            return {}
        totals: dict[str, Tensor] = {}
        parts = min(self.config.minibatches, batch.num_envs)
        for _ in range(self.config.epochs):
            for part in self._split(batch, parts):
                for name, value in self._gradient_step(part).items():
                    totals[name] = totals.get(name, torch.zeros_like(value)) + value
        gradient_steps = self.config.epochs * parts
        metrics = {name: float(total) / gradient_steps for name, total in totals.items()}
        return metrics | {"explained_variance": batch.explained_variance()}

    def _split(self, batch: "_Batch", parts: int) -> "list[_Batch]":
        if parts == 1:
            return [batch]
        order = torch.randperm(batch.num_envs, generator=self.batch_rng).to(batch.advantages.device)
        return [batch.select(index) for index in order.chunk(parts)]

    def _gradient_step(self, batch: "_Batch") -> dict[str, Tensor]:
        config = self.config
        log_probs, values = self.network(batch.prepared, batch.starts, self.initial_state(batch.num_envs))
        chosen = log_probs.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
        entropies = -(log_probs.exp() * log_probs).sum(-1)
        old = Evaluation(batch.log_probs, batch.values, entropies)
        losses = clipped_losses(
            Evaluation(chosen, values, entropies), old, normalise(batch.advantages), batch.returns, config.clip
        )
        loss = losses.policy + config.value_coefficient * losses.value - config.entropy_coefficient * losses.entropy
        self.optimiser.zero_grad()
        loss.backward()
        gradient_norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.max_gradient_norm)
        self.optimiser.step()
        with torch.no_grad():
            change = chosen - batch.log_probs
            ratio = change.exp()
            return {
                "policy_loss": losses.policy.detach(),
                "value_loss": losses.value.detach(),
                "entropy": losses.entropy.detach(),
                "approx_kl": (ratio - 1 - change).mean(),  # never negative, and less noisy than -change
                "clip_fraction": ((ratio - 1).abs() > config.clip).float().mean(),
                "gradient_norm": gradient_norm,
            }

    def state_dict(self) -> dict[str, Any]:
        """Weights, Adam's slots and generators."""
        return {
            "network": dict(self.network.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "action_rng": self.action_rng.get_state(),
            "batch_rng": self.batch_rng.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.action_rng.set_state(state["action_rng"])
        self.batch_rng.set_state(state["batch_rng"])


@dataclass(frozen=True)
class _Batch:
    """What an update needs of trajectories: tensors `[T, n, ...]` of the n environments that are trained on."""

    prepared: Tensor
    starts: Tensor
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    values: Tensor
    returns: Tensor

    @classmethod
    def of(cls, network: ActorCritic, trajectories: Trajectories, train: Tensor | None) -> "_Batch":
        batch = cls(
            prepared=network.prepare(trajectories.observations),
            starts=trajectories.starts,
            actions=trajectories.actions,
            log_probs=trajectories.log_probs,
            advantages=trajectories.advantages,
            values=trajectories.values,
            returns=trajectories.returns,
        )
        if train is None or bool(train.all()):
            return batch
        return batch.select(train.nonzero().squeeze(1).to(batch.actions.device))

    @property
    def num_envs(self) -> int:
        return self.actions.shape[1]

    def select(self, index: Tensor) -> "_Batch":
        return _Batch(**{name: value[:, index] for name, value in vars(self).items()})

    def explained_variance(self) -> float:
        """1 - Var(returns - values) / Var(returns); 0 where returns do not vary."""
        variance = self.returns.var()
        if float(variance) == 0:
            return 0.0
        return 1 - float((self.returns - self.values).var() / variance)
