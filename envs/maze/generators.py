"""Generators of test mazes."""

import torch
from torch import Tensor

from clutr.envs.maze.level import MazeLevels

MAX_SIZE = 101
"""Largest outer side of a perfect maze."""


def perfect_mazes(n: int, size: int, rng: torch.Generator) -> MazeLevels:
    """Draw mazes with exactly one way between any two cells, as in the perfect mazes of the ACCEL test set.

    Rooms are the cells whose coordinates inside the ring are both even. Kruskal's algorithm goes through the edges
    between neighbouring rooms in random order and opens the wall where an edge joins two parts that are not yet
    connected. Start and goal are two different corners, uniform over ordered pairs; the agent looks east.

    Args:
        n: number of mazes.
        size: outer side, ring included: odd, 5 to 101.
        rng: source of all randomness; its device is that of the mazes.

    Raises:
        ValueError: `size` is even or outside its range.
    """
    if size % 2 == 0 or not 5 <= size <= MAX_SIZE:
        raise ValueError(f"a perfect maze needs an odd size from 5 to {MAX_SIZE}, got {size}")
    device = rng.device
    side, inner = (size - 1) // 2, size - 2
    rooms = torch.arange(side * side, device=device).view(side, side)
    ends = torch.cat(
        [
            torch.stack([rooms[:, :-1].flatten(), rooms[:, 1:].flatten()], dim=1),
            torch.stack([rooms[:-1].flatten(), rooms[1:].flatten()], dim=1),
        ]
    )
    open_edge = _random_spanning_trees(n, side * side, ends, rng)

    cell = 2 * (rooms // side) * inner + 2 * (rooms % side)
    room_cells = cell.flatten()
    between = (room_cells[ends[:, 0]] + room_cells[ends[:, 1]]) // 2  # the cell midway between two rooms
    walls = torch.ones(n, inner * inner, dtype=torch.bool, device=device)
    walls[:, room_cells] = False
    walls[:, between] = ~open_edge

    corners = torch.tensor([0, inner - 1, inner * (inner - 1), inner * inner - 1], device=device)
    chosen = torch.rand(n, 4, generator=rng, device=device).argsort(dim=1)
    return MazeLevels(
        walls=walls.view(n, inner, inner),
        agent=corners[chosen[:, 0]],
        heading=torch.zeros(n, dtype=torch.int64, device=device),
        goal=corners[chosen[:, 1]],
    )


def _random_spanning_trees(n: int, nodes: int, ends: Tensor, rng: torch.Generator) -> Tensor:
    """Kruskal's algorithm on n copies of a graph with edges `[E, 2]`; `[n, E]` bool says which edges a tree uses."""
    edges = ends.shape[0]
    rows = torch.arange(n, device=rng.device)
    order = torch.rand(n, edges, generator=rng, device=rng.device).argsort(dim=1)
    part = torch.arange(nodes, device=rng.device).expand(n, nodes).clone()
    used = torch.zeros(n, edges, dtype=torch.bool, device=rng.device)
    for edge in order.T:
        one, other = part[rows, ends[edge, 0]], part[rows, ends[edge, 1]]
        used[rows, edge] = one != other
        part = torch.where(part == other[:, None], one[:, None], part)
    return used
