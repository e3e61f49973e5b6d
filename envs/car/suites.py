"""The zero-shot test suites of cars. Nobody trains on them."""

from functools import cache

import torch

from clutr.envs.car.engine import CarEngine
from clutr.envs.car.road.circuits import CIRCUITS, Circuit, circuit_level
from clutr.envs.car.road.level import BezierLevels
from clutr.envs.car.road.sampling import continuous_roads
from clutr.envs.domain import Engine, LevelBatch, SeedLevels, Suite, Task

HELD_OUT = 20
"""Bezier roads of the held-out suite."""
CONTROL_POINTS = 12
"""Of each of them."""
SMALL = 5
"""How many of them the suite for evaluations during training has."""
HELD_OUT_SEED = 221010243
F1_PLAYFIELD = 500.0
"""Half the side of the square that holds the circuits, in units (arXiv 2110.02439)."""
MAX_NUM_ENVS, PACKAGE_MAX_NUM_ENVS = 32, 4
"""Cars at once: pictures are large, and the real package is slow."""


def suites(action_repeat: int) -> dict[str, Suite]:
    """The suites by name. Rewards are never shaped. Reads no file."""
    held_out = tuple(_bezier_task(index, action_repeat) for index in range(HELD_OUT))
    found = (
        Suite(
            "bezier-heldout",
            f"{HELD_OUT} fixed Bezier roads through continuous points, off the grid on which teachers build",
            held_out,
            metric="return",
        ),
        Suite("bezier-small", f"the first {SMALL} of bezier-heldout", held_out[:SMALL], metric="return"),
        Suite(
            "f1",
            "20 Formula 1 circuits (arXiv 2110.02439), scaled to that paper's lengths",
            tuple(_circuit_task(circuit, action_repeat) for circuit in CIRCUITS),
            metric="return",
        ),
        Suite(
            "gymnasium",
            "CarRacing-v3 of the installed gymnasium package, played as it is",
            (_gymnasium_task("CarRacing-v3", action_repeat, recoloured=False),),
            metric="return",
        ),
        Suite(
            "gymnasium-recoloured",
            "the same with the package's random colours (domain_randomize)",
            (_gymnasium_task("CarRacing-v3-recoloured", action_repeat, recoloured=True),),
            metric="return",
        ),
    )
    return {suite.name: suite for suite in found}


@cache
def _held_out() -> BezierLevels:
    return continuous_roads(HELD_OUT, CONTROL_POINTS, torch.Generator().manual_seed(HELD_OUT_SEED))


def _copies(level: LevelBatch, n: int) -> LevelBatch:
    return level[torch.zeros(n, dtype=torch.int64)]


def _bezier_task(index: int, action_repeat: int) -> Task:
    def engine(n: int) -> Engine:
        return CarEngine(n, action_repeat=action_repeat)

    return Task(f"Bezier{index + 1:02d}", lambda n, _: _copies(_held_out()[index], n), engine, MAX_NUM_ENVS)


def _circuit_task(circuit: Circuit, action_repeat: int) -> Task:
    def engine(n: int) -> Engine:
        limit = circuit.step_limit
        return CarEngine(n, playfield=F1_PLAYFIELD, max_frames=limit, action_repeat=action_repeat)

    return Task(circuit.name, lambda n, _: _copies(circuit_level(circuit), n), engine, MAX_NUM_ENVS)


def _gymnasium_task(name: str, action_repeat: int, recoloured: bool) -> Task:
    def engine(n: int) -> Engine:
        from clutr.envs.car.box2d_env import Box2DEngine  # noqa: PLC0415  # Box2D is an optional dependency

        return Box2DEngine(
            n, package_tracks=True, domain_randomize=recoloured, action_repeat=action_repeat
        )  # fmt: skip

    return Task(name, SeedLevels.draw, engine, PACKAGE_MAX_NUM_ENVS)
