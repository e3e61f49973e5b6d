"""Trackers that people already use: a run's metrics also go to Weights & Biases, to MLflow, or to one's own object.

Off by default, and never in the way: what a tracker raises is said once, and training goes on without it. A resumed run
goes on in the same place, whose name is kept in `tracking.json`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from clutr.envs.registry import no_such
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.training.runner import UpdateReport

PLACES = "tracking.json"
PROJECT = "clutr"
LONGEST_VALUE = 500
"""Characters of an option's value, which is all that MLflow takes."""


class Tracker(Protocol):
    """Follows the training of one run."""

    def begin(self, run: RunDirectory) -> None:
        """Called before the first update of a process."""
        ...

    def update(self, report: UpdateReport) -> None:
        """Called after each update."""
        ...

    def end(self, finished: bool) -> None:
        """Called at the end of a process: whether the run's budget is spent."""
        ...


class WandbTracker:
    """Weights & Biases, in the project `clutr`; `WANDB_MODE=offline` keeps everything on this machine."""

    def __init__(self) -> None:
        try:
            import wandb  # noqa: PLC0415 (an extra)
        except ImportError:
            raise RunError('Weights & Biases is not installed: pip install "clutr[wandb]"') from None
        self._wandb: Any = wandb
        self._run: Any = None

    def begin(self, run: RunDirectory) -> None:
        """Start, or go on with, the run of the same id."""
        where = {"dir": str(run.path), "id": place(run, "wandb"), "resume": "allow"}
        self._run = self._wandb.init(project=PROJECT, name=run.path.name, config=run.config, **where)
        keep_place(run, "wandb", self._run.id)

    def update(self, report: UpdateReport) -> None:
        """Log all metrics at the environment steps so far."""
        self._run.log(dict(report.metrics), step=report.steps)

    def end(self, finished: bool) -> None:
        """Close the run; one that was stopped counts as such."""
        self._run.finish(exit_code=0 if finished else 1)


class MLflowTracker:
    """MLflow, in the experiment `clutr`, where MLFLOW_TRACKING_URI says."""

    def __init__(self) -> None:
        try:
            from mlflow import MlflowClient, entities  # noqa: PLC0415 (an extra)
        except ImportError:
            raise RunError('MLflow is not installed: pip install "clutr[mlflow]"') from None
        self._client: Any = MlflowClient()
        self._entities: Any = entities
        self._id = ""

    def begin(self, run: RunDirectory) -> None:
        """Start a run with the options as parameters, or go on with it."""
        known = place(run, "mlflow")
        if known is None:
            found = self._client.get_experiment_by_name(PROJECT)
            experiment = self._client.create_experiment(PROJECT) if found is None else found.experiment_id
            known = self._client.create_run(experiment, run_name=run.path.name).info.run_id
            parameters = [
                self._entities.Param(name, str(value)[:LONGEST_VALUE]) for name, value in flat(run.config).items()
            ]
            self._client.log_batch(known, params=parameters[:100])
            keep_place(run, "mlflow", known)
        self._id = known
        self._client.set_terminated(known, "RUNNING")

    def update(self, report: UpdateReport) -> None:
        """Log all metrics at the environment steps so far."""
        now = round(1000 * report.seconds)
        metrics = [
            self._entities.Metric(name.replace(":", "-"), float(value), now, report.steps)
            for name, value in report.metrics.items()
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def end(self, finished: bool) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


TRACKERS: dict[str, Callable[[], Tracker]] = {"wandb": WandbTracker, "mlflow": MLflowTracker}
"""Trackers by name."""


def trackers_of(names: Sequence[str]) -> list[Tracker]:
    """Trackers by their names. Raises `RunError` for unknown ones, and if an extra is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise RunError(no_such("tracker", name, TRACKERS))
    return [TRACKERS[name]() for name in names]


def flat(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested options as one level, with dots: `student.hidden`."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flat(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value}
    return found


def place(run: RunDirectory, tracker: str) -> str | None:
    """What a run is called at a tracker, if it has been there."""
    try:
        found = json.loads((run.path / PLACES).read_text()).get(tracker)
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def keep_place(run: RunDirectory, tracker: str, name: str) -> None:
    """Remember what a run is called at a tracker."""
    known = {each: found for each in TRACKERS if (found := place(run, each)) is not None}
    write_atomically(run.path / PLACES, json.dumps({**known, tracker: name}).encode())


@contextmanager
def tracking(
    run: RunDirectory, trackers: Sequence[Tracker], say: Callable[[str], None]
) -> Iterator[tuple[Callable[[UpdateReport], None], Callable[[bool], None]]]:
    """Yields what tells all trackers about an update, and about the end. One that raises is left out from then on."""
    alive = list(trackers)

    def each(act: Callable[[Tracker], None]) -> None:
        for tracker in list(alive):
            try:
                act(tracker)
            except Exception as error:  # whatever a tracker's server or library does
                alive.remove(tracker)
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                say(f"{type(tracker).__name__} is left out from here on: {reason}")

    finished = False

    def conclude(value: bool) -> None:
        nonlocal finished
        finished = value

    each(lambda tracker: tracker.begin(run))
    try:
        yield lambda report: each(lambda tracker: tracker.update(report)), conclude
    finally:
        each(lambda tracker: tracker.end(finished))
