"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), and the recurrent student for mazes."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import gymnasium
import torch
from torch import Tensor, nn

from clutr.agents.adam import Adam
from clutr.agents.losses import VALUE_LOSSES, ActionEvaluation, ValueLoss, clipped_losses, normalise, policy_change
from clutr.agents.networks import ActorCritic, Network, Prepared
from clutr.agents.normaliser import ReturnNormaliser
from clutr.agents.rollout import collect
from clutr.agents.student import STUDENTS, Trajectories
from clutr.agents.weight_average import WeightAverage
from clutr.envs.domain import Engine, LevelBatch, Observation
from clutr.envs.randomness import named_generator
from clutr.envs.state import Stateful
from clutr.envs.validation import (
    require_above,
    require_at_least,
    require_at_most,
    require_one_of,
    require_within,
)
from clutr.envs.workers import run_parts

Schedule = Literal["constant", "linear"]
"""Whether a learning rate stays, or falls linearly to 0 over the run."""
LONGEST_ROLLOUT = 1_000_000
"""Most steps of one environment between updates."""


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
    shards: int = 2
    """Parts of a minibatch whose gradients are computed side by side, on a core each, and added up in order. Results
    depend on it in rounding only, and never on the number of cores. A GPU takes a minibatch as a whole."""
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
    learning_rate_schedule: Schedule = "constant"
    """Whether Adam's step size stays or falls to 0 over the run ("linear")."""
    target_kl: float = 0.0
    """An update ends after the first gradient step whose minibatch finds the policy further than this from the one that
    acted (approximate KL); 0, as published, never ends one."""
    normalise_returns: bool = False
    """Divide rewards by the running standard deviation of the discounted return, for the student's own use."""
    ema_decay: float = 0.0
    """The student is evaluated with an exponential moving average of its weights, of which every update leaves this
    share, less at first; 0: with the newest weights. It learns, and plays to learn, with the newest."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "rollout_steps", "epochs", "minibatches", "shards")
        require_at_most(self, LONGEST_ROLLOUT, "rollout_steps")
        require_above(self, 0, "learning_rate", "clip", "max_gradient_norm")
        require_at_least(self, 0, "target_kl")
        require_within(self, 0, 1, "discount", "gae_lambda", "ema_decay")
        require_one_of(self, VALUE_LOSSES, "value_loss")
        require_one_of(self, get_args(Schedule), "learning_rate_schedule")

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
        require_at_least(self, 1, "torso_width", "hidden", "head")
        require_one_of(self, ("conv", "symbols"), "torso")

    def network(
        self, observation_space: gymnasium.spaces.Dict, action_space: gymnasium.Space[Any], rng: torch.Generator
    ) -> ActorCritic:
        """See `PPOOptions`."""
        if not isinstance(action_space, gymnasium.spaces.Discrete):
            raise ValueError(f"this student takes discrete actions, not {action_space}")
        actions = int(action_space.n)
        return ActorCritic(observation_space, actions, self.torso, self.torso_width, self.hidden, self.head, rng)


METRICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "gradient_norm")
"""What each gradient step reports."""


class PPOStudent(Stateful):
    """An actor-critic that plays with `collect` and learns with PPO.

    Args:
        config: the options.
        network: actor and critic.
        seed: of the run.
        name: of the student; with the seed it determines every generator.
        device: where it plays and learns.
    """

    saved = ("network", "optimiser", "action_rng", "batch_rng", "normaliser", "average")
    learns_alone = True
    """Nothing that `learn` changes is shared with other students, so that several can learn at the same time."""

    def __init__(self, config: PPOOptions, network: Network, seed: int, name: str, device: torch.device | str) -> None:
        self.config = config
        self.device = torch.device(device)
        self.network = network
        self.optimiser: torch.optim.Adam = Adam(network.parameters(), config.learning_rate, eps=1e-5, fused=True)
        self.normaliser = ReturnNormaliser(config.discount, device=device) if config.normalise_returns else None
        self.average = WeightAverage(network, config.ema_decay) if config.ema_decay else None
        self.action_rng = named_generator(seed, name, "actions", device=device)
        self.batch_rng = named_generator(seed, name, "minibatches")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`. An average is begun where there is none yet, and dropped where none is kept."""
        average = state.get("average") or {"network": state["network"], "updates": 0}
        super().load_state_dict({**state, "average": None if self.average is None else average})

    def evaluated(self) -> "PPOStudent":
        """See `clutr.agents.student.Averaged`. Until something is learnt its own weights are all there is."""
        if self.average is None or not self.average.updates:
            return self
        other = copy.copy(self)
        other.network = self.average.network
        return other

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, ...]`, the network's recurrent state at an episode's start."""
        return self.network.initial_state(n)

    def act(
        self, observation: Observation, state: Tensor, rng: torch.Generator, deterministic: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Actions `[N, ...]` and the next recurrent state; sampled unless `deterministic`."""
        observation = {name: value.to(self.device) for name, value in observation.items()}
        policy, _, state = self.network.step(observation, state)
        return policy.to_engine(policy.mode() if deterministic else policy.sample(rng)), state

    def rollout(self, engine: Engine, levels: LevelBatch) -> Trajectories:
        """Play each level in its own environment for T steps, and estimate advantages."""
        config, rng = self.config, self.action_rng
        return collect(
            self.network, engine, levels, config.rollout_steps, rng, config.discount, config.gae_lambda, self.normaliser
        )

    def schedule(self, progress: float) -> None:
        """Set the next updates' learning rate, `progress` (0 to 1) through the run; see `student.Scheduled`."""
        if self.config.learning_rate_schedule == "linear":
            for group in self.optimiser.param_groups:
                group["lr"] = self.config.learning_rate * (1 - progress)

    def learn(self, trajectories: Trajectories, train: Tensor | None = None) -> dict[str, float]:
        """Update from the environments in `train` `[N]` bool (None: all); none of them leaves the weights as they are.

        Returns:
            `METRICS`, means over all gradient steps; their number `gradient_steps`, smaller where `target_kl` ended the
            update; and `explained_variance` of the values before the update.
        """
        batch = Batch.of(self.network, trajectories, train)
        return self.optimise(batch, min(self.config.minibatches, len(batch))) if len(batch) else {}

    def parameter_change(self, trajectories: Trajectories) -> Tensor:
        """Squared norm of the policy's gradient on each environment alone, `[N]`: of a plain step, in its size squared.

        The objective is the mean of ratio times advantage, with advantages as they are: normalised ones would say of
        a level on which nothing can be learnt that it teaches as much as others. No clipping, since nothing has moved.
        """
        batch, parameters = Batch.of(self.network, trajectories, None), list(self.network.parameters())
        steps, envs = trajectories.rewards.shape
        number = torch.arange(envs, device=trajectories.rewards.device).expand(steps, envs)
        environment = self.network.samples(number)[0]
        changes = []
        for env in range(envs):
            part = batch.select((environment == env).nonzero().squeeze(1))
            policy, _ = self.network(part.prepared, part.episode_starts)
            ratio = (policy.log_prob(part.actions) - part.log_probs).exp()
            gradients = torch.autograd.grad((ratio * part.advantages).mean(), parameters, allow_unused=True)
            changes.append(sum(gradient.square().sum() for gradient in gradients if gradient is not None))
        return torch.stack([torch.as_tensor(change) for change in changes])

    def optimise(self, batch: "Batch", minibatches: int) -> dict[str, float]:
        """Epochs of gradient steps on the minibatches of a rollout (arXiv 1707.06347, algorithm 1)."""
        totals, gradient_steps = torch.zeros(len(METRICS), device=batch.advantages.device), 0
        for minibatch in self._minibatches(batch, minibatches):
            step = self.gradient_step(minibatch)
            totals, gradient_steps = totals + step, gradient_steps + 1
            if self.config.target_kl and float(step[METRICS.index("approx_kl")]) > self.config.target_kl:
                break
        if self.average is not None:
            self.average.follow(self.network)
        metrics = {name: total / gradient_steps for name, total in zip(METRICS, totals.tolist(), strict=True)}
        explained = explained_variance(batch.values, batch.returns)
        return metrics | {"gradient_steps": float(gradient_steps), "explained_variance": explained}

    def _minibatches(self, batch: "Batch", minibatches: int) -> "Iterator[Batch]":
        """The samples of each gradient step: those of a pass are drawn when it begins."""
        for _ in range(self.config.epochs):
            yield from batch.split(minibatches, self.batch_rng)

    def gradient_step(self, batch: "Batch") -> Tensor:
        """One step of Adam on a minibatch. Returns `METRICS`, `[6]`."""
        metrics = self.backward(replace(batch, advantages=normalise(batch.advantages)), len(batch))
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        self.optimiser.step()
        return torch.cat([metrics, norm.unsqueeze(0)])

    def backward(self, batch: "Batch", samples: int) -> Tensor:
        """Set the gradients of the mean loss over `samples` samples, of which `batch` has some or all.

        Shards are worked on side by side, and their gradients are added up in order. Returns the loss's metrics, `[5]`.
        """
        shards = batch.shards(self.config.shards if self.device.type == "cpu" else 1)
        metrics, gradients = zip(*run_parts(lambda shard: self._gradients(shard, samples), shards), strict=True)
        for parameter, *parts in zip(self.network.parameters(), *gradients, strict=True):
            parameter.grad = sum(parts[1:], start=parts[0])
        total: Tensor = sum(metrics[1:], start=metrics[0])
        return total

    def _gradients(self, batch: "Batch", samples: int) -> tuple[Tensor, list[Tensor]]:
        """Metrics and the parameters' gradients of a shard, weighted by its share of `samples`.

        The network says how many samples' gradients to compute at once.
        """
        parameters = list(self.network.parameters())
        metrics, gradients = batch.advantages.new_zeros(len(METRICS) - 1), [torch.zeros_like(one) for one in parameters]
        chunks = torch.arange(len(batch), device=metrics.device).split(self.network.chunk or len(batch))
        for index in chunks:
            loss, chunk_metrics = self.loss(batch if len(chunks) == 1 else batch.select(index))
            weight = len(index) / samples
            # not `backward`, which would add to the gradients that all shards share
            torch._foreach_add_(gradients, torch.autograd.grad(loss * weight, parameters))
            metrics += chunk_metrics * weight
        return metrics, gradients

    def loss(self, batch: "Batch") -> tuple[Tensor, Tensor]:
        """The loss, 0-d, of samples whose advantages are normalised, and its metrics, `[5]`: means over the samples."""
        config = self.config
        policy, values = self.network(batch.prepared, batch.episode_starts)
        new = ActionEvaluation(policy.log_prob(batch.actions), values, policy.entropy())
        old = ActionEvaluation(batch.log_probs, batch.values, new.entropy)
        losses = clipped_losses(new, old, batch.advantages, batch.returns, config.clip, config.value_loss)
        loss = losses.policy + config.value_coefficient * losses.value - config.entropy_coefficient * losses.entropy
        change = policy_change(new.log_probs, old.log_probs, config.clip)
        return loss, torch.stack([*losses, *change]).detach()


@dataclass(frozen=True)
class Batch:
    """What an update needs of trajectories: M samples that are trained on, `[L, M, ...]`; see `Network`."""

    prepared: Prepared
    episode_starts: Tensor
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    values: Tensor
    returns: Tensor

    @classmethod
    def of(cls, network: Network, trajectories: Trajectories, train: Tensor | None) -> "Batch":
        """The samples of the environments in `train` `[N]` bool; None: all."""
        names = ("episode_starts", "actions", "log_probs", "advantages", "values", "returns")
        columns: dict[str, Any] = {name: network.samples(getattr(trajectories, name)) for name in names}
        batch = cls(prepared=network.prepare(trajectories.observations, trajectories.episode_starts), **columns)
        if train is not None and not bool(train.all()):
            trained = train.to(trajectories.episode_starts.device).expand_as(trajectories.episode_starts)
            batch = batch.select(network.samples(trained)[0].nonzero().squeeze(1))
        return batch

    def __len__(self) -> int:
        return self.episode_starts.shape[1]

    def select(self, index: Tensor) -> "Batch":
        """Some of the samples."""
        return Batch(**{name: value[:, index] for name, value in vars(self).items()})

    def shards(self, parts: int) -> "list[Batch]":
        """Parts of about one size and in order, as many as have a sample."""
        if parts == 1 or len(self) < 2:
            return [self]
        return [self.select(index) for index in torch.arange(len(self)).tensor_split(min(parts, len(self)))]

    def split(self, parts: int, rng: torch.Generator) -> "list[Batch]":
        """Shuffled parts of about one size; a single part keeps its order."""
        if parts == 1:
            return [self]
        order = torch.randperm(len(self), generator=rng).to(self.advantages.device)
        return [self.select(index) for index in order.tensor_split(parts)]


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns), of tensors of one shape; 0 where returns do not vary."""
    if returns.numel() == 0:
        return 0.0
    variance = returns.var()
    if float(variance) == 0:
        return 0.0
    return 1 - float((returns - values).var() / variance)
