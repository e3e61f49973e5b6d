"""ACCEL on the task manifold: a level's children are decodes of points near its code.

The edits of ACCEL (arXiv 2203.01302) change a level cell by cell, each domain in its own way. Here a level is encoded,
its code moved, and decoded: the manifold knows which changes are small, and any domain with a manifold can be edited.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from clutr.curricula.accel import ACCEL, ACCELConfig
from clutr.curricula.base import CURRICULA, Context
from clutr.envs.domain import LevelBatch
from clutr.envs.validation import require_above, require_one_of, require_within


@CURRICULA.register("latent-accel")
@dataclass(frozen=True)
class LatentACCELConfig(ACCELConfig):
    """ACCEL whose edits are steps on the task manifold; `edits` plays no part."""

    move: Literal["step", "mix"] = "step"
    """A Gaussian step, or a way towards the code of another parent."""
    size: float = 0.1
    """Standard deviation of a step in each dimension, as a fraction of the box's width; or the farthest way towards the
    other parent, as a fraction of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(self, ("step", "mix"), "move")
        require_above(self, 0, "size")
        require_within(self, 0, 1, "size")

    def build(self, context: Context) -> "LatentACCEL":
        """Make the curriculum. Raises `ValueError` if the experiment has no manifold."""
        return LatentACCEL(self, context)


def step(codes: Tensor, size: float, bounds: tuple[float, float], rng: torch.Generator) -> Tensor:
    """Codes `[B, dim]` after a Gaussian step of `size` box widths in each dimension, kept in the box."""
    low, high = bounds
    return (codes + size * (high - low) * torch.randn(codes.shape, generator=rng)).clamp(low, high)


def mix(codes: Tensor, size: float, rng: torch.Generator) -> Tensor:
    """Codes `[B, dim]` moved by a random fraction, at most `size`, of the way towards another code of the batch.

    Parents may be there several times; their copies are no other codes. Where all codes are the same none moves.
    """
    different = (codes[:, None] != codes).any(-1)
    alone = ~different.any(1, keepdim=True)
    others = codes[torch.multinomial((different | alone).float(), 1, generator=rng).squeeze(1)]
    return codes + size * torch.rand(len(codes), 1, generator=rng) * (others - codes)


class LatentACCEL(ACCEL):
    """ACCEL with edits on the task manifold.

    Args:
        config: the options.
        context: the experiment; its manifold is needed.
    """

    def __init__(self, config: LatentACCELConfig, context: Context) -> None:
        super().__init__(config, context)
        self.move = config
        self.manifold = context.require_manifold("latent-accel")

    def edit(self, parents: LevelBatch) -> LevelBatch:
        """Encode, move, decode."""
        codes, size = self.manifold.encode(parents), self.move.size
        if self.move.move == "mix":
            return self.manifold.decode(mix(codes, size, self.edits_rng))
        return self.manifold.decode(step(codes, size, self.manifold.bounds, self.edits_rng))
