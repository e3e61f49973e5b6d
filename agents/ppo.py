"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), and the recurrent student for mazes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import gymnasium
import torch
from torch import Tensor, nn

from clutr.agents.distributions import Distribution
from clutr.agents.learner_group import LearnerGroup, SingleLearner
from clutr.agents.losses import VALUE_LOSSES, Evaluation, ValueLoss, clipped_losses
from clutr.agents.networks import ActorCritic, Network, Prepared
from clutr.agents.normaliser import ReturnNormaliser
from clutr.agents.rollout import collect
from clutr.agents.student import STUDENTS, Trajectories
from clutr.envs.domain import Engine, LevelBatch, Observation
from clutr.envs.randomness import named_generator


@dataclass(frozen=True)
class PPOOptions(ABC):
    """How PPO learns, whatever the network."""

    rollout_steps: int = 256
    """Steps T of each environment between two updates."""
    learning_rate: float = 1e-4
    """Adam's step size."""
    discount: float = 0.995
    """Gamma."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    epochs: int = 5
    """Passes over each rollout."""
    minibatches: int = 1
    """Parts into which a pass is split: of environments if the student is recurrent, else of single steps."""
    clip: float = 0.2
    """How far the probability ratio and the value may move in one update."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    value_loss: ValueLoss = "clipped"
    """Squared error with clipping, or smooth L1 without."""
    normalise_returns: bool = False
    """Divide rewards by the running standard deviation of the discounted return, for the student's own use."""

    def __post_init__(self) -> None:
        for name in ("rollout_steps", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip", "max_gradient_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("discount", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.value_loss not in VALUE_LOSSES:
            raise ValueError(f"value_loss must be {' or '.join(VALUE_LOSSES)}, got {self.value_loss!r}")

    @abstractmethod
    def network(
        self, observation_space: gymnasium.spaces.Dict, action_space: gymnasium.Space[Any], rng: torch.Generator
    ) -> Network:
        """Make the network, with weights drawn from `rng`. Raises `ValueError` if it cannot play in these spaces."""

    def build(
        self,
        observation_space: gymnasium.spaces.Dict,
        action_space: gymnasium.Space[Any],
        seed: int,
        name: str,
        device: torch.device | str = "cpu",
    ) -> "PPOStudent":
        """Make the student called `name`. Raises `ValueError` if it cannot play in these spaces."""
        network = self.network(observation_space, action_space, named_generator(seed, name, "weights"))
        return PPOStudent(self, network.to(device), seed, name, device)


@STUDENTS.register("ppo")
@dataclass(frozen=True)
class PPOConfig(PPOOptions):
    """Recurrent PPO. The defaults are the published maze student of arXiv 2110.02439 and 2210.10243."""

    torso: Literal["conv", "symbols"] = "conv"
    """Published 3x3 convolution, or one linear layer over one-hot symbols."""
    torso_width: int = 64
    """Features of the torso "symbols"."""
    hidden: int = 256
    """Width of the LSTM."""
    head: int = 32
    """Width of the hidden layers of actor and critic."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("torso_width", "hidden", "head"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.torso not in ("conv", "symbols"):
            raise ValueError(f"torso must be conv or symbols, got {self.torso!r}")

    def network(
        self, observation_space: gymnasium.spaces.Dict, action_space: gymnasium.Space[Any], rng: torch.Generator
    ) -> ActorCritic:
        """See `PPOOptions`."""
        if not isinstance(action_space, gymnasium.spaces.Discrete):
            raise ValueError(f"this student takes discrete actions, not {action_space}")
        actions = int(action_space.n)
        return ActorCritic(observation_space, actions, self.torso, self.torso_width, self.hidden, self.head, rng)


METRICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
"""What is reported of the loss."""


class PPOStudent:
    """An actor-critic that plays with `collect` and learns with PPO.

    Args:
        config: the options.
        network: actor and critic.
        seed: of the run.
        name: of the student; with the seed it determines every generator.
        device: where it plays and learns.
    """

    def __init__(self, config: PPOOptions, network: Network, seed: int, name: str, device: torch.device | str) -> None:
        self.config = config
        self.device = torch.device(device)
        self.network = network
        self.optimiser = torch.optim.Adam(network.parameters(), config.learning_rate, eps=1e-5, fused=True)
        self.normaliser = ReturnNormaliser(config.discount, device=device) if config.normalise_returns else None
        self.action_rng = named_generator(seed, name, "actions", device=device)
        self.batch_rng = named_generator(seed, name, "minibatches")
        self.peers: LearnerGroup = SingleLearner()

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, ...]`, what the network remembers at an episode's start."""
        return self.network.initial_state(n)

    def act(
        self, observation: Observation, state: Tensor, rng: torch.Generator, deterministic: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Actions `[N, ...]` and the next state; sampled unless `deterministic`."""
        observation = {name: value.to(self.device) for name, value in observation.items()}
        policy, _, state = self.network.step(observation, state)
        return policy.to_engine(policy.mode() if deterministic else policy.sample(rng)), state

    def rollout(self, engine: Engine, levels: LevelBatch) -> Trajectories:
        """Play each level in its own environment for `rollout_steps` steps."""
        config = self.config
        return collect(
            self.network,
            engine,
            levels,
            config.rollout_steps,
            self.action_rng,
            config.discount,
            config.gae_lambda,
            self.normaliser,
        )

    def learn(self, trajectories: Trajectories, train: Tensor | None = None) -> dict[str, float]:
        """Update from the environments in `train` `[N]` bool (None: all); none of them leaves the weights as they are.

        Returns:
            Means over all gradient steps of `policy_loss`, `value_loss`, `entropy`, `approx_kl`, `clip_fraction` and
            `gradient_norm`; and `explained_variance` of the values before the update.
        """
        batch = _Batch.of(self.network, trajectories, train)
        samples = self.peers.count(len(batch))
        if samples == 0:
            return {}
        totals: dict[str, Tensor] = {}
        parts = min(self.config.minibatches, math.ceil(samples / self.peers.learners))
        for _ in range(self.config.epochs):
            for part in self._split(batch, parts):
                for name, value in self._gradient_step(part).items():
                    totals[name] = totals.get(name, torch.zeros_like(value)) + value
        gradient_steps = self.config.epochs * parts
        metrics = {name: float(total) / gradient_steps for name, total in totals.items()}
        return metrics | {"explained_variance": explained_variance(batch.values, batch.returns)}

    def _split(self, batch: "_Batch", parts: int) -> "list[_Batch]":
        if parts == 1:
            return [batch]
        order = torch.randperm(len(batch), generator=self.batch_rng).to(batch.advantages.device)
        return [batch.select(index) for index in order.tensor_split(parts)]

    def _gradient_step(self, batch: "_Batch") -> dict[str, Tensor]:
        """One step on a minibatch, of which this learner has the samples in `batch`: some, all, or none."""
        batch = replace(batch, advantages=self.peers.normalise(batch.advantages))
        samples = self.peers.count(len(batch))
        self.optimiser.zero_grad()
        totals = torch.zeros(len(METRICS), device=batch.episode_starts.device)
        parts = torch.arange(len(batch), device=batch.episode_starts.device).split(
            self.network.chunk or max(1, len(batch))
        )
        for index in parts if len(batch) else ():
            share = len(index) / samples
            loss, metrics = self._loss(batch if len(parts) == 1 else batch.select(index))
            (loss * share).backward()
            totals += metrics * share
        for parameter in self.network.parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.peers.sum(gradient)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        self.optimiser.step()
        return dict(zip(METRICS, self.peers.sum(totals), strict=True)) | {"gradient_norm": norm}

    def _loss(self, batch: "_Batch") -> tuple[Tensor, Tensor]:
        policy, values = self.network(batch.prepared, batch.episode_starts)
        return self.loss(policy, values, batch)

    def loss(self, policy: Distribution, values: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """The loss, 0-d, of a network's answer to samples, and `METRICS`, `[5]`: means over the samples.

        Args:
            policy: distributions over actions, `[L, M]`.
            values: `[L, M]`.
            batch: has `actions`, `log_probs`, `values`, `advantages` (normalised) and `returns` of the samples.
        """
        config = self.config
        new = Evaluation(policy.log_prob(batch.actions), values, policy.entropy())
        old = Evaluation(batch.log_probs, batch.values, new.entropy)
        losses = clipped_losses(new, old, batch.advantages, batch.returns, config.clip, config.value_loss)
        loss = losses.policy + config.value_coefficient * losses.value - config.entropy_coefficient * losses.entropy
        with torch.no_grad():
            change = new.log_probs - batch.log_probs
            ratio = change.exp()
            divergence = (ratio - 1 - change).mean()  # approximate KL: never negative, and less noisy than -change
            clipped = ((ratio - 1).abs() > config.clip).float().mean()
            return loss, torch.stack([losses.policy, losses.value, losses.entropy, divergence, clipped])

    def state_dict(self) -> dict[str, Any]:
        """Weights, Adam's slots, generators, and the moments of the returns if rewards are normalised."""
        state = {
            "network": dict(self.network.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "action_rng": self.action_rng.get_state(),
            "batch_rng": self.batch_rng.get_state(),
        }
        return state if self.normaliser is None else state | {"moments": self.normaliser.moments}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.action_rng.set_state(state["action_rng"])
        self.batch_rng.set_state(state["batch_rng"])
        if self.normaliser is not None:
            self.normaliser.moments = state["moments"].to(self.normaliser.moments.device)


@dataclass(frozen=True)
class _Batch:
    """What an update needs of trajectories: M samples that are trained on, `[L, M, ...]`."""

    prepared: Prepared
    episode_starts: Tensor
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    values: Tensor
    returns: Tensor

    @classmethod
    def of(cls, network: Network, trajectories: Trajectories, train: Tensor | None) -> "_Batch":
        names = ("episode_starts", "actions", "log_probs", "advantages", "values", "returns")
        columns: dict[str, Any] = {name: network.samples(getattr(trajectories, name)) for name in names}
        batch = cls(prepared=network.prepare(trajectories.observations, trajectories.episode_starts), **columns)
        if train is not None and not bool(train.all()):
            trained = train.to(trajectories.episode_starts.device).expand_as(trajectories.episode_starts)
            batch = batch.select(network.samples(trained)[0].nonzero().squeeze(1))
        return batch

    def __len__(self) -> int:
        return self.episode_starts.shape[1]

    def select(self, index: Tensor) -> "_Batch":
        return _Batch(**{name: value[:, index] for name, value in vars(self).items()})


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns), of tensors of one shape; 0 where returns do not vary."""
    if returns.numel() == 0:
        return 0.0
    variance = returns.var()
    if float(variance) == 0:
        return 0.0
    return 1 - float((returns - values).var() / variance)
