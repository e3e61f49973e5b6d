"""The true state of running mazes: where the agent is, how far the goal is, and what each pixel shows."""

import torch
from torch import Tensor

from clutr.envs.capabilities import SIDE
from clutr.envs.maze.engine import FORWARD, MazeEngine
from clutr.envs.maze.level import MazeLevels
from clutr.envs.maze.paths import actions_to_goal

OBJECTS = ("unseen", "floor", "wall", "goal", "agent")
QUANTITIES = {
    "row": "cells",
    "column": "cells",
    "heading_sine": "",
    "heading_cosine": "",
    "goal_in_view": "",
    "goal_ahead": "cells",
    "goal_right": "cells",
    "visited": "",
}
_COLOURS = torch.tensor([[24, 24, 28], [236, 232, 222], [66, 76, 94], [70, 178, 110], [216, 92, 60]], dtype=torch.uint8)
_CODES = {0: 0, 1: 1, 2: 2, 8: 3}
"""Object of each of MiniGrid's codes: unseen, empty, wall, goal."""


class MazeObserver:
    """Looks at the agents of an engine. See `clutr.envs.capabilities.PrivilegedObserver`.

    A picture shows what the agent sees, itself at the bottom looking up: cells of `SIDE // view` pixels, centred.
    `goal_ahead` and `goal_right` say where the goal is, seen from the agent, whether or not it is in view; `visited` is
    the share of the maze's cells on which the agent was seen to stand since its episode began.

    Args:
        engine: whose agents.
    """

    objects: tuple[str, ...] = OBJECTS
    quantities: dict[str, str] = QUANTITIES

    def __init__(self, engine: MazeEngine) -> None:
        self._engine = engine
        self._visited = torch.zeros(engine.num_envs, engine.height * engine.width, dtype=torch.bool)

    def reset(self, mask: Tensor | None = None) -> None:
        """Forget where the agents of `mask` `[N]` bool have been (None: all)."""
        self._visited[torch.ones(len(self._visited), dtype=torch.bool) if mask is None else mask.cpu()] = False

    def expert_action(self, aggressiveness: Tensor) -> Tensor:  # noqa: ARG002 (there are no speeds)
        """The next action of a shortest way to the goal, forward where there is none. `[N]` int64."""
        engine = self._engine
        cell, heading = engine.cell.cpu(), engine.heading.cpu()
        walls, goal = engine.walls.cpu(), engine.goal.cpu()
        left_and_right = (3, 1)
        costs = [actions_to_goal(MazeLevels(walls, cell, (heading + turn) % 4, goal)) for turn in left_and_right]
        here = actions_to_goal(MazeLevels(walls, cell, heading, goal))
        turns = torch.stack(costs, 1)
        best = torch.where(turns < 0, 2**30, turns).min(1)
        return torch.where((here > 0) & (best.values < here), best.indices, FORWARD)

    def pictures(self) -> Tensor:
        """`[N, 64, 64, 3]` uint8."""
        return _COLOURS[self.masks().long()]

    def masks(self) -> Tensor:
        """`[N, 64, 64]` uint8: numbers of `OBJECTS`."""
        engine = self._engine
        codes = engine.observation["image"][..., 0].cpu().long()
        table = torch.zeros(256, dtype=torch.uint8)
        for code, number in _CODES.items():
            table[code] = number
        seen = table[codes].transpose(1, 2).contiguous()  # MiniGrid's index is x first
        seen[:, -1, engine.view // 2] = OBJECTS.index("agent")
        tile = SIDE // engine.view
        picture = seen.repeat_interleave(tile, 1).repeat_interleave(tile, 2)
        first = (SIDE - tile * engine.view) // 2
        masks = torch.zeros(len(seen), SIDE, SIDE, dtype=torch.uint8)
        masks[:, first : first + picture.shape[1], first : first + picture.shape[2]] = picture
        return masks

    def privileged_state(self) -> dict[str, Tensor]:
        """`[N]` float32 for each of `QUANTITIES`."""
        engine = self._engine
        cell, heading, goal = engine.cell.cpu(), engine.heading.cpu(), engine.goal.cpu()
        self._visited[torch.arange(len(cell)), cell] = True
        row, column = cell // engine.width, cell % engine.width
        down, right = goal // engine.width - row, goal % engine.width - column
        # headings: 0 right, 1 down, 2 left, 3 up
        sine, cosine = torch.tensor([0.0, 1.0, 0.0, -1.0])[heading], torch.tensor([1.0, 0.0, -1.0, 0.0])[heading]
        found = {
            "row": row,
            "column": column,
            "heading_sine": sine,
            "heading_cosine": cosine,
            "goal_in_view": (engine.observation["image"][..., 0].cpu() == 8).flatten(1).any(1),
            "goal_ahead": right * cosine + down * sine,
            "goal_right": down * cosine - right * sine,
            "visited": self._visited.float().mean(1),
        }
        return {name: values.float() for name, values in found.items()}
