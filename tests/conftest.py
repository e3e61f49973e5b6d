"""What all tests share: one thread, the same property tests each time, and the circuits if they are there."""

import gc
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import hypothesis
import pytest

# What takes long to import is imported in fixtures: the process that hands out the tests does without, and begins soon.

# Their tensors are tiny, and threads that wait for each other would cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The F1 circuits are no part of the project. Where a copy lies beside the repository, tests use it. Where there is none
# and the variable is not set, those that need them are skipped: no test fetches anything.
CIRCUITS = Path(__file__).parents[2] / "shared" / "data" / "f1-circuits"
os.environ.setdefault("CLUTR_TRACKS", str(CIRCUITS))

# The same examples in every run, so that a failure is the change's. HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis.settings.register_profile("steady", derandomize=True)
hypothesis.settings.register_profile("explore", max_examples=500, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


pytest_plugins = ("ray_cluster",)

TOGETHER = ("tests/agents/rllib", "tests/experiments/live")
"""Folders whose files share what takes long to make (a Ray cluster; a served page, its models, a browser): one process
has them."""

LONGEST_FIRST = (
    "rllib",
    "live",
    "test_runs.py",
    "test_probe_report.py",
    "test_pages_run.py",
    "test_models_that_ship.py",
    "test_cli.py",
    "test_killed_phases.py",
    "test_world_model_report.py",
    "test_resume.py",
    "test_curricula_study.py",
    "test_report.py",
    "test_students.py",
    "test_curricula.py",
    "test_car_runs.py",
    "test_car_engine.py",
    "test_car_physics.py",
    "test_front_door.py",
    "test_demo.py",
    "test_packaging.py",
    "test_fresh_process.py",
    "test_many_runs.py",
    "test_world_model_run.py",
    "test_broken_output.py",
)
"""Files and folders that take long, or wait for something: the last process would be alone with one of them."""


def _group(nodeid: str) -> str:
    """The file of a test, or the folder whose files stay together."""
    file = PurePosixPath(nodeid.partition("::")[0])
    folder = file.parent.as_posix()
    return folder if folder in TOGETHER else file.as_posix()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadscope` gives each file, or folder of `TOGETHER`, to one process, which makes what they share once.

    A scope of our own, since groups by mark (`loadgroup`) do nothing under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415  # only where tests run side by side

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return ByGroup(config, log) if config.getvalue("dist") == "loadscope" else None


_processes: dict[str, set[str]] = {}
"""Which processes had tests of each group."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _processes.setdefault(_group(report.nodeid), set()).add(getattr(report, "worker_id", ""))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tests of a torn group pass, but each process makes their fixtures: it went unnoticed once."""
    torn = [group for group, processes in _processes.items() if len(processes) > 1]
    if torn and session.config.getoption("dist", "no") == "loadscope":
        print(f"\nmore than one process had tests of: {', '.join(torn)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(PurePosixPath(_group(item.nodeid)).name, len(places)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Nothing that is imported becomes garbage: it is not searched, now or after each test."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: Ray's tests and the browser's often wait. With two more it took longer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Also where the environment asks for more."""
    import torch  # noqa: PLC0415  # the process that hands out the tests does without it

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No test pulls the plug: what is written is there for whoever reads it, also after SIGKILL, without `fsync`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _manifold_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Manifolds that tests pretrain are shared by all and, like unpacked models, stay out of the user's cache."""
    folder = tmp_path_factory.getbasetemp()
    whole = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder  # the worker's folder lies in that of all
    os.environ["CLUTR_MANIFOLDS"] = str(whole / "manifold-cache")
    os.environ["CLUTR_MODELS"] = str(tmp_path_factory.mktemp("models-cache"))


@pytest.fixture(scope="module", autouse=True)
def _short_suites(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where suites are only played, not tested, mazes end after 8 steps: nobody there solves them, or is asked to.

    Where manifolds are only used there, few tasks measure their health, and where reports are, they draw few of the
    measurements that no chart of their own shows.
    """
    from clutr.envs.maze import suites  # noqa: PLC0415
    from clutr.manifold import health  # noqa: PLC0415

    make = suites._engines

    def shortened(size: tuple[int, int], max_steps: int, *rest: Any, **options: Any) -> Any:
        return make(size, min(max_steps, 8), *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        played = request.node.nodeid.startswith(("tests/experiments/", "tests/test_front_door", "tests/test_pages_run"))
        if played and "test_models_that_ship" not in request.node.nodeid:
            patch.setattr(suites, "_engines", shortened)
            patch.setattr(health, "measure", partial(health.measure, tasks=200))
            patch.setattr(health, "_levels_of_size", partial(health._levels_of_size, draws=1_000))
        drawn = request.node.nodeid.startswith(("tests/experiments/reports", "tests/experiments/plots"))
        if (played and not drawn) or request.node.nodeid.startswith("tests/examples/"):
            _few_charts(patch)
        yield


def _few_charts(patch: pytest.MonkeyPatch) -> None:
    """Of the measurements that no chart of their own shows, reports draw the last three."""
    from clutr.experiments.plots import curves  # noqa: PLC0415

    others = curves._others

    def few(columns: Any, students: Any) -> list[str]:
        further = [name for name in columns if name != "steps" and not name.startswith("evaluation/")]
        return others({name: columns[name] for name in ("steps", *further[-3:])}, students)

    patch.setattr(curves, "_others", few)
