"""The compiled search for the fewest actions through mazes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clutr.envs.numba_cache import njit

Ints = NDArray[np.int64]


@njit()
def fewest_actions(walls: NDArray[Any], agents: Ints, headings: Ints, goals: Ints, actions: Ints) -> None:
    """A breadth-first search a maze, over cell and heading, from the start to the first pose on the goal.

    A pose is a number, `4 * agent_position + heading`; positions number the cells row by row, the ring of walls among
    them, so that a move never needs to ask for the edge.

    Args:
        walls: `[B, height, width]` bool.
        agents: start cells `[B]`.
        headings: start headings `[B]`.
        goals: goal cells `[B]`.
        actions: `[B]`, where the results are written: 0 on the goal, -1 where no way leads.
    """
    batch, height, width = walls.shape
    row = width + 2
    forward = np.array([4, 4 * row, -4, -4 * row])
    closed = np.ones(4 * row * (height + 2), dtype=np.bool_)  # poses in walls, and those that were reached
    queue = np.empty(4 * height * width, dtype=np.int64)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                pose = 4 * ((y + 1) * row + x + 1)
                closed[pose : pose + 4] = walls[b, y, x]
        goal = (goals[b] // width + 1) * row + goals[b] % width + 1
        start = 4 * ((agents[b] // width + 1) * row + agents[b] % width + 1) + headings[b]
        closed[start] = True
        queue[0] = start
        actions[b] = 0 if start // 4 == goal else -1
        begin, end, steps = 0, 1, 0
        while begin < end and actions[b] < 0:
            steps += 1
            last = end
            for index in range(begin, last):
                pose = queue[index]
                heading = pose % 4
                position = pose - heading
                for following in (pose + forward[heading], position + (heading + 1) % 4, position + (heading + 3) % 4):
                    if not closed[following]:
                        closed[following] = True
                        queue[end] = following
                        end += 1
                        if following // 4 == goal:
                            actions[b] = steps
            begin = last
