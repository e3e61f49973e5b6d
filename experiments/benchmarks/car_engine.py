"""How fast cars drive and are drawn, beside Gymnasium's CarRacing and EnvPool's."""

import importlib.util
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clutr.envs.car.domain import CarDomain
from clutr.envs.car.engine import CarEngine
from clutr.envs.domain import LevelBatch
from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.measurement import Measurement

BATCH_SIZES = (16, 64)
REPEAT = 8
"""Frames an action in the published set-up; one picture is seen in as many frames."""
REPETITIONS = 3
"""Each timing is the best of so many, so that another program's burst does not count."""
DECISIONS = 60
REAL_FRAMES = 100
TRACKS = 64
MEMORY_ENVS = 64


def run(progress: Callable[[str], None]) -> list[Measurement]:
    """Frames per second under random actions, resets not counted; actions are drawn before the clock starts."""
    progress("one gymnasium CarRacing-v3")
    real = _gymnasium_frames_per_second(drawn=True)
    undrawn = _gymnasium_frames_per_second(drawn=False)
    pool = _envpool_frames_per_second(progress)
    gymnasium_name, pool_name = "one gymnasium CarRacing-v3, every frame drawn", "EnvPool CarRacing-v3, all cores"
    figures = []
    for batch in BATCH_SIZES:
        rate = _frames_per_second(batch, REPEAT)
        progress(f"{batch} cars, a picture every {REPEAT} frames: {rate:,.0f} frames/s")
        what = f"frames, {batch} cars, a picture every {REPEAT} frames"
        figures.append(Measurement.beside(what, rate, "frames/s", gymnasium_name, real))
        if pool is not None:
            figures.append(Measurement.beside(what, rate, "frames/s", pool_name, pool))
    every = _frames_per_second(BATCH_SIZES[-1], 1)
    progress(f"{BATCH_SIZES[-1]} cars, every frame drawn: {every:,.0f} frames/s")
    what = f"frames, {BATCH_SIZES[-1]} cars, every frame drawn"
    figures.append(Measurement.beside(what, every, "frames/s", gymnasium_name, real))
    if pool is not None:
        figures.append(Measurement.beside(what, every, "frames/s", pool_name, pool))
    physics = _frames_per_second(BATCH_SIZES[-1], 1000)
    undrawn_name = "one gymnasium CarRacing-v3, its drawing switched off"
    what = f"frames, {BATCH_SIZES[-1]} cars, hardly any drawn"
    figures.append(Measurement.beside(what, physics, "frames/s", undrawn_name, undrawn))
    progress("new tracks and memory")
    figures.append(Measurement("one new Bezier track, drawn at random, built and loaded", _track_seconds() * 1e3, "ms"))
    memory = _memory_of(MEMORY_ENVS)
    if memory is not None:
        figures.append(Measurement(f"resident memory of {MEMORY_ENVS} cars", memory / 2**20, "MiB"))
    return figures


def _best(repetition: Callable[[], int]) -> float:
    """Most frames per second over `REPETITIONS` calls, each of which returns how many frames it made."""
    best = 0.0
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        frames = repetition()
        best = max(best, frames / (time.perf_counter() - start))
    return best


def _actions(steps: int, batch: int) -> Tensor:
    """`[steps, batch, 3]`: uniform in the action space."""
    actions = torch.rand(steps, batch, 3, generator=named_generator(0, "bench", "car"))
    actions[..., 0] = 2 * actions[..., 0] - 1
    return actions


def _levels(n: int) -> LevelBatch:
    return CarDomain().sample(n, named_generator(0, "bench", "tracks"))


def _frames_per_second(batch: int, repeat: int) -> float:
    decisions = max(1, DECISIONS * REPEAT // max(repeat, 4))
    engine = CarEngine(batch, max_frames=10**9, action_repeat=repeat)
    levels, actions = _levels(batch), _actions(decisions, batch)

    def play() -> int:
        for action in actions:
            step = engine.step(action)
            if bool(step.terminated.any()):
                engine.reset(mask=step.terminated)
        return decisions * batch * repeat

    engine.reset(levels)
    engine.step(actions[0])  # compiles, or loads what was compiled
    return _best(play)


def _gymnasium_frames_per_second(drawn: bool) -> float:
    """Of the unmodified package, one environment."""
    from gymnasium.envs.box2d.car_racing import CarRacing  # noqa: PLC0415  # an optional dependency

    environment: Any = CarRacing()
    environment.reset(seed=0)
    frames = REAL_FRAMES if drawn else 20 * REAL_FRAMES
    if not drawn:
        environment._render = lambda _: None
    actions = _actions(frames, 1)[:, 0].numpy()

    def play() -> int:
        for action in actions:
            environment.step(action)
        return frames

    return _best(play)


def _envpool_frames_per_second(progress: Callable[[str], None]) -> float | None:
    """Of EnvPool on all cores, every frame drawn; None if it is not installed."""
    if importlib.util.find_spec("envpool") is None:
        progress('EnvPool is not installed; `pip install "clutr[peers]"` brings it')
        return None
    import envpool  # noqa: PLC0415

    batch = BATCH_SIZES[0]
    progress(f"EnvPool, {batch} cars")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        environment: Any = envpool.make_gymnasium("CarRacing-v3", num_envs=batch, num_threads=os.cpu_count() or 1)
    environment.reset()
    actions = _actions(DECISIONS, batch).numpy().astype(np.float32)

    def play() -> int:
        for action in actions:
            environment.step(action)
        return len(actions) * batch

    return _best(play)


def _track_seconds() -> float:
    """Seconds a track from the random draw to the first picture."""
    domain, engine = CarDomain(), CarEngine(TRACKS)
    rng = named_generator(0, "bench", "new tracks")
    engine.reset(domain.sample(TRACKS, rng))

    def load() -> int:
        engine.reset(domain.sample(TRACKS, rng))
        return TRACKS

    return 1 / _best(load)


def _memory_of(cars: int) -> float | None:
    """Bytes by which a process grows for so many cars at play; None where the system does not tell.

    A fresh process, since this one has memory to spare from what it measured before.
    """
    command = f"from clutr.experiments.benchmarks import car_engine; print(car_engine.growth({cars}))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    printed = done.stdout.split()[-1]
    return None if printed == "None" else float(printed)


def growth(cars: int) -> float | None:
    """Bytes by which this process grows when so many cars begin to play, kernels and one car left out of account."""
    _play_some(1)
    before = _resident()
    engine = _play_some(cars)
    after = _resident()
    del engine
    return None if before is None or after is None else after - before


def _play_some(cars: int) -> CarEngine:
    engine = CarEngine(cars)
    engine.reset(_levels(cars))
    for action in _actions(20, cars):
        engine.step(action)
    return engine


def _resident() -> float | None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return None
    return float(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
