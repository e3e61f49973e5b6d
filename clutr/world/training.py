"""Training the memory: truncated backpropagation over streams of episodes, with carried states and early stopping."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.manifold.base import Progress
from clutr.world.latents import Chunk, LatentEpisode, Streams
from clutr.world.memory import Memory, Prediction, Scale
from envs.randomness import named_generator


@dataclass(frozen=True)
class MemoryTrainingOptions:
    """How the memory is trained."""

    epochs: int = 30
    """Most passes over the training episodes."""
    streams: int = 64
    """Episodes side by side in a batch."""
    length: int = 32
    """Moments of each gradient step; the state is carried to the next ones."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    reward_weight: float = 1.0
    """Weight of the reward's squared error, in squared standard deviations, against the nats of a latent dimension."""
    end_weight: float = 1.0
    """Weight of the end's cross-entropy."""
    patience: int = 5
    """Passes without a better validation loss after which it stops."""
    sample: bool = True
    """Draw latents from the backbone's Gaussians anew in each pass, instead of taking their means."""

    def __post_init__(self) -> None:
        for name in ("epochs", "streams", "length", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "max_gradient_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


class Losses:
    """Sums over recorded moments, from which means are told."""

    def __init__(self) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._moments = 0

    def add(self, parts: Tensor, moments: int) -> None:
        """Take in mean losses `[3]` of so many moments."""
        self._sums += parts.double() * moments
        self._moments += moments

    def means(self) -> dict[str, float]:
        """`nll` in nats a dimension, `reward` in squared standard deviations, `end` in nats."""
        means = (self._sums / max(1, self._moments)).tolist()
        return dict(zip(("nll", "reward", "end"), means, strict=True))


def losses(found: Prediction, chunk: Chunk, latents: Tensor, reward_std: float) -> Tensor:
    """Mean losses of the recorded moments of a chunk: latents, reward, end. `[3]`.

    Args:
        found: what was expected, `[T, B]`.
        chunk: what came.
        latents: `[T + 1, B, D]`, normalised.
        reward_std: by which rewards are divided.
    """
    real = chunk.real
    nll = -found.latent.log_density(latents[1:]).mean(-1)[real].mean()
    reward = (found.reward - chunk.rewards / reward_std).square()[real].mean()
    end = F.binary_cross_entropy_with_logits(found.end[real], chunk.ends[real])
    return torch.stack([nll, reward, end])


def scale_of(episodes: Sequence[LatentEpisode]) -> Scale:
    """The scale of latents and rewards of some episodes."""
    means, spreads, rewards = zip(*((e.mean, e.log_variance, e.rewards) for e in episodes), strict=True)
    return Scale.of(torch.cat(means), torch.cat(spreads), torch.cat(rewards))


class MemoryTraining:
    """One training of a memory, which can be stopped after any pass and resumed bit for bit.

    Args:
        memory: what is trained, from here on; at the end it has the weights of the best pass.
        options: how.
        train: training episodes.
        valid: validation episodes.
        seed: of order and noise.

    Raises:
        ValueError: if there are no episodes to train or to validate on.
    """

    def __init__(
        self,
        memory: Memory,
        options: MemoryTrainingOptions,
        train: Sequence[LatentEpisode],
        valid: Sequence[LatentEpisode],
        seed: int,
    ) -> None:
        if not train or not valid:
            raise ValueError("the memory needs episodes to train and to validate on: record more")
        self.memory, self.options, self.seed = memory, options, seed
        self.scale = scale_of(train)
        self.train, self.valid = train, valid
        trained = [parameter for parameter in memory.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trained, options.learning_rate)
        self.rng = named_generator(seed, "memory", "training")
        self.epoch, self.best_epoch, self.best_loss = 0, 0, float("inf")
        self.best: dict[str, Tensor] = {name: value.clone() for name, value in memory.state_dict().items()}
        self.history: list[dict[str, float]] = []

    @property
    def done(self) -> bool:
        """Whether all passes were made, or the last ones were no better."""
        return self.epoch >= self.options.epochs or self.epoch - self.best_epoch >= self.options.patience

    def run(self, progress: Progress = lambda *_: None) -> None:
        """Train to the end and keep the best weights."""
        while not self.done:
            self.one_epoch()
            progress(self.epoch, self.options.epochs, self.history[-1])
        self.memory.load_state_dict(self.best)

    def one_epoch(self) -> None:
        """One pass over the training episodes, then one over the validation episodes."""
        trained = self._pass(self.train, learn=True)
        with torch.no_grad():
            tested = self._pass(self.valid, learn=False)
        self.epoch += 1
        loss = self._total(torch.tensor([tested["nll"], tested["reward"], tested["end"]])).item()
        row = {f"train_{name}": value for name, value in trained.items()}
        self.history.append(row | {f"valid_{name}": value for name, value in tested.items()})
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, self.epoch
            self.best = {name: value.clone() for name, value in self.memory.state_dict().items()}

    def _total(self, parts: Tensor) -> Tensor:
        weights = torch.tensor([1.0, self.options.reward_weight, self.options.end_weight])
        return (weights * parts).sum()

    def _pass(self, episodes: Sequence[LatentEpisode], learn: bool) -> dict[str, float]:
        options, memory = self.options, self.memory
        rng = self.rng if learn else named_generator(self.seed, "memory", "validation")
        memory.train(learn)
        state, sums = memory.initial_state(options.streams), Losses()
        for chunk in Streams(episodes, options.streams, options.length, rng, options.sample and learn).epoch():
            state = torch.where(chunk.first[:, None], memory.initial_state(options.streams), state.detach())
            latents = self.scale.normalise(chunk.latents)
            state, found = memory.scan(state, latents[:-1], chunk.actions)
            parts = losses(found, chunk, latents, self.scale.reward_std)
            if learn:
                self.optimiser.zero_grad()
                self._total(parts).backward()
                nn.utils.clip_grad_norm_(memory.parameters(), options.max_gradient_norm)
                self.optimiser.step()
            sums.add(parts.detach(), int(chunk.real.sum()))
        memory.train(False)
        return sums.means()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue between two passes."""
        return {
            "memory": dict(self.memory.state_dict()),
            "scale": self.scale.state_dict(),
            "best": dict(self.best),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.get_state(),
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "history": [dict(row) for row in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.memory.load_state_dict(state["memory"])
        self.scale = Scale.from_state(state["scale"])
        self.best = {name: value.clone() for name, value in state["best"].items()}
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.set_state(state["rng"])
        self.epoch, self.best_epoch, self.best_loss = state["epoch"], state["best_epoch"], state["best_loss"]
        self.history = [dict(row) for row in state["history"]]
