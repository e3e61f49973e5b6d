"""Random mazes with a given number of obstacles and a given distance of agent and goal."""

import torch
from torch import Tensor

from clutr.envs.maze.level import MazeLevels


def mazes_at(height: int, width: int, obstacles: Tensor, distance: Tensor, rng: torch.Generator) -> MazeLevels:
    """Draw a maze for each pair of numbers, uniform among all that have both; so is the heading.

    Agent and goal come first, so that no distance is out of reach among many obstacles.

    Args:
        height: rows.
        width: columns.
        obstacles: `[n]` int64, wall cells, at most `height * width - 2`.
        distance: `[n]` int64, Manhattan distance of agent and goal, 1 to `height + width - 2`.
        rng: the levels lie on its device.
    """
    n, device = len(obstacles), rng.device
    obstacles, distance = obstacles.to(device), distance.to(device)
    agent, goal = _cells_apart(height, width, distance, rng)
    keys = torch.rand(n, height * width, generator=rng, device=device)
    order = keys.scatter_(1, torch.stack([agent, goal], 1), 2.0).argsort(dim=1)  # their own cells come last
    used = torch.arange(height * width, device=device) < obstacles[:, None]
    walls = torch.zeros(n, height * width, dtype=torch.bool, device=device).scatter_(1, order, used)
    heading = torch.randint(0, 4, (n,), generator=rng, device=device)
    return MazeLevels(walls.view(n, height, width), agent, heading, goal)


def _cells_apart(height: int, width: int, distance: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two cells for each `distance` `[n]`, uniform among all pairs that far apart: first their offset, then where."""
    device = rng.device
    rows, columns = torch.arange(1 - height, height), torch.arange(1 - width, width)
    down, right = (part.flatten().to(device) for part in torch.meshgrid(rows, columns, indexing="ij"))
    positions = (height - down.abs()) * (width - right.abs())  # at how many positions an offset fits
    weights = torch.where(down.abs() + right.abs() == distance[:, None], positions, 0).float()
    offset = torch.multinomial(weights, 1, generator=rng)[:, 0] if len(distance) else distance
    down, right = down[offset], right[offset]
    first = []
    for shift, size in ((down, height), (right, width)):
        drawn = torch.rand(len(distance), generator=rng, device=device, dtype=torch.float64)
        first.append((drawn * (size - shift.abs())).long() + (-shift).clamp(min=0))
    agent = first[0] * width + first[1]
    return agent, agent + down * width + right
