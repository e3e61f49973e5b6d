"""A machine whose network is cut for half a minute: two network namespaces, and a cable between them that is pulled."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray_environments import (
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

pytestmark = needs_ray

FAR, NEAR_LINK, FAR_LINK = "clutr-far", "clutr-near0", "clutr-far0"
NEAR_ADDRESS, FAR_ADDRESS = "10.213.77.1", "10.213.77.2"
CUT_SECONDS = 30
LONG = replace(RECURRENT, rollout_steps=2_000)
"""Seconds of play."""
SAME: tuple[list[str], ...] = ([], ["log_probs", "values", "next_values", "advantages"])
"""Columns that may differ in their last bits from a whole batch's, when it is played in two halves."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def far_machine() -> Iterator[Any]:
    """A Ray head here, and a node in a network namespace of its own, each with one processor."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    import ray  # noqa: PLC0415
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    try:
        ip("netns", "add", FAR)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made: {error.stderr.decode().strip()}")
    cluster = None
    node: subprocess.Popen[bytes] | None = None
    try:
        ip("link", "add", NEAR_LINK, "type", "veth", "peer", "name", FAR_LINK, "netns", FAR)
        ip("addr", "add", f"{NEAR_ADDRESS}/24", "dev", NEAR_LINK)
        ip("link", "set", NEAR_LINK, "up")
        for words in (["addr", "add", f"{FAR_ADDRESS}/24", "dev", FAR_LINK], ["link", "set", FAR_LINK, "up"]):
            ip("-n", FAR, *words)
        ip("-n", FAR, "link", "set", "lo", "up")
        with patiently():
            cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 1,
                    "node_ip_address": NEAR_ADDRESS,
                    "object_store_memory": 100 * 2**20,
                    "include_dashboard": False,
                },
            )
        ray_command = str(Path(sys.executable).with_name("ray"))
        start = [ray_command, "start", f"--address={cluster.address}", f"--node-ip-address={FAR_ADDRESS}"]
        node = subprocess.Popen(
            ["ip", "netns", "exec", FAR, *start, "--num-cpus=1", f"--object-store-memory={100 * 2**20}", "--block"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        cluster.connect(namespace="tests")
        deadline = time.monotonic() + 300
        while len([each for each in ray.nodes() if each["Alive"]]) < 2:
            assert time.monotonic() < deadline, "the far machine did not join"
            time.sleep(0.2)
        yield cluster
    finally:
        ray.shutdown()
        if node is not None:
            node.terminate()
            with suppress(subprocess.TimeoutExpired):
                node.wait(60)
            node.kill()
            node.wait()
        if cluster is not None:
            cluster.shutdown()
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", NEAR_LINK)
        ip("netns", "del", FAR)


def test_a_machine_cut_off_for_half_a_minute_and_back(far_machine: Any) -> None:
    import ray  # noqa: PLC0415

    student = distributed(LONG, address=far_machine.address, runners=2, shards=2, sample_timeout_s=10.0)
    expected = native(LONG)
    deadline = time.monotonic() + 300
    while student.cluster.runners.num_healthy_remote_env_runners() < 2 or len(processes(student)) < 2:
        assert time.monotonic() < deadline, "the runners did not start"
        student.cluster._probe()
        time.sleep(0.5)
    (far,) = [process for process, machine in machines(student).items() if machine != ray.nodes()[0]["NodeID"]]

    def cut() -> None:
        ip("link", "set", NEAR_LINK, "down")
        time.sleep(CUT_SECONDS)
        ip("link", "set", NEAR_LINK, "up")

    cable = once_at_work(far, cut)
    ledger = student.cluster.ledger
    for seed in range(3):
        assert unequal(play(student, seed), play(expected, seed)) in SAME
        assert ledger.balanced
    cable.join()
    for seed in range(3, 5):
        assert unequal(play(student, seed), play(expected, seed)) in SAME
        assert ledger.balanced, "what came late was counted twice"
