"""One Ray cluster for all tests of this folder, and a second machine behind a cable where one can be made."""

import importlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import ray_copies

from clutr.envs.randomness import named_generator

os.environ.setdefault("RAY_worker_niceness", "0")  # so that a busy machine does not starve the tests

HERE = Path(__file__).parent
FAR, NEAR_LINK, FAR_LINK = "clutr-far", "clutr-near0", "clutr-far0"
NEAR_ADDRESS, FAR_ADDRESS = "10.213.77.1", "10.213.77.2"
CPUS_NEAR, CPUS_FAR = 4, 3
"""What Ray is told. A runner of three processors has a machine for itself, with room for others on the near one."""
OPTIONS: dict[str, Any] = {"object_store_memory": 100 * 2**20, "include_dashboard": False, "include_log_monitor": False}
RAY = "from ray.scripts.scripts import main; main()"
RAY_WITH_COPIES = f"""
from functools import partialmethod
from ray._private.parameter import RayParams
RayParams.__init__ = partialmethod(RayParams.__init__, setup_worker_path={ray_copies.__file__!r})
{RAY}
"""
"""The command `ray`, and one whose nodes ask for copies: `ray` has no option that says so."""
WANTED = ("clutr.agents.pixel_ppo", "clutr.envs.car.engine", "pandas", "pyarrow", "jsonschema", "pydantic", "rich")
"""What workers begin with."""

_held = ExitStack()
"""What ends with the last test of this folder: idle processes of Ray would take time from other files' tests."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    try:
        return (yield)
    finally:
        if HERE in item.path.parents and (nextitem is None or HERE not in nextitem.path.parents):
            _held.close()


def pytest_sessionfinish() -> None:
    _held.close()  # where the tests were interrupted


@contextmanager
def patiently() -> Iterator[None]:
    """Within this, Ray gives a machine ten times the 30 seconds in which it must start: others may use the cores."""
    from ray._private import node  # noqa: PLC0415

    slow = SimpleNamespace(**{**vars(time), "monotonic": lambda: time.monotonic() / 10})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node, "time", slow)
        yield


class Machine(NamedTuple):
    """The one that Ray's head runs on."""

    address: str
    """Of the cluster."""
    cluster: Any
    no_cable: str
    """Why none can be pulled; empty: `NEAR_LINK` is one."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def _cable() -> Iterator[str]:
    """A network namespace, and a cable to it. Yields why there is none."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        yield "network namespaces need root and iproute2"
        return
    try:
        ip("netns", "add", FAR)
    except subprocess.CalledProcessError as error:
        yield f"no network namespace can be made: {error.stderr.decode().strip()}"
        return
    try:
        ip("link", "add", NEAR_LINK, "type", "veth", "peer", "name", FAR_LINK, "netns", FAR)
        ip("addr", "add", f"{NEAR_ADDRESS}/24", "dev", NEAR_LINK)
        ip("link", "set", NEAR_LINK, "up")
        for words in (["addr", "add", f"{FAR_ADDRESS}/24", "dev", FAR_LINK], ["link", "set", FAR_LINK, "up"]):
            ip("-n", FAR, *words)
        ip("-n", FAR, "link", "set", "lo", "up")
        yield ""
    finally:
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", NEAR_LINK)
        ip("netns", "del", FAR)


@contextmanager
def _copies() -> Iterator[dict[str, str]]:
    """Have this machine's workers be copies of this process: yields the options of a node that asks for them."""
    if sys.platform != "linux" or "ray" in sys.modules:
        yield {}
        return
    for name in WANTED:
        importlib.import_module(name)
    _play_once()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/copies")
        listener.listen()
        server = multiprocessing.get_context("fork").Process(target=ray_copies.serve, args=(listener,), daemon=True)
        server.start()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(ray_copies.ADDRESS, f"{folder}/copies")
                yield {"setup_worker_path": ray_copies.__file__}
        finally:
            server.kill()
            server.join()


def _play_once() -> None:
    """Load the compiled functions, which takes each process a second that copies of this one are spared."""
    from clutr.experiments.training.presets import PRESETS  # noqa: PLC0415

    for name in ("maze-dr-debug", "car-dr-debug"):
        experiment = PRESETS[name]
        engine = experiment.domain.engine(2)
        student = experiment.student.build(engine.observation_space, engine.action_space, 0, "student")
        student.learn(student.rollout(engine, experiment.domain.sample(2, named_generator(0, "levels"))))


@contextmanager
def _cluster() -> Iterator[Machine]:
    with _cable() as no_cable, _copies() as options:
        import ray  # noqa: PLC0415
        from ray.cluster_utils import Cluster  # noqa: PLC0415

        address = {} if no_cable else {"node_ip_address": NEAR_ADDRESS}
        with patiently():
            cluster = Cluster(
                initialize_head=True,
                head_node_args={"num_cpus": CPUS_NEAR, "no_monitor": True, **OPTIONS, **address, **options},
            )
        try:
            ray.init(address=cluster.address, namespace="tests", log_to_driver=False)
            yield Machine(cluster.address, cluster, no_cable)
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture(scope="session")
def head() -> Machine:
    """A Ray head, to which this process is connected."""
    return _held.enter_context(_cluster())


class FarMachine:
    """A second machine, at the other end of the cable where there is one. It may die: then another takes its place.

    Args:
        head: that it joins.
    """

    def __init__(self, head: Machine) -> None:
        self._head = head
        self._node: subprocess.Popen[bytes] | None = None
        self._raylet = 0

    def start(self) -> None:
        """Do nothing if it is there."""
        if _alive() == 2:
            return
        self.stop()
        if self._head.no_cable:
            with patiently():
                added = self._head.cluster.add_node(num_cpus=CPUS_FAR, **OPTIONS)
            self._raylet = added.all_processes["raylet"][0].process.pid
            return
        program = RAY_WITH_COPIES if ray_copies.ADDRESS in os.environ else RAY
        start = [sys.executable, "-c", program, "start", f"--address={self._head.address}", "--block"]
        start += [f"--node-ip-address={FAR_ADDRESS}", f"--num-cpus={CPUS_FAR}", "--object-store-memory=104857600"]
        self._node = subprocess.Popen(
            ["ip", "netns", "exec", FAR, *start, "--include-log-monitor=false"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 300
        while _alive() < 2:
            assert time.monotonic() < deadline, "the far machine did not join"
            time.sleep(0.2)
        self._raylet = _raylet_of(self._node.pid)

    def kill(self) -> None:
        """With SIGKILL."""
        os.kill(self._raylet, signal.SIGKILL)

    def stop(self) -> None:
        """End its processes. One that `add_node` has made ends with the cluster."""
        if self._node is not None:
            self._node.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._node.wait(60)
            self._node.kill()
            self._node.wait()


def _alive() -> int:
    """How many machines Ray thinks to be there."""
    import ray  # noqa: PLC0415

    return len([each for each in ray.nodes() if each["Alive"]])


def _raylet_of(parent: int) -> int:
    """The process of a Ray node that all its others depend on."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (found,) = [int(child) for child in children if Path(f"/proc/{child}/comm").read_text().strip() == "raylet"]
    return found


@pytest.fixture(scope="module")
def far_machine(head: Machine) -> Iterator[FarMachine]:
    """Not started yet."""
    machine = FarMachine(head)
    yield machine
    machine.stop()
