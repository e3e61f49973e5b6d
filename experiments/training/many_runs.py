"""Several runs at once, each in a process of its own, on this machine or as tasks of Ray; all of them resumable.

The runs' directories are all that is kept: whoever starts the same runs again goes on with those that are not finished.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clutr.experiments.config import Experiment, manifold_id, to_plain
from clutr.experiments.display import work_display
from clutr.experiments.files import as_directory, require_writable
from clutr.experiments.plain_config import differences
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.manifolds import CACHE_VARIABLE, manifold_cache, manifold_path, pretrain
from clutr.experiments.training.runner import require_trainable

LOG = "train.log"
"""In a run's directory: what its process printed."""
STOP = "stop"
"""In a run's directory: its task is to end its update, write a checkpoint, and end."""
POLL_SECONDS = 0.5
_COMMAND = "import sys; from clutr.experiments.cli.main import main; sys.exit(main(sys.argv[1:]))"


class Process(Protocol):
    """One run that trains somewhere."""

    def poll(self) -> int | None:
        """Its exit status; None while it trains."""
        ...

    def interrupt(self) -> None:
        """Let it end its update and write a checkpoint."""
        ...


Launch = Callable[[RunDirectory], Process]


@dataclass
class Status:
    """How far a run is."""

    run: RunDirectory
    state: str = "waiting"
    """waiting, training, done, stopped or failed."""
    steps: int = 0
    metrics: Mapping[str, float] | None = None

    def look(self) -> None:
        """Read the newest metrics."""
        self.metrics = self.run.metrics_file.latest()
        self.steps = int(self.metrics.get("steps", self.steps))


Show = Callable[[Sequence[Status]], None]


def require_runs(experiments: Mapping[Path, Experiment]) -> None:
    """Check all of them before the first one begins, and write nothing.

    Raises:
        RunError: if one cannot be trained, or its directory holds another run.
    """
    for path, experiment in experiments.items():
        if not (path / "config.yaml").exists():
            require_trainable(experiment)
            continue
        there = to_plain(RunDirectory(path).experiment)
        changed = list(differences(there, to_plain(experiment)))
        if changed:
            raise RunError(f"{path} holds a run with other options: {', '.join(changed)}. Name another directory")


def prepare_runs(experiments: Mapping[Path, Experiment], say: Callable[[str], None]) -> list[RunDirectory]:
    """The runs by their directories, made where they are not yet, and the task manifolds that they share, pretrained.

    Raises:
        RunError: as `require_runs`, or if something cannot be written.
    """
    require_runs(experiments)
    for path in experiments:
        require_writable(as_directory(path), "Nothing was trained.")
    cache = manifold_cache()
    wanted = {manifold_id(each): each for each in experiments.values() if each.manifold is not None}
    for experiment in wanted.values():
        if not manifold_path(experiment, cache).exists():
            with work_display("pretraining the task manifold") as progress:
                pretrain(experiment, cache, progress, say)
    return [
        RunDirectory(path) if (path / "config.yaml").exists() else RunDirectory.create(path, experiment)
        for path, experiment in experiments.items()
    ]


def is_finished(run: RunDirectory) -> bool:
    """Whether a run has spent its budget, also on disk."""
    total = run.experiment.total_steps
    if run.metrics_file.latest().get("steps", 0) < total:
        return False
    state, _ = run.load_checkpoint()
    return state is not None and state["steps"] >= total


def train_many(runs: Sequence[RunDirectory], jobs: int, launch: Launch, show: Show = lambda _: None) -> list[Status]:
    """Train runs, at most `jobs` at once. One that fails does not end the others.

    Args:
        runs: those that have finished already are left alone.
        jobs: how many train at the same time.
        launch: starts one.
        show: is called with the state of all of them now and then, and at the end.

    Returns:
        The state of each run: done, failed, or, after an interrupt, stopped or waiting.

    Raises:
        RunError: if `jobs` is not 1 or more.
    """
    if jobs < 1:
        raise RunError(f"jobs must be at least 1, got {jobs}")
    statuses = [Status(run) for run in runs]
    for status in statuses:
        status.look()
        if is_finished(status.run):
            status.state = "done"
    waiting = [status for status in statuses if status.state == "waiting"]
    training: dict[int, Process] = {}
    with _interrupts() as interrupted:
        try:
            _train(statuses, waiting, training, jobs, launch, show, interrupted)
        finally:  # whatever ends this process ends what it has started
            for process in training.values():
                process.interrupt()
    show(statuses)
    return statuses


def _train(
    statuses: Sequence[Status],
    waiting: list[Status],
    training: dict[int, Process],
    jobs: int,
    launch: Launch,
    show: Show,
    interrupted: Sequence[int],
) -> None:
    """Start what waits, and follow what trains, until nothing of either is left."""
    told = False
    while training or (waiting and not interrupted):
        while waiting and len(training) < jobs and not interrupted:
            status = waiting.pop(0)
            status.state = "training"
            training[statuses.index(status)] = launch(status.run)
        if interrupted and not told:
            told = True
            for process in training.values():
                process.interrupt()
        for index, process in list(training.items()):
            status, ended = statuses[index], process.poll()
            status.look()
            if ended is not None:
                del training[index]
                finished = ended == 0 and is_finished(status.run)
                status.state = "done" if finished else "stopped" if ended == 0 or interrupted else "failed"
        show(statuses)
        if training:
            time.sleep(POLL_SECONDS)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collects interrupts instead of raising them; from the second one on they are raised."""
    seen: list[int] = []

    def remember(number: int, _frame: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    try:
        previous = signal.signal(signal.SIGINT, remember)
    except ValueError:  # not in the main thread, which alone receives them
        yield seen
        return
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, previous)


def last_words(run: RunDirectory) -> str:
    """The last line that a run's process printed."""
    with contextlib.suppress(OSError):
        lines = (run.path / LOG).read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("clutr: ") if lines else ""
    return ""


def command(run: RunDirectory, threads: int) -> list[str]:
    """What trains one run in a process of its own."""
    return [sys.executable, "-c", _COMMAND, "resume", str(run.path.absolute()), "--threads", str(threads)]


def on_this_machine(threads: int) -> Launch:
    """Runs in processes of this machine, on so many cores each."""

    def launch(run: RunDirectory) -> Process:
        with (run.path / LOG).open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches this process alone, which passes it on once.
            return _Local(
                subprocess.Popen(
                    command(run, threads),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    return launch


@dataclass
class _Local:
    process: "subprocess.Popen[bytes]"

    def poll(self) -> int | None:
        return self.process.poll()

    def interrupt(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)


def on_ray(address: str, threads: int) -> Launch:
    """Runs as tasks of Ray, each on so many cores. Their directories must be on a disk that all machines share.

    Args:
        address: of a cluster, `auto` for the one that this machine belongs to, or `local` for one made here.
        threads: cores of each task.

    Raises:
        RunError: if Ray is not installed or no cluster answers.
    """
    try:
        import ray  # noqa: PLC0415 (it is heavy, and an extra)
    except ImportError:
        raise RunError('tasks of Ray need Ray: pip install "clutr[distributed]"') from None

    if not ray.is_initialized():
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError) as error:
            raise RunError(f"no Ray cluster answers at the address {address}: {error}") from None
    environment = {name: os.environ[name] for name in ("PYTHONPATH", CACHE_VARIABLE) if name in os.environ}
    remote = ray.remote(num_cpus=threads, max_retries=0)(run_command)

    def launch(run: RunDirectory) -> Process:
        (run.path / STOP).unlink(missing_ok=True)
        return _Task(run, remote.remote(command(run, threads), str(run.path.absolute()), environment))

    return launch


def run_command(command: Sequence[str], folder: str, environment: Mapping[str, str]) -> int:
    """Run a command to its end, appending what it prints to the log in a run's folder. Returns its exit status.

    It is interrupted, once, as soon as the folder has a file `STOP`: a signal would have to find its way through Ray
    to another machine. One that finds the file there before it begins does not begin.
    """
    stop = Path(folder) / STOP
    if stop.exists():
        return 130
    with (Path(folder) / LOG).open("ab") as file:
        # what a process of Ray blocks its children would block, too
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        while True:
            try:
                return process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if stop.exists():
                    process.send_signal(signal.SIGINT)
                    return process.wait()


@dataclass
class _Task:
    run: RunDirectory
    result: Any
    """Of Ray: the status to come."""

    def poll(self) -> int | None:
        import ray  # noqa: PLC0415

        done, _ = ray.wait([self.result], timeout=0)
        if not done:
            return None
        try:
            return int(ray.get(self.result))
        except (ray.exceptions.RayError, KeyboardInterrupt) as error:
            logging.getLogger("clutr").warning("a task of Ray ended: %s", " ".join(str(error).split())[:200])
            return 1

    def interrupt(self) -> None:
        with contextlib.suppress(OSError):
            (self.run.path / STOP).touch()
