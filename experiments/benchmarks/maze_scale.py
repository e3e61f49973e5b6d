"""How speed and memory grow with the number of environments: rollout and update of the light student apart."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from clutr.envs.maze.domain import MazeDomain
from clutr.envs.randomness import named_generator
from clutr.envs.workers import worker_count
from clutr.experiments.benchmarks.measurement import Measurement
from clutr.experiments.training.presets import LIGHT_STUDENT
from clutr.experiments.training.threads import use_cores

SIZES = (32, 128, 512, 2_048, 16_384)
"""Numbers of environments; the peak of memory never falls, so they go up."""


@dataclass(frozen=True)
class Point:
    """One number of environments."""

    num_envs: int
    rollout: float
    """Steps per second."""
    update: float
    """Steps of the rollout that are learnt from per second."""
    gigabytes: float
    """The process's peak so far."""

    @property
    def training(self) -> float:
        """Steps per second of both together."""
        return 1 / (1 / self.rollout + 1 / self.update)


def run(progress: Callable[[str], None]) -> list[Measurement]:
    """Measure every size. Needs about six minutes."""
    use_cores()
    points = []
    for num_envs in SIZES:
        progress(f"{num_envs:,} environments")
        points.append(measure(num_envs))
    figures = []
    for point in points:
        beside = f"{SIZES[0]} environments", points[0]
        what = f"light student, {point.num_envs:,} x 256"
        figures += [
            Measurement.beside(f"{what}: rollout", point.rollout, "steps/s", beside[0], beside[1].rollout),
            Measurement.beside(f"{what}: update", point.update, "steps/s", beside[0], beside[1].update),
            Measurement.beside(f"{what}: both", point.training, "steps/s", beside[0], beside[1].training),
            Measurement(f"{what}: peak of memory", point.gigabytes, "GB"),
        ]
    return figures


def measure(num_envs: int) -> Point:
    """The best of some updates after one to warm up, of fewer the longer they take."""
    domain = MazeDomain()
    engine = domain.engine(num_envs)
    config = replace(LIGHT_STUDENT, rollout_steps=256, shards=worker_count())
    student = config.build(engine.observation_space, engine.action_space, 1, "bench")
    rng = named_generator(0, "bench", "levels")
    rollouts, updates = [], []
    for _ in range(6 if num_envs <= 128 else 3 if num_envs <= 512 else 1):
        levels = domain.sample(num_envs, rng)
        started = time.perf_counter()
        played = student.rollout(engine, levels)
        rolled_out = time.perf_counter()
        student.learn(played)
        rollouts.append(rolled_out - started)
        updates.append(time.perf_counter() - rolled_out)
    steps = num_envs * config.rollout_steps
    unit = 2**30 if sys.platform == "darwin" else 2**20  # what the system counts in: bytes or KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return Point(num_envs, steps / min(rollouts), steps / min(updates), peak)
