"""Pretraining of manifolds that have a network, which can be stopped and resumed bit for bit."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import torch
from torch import nn

from clutr.agents.adam import Adam
from clutr.envs.capabilities import Tokens, require
from clutr.envs.domain import Domain
from clutr.envs.progress import Progress
from clutr.envs.randomness import derive_seed, named_generator
from clutr.envs.state import Stateful
from clutr.envs.validation import require_above, require_at_least, require_one_of
from clutr.manifold import health
from clutr.manifold.base import TrainableNetwork
from clutr.manifold.corpus import Corpus

REPORT_EVERY = 20
"""Iterations between two reports: each looks at the loss."""


class NetworkManifold(health.Measurable, Protocol):
    """A manifold whose network is trained."""

    measured: dict[str, Any]
    """What `health` gives."""

    @property
    def network(self) -> TrainableNetwork:
        """What is trained."""
        ...


M = TypeVar("M", bound=NetworkManifold)


@dataclass(frozen=True)
class PretrainOptions(ABC, Generic[M]):
    """How a manifold's network is trained."""

    by_length: ClassVar[bool] = False
    """Whether tasks of about one length share a batch (see `Corpus`): the network's nature, not a choice."""

    iterations: int = 4_000
    """Gradient steps; 0 leaves the network as it was drawn."""
    batch_size: int = 512
    """Tasks of each gradient step."""
    learning_rate: float = 5e-3
    """Adam's step size at the start."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Whether the step size falls to 0 along a cosine or stays."""
    max_gradient_norm: float = 5.0
    """Gradients are scaled down to this norm; 0 leaves them alone."""
    corpus_size: int = 0
    """Number of different tasks to train on; 0 draws fresh ones without end."""
    shuffle: bool = False
    """Whether each task's set of tokens comes in random order instead of ascending (an ablation)."""

    def __post_init__(self) -> None:
        require_at_least(self, 0, "iterations", "max_gradient_norm", "corpus_size")
        require_at_least(self, 1, "batch_size")
        require_above(self, 0, "learning_rate")
        require_one_of(self, ("cosine", "constant"), "schedule")

    @abstractmethod
    def build(self, domain: Domain, seed: int) -> M:
        """An untrained manifold."""

    def pretraining(self, manifold: M, domain: Domain, seed: int) -> "NetworkPretraining[M]":
        """The training of `manifold`, which these options built."""
        return NetworkPretraining(self, manifold, require(domain, Tokens, "pretraining"), seed)


class NetworkPretraining(Stateful, Generic[M]):
    """One training of a manifold's network.

    Args:
        options: how it is trained.
        manifold: what is trained.
        domain: where tasks come from.
        seed: of corpus, noise and health.
    """

    saved = ("manifold", "optimiser", "noise", "iteration")

    def __init__(self, options: PretrainOptions[M], manifold: M, domain: Tokens, seed: int) -> None:
        self.options = options
        self.manifold = manifold
        self.domain = domain
        self.seed = seed
        self.corpus = Corpus(
            domain,
            derive_seed(seed, "corpus"),
            options.batch_size,
            options.corpus_size,
            options.shuffle,
            options.by_length,
        )
        self.parameters = list(manifold.network.parameters())
        self.optimiser = Adam(self.parameters, options.learning_rate, fused=True)
        self.noise = named_generator(seed, "pretraining", "noise")
        self.iteration = 0

    @property
    def done(self) -> bool:
        """Whether all iterations have been made."""
        return self.iteration >= self.options.iterations

    def step(self) -> dict[str, torch.Tensor]:
        """One gradient step; returns the parts of the loss, 0-d."""
        options, network = self.options, self.manifold.network
        if options.schedule == "cosine":
            decay = 0.5 * (1 + math.cos(math.pi * self.iteration / options.iterations))
            for group in self.optimiser.param_groups:
                group["lr"] = options.learning_rate * decay
        network.train(True)
        loss, parts = network.loss(self.corpus.batch(self.iteration), self.iteration, options.iterations, self.noise)
        network.train(False)
        self.optimiser.zero_grad()
        loss.backward()
        if options.max_gradient_norm:
            nn.utils.clip_grad_norm_(self.parameters, options.max_gradient_norm)
        self.optimiser.step()
        self.iteration += 1
        return parts

    def run(self, progress: Progress = lambda *_: None) -> None:
        """Train to the end, then measure health."""
        total = self.options.iterations
        while not self.done:
            parts = self.step()
            if self.iteration % REPORT_EVERY == 0 or self.done:
                progress(self.iteration, total, {name: float(value) for name, value in parts.items()})
        known = self.corpus.tasks
        self.manifold.measured = health.measure(self.manifold, named_generator(self.seed, "health"), known=known)


def pretrain(config: PretrainOptions[M], domain: Domain, seed: int, progress: Progress = lambda *_: None) -> M:
    """Build, train and measure a manifold in one go. A training that must survive a kill is a `NetworkPretraining`."""
    training = config.pretraining(config.build(domain, seed), domain, seed)
    training.run(progress)
    return training.manifold
