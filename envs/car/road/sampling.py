"""Random cells of the grid for roads of a given number of control points and a given spread."""

import torch
from torch import Tensor

GRID_SIZE = 10
"""Rows and columns of the grid."""


def in_line(cells: Tensor, count: Tensor) -> Tensor:
    """Whether the first `count` `[n]` of different cells `[n, P]` all lie on one line: `[n]` bool."""
    x, y = (part - part[:, :1] for part in (cells % GRID_SIZE, cells // GRID_SIZE))
    unused = torch.arange(cells.shape[1], device=cells.device) >= count[:, None]
    return ((x * y[:, 1:2] == y * x[:, 1:2]) | unused).all(1)


def grid_cells_at(count: Tensor, spread: Tensor, most: int, rng: torch.Generator) -> Tensor:
    """Draw different cells in a square of the grid for each road, in ascending order.

    Squares are uniform among the places where they fit, then cells among those of the square that span a triangle.

    Args:
        count: `[n]` int64, cells of each road, 3 to `most`.
        spread: `[n]` int64, side of its square, 2 to `GRID_SIZE`; one that has less than `count` cells is enlarged.
        most: width of the result.
        rng: the only source of randomness.

    Returns:
        `[n, most]` int64 on the CPU, numbered row by row from 0, arbitrary after the first `count`.
    """
    n = len(count)
    side = torch.maximum(spread, (count - 1).double().sqrt().floor().long() + 1)  # the root of `count`, rounded up
    corner = (torch.rand(2, n, generator=rng, device=rng.device).cpu() * (GRID_SIZE + 1 - side)).long()
    all_cells = torch.arange(GRID_SIZE**2)
    inside = torch.ones(n, GRID_SIZE**2, dtype=torch.bool)
    for place, first in zip((all_cells % GRID_SIZE, all_cells // GRID_SIZE), corner, strict=True):
        inside &= (place >= first[:, None]) & (place < (first + side)[:, None])
    cells = torch.zeros(n, most, dtype=torch.int64)
    wanted = torch.ones(n, dtype=torch.bool)
    while bool(wanted.any()):  # ends: three of the square's cells hardly ever lie on a line
        keys = torch.rand(int(wanted.sum()), GRID_SIZE**2, generator=rng, device=rng.device).cpu()
        drawn = torch.where(inside[wanted], keys, -1.0).topk(most, dim=1).indices
        used = torch.arange(most) < count[wanted, None]
        cells[wanted] = torch.where(used, drawn, GRID_SIZE**2).sort(dim=1).values
        wanted[wanted.clone()] = in_line(cells[wanted], count[wanted])
    return cells
