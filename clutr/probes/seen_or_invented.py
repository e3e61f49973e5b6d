"""Seen or invented: which pixels of a dreamt picture had been observed before, by the true motion.

What nobody had in view, a dream can only guess. The geometric core says itself what it has seen (`Dream.seen`); of any
other model's dream it is worked out from the simulator's motion, which the model does not know.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clutr.world_model.scene import among
from clutr.world_model.views import View, carry, trajectory


class Provenance(NamedTuple):
    """Where the pixels of K later pictures come from."""

    seen: Tensor
    """`[K, H, W]` bool: had been in view."""
    carried: Tensor
    """`[K, H, W, 3]` uint8: as they looked; edges extended where there was nothing."""


def seen_or_invented(
    view: View, frames: Tensor, masks: Tensor, objects: Sequence[str], states: Tensor, quantities: Sequence[str]
) -> Provenance:
    """Of K pictures after C observed ones, what had been observed.

    Args:
        view: the geometry of whoever looks.
        frames: `[C, H, W, 3]` uint8 that were observed.
        masks: `[C, H, W]` uint8: their objects.
        objects: the masks' names.
        states: `[C + K, Q]`: the true state then and later, which tells the motion.
        quantities: its names.

    Raises:
        ValueError: if no state is later than the frames.
    """
    count = len(frames)
    if len(states) <= count:
        raise ValueError(f"{len(states)} states of {count} observed frames leave none to come")
    poses = trajectory(view.motion(states[:, None], quantities))
    found = carry(view, frames[:, None], masks[:, None], objects, poses[:count], poses[count:])
    return Provenance(found.seen[:, 0], found.pictures[:, 0])


def tint(pictures: Tensor, seen: Tensor, colour: tuple[int, int, int] = (200, 60, 200), share: float = 0.45) -> Tensor:
    """Pictures `[..., H, W, 3]` uint8 with a colour over what was invented, for `seen` `[..., H, W]` bool."""
    over = torch.tensor(colour, dtype=torch.float32)
    mixed = (1 - share) * pictures.float() + share * over
    return torch.where(seen[..., None], pictures.float(), mixed).round().to(torch.uint8)


class ErrorBudget(NamedTuple):
    """Shares of a dream's squared picture error; they add up to 1."""

    backbone: float
    """What is lost by encoding and decoding the true picture."""
    motion: float
    """What is added where the world had been seen: the memory moved it wrongly, or forgot it."""
    unseen: float
    """What is added where the world had not been in view: a guess that was wrong."""
    viewer: float
    """What is added on what moves with the viewer or is drawn over the world, such as indicators."""


def error_budget(dreamt: Tensor, reconstructed: Tensor, true: Tensor, seen: Tensor, viewer: Tensor) -> ErrorBudget:
    """What the error of dreamt pictures is made of, summed over all of them.

    The backbone's part is the error of the reconstruction; the rest is where the dream is worse than that. A part is
    negative where the dream is better than the reconstruction.

    Args:
        dreamt: `[..., H, W, 3]` in [0, 1].
        reconstructed: what the backbone makes of the true pictures.
        true: the pictures that came.
        seen: `[..., H, W]` bool: what had been in view.
        viewer: `[..., H, W]` bool: what belongs to the viewer; it counts as neither seen nor unseen.
    """
    whole, lost = ((each - true).double().square().sum(-1) for each in (dreamt, reconstructed))
    total = float(whole.sum().clamp(min=1e-12))
    added = whole - lost
    return ErrorBudget(
        backbone=float(lost.sum()) / total,
        motion=float(added[seen & ~viewer].sum()) / total,
        unseen=float(added[~seen & ~viewer].sum()) / total,
        viewer=float(added[viewer].sum()) / total,
    )


def of_the_viewer(view: View, masks: Tensor, objects: Sequence[str]) -> Tensor:
    """`[..., H, W]` bool: pixels of masks `[..., H, W]` uint8 that move with the viewer or are drawn over the world."""
    return among(masks, objects, view.moving)
