"""What there is to see of a world model at a step: dreams, readings, pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.world_model.backbones.base import to_uint8
from clutr.world_model.dream import LatentState
from clutr.world_model.policies import RandomWalk

COPIED = "the frame before the dream, shown again"
"""The baseline of dreams' errors."""


@dataclass
class Branch:
    """One dream."""

    state: LatentState
    """Where it is."""
    began: int
    """The frame from which it dreams."""
    walk: RandomWalk
    """What acts in it where a random walk does."""
    dreamt: int = 0
    """Steps since then."""
    rewards: list[float] = field(default_factory=list)
    alive: float = 1.0
    """The chance that the episode still goes on."""
    latents: list[Tensor] = field(default_factory=list)
    """`[D]` each, in the backbone's units."""
    errors: list[float] = field(default_factory=list)
    """Root mean square difference to the real frame of the same step, of 255, as far as there is one."""

    @property
    def now(self) -> int:
        """The frame of reality that is as late as the dream."""
        return self.began + self.dreamt


@dataclass(frozen=True)
class Reading:
    """A true quantity, and what one frame's latents say of it."""

    name: str
    unit: str
    r2: float
    """On test frames: whether the reading can be believed."""
    true: float
    """In the frame of reality that is shown."""
    seen: float
    """Read from the frame's latents."""
    dreamt: float | None
    """Read from the first dream's."""


@dataclass(frozen=True)
class View:
    """Everything that a page shows of a step."""

    frame: int
    """Of the episode, from 0."""
    frames: int
    """That there are so far."""
    dreaming: bool
    about: str
    reality: NDArray[np.uint8]
    """`[side, side, 3]`."""
    masks: NDArray[np.uint8]
    reconstruction: NDArray[np.uint8]
    dreams: list[NDArray[np.uint8]]
    error: NDArray[np.uint8] | None
    """Absolute difference of reality to the first dream, or to the reconstruction; None where the two are not of the
    same step, because one of them has ended."""
    mean_error: float | None
    """Its root mean square, of 255."""
    errors: dict[str, list[float]]
    """The same by steps since the branch, of each dream and of showing the frame before it again."""
    readings: list[Reading]
    latents: list[float]
    """Of the present step, `[D]` in standard deviations over the data."""
    action: list[float]
    rewards: list[float]
    """So far, of each dream."""
    alive: list[float]


def rms(difference: Tensor) -> float:
    """Root mean square."""
    return float(difference.float().square().mean().sqrt())


@torch.no_grad()
def errors_of(branches: Sequence[Branch], real: Tensor, decode: Callable[[Tensor], Tensor]) -> dict[str, list[float]]:
    """See `View.errors`. Each dreamt step is decoded and compared once.

    Args:
        branches: the dreams, which keep what was found.
        real: frames of reality `[T, side, side, 3]` uint8.
        decode: latents to pictures in 0..1.
    """
    found, frames = {}, real.int()
    for number, branch in enumerate(branches):
        known, done = min(branch.dreamt, len(frames) - 1 - branch.began), len(branch.errors)
        if fresh := branch.latents[done:known]:
            pictures = to_uint8(decode(torch.stack(fresh))).int()
            later = frames[branch.began + 1 + done :]
            branch.errors += [rms(dreamt - true) for dreamt, true in zip(pictures, later, strict=False)]
        found[f"dream {number + 1}"] = list(branch.errors)
    if branches:
        began, count = branches[0].began, len(branches[0].errors)
        found[COPIED] = [rms(frame - frames[began]) for frame in frames[began + 1 : began + 1 + count]]
    return found
