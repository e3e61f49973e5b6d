"""The one protocol a task manifold offers: a box of latents, each of which is a task."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from clutr.envs.domain import Domain, LevelBatch
from clutr.envs.progress import Progress
from clutr.envs.registry import Registry

TRAINING_VERSION = 1
"""Raised by a change of code after which the same options and seed give another manifold: kept ones are then of no use.
"""


class Manifold(Protocol):
    """A trained map between levels and points of the box `[low, high]^dim`. Frozen during a curriculum."""

    dim: int
    bounds: tuple[float, float]

    def encode(self, levels: LevelBatch) -> Tensor:
        """Latents `[B, dim]` inside the bounds (the posterior's mean)."""
        ...

    def decode(self, latents: Tensor) -> LevelBatch:
        """Levels for ANY latents `[B, dim]`; deterministic, batched and bounded."""
        ...

    def health(self) -> dict[str, Any]:
        """The numbers measured after pretraining: plain values, nested in dicts and lists."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, nested in dicts and lists."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        ...


class Pretraining(Protocol):
    """The training of one manifold, which can be stopped and resumed bit for bit."""

    def run(self, progress: Progress = ...) -> None:
        """Train to the end, then measure health."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue: tensors and plain values, nested in dicts and lists."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        ...


class TrainableNetwork(Protocol):
    """What is trained; an `nn.Module`."""

    def loss(
        self, tokens: Tensor, iteration: int, total: int, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The training loss of iteration `iteration` of `total` on tasks `[B, L]`, and its parts."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Weights by name."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """The inverse of `state_dict`."""
        ...

    def parameters(self) -> Any:
        """The weights."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch between training and evaluation."""
        ...


class ManifoldConfig(Protocol):
    """A frozen dataclass of a manifold's options, registered in `MANIFOLDS`."""

    def build(self, domain: Domain, seed: int) -> Manifold:
        """An untrained manifold of the right shape, into which `load_state_dict` puts a trained one."""
        ...

    def pretraining(self, manifold: Any, domain: Domain, seed: int) -> Pretraining:
        """The training of `manifold`, which this configuration built."""
        ...


MANIFOLDS: Registry[type[ManifoldConfig]] = Registry("manifold", "clutr.manifold.*")
"""Task manifolds by name, each by the dataclass of its options."""
