"""How fast mazes step at random, beside one environment of the real `minigrid` package."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Goal, Wall
from minigrid.minigrid_env import MiniGridEnv

from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.maze.level import MazeLevels
from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.measurement import Measurement

BATCH_SIZES = (256, 1024, 2048, 4096, 8192, 16384)
TRAINING_BATCH = 32
"""Environments in the published training set-up, where a step's fixed cost counts."""
REPETITIONS = 5
"""Each timing is the best of so many, so that another program's burst does not count."""


class RealMaze(MiniGridEnv):
    """One level, as a bare `MiniGridEnv` of the real package (no Gymnasium wrapper, which would slow it down).

    Args:
        level: one maze.
        options: of `MiniGridEnv`: `max_steps`, `see_through_walls`, `agent_view_size`.
    """

    def __init__(self, level: MazeLevels, **options: Any) -> None:
        self.level = level
        mission = MissionSpace(mission_func=lambda: "get to the green goal square")
        super().__init__(mission_space=mission, width=level.width + 2, height=level.height + 2, **options)

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        for y, x in self.level.walls[0].nonzero().tolist():
            self.put_obj(Wall(), x + 1, y + 1)
        goal, agent = int(self.level.goal[0]), int(self.level.agent[0])
        self.put_obj(Goal(), goal % self.level.width + 1, goal // self.level.width + 1)
        self.agent_pos = (agent % self.level.width + 1, agent // self.level.width + 1)
        self.agent_dir = int(self.level.heading[0])


def run(progress: Callable[[str], None]) -> list[Measurement]:
    """Measure random steps per second, restarts of ended episodes included on both sides.

    Levels are the default domain's. Actions are drawn before the clock starts, on both sides.
    """
    figures = []
    for see_through_walls in (True, False):
        domain = MazeDomain(see_through_walls=see_through_walls)
        walls = "see-through walls" if see_through_walls else "occluding walls"
        progress(f"one minigrid environment, {walls}")
        real = _real_steps_per_second(domain)
        rates = {}
        for batch in BATCH_SIZES:
            seconds = _seconds_per_step(domain, batch)
            rates[batch] = batch / seconds
            progress(f"{batch} mazes, {walls}: {rates[batch]:,.0f} steps/s")
        best = max(rates, key=lambda batch: rates[batch])
        peer = f"one minigrid environment, {walls}"
        figures.append(Measurement.beside(f"random steps, {best} mazes, {walls}", rates[best], "steps/s", peer, real))
        latency = _seconds_per_step(domain, TRAINING_BATCH)
        figures.append(Measurement(f"one step of {TRAINING_BATCH} mazes, {walls}", latency * 1e6, "microseconds"))
    return figures


def _best(repetition: Callable[[], int]) -> float:
    """Least seconds per step over `REPETITIONS` calls, each of which returns how many steps it made."""
    best = float("inf")
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        steps = repetition()
        best = min(best, (time.perf_counter() - start) / steps)
    return best


def _seconds_per_step(domain: MazeDomain, batch: int) -> float:
    """Seconds in which every one of `batch` mazes makes one step."""
    rng = named_generator(0, "bench", batch)
    engine = domain.engine(batch)
    assert isinstance(engine, MazeEngine)
    engine.reset(domain.sample(batch, rng))
    actions = torch.randint(7, (min(2 * domain.max_steps, max(50, 2_000_000 // batch)), batch), generator=rng)
    return _best(partial(_play, engine, actions))


def _play(engine: MazeEngine, actions: torch.Tensor) -> int:
    for action in actions:
        step = engine.step(action)
        engine.reset(mask=step.terminated | step.truncated)
    return len(actions)


def _real_steps_per_second(domain: MazeDomain) -> float:
    rng = named_generator(0, "bench", "minigrid")
    env = RealMaze(
        domain.sample(1, rng),
        max_steps=domain.max_steps,
        see_through_walls=domain.see_through_walls,
        agent_view_size=domain.view,
    )
    env.reset()
    actions = torch.randint(7, (10_000,), generator=rng).tolist()

    def play() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return len(actions)

    return 1 / _best(play)
