"""The zero-shot test suites of mazes. Nobody trains on them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from clutr.envs.domain import Engine, SeedLevels, Suite, Task
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.maze.generators import perfect_mazes
from clutr.envs.maze.layouts import BENCHMARK, SMALL, fixed_levels
from clutr.envs.maze.level import MazeLevels
from clutr.envs.maze.minigrid_env import MinigridEngine, levels_from_minigrid
from clutr.envs.maze.paths import solvable

if TYPE_CHECKING:
    from clutr.envs.maze.domain import MazeDomain

DCD = ("SixteenRooms", "Labyrinth", "Labyrinth2", "Maze", "Maze2", "SimpleCrossingS11N5", "SmallCorridor")
"""The seven mazes on which students trained with 25 blocks are tested (arXiv 2110.02439)."""
ACCEL = (
    *("SixteenRooms", "SixteenRoomsFewerDoors", "Labyrinth", "Labyrinth2", "Maze", "Maze2", "Maze3"),
    *("SimpleCrossingS11N5", "FourRooms", "SmallCorridor", "LargeCorridor", "PerfectMazeMedium"),
)
"""The twelve mazes on which students trained with 60 blocks are tested (arXiv 2203.01302)."""
PERFECT = {"PerfectMazeSmall": 11, "PerfectMazeMedium": 21, "PerfectMazeLarge": 51, "PerfectMazeXL": 101}
"""Outer sizes of the perfect mazes."""
DRAWN = {"FourRooms": (19, 100)} | {
    f"SimpleCrossingS{size}N{walls}": (size, 4 * size**2) for size, walls in ((9, 1), (9, 2), (9, 3), (11, 5))
}
"""Outer size and step limit of the mazes that the `minigrid` package draws and our engine plays."""
MINIGRID = (
    *("MiniGrid-Empty-8x8-v0", "MiniGrid-FourRooms-v0"),
    *("MiniGrid-SimpleCrossingS9N1-v0", "MiniGrid-SimpleCrossingS9N2-v0", "MiniGrid-SimpleCrossingS9N3-v0"),
    *("MiniGrid-SimpleCrossingS11N5-v0", "MiniGrid-MultiRoom-N2-S4-v0", "MiniGrid-MultiRoom-N4-S5-v1"),
    "MiniGrid-MultiRoom-N6-v0",
)
"""Environments of the `minigrid` package that are played as they are."""

_ROUNDS = 1000
"""Most batches drawn to find solvable levels."""


def suites(domain: "MazeDomain") -> dict[str, Suite]:
    """The suites by name. Their students see `domain.view` cells; sizes and step limits are the suites' own."""
    view = domain.view
    tasks = {task.name: task for task in _benchmark_tasks(view)}
    small = ("PerfectMazeSmall", "SimpleCrossingS9N1", "SimpleCrossingS9N2", "SimpleCrossingS9N3")
    found = (
        Suite("accel12", "the twelve mazes of the ACCEL test set", tuple(tasks[name] for name in ACCEL)),
        Suite("dcd7", "the seven mazes of the 25-block DCD test set", tuple(tasks[name] for name in DCD)),
        Suite("perfect", "perfect mazes of outer sizes 11, 21, 51 and 101", tuple(tasks[name] for name in PERFECT)),
        Suite(
            "minigrid",
            "environments of the installed minigrid package, played as they are",
            tuple(_minigrid_task(env_id, view) for env_id in MINIGRID),
        ),
        Suite("random", "random mazes that can be solved, as the domain samples them", (_random_task(domain),)),
        Suite(
            "small",
            "mazes of at most 11x11 cells, for students trained on small mazes",
            (*(tasks[name] for name in small), *(_fixed_task(name, SMALL[name], view) for name in SMALL)),
        ),
    )
    return {suite.name: suite for suite in found}


def solvable_levels(domain: "MazeDomain", n: int, rng: torch.Generator) -> MazeLevels:
    """Draw n levels of the domain that can be solved, by rejection.

    Raises:
        RuntimeError: hardly any level of this domain can be solved.
    """
    found: list[MazeLevels] = []
    missing = n
    for _ in range(_ROUNDS):
        if missing <= 0:
            break
        levels = domain.sample(max(64, missing + missing // 8), rng)
        found.append(levels[solvable(levels)][:missing])
        missing -= len(found[-1])
    if missing > 0:
        raise RuntimeError(f"only {n - missing} of {n} levels found that can be solved, in {_ROUNDS} batches")
    return MazeLevels.concatenate(found) if found else domain.sample(0, rng)


def _benchmark_tasks(view: int) -> list[Task]:
    fixed = [_fixed_task(name, drawing, view) for name, drawing in BENCHMARK.items()]
    perfect = [_perfect_task(name, size, view) for name, size in PERFECT.items()]
    drawn = [_drawn_task(name, size, max_steps, view) for name, (size, max_steps) in DRAWN.items()]
    return [*fixed, *perfect, *drawn]


def _engines(size: tuple[int, int], max_steps: int, view: int, see_through_walls: bool) -> Callable[[int], Engine]:
    """A maker of engines for mazes with outer `size` (rows, columns)."""
    rows, columns = size

    def make(n: int) -> Engine:
        return MazeEngine(n, rows - 2, columns - 2, max_steps=max_steps, see_through_walls=see_through_walls, view=view)

    return make


def _fixed_task(name: str, drawing: str, view: int) -> Task:
    """One drawn maze; with several goals, n levels go through them in turn."""
    variants = fixed_levels(drawing)
    rows, columns = variants.height + 2, variants.width + 2

    def draw(n: int, rng: torch.Generator) -> MazeLevels:  # noqa: ARG001  # nothing is random here
        return variants[torch.arange(n) % len(variants)]

    return Task(name, draw, _engines((rows, columns), 2 * rows * columns, view, see_through_walls=True))


def _perfect_task(name: str, size: int, view: int) -> Task:
    def draw(n: int, rng: torch.Generator) -> MazeLevels:
        return perfect_mazes(n, size, rng)

    return Task(name, draw, _engines((size, size), 2 * size * size, view, see_through_walls=True))


def _drawn_task(name: str, size: int, max_steps: int, view: int) -> Task:
    """Mazes that the `minigrid` package draws, played by our engine with MiniGrid's occlusion and step limit."""

    def draw(n: int, rng: torch.Generator) -> MazeLevels:
        return levels_from_minigrid(f"MiniGrid-{name}-v0", SeedLevels.draw(n, rng).seed)

    return Task(name, draw, _engines((size, size), max_steps, view, see_through_walls=False))


def _minigrid_task(env_id: str, view: int) -> Task:
    return Task(env_id, SeedLevels.draw, lambda n: MinigridEngine(env_id, n, view))


def _random_task(domain: "MazeDomain") -> Task:
    return Task("RandomSolvable", lambda n, rng: solvable_levels(domain, n, rng), domain.engine)
