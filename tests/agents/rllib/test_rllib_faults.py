"""Processes and machines die in the middle of their work, and nothing is lost, doubled or changed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray_environments import (
    MAZES,
    RECURRENT,
    distributed,
    machines,
    native,
    needs_ray,
    once_at_work,
    patiently,
    play,
    processes,
    unequal,
)

from clutr.agents.backend import NativeBackend
from clutr.agents.rllib import RLlibBackend
from clutr.curricula.plr import PLRConfig
from clutr.experiments.config import Experiment
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.training.runner import Runner

pytestmark = needs_ray

ENDLESS = 10**9
"""Steps of a run that is killed, whenever that is."""
LONG = replace(RECURRENT, rollout_steps=2_000)
"""Seconds of play."""


@pytest.fixture(scope="module")
def head() -> Iterator[Any]:
    """A machine with room for two runners."""
    import ray  # noqa: PLC0415
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    with patiently():
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False},
        )
    cluster.connect(namespace="tests")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_runner_killed_in_mid_rollout(head: Any) -> None:
    student = distributed(LONG, address=head.address, runners=2, shards=1)
    expected = native(LONG)
    victims = processes(student)
    killer = once_at_work(victims[0], lambda: os.kill(victims[0], signal.SIGKILL))
    played = play(student)
    killer.join()
    assert unequal(played, play(expected)) == []
    ledger = student.cluster.ledger
    assert ledger.lost == 1
    assert ledger.balanced
    assert unequal(play(student, 1), play(expected, 1)) == []
    deadline = time.monotonic() + 300
    while student.cluster.runners.num_healthy_remote_env_runners() < 2:
        assert time.monotonic() < deadline, "the runner was not started again"
        student.cluster._probe()
        time.sleep(0.1)
    assert len(set(processes(student)) - {victims[0]}) == 2
    assert ledger.balanced


def test_a_machine_killed_in_mid_rollout(head: Any) -> None:
    with patiently():
        node = head.add_node(num_cpus=2, object_store_memory=100 * 2**20)
    student = distributed(LONG, address=head.address, runners=2, cpus_per_runner=2.0)  # one on each machine
    raylet = node.all_processes["raylet"][0].process
    there = [process for process, machine in machines(student).items() if machine == node.node_id]
    assert len(there) == 1
    killer = once_at_work(there[0], raylet.kill)
    played = play(student)
    killer.join()
    ledger = student.cluster.ledger
    assert ledger.lost == 1, ledger
    assert ledger.balanced
    assert unequal(played, play(native(LONG))) in ([], ["log_probs", "values", "next_values", "advantages"])


def test_a_driver_killed_and_resumed(head: Any, tmp_path: Path) -> None:
    """The run ends as if nothing had been: the curriculum's memory, the students, and every number told."""
    experiment = Experiment(
        domain=MAZES,
        curriculum=PLRConfig(capacity=6, minimum_fill=0.5),
        student=replace(RECURRENT, rollout_steps=400),
        backend=RLlibBackend(address=head.address, runners=1),
        num_envs=4,
        total_steps=ENDLESS,
        evaluate_every=0,
        checkpoint_every=2,
    )
    run = RunDirectory.create(tmp_path / "killed", experiment)
    command = [
        sys.executable,
        "-c",
        "import sys; from clutr.experiments.cli.main import main; sys.exit(main())",
        "resume",
    ]
    driver = subprocess.Popen(
        [*command, str(run.path)], stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 300
    try:
        while not run.checkpoints():
            assert driver.poll() is None
            assert time.monotonic() < deadline, "it hangs"
            time.sleep(0.01)
    finally:
        driver.kill()
        driver.wait()
    kept, _ = run.load_checkpoint()
    assert kept is not None
    budget = (kept["update"] + 4) * 4 * 400
    config = run.path / "config.yaml"
    config.write_text(config.read_text().replace(f"total_steps: {ENDLESS}", f"total_steps: {budget}"))
    first = RunDirectory(run.path)
    assert Runner(first).train()
    whole = RunDirectory.create(tmp_path / "whole", replace(experiment, backend=NativeBackend(), total_steps=budget))
    assert Runner(whole).train()
    assert (run.path / "metrics.csv").read_bytes() == (whole.path / "metrics.csv").read_bytes()
    states = [each.load_checkpoint()[0] for each in (first, whole)]
    timeless = {"seconds": 0, "evaluation_seconds": 0}
    assert str(states[0] | timeless) == str(states[1] | timeless)  # type: ignore[operator]
