"""Are near points near tasks? How many edits lie between the tasks of two points, by the points' distance."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from clutr.manifold.sets import edit_distance

STEPS = (0.003, 0.01, 0.03, 0.1, 0.2, 0.3)
"""Sizes of steps as fractions of the box's diagonal: as far as moving each dimension by so much of its range."""
PAIRS = 250
"""Pairs of points at each of these steps."""
RANKED = 750
"""Pairs of points whose steps are of any size up to the largest of these."""


def reflect(points: Tensor) -> Tensor:
    """Points that left the unit box, folded back at its faces: a step from a uniform point then ends at one."""
    return 1 - (points.remainder(2) - 1).abs()


def smoothness(
    decode: Callable[[Tensor], Tensor],
    dim: int,
    bounds: tuple[float, float],
    parts: tuple[int, int],
    rng: torch.Generator,
) -> dict[str, Any]:
    """Mean edit distance of the tasks of two points against their distance in the box, as plain values.

    A pair is a uniform point of the box and the same after a Gaussian step, reflected at the box's faces.

    Args:
        decode: canonical tasks `[B, L]` of points `[B, dim]`.
        dim: dimensions of the box.
        bounds: the box's ends.
        parts: content tokens C, and how many last tokens have a part of their own.
        rng: draws the points.

    Returns:
        `steps` (see `STEPS`) and the mean `edits` at each; `chance`, that of unrelated points; `rank_correlation` of
        distance and edits (Spearman) over pairs whose steps are uniform from 0 to the largest: 1 if edits grow with
        every step, None where all tasks are one.
    """
    from scipy.stats import spearmanr  # noqa: PLC0415  # takes half a second

    low, high = bounds
    sizes = torch.cat([torch.tensor(STEPS).repeat_interleave(PAIRS), STEPS[-1] * torch.rand(RANKED, generator=rng)])
    first = torch.rand(len(sizes), dim, generator=rng)
    second = reflect(first + sizes.unsqueeze(1) * torch.randn(len(sizes), dim, generator=rng))
    tasks, moved = decode(low + (high - low) * first), decode(low + (high - low) * second)
    edits = edit_distance(tasks, moved, *parts)
    distances, ranked = (second - first).norm(dim=1)[-RANKED:], edits[-RANKED:]
    constant = float(ranked.min()) == float(ranked.max())
    return {
        "steps": list(STEPS),
        "edits": edits[:-RANKED].unflatten(0, (len(STEPS), PAIRS)).mean(1).tolist(),
        "chance": float(edit_distance(tasks, tasks.roll(1, 0), *parts).mean()),
        "rank_correlation": None if constant else float(spearmanr(distances, ranked).statistic),
    }
