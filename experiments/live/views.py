"""What there is to see of a world model at a step: dreams, readings, pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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
    copied: list[float] = field(default_factory=list)
    """The same of the frame before the dream."""

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


def not_compared(branch: Branch, frames: int) -> list[Tensor]:
    """The dreamt latents that there are real frames of by now, and that were not compared with them yet."""
    return branch.latents[len(branch.errors) : max(0, frames - 1 - branch.began)]


def errors_of(branches: Sequence[Branch], real: Tensor, pictures: Sequence[Tensor]) -> dict[str, list[float]]:
    """See `View.errors`. Each dreamt step is compared once.

    Args:
        branches: the dreams, which keep what was found.
        real: frames of reality `[T, side, side, 3]` uint8.
        pictures: of each dream those of its latents that were `not_compared`, `[n, side, side, 3]` uint8.
    """
    found = {}
    for number, (branch, fresh) in enumerate(zip(branches, pictures, strict=True)):
        first = branch.began + 1 + len(branch.errors)
        later, before = real[first : first + len(fresh)].int(), real[branch.began].int()
        branch.errors += [rms(dreamt.int() - true) for dreamt, true in zip(fresh, later, strict=True)]
        branch.copied += [rms(true - before) for true in later]
        found[f"dream {number + 1}"] = list(branch.errors)
    if branches:
        found[COPIED] = list(branches[0].copied)
    return found
