"""Random control points of roads: cells of a grid, or points of a square."""

import torch
from torch import Tensor

from clutr.envs.car.road.level import BezierLevels

GRID_SIZE = 10
"""Rows and columns of the grid."""
PLAYFIELD = 2000 / 6
"""Side of the square in which roads are drawn, in units; also how far from the origin an episode goes on."""
SPREAD = 0.7 / 12
"""Least distance of neighbouring points of a continuous draw, in sides of the square."""
ROUNDS = 200
"""Most draws until one is spread enough; then the last one is taken."""


def continuous_roads(n: int, control_points: int, rng: torch.Generator) -> BezierLevels:
    """Points uniform in the square, redrawn while neighbours by angle lie closer than `SPREAD` sides.

    The original measured the distance as |dx + dy|; this is Euclidean.
    """
    points = torch.empty(n, control_points, 2)
    wanted = torch.ones(n, dtype=torch.bool)
    for _ in range(ROUNDS):
        drawn = torch.rand(int(wanted.sum()), control_points, 2, generator=rng, device=rng.device).cpu()
        away = drawn - drawn.mean(1, keepdim=True)
        order = torch.atan2(away[..., 1], away[..., 0]).argsort(1)
        drawn = drawn.gather(1, order[..., None].expand(-1, -1, 2))
        points[wanted] = drawn
        near = (drawn - drawn.roll(-1, 1)).norm(dim=2).amin(1) < SPREAD
        wanted[wanted.clone()] = near
        if not bool(wanted.any()):
            break
    return BezierLevels(points * PLAYFIELD, torch.full((n,), control_points))


def in_line(cells: Tensor, count: Tensor) -> Tensor:
    """Whether the first `count` `[n]` of different cells `[n, P]` all lie on one line: `[n]` bool."""
    x, y = (part - part[:, :1] for part in (cells % GRID_SIZE, cells // GRID_SIZE))
    unused = torch.arange(cells.shape[1], device=cells.device) >= count[:, None]
    return ((x * y[:, 1:2] == y * x[:, 1:2]) | unused).all(1)


def grid_cells_at(count: Tensor, spread: Tensor, most: int, rng: torch.Generator) -> Tensor:
    """Draw different cells in a square of the grid for each road, in ascending order.

    Squares are uniform among the positions where they fit, then cells among those of the square that span a triangle.

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
    for coordinate, first in zip((all_cells % GRID_SIZE, all_cells // GRID_SIZE), corner, strict=True):
        inside &= (coordinate >= first[:, None]) & (coordinate < (first + side)[:, None])
    cells = torch.zeros(n, most, dtype=torch.int64)
    wanted = torch.ones(n, dtype=torch.bool)
    while bool(wanted.any()):  # ends: three of the square's cells hardly ever lie on a line
        keys = torch.rand(int(wanted.sum()), GRID_SIZE**2, generator=rng, device=rng.device).cpu()
        drawn = torch.where(inside[wanted], keys, -1.0).topk(most, dim=1).indices
        used = torch.arange(most) < count[wanted, None]
        cells[wanted] = torch.where(used, drawn, GRID_SIZE**2).sort(dim=1).values
        wanted[wanted.clone()] = in_line(cells[wanted], count[wanted])
    return cells
