"""Processes and machines die in the middle of their work, and nothing is lost, doubled or changed."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("ray.rllib")

from ray.cluster_utils import Cluster  # noqa: E402
from ray_worlds import RECURRENT, distributed, kill_after, native, play, processes, unequal  # noqa: E402

LONG = replace(RECURRENT, rollout_steps=3_000)
"""Seconds of play."""


@pytest.fixture(scope="module")
def head() -> Iterator[Any]:
    """A machine with room for two runners."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False},
    )
    cluster.connect(namespace="tests")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_runner_killed_in_mid_rollout(head: Any) -> None:
    student = distributed(LONG, address=head.address, runners=2, shares=1)
    expected = native(LONG)
    victims = processes(student)
    killer = kill_after(0.2, victims[0])
    played = play(student)
    killer.wait()
    assert unequal(played, play(expected)) == []
    ledger = student.cluster.ledger
    assert ledger.lost == 1
    assert ledger.balanced
    assert unequal(play(student, 1), play(expected, 1)) == []
    deadline = time.monotonic() + 60
    while student.cluster.runners.num_healthy_remote_env_runners() < 2 and time.monotonic() < deadline:
        student.cluster._probe()
        time.sleep(0.1)
    assert len(set(processes(student)) - {victims[0]}) == 2
    assert ledger.balanced


def test_a_machine_killed_in_mid_rollout(head: Any) -> None:
    node = head.add_node(num_cpus=2, object_store_memory=100 * 2**20)
    student = distributed(LONG, address=head.address, runners=4)
    processes(student)
    raylet = node.all_processes["raylet"][0].process
    killer = kill_after(0.2, raylet.pid)
    played = play(student)
    killer.wait()
    ledger = student.cluster.ledger
    assert ledger.lost == 2, ledger
    assert ledger.balanced
    assert unequal(played, play(native(LONG))) in ([], ["log_probs", "values", "next_values", "advantages"])
