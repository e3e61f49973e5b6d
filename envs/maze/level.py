"""Maze levels as tensors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.envs.domain import LevelBatch

EAST, SOUTH, WEST, NORTH = range(4)
"""Headings, as in MiniGrid."""


@dataclass(frozen=True)
class MazeLevels(LevelBatch):
    """A batch of mazes of one size. The outer ring of walls is implied, so cells are those inside it.

    A cell is numbered row by row from the top left: `cell = y * width + x`, with x and y counted from 0 inside the
    ring. MiniGrid's own coordinates are these plus one.
    """

    walls: Tensor
    """`[B, height, width]` bool."""
    agent: Tensor
    """`[B]` int64: the agent's start cell."""
    heading: Tensor
    """`[B]` int64: the agent's start heading, 0 east, 1 south, 2 west, 3 north."""
    goal: Tensor
    """`[B]` int64: the goal's cell."""

    @property
    def height(self) -> int:
        """Rows inside the ring."""
        return self.walls.shape[1]

    @property
    def width(self) -> int:
        """Columns inside the ring."""
        return self.walls.shape[2]

    def check(self) -> None:
        """Raise `ValueError` unless agent and goal stand on different free cells inside the maze."""
        cells = self.height * self.width
        flat = self.walls.flatten(1)
        for name, cell in (("agent", self.agent), ("goal", self.goal)):
            if bool(((cell < 0) | (cell >= cells)).any()):
                raise ValueError(f"the {name}'s cell must be in 0..{cells - 1}, got {cell.tolist()}")
            if bool(flat.gather(1, cell[:, None]).any()):
                raise ValueError(f"the {name} stands in a wall")
        if bool((self.agent == self.goal).any()):
            raise ValueError("agent and goal share a cell")
        if bool(((self.heading < 0) | (self.heading > NORTH)).any()):
            raise ValueError(f"a heading must be in 0..3, got {self.heading.tolist()}")


def empty_levels(batch: int, height: int, width: int) -> MazeLevels:
    """Mazes without walls: the agent at the top left looking east, the goal at the bottom right."""
    return MazeLevels(
        walls=torch.zeros(batch, height, width, dtype=torch.bool),
        agent=torch.zeros(batch, dtype=torch.int64),
        heading=torch.zeros(batch, dtype=torch.int64),
        goal=torch.full((batch,), height * width - 1, dtype=torch.int64),
    )
