"""One maze's rules as compiled functions: what `clutr.envs.maze.engine` does to all mazes at once.

For code that plays many steps without coming back to Python. A maze lies in a row of numbers with a margin of walls,
and a cell's code holds MiniGrid's three bytes, as in the engine.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clutr.envs.numba_cache import njit

Integers = NDArray[np.int64]


class Mazes(NamedTuple):
    """N mazes and their rules."""

    grid: NDArray[np.int32]
    """Codes `[N, area]`."""
    start: Integers
    """Where agents start, as a place in the row, `[N]`."""
    start_heading: Integers
    """Where they look, `[N]`."""
    moves: Integers
    """What a step forward adds to the place, by heading, `[4]`."""
    looks: Integers
    """What to add for each cell of the view, by heading, `[4, view * view]`."""
    own: int
    """The view's cell in which the agent stands."""
    empty: int
    """Code of an empty cell."""
    wall: int
    """Code of a wall."""
    goal: int
    """Code of the goal."""
    max_steps: int
    """An episode is truncated at this many steps."""


@njit(nogil=True, error_model="numpy")
def look(mazes: Mazes, env: int, place: int, heading: int, image: NDArray[np.uint8]) -> None:
    """Fill `image` `[view * view, 3]` with what an agent sees that stands there and looks that way, through walls."""
    for cell in range(image.shape[0]):
        code = mazes.grid[env, place + mazes.looks[heading, cell]]
        if cell == mazes.own:
            code = np.int32(mazes.empty)
        image[cell, 0] = code & 255
        image[cell, 1] = (code >> 8) & 255
        image[cell, 2] = (code >> 16) & 255


@njit(nogil=True, error_model="numpy")
def act(mazes: Mazes, env: int, place: int, heading: int, action: int) -> tuple[int, int, bool]:
    """Place and heading after an action, and whether it reached the goal."""
    if action == 0:
        return place, (heading + 3) % 4, False
    if action == 1:
        return place, (heading + 1) % 4, False
    if action != 2:
        return place, heading, False
    target = place + mazes.moves[heading]
    code = mazes.grid[env, target]
    if code == mazes.wall:
        return place, heading, False
    return target, heading, code == mazes.goal


@njit(nogil=True, error_model="numpy")
def reward(mazes: Mazes, steps: int) -> float:
    """Of reaching the goal at that step: MiniGrid's, in its order of operations."""
    return 1 - 0.9 * (steps / mazes.max_steps)
