"""What the commands do to a run: train it, evaluate it, set it beside others."""

import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.table import Table

from agents.student import Student
from clutr.manifold.base import Progress
from experiments.compare import Comparison, compare, require_evaluation
from experiments.display import training_display, work_display
from experiments.evaluate import evaluate
from experiments.files import RunError
from experiments.manifolds import prepare_manifold
from experiments.run_dir import RunDirectory
from experiments.runner import Runner

RECORDED_EPISODES = 4
"""Episodes a level whose paths are kept for the report."""


def train(run: RunDirectory, manifolds: Path, say: Callable[[str], None]) -> bool:
    """Train `run` from where it stands, showing progress. Returns whether its step budget is spent.

    Args:
        run: the run's directory.
        manifolds: where pretrained manifolds are shared between runs.
        say: receives lines for the user.
    """
    manifold = None
    if run.experiment.manifold is not None:
        with work_display("pretraining the task manifold") as progress:
            manifold = prepare_manifold(run, manifolds, progress)
    runner = Runner(run, manifold, say)
    title = run.path.name
    with stop_on_interrupt(runner, say), training_display(title, runner.curriculum.students[0]) as report:
        return runner.train(report)


@contextmanager
def stop_on_interrupt(runner: Runner, say: Callable[[str], None]) -> Iterator[None]:
    """Let the first Ctrl-C finish the update in hand and write a checkpoint; a second one stops at once."""

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


def load_student(run: RunDirectory) -> tuple[Student, int]:
    """The evaluated student of a run as of its newest checkpoint, and the steps it has trained.

    Raises:
        RunError: if the run has no readable checkpoint.
    """
    state, problems = run.load_checkpoint()
    if state is None:
        reason = "; ".join(problems) or "it has no checkpoint yet"
        raise RunError(f"{run.path} cannot be evaluated: {reason}. `clutr resume {run.path}` trains on.")
    name = next(iter(state["students"]))
    engine = run.domain().engine(1)
    student = run.experiment.student.build(engine.observation_space, engine.action_space, run.experiment.seed, name)
    student.load_state_dict(state["students"][name])
    return student, state["steps"]


def evaluate_run(
    run: RunDirectory,
    suite_name: str,
    episodes: int,
    seed: int = 1,
    deterministic: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a run's student on a suite, keep the result in the run's directory and return it.

    Raises:
        RunError: if the suite is unknown or the run cannot be evaluated.
    """
    suites = run.domain().suites()
    if suite_name not in suites:
        raise RunError(f"no suite is called {suite_name!r}; there are: {', '.join(suites)}")
    student, steps = load_student(run)
    rng = torch.Generator().manual_seed(seed)  # so that the recorded seed is the one that was asked for
    evaluation = evaluate(
        student,
        suites[suite_name],
        episodes,
        rng,
        deterministic=deterministic,
        progress=progress,
        record=RECORDED_EPISODES,
    )
    result = evaluation.to_json(str(run.path))
    result["summary"] |= {"steps": steps, "run_seed": run.experiment.seed}
    run.save_evaluation(suite_name, result, evaluation.recordings())
    return result


def evaluation_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Solve rates level by level, one column a method; the last rows are means and interquartile means."""
    first = next(iter(results.values()))
    table = Table(title=f"solve rate on {first['suite']}, zero-shot", title_justify="left")
    table.add_column("level")
    for name in results:
        table.add_column(name, justify="right")
    for index, level in enumerate(first["levels"]):
        table.add_row(level["level"], *(f"{result['levels'][index]['solved']:.0%}" for result in results.values()))
    table.add_section()
    for name, key in (("mean", "mean_solved"), ("IQM", "iqm_solved")):
        cells = []
        for result in results.values():
            low, high = result["summary"][f"{key}_interval"]
            cells.append(f"{result['summary'][key]:.1%} [{low:.1%}, {high:.1%}]")
        table.add_row(name, *cells, style="bold")
    table.caption = f"{first['levels'][0]['episodes']} episodes a level. {first['summary']['uncertainty']}"
    return table


def compare_runs(runs: Sequence[RunDirectory], suite: str) -> Comparison:
    """Set runs side by side on a suite; runs whose configuration differs in the seed alone are one method.

    Raises:
        RunError: if a run has not been evaluated on the suite, or two were evaluated differently.
    """
    groups: dict[str, list[RunDirectory]] = {}
    for run in runs:
        without_seed = {name: value for name, value in run.config.items() if name != "seed"}
        groups.setdefault(repr(without_seed), []).append(run)
    methods: dict[str, list[Mapping[str, Any]]] = {}
    for group in groups.values():
        name = re.sub(r"-s\d+$", "", group[0].path.name)
        while name in methods:  # two configurations in directories of one name
            name += "'"
        methods[name] = [require_evaluation(run.evaluations(), str(run.path), suite) for run in group]
    return compare(methods, torch.Generator().manual_seed(0))
