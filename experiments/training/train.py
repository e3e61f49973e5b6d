"""Training a run with its progress shown; Ctrl-C stops it after the update in hand."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from clutr.envs.domain import Metric
from clutr.experiments.display import ProgressBar, separator, work_display
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.manifolds import prepare_manifold
from clutr.experiments.training.runner import Runner, UpdateReport, evaluated_suite, require_device
from clutr.experiments.training.trackers import Tracker, tracking


def train(
    run: RunDirectory,
    manifolds: Path,
    say: Callable[[str], None],
    report: Callable[[UpdateReport], None] | None = None,
    trackers: Sequence[Tracker] = (),
) -> bool:
    """Train `run` from where it stands. Returns whether its step budget is spent.

    Args:
        run: the run's directory.
        manifolds: where pretrained manifolds are shared between runs.
        say: receives lines for the user.
        report: is called after each update; None shows progress, also that of the manifold's pretraining.
        trackers: are told about every update, too.
    """
    manifold = None
    silent = nullcontext(lambda *_: None)
    evaluated_suite(run)  # refused before a manifold is pretrained
    require_device(run.experiment.device)
    try:
        if run.experiment.manifold is not None:
            with silent if report else work_display("pretraining the task manifold") as progress:
                manifold = prepare_manifold(run, manifolds, progress, say)
        runner = Runner(run, manifold, say)
    except (ValueError, ImportError) as error:  # options that do not fit each other, an extra that is not installed
        raise RunError(f"{run.path} cannot be trained: {error}") from error
    title = run.path.name
    metric = runner.suite.metric if runner.suite is not None else "solved"
    display = training_display(title, runner.curriculum.students[0], metric) if report is None else nullcontext(report)
    with stop_on_interrupt(runner, say), display as told, tracking(run, trackers, say) as (track, conclude):

        def both(update: UpdateReport) -> None:
            told(update)
            track(update)

        finished = runner.train(both if trackers else told)
        conclude(finished)
        return finished


@contextmanager
def left_if_begun(run: RunDirectory) -> Iterator[None]:
    """Too little memory before a new run's first update leaves no directory in the way of a smaller try.

    Torch tells of it by a `RuntimeError`. What a `RunError` advises, such as to resume, needs the directory.
    """
    try:
        yield
    except (MemoryError, RuntimeError):
        if not (run.checkpoints() or (run.path / "metrics.csv").exists()):
            shutil.rmtree(run.path, ignore_errors=True)
        raise


@contextmanager
def stop_on_interrupt(runner: Runner, say: Callable[[str], None]) -> Iterator[None]:
    """Let the first Ctrl-C finish the update in hand and write a checkpoint; a second one stops at once.

    Only a process's main thread receives it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        if runner.stop_requested:
            raise KeyboardInterrupt
        runner.stop_requested = True
        say("stopping after this update (Ctrl-C again stops at once) ...")

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


class TrainingDisplay:
    """Progress over environment steps with speed, mean return, regret and the last evaluation."""

    def __init__(self, bar: ProgressBar, protagonist: str, metric: Metric) -> None:
        self._bar = bar
        self._protagonist = protagonist
        self._metric = metric
        self._evaluation = ""
        self._first: tuple[int, float] | None = None

    def __call__(self, report: UpdateReport) -> None:
        """Show one update."""
        metrics = report.metrics
        if self._first is None:
            self._first = (report.steps, report.seconds)
        parts = []
        steps, seconds = report.steps - self._first[0], report.seconds - self._first[1]
        if seconds > 0:
            parts.append(f"{steps / seconds:,.0f} steps/s")
        parts.append(f"return {metrics[f'{self._protagonist}/mean_return']:.2f}")
        if "regret" in metrics:
            parts.append(f"regret {metrics['regret']:.2f}")
        for name, value in metrics.items():
            if name.startswith("evaluation/") and name.endswith(f"/mean_{self._metric}"):
                shown = f"{value:.0%}" if self._metric == "solved" else f"{value:,.1f}"
                self._evaluation = f"{name.split('/')[1]} {self._metric} {shown}"
        if self._evaluation:
            parts.append(self._evaluation)
        self._bar.show(min(report.steps, report.total_steps), report.total_steps, separator().join(parts))


@contextmanager
def training_display(title: str, protagonist: str, metric: Metric = "solved") -> Iterator[TrainingDisplay]:
    """Show progress while the body trains; of evaluations their `metric`."""
    with ProgressBar(title) as bar:
        yield TrainingDisplay(bar, protagonist, metric)
