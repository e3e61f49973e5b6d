"""What the tests with Ray share: a tiny domain, tiny students, and when their processes are at work."""

import dataclasses
import os
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from clutr.agents.backend import NativeBackend
from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.agents.ppo import PPOConfig, PPOOptions
from clutr.agents.rllib import RLlibBackend
from clutr.agents.student import Trajectories
from clutr.envs.domain import Domain
from clutr.envs.maze.domain import MazeDomain

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
"""Ray is imported by the tests that run, not by every process that collects them."""

MAZES = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=10)
SMALL: dict[str, Any] = {"torso": "symbols", "torso_width": 8, "hidden": 8, "head": 8}
RECURRENT = PPOConfig(rollout_steps=24, epochs=2, **SMALL)
PIXELS = PixelPPOConfig(torso="light", rollout_steps=4, epochs=1, minibatches=1)
NUM_ENVS = 6


def students(
    backend: Any, config: PPOOptions = RECURRENT, names: tuple[str, ...] = ("student",), domain: Domain = MAZES
) -> dict[str, Any]:
    """The students called `names`."""
    return dict(backend.students(config, names, domain, domain.engine(NUM_ENVS), 1, torch.device("cpu")))


def native(config: PPOOptions = RECURRENT, domain: Domain = MAZES) -> Any:
    """A student of this process."""
    return students(NativeBackend(), config, domain=domain)["student"]


def distributed(
    config: PPOOptions = RECURRENT, domain: Domain = MAZES, names: tuple[str, ...] = ("student",), **options: Any
) -> Any:
    """The same student, elsewhere, with all runners there even on a busy machine. `names`: of all who share them."""
    return students(RLlibBackend(**{"sample_timeout_s": 120.0} | options), config, names, domain)["student"]


def play(student: Any, seed: int = 0, domain: Domain = MAZES) -> Trajectories:
    """A rollout on the levels of `seed`."""
    levels = domain.sample(NUM_ENVS, torch.Generator().manual_seed(seed))
    played: Trajectories = student.rollout(domain.engine(NUM_ENVS), levels)
    return played


def unequal(left: Trajectories, right: Trajectories) -> list[str]:
    """The columns that differ in any bit."""

    def same(a: Any, b: Any) -> bool:
        return all(same(a[name], b[name]) for name in a) if isinstance(a, dict) else torch.equal(a, b)

    names = [field.name for field in dataclasses.fields(Trajectories)]
    return [name for name in names if not same(getattr(left, name), getattr(right, name))]


def processes(student: Any) -> list[int]:
    """Of the runners."""
    found: list[int] = student.cluster.runners.foreach_env_runner(lambda _: os.getpid(), local_env_runner=False)
    return found


def machines(student: Any) -> dict[int, str]:
    """The processes of the runners, and the Ray node of each."""
    import ray  # noqa: PLC0415

    where = student.cluster.runners.foreach_env_runner(
        lambda _: (os.getpid(), ray.get_runtime_context().get_node_id()), local_env_runner=False
    )
    return dict(where)


def processor_seconds(process: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def once_at_work(runner: int, act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as a runner, which is idle now, has worked for a while; join what is returned."""
    begun, deadline = processor_seconds(runner), time.monotonic() + 300

    def watch() -> None:
        while processor_seconds(runner) < begun + 0.1:
            assert time.monotonic() < deadline, "the runner does not work"
            time.sleep(0.005)
        act()

    watcher = threading.Thread(target=watch, daemon=True)  # which nobody waits for where the test has failed
    watcher.start()
    return watcher
