"""What exact coders have in common: the box falls into one cell a task, and a task's code is its cell's centre.

The cells' volumes add up to 1 and say how likely a uniform point of the box is to be each task. All arithmetic is done
in double precision, point by point, so that no level depends on the batch; points arrive as single-precision numbers,
which hold `LATENT_BITS` bits, so that no cell may be thinner along an axis than 2^-`MOST_BITS`.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from clutr.envs.capabilities import Tokens
from clutr.envs.domain import LevelBatch
from clutr.envs.state import Stateful
from clutr.manifold.sets import TaskShape

LATENT_BITS = 24
"""What a number in (1/2, 1) holds in single precision."""
MOST_BITS = 22
"""Bits that an axis may have to hold: the rest keeps a cell's centre, once rounded, well inside the cell."""
LAST = 1 - 2.0**-LATENT_BITS
"""Just below 1: the box's far faces belong to the last cells."""


class Coder(Stateful, ABC):
    """A task manifold that loses nothing.

    Args:
        domain: the domain.
        shape: of its tasks.
        dim: axes of the box [0, 1]^dim.
    """

    bounds = (0.0, 1.0)
    saved: ClassVar[tuple[str, ...]] = ("measured",)

    def __init__(self, domain: Tokens, shape: TaskShape, dim: int) -> None:
        self.domain = domain
        self.shape = shape
        self.dim = dim
        self.measured: dict[str, Any] = {}

    @abstractmethod
    def decode_tokens(self, latents: Tensor) -> Tensor:
        """The task `[B, L]` whose cell each point of the box is in, padded with 0."""

    @abstractmethod
    def cells(self, levels: LevelBatch) -> tuple[Tensor, Tensor]:
        """Centre and width of each level's cell along each axis, two tensors `[B, dim]` float64."""

    def encode(self, levels: LevelBatch) -> Tensor:
        """The centres of the levels' cells `[B, dim]`."""
        return self.cells(levels)[0].float()

    def nats(self, levels: LevelBatch) -> Tensor:
        """`[B]` float64: minus the logarithm of the chance that a uniform point of the box is the level."""
        return -self.cells(levels)[1].log().sum(1)

    def deviations(self, latents: Tensor, levels: LevelBatch) -> Tensor:
        """How far points of the box lie from the centres of the levels' cells, in standard deviations of such a cell.

        `[B]`, the root mean square over axes; at most the square root of 3 for points of the cell itself.
        """
        centre, width = self.cells(levels)
        return ((latents - centre) / width).square().mul(12).mean(1).sqrt()

    def priors(self, n: int, rng: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002 (the protocol's names)
        """Nothing: the only prior is the uniform one."""
        return {}

    def own_health(self, levels: LevelBatch, rng: torch.Generator) -> dict[str, Any]:  # noqa: ARG002
        """`code_length` of held-out levels, in nats a task: the less, the better the box's volumes suit the domain."""
        return {"code_length": float(self.nats(levels).mean())}

    def decode(self, latents: Tensor) -> LevelBatch:
        """Levels for any points of the box `[B, dim]`; deterministic, batched and bounded."""
        return self.domain.from_tokens(self.decode_tokens(latents))[0]

    def health(self) -> dict[str, Any]:
        """The numbers measured after pretraining."""
        return self.measured


def inside(latents: Tensor) -> Tensor:
    """Points `[B, dim]` in double precision, in [0, `LAST`]."""
    return latents.detach().double().nan_to_num(0.5).clamp(0, LAST)
