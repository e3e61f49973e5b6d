"""How maps of relevance agree with the simulator's masks of objects, as in Quantus and in gaze research."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Agreement(NamedTuple):
    """How a map agrees with the simulator's mask of an object."""

    mass: float
    """Share of positive relevance inside the mask."""
    rank: float
    """Share of the mask's pixels among as many pixels of the most relevance."""
    pointing: bool
    """Whether the greatest relevance lies inside."""
    nss: float
    """Mean inside the mask of the map standardised over the picture: 0 is chance."""
    chance: float
    """Share of the picture that the mask covers: what `mass` and `rank` would be by chance."""


def agreement(relevance: Tensor, mask: Tensor) -> Agreement:
    """Of a map `[H, W]` with a mask `[H, W]` bool. Raises `ValueError` for an empty mask."""
    size = int(mask.sum())
    if not size:
        raise ValueError("the mask is empty: the object is not on this picture")
    flat, inside = relevance.flatten().double(), mask.flatten()
    positive = flat.clamp(min=0)
    top = flat.argsort(dim=0, descending=True, stable=True)[:size]
    spread = flat.std(correction=0)
    standard = (flat - flat.mean()) / spread if spread > 0 else torch.zeros_like(flat)
    return Agreement(
        mass=float(positive[inside].sum() / positive.sum()) if positive.sum() > 0 else 0.0,
        rank=float(inside[top].double().mean()),
        pointing=bool(inside[flat.argmax()]),
        nss=float(standard[inside].mean()),
        chance=size / len(flat),
    )


def mask_agreement(relevance: Tensor, masks: Tensor, objects: Sequence[str]) -> dict[str, dict[str, float]]:
    """How sizes of relevance `[N, H, W]` agree with each object's mask, mean over the frames that show it.

    Args:
        relevance: of pixels.
        masks: `[N, H, W]` uint8.
        objects: names of the numbers in `masks`.

    Returns:
        By object `mass`, `rank`, `pointing`, `nss`, `chance` (see `Agreement`) and `frames`; objects that
        are never seen, or fill every frame, are missing.
    """
    found = {}
    for number, name in enumerate(objects):
        inside = masks == number
        seen = [n for n in range(len(masks)) if 0 < int(inside[n].sum()) < inside[n].numel()]
        if not seen:
            continue
        rows = torch.tensor([[float(each) for each in agreement(relevance[n].abs(), inside[n])] for n in seen])
        names = ("mass", "rank", "pointing", "nss", "chance")
        found[name] = dict(zip(names, rows.mean(0).tolist(), strict=True)) | {"frames": float(len(seen))}
    return found
