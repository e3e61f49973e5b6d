"""What the commands do to a run: train it, evaluate it, set it beside others."""

import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table

from clutr.agents.student import Student
from clutr.envs.domain import Domain, Metric, Suite
from clutr.envs.progress import Progress
from clutr.experiments.config import method_of
from clutr.experiments.evaluation.compare import EvaluationJson, metric_name, metric_of, require_evaluation
from clutr.experiments.evaluation.cvar import cvar
from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.display import training_display, work_display
from clutr.experiments.training.manifolds import prepare_manifold
from clutr.experiments.training.runner import Runner

RECORDED_EPISODES = 4
"""Episodes a level whose paths are kept for the report."""

FORMATS: dict[Metric, Callable[[float], str]] = {
    "solved": lambda share: f"{share:.1%}",
    "return": lambda value: f"{value:,.0f}",
}

CVAR_SUITE = "random"
"""The suite whose only task draws the random solvable levels of the conditional value at risk."""


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
    try:
        runner = Runner(run, manifold, say)
    except (ValueError, ImportError) as error:  # options that do not fit each other, an extra that is not installed
        raise RunError(f"{run.path} cannot be trained: {error}") from error
    title = run.path.name
    metric = runner.suite.metric if runner.suite is not None else "solved"
    with stop_on_interrupt(runner, say), training_display(title, runner.curriculum.students[0], metric) as report:
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
    return student_of(run, state)


def student_of(run: RunDirectory, state: Mapping[str, Any]) -> tuple[Student, int]:
    """The evaluated student of a run as of the checkpoint `state`, and the steps it has trained."""
    name = next(iter(state["students"]))
    engine = run.domain().engine(1)
    try:
        student = run.experiment.student.build(engine.observation_space, engine.action_space, run.experiment.seed, name)
    except ImportError as error:  # an extra that is not installed
        raise RunError(f"{run.path} cannot be evaluated: {error}") from error
    student.load_state_dict(state["students"][name])
    return student, state["steps"]


def require_suite(domain: Domain, name: str | None) -> Suite:
    """A suite of `domain` by name; None is its first. Raises `RunError` if there is none of that name."""
    suites = domain.suites()
    if name is None:
        return next(iter(suites.values()))
    if name not in suites:
        raise RunError(f"no suite is called {name!r}; there are: {', '.join(suites)}")
    return suites[name]


def evaluate_run(
    run: RunDirectory,
    suite_name: str,
    episodes: int,
    seed: int = 1,
    deterministic: bool = False,
    cvar_levels: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a run's student on a suite, keep the result in the run's directory and return it.

    Args:
        run: whose newest checkpoint plays.
        suite_name: what it plays.
        episodes: on each level.
        seed: of levels and actions.
        deterministic: take the likeliest action instead of sampling.
        cvar_levels: random solvable levels, of which the solve rate on the worst is added as `summary["cvar"]` (see
            `clutr.experiments.evaluation.cvar.cvar`); 0 for none.
        progress: is told of both parts of the work, one after the other.

    Raises:
        RunError: if the suite is unknown, the run cannot be evaluated, or an option does not fit.
    """
    suite = require_suite(run.domain(), suite_name)
    if episodes < 1 or cvar_levels < 0:
        raise RunError("episodes must be at least 1, and the levels of the conditional value at risk 0 or more")
    if cvar_levels and suite.name != CVAR_SUITE:
        raise RunError(f"the conditional value at risk is measured on the suite {CVAR_SUITE!r}, not on {suite.name!r}")
    student, steps = load_student(run)
    rng = torch.Generator().manual_seed(seed)  # so that the recorded seed is the one that was asked for
    evaluation = evaluate(
        student,
        suite,
        episodes,
        rng,
        deterministic=deterministic,
        progress=progress,
        record=RECORDED_EPISODES,
        film=True,
    )
    result = evaluation.to_json(str(run.path))
    result["summary"] |= {"steps": steps, "run_seed": run.experiment.seed}
    if cvar_levels:
        rng = torch.Generator().manual_seed(seed)
        robustness = cvar(student, suite.tasks[0], cvar_levels, rng=rng, progress=progress).to_json()
        result["summary"]["cvar"] = {name: value for name, value in robustness.items() if name != "task"}
    run.save_evaluation(suite.name, result, evaluation.recordings(), evaluation.films())
    return result


def evaluation_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Solve rates or returns level by level, one column a method; the last rows are means and interquartile means."""
    first = next(iter(results.values()))
    metric = metric_of(first)
    say = FORMATS[metric]
    table = Table(title=f"{metric_name(metric)} on {first['suite']}, zero-shot", title_justify="left")
    table.add_column("level")
    for name in results:
        table.add_column(escape(name), justify="right")
    for index, level in enumerate(first["levels"]):
        table.add_row(level["level"], *(_level_cell(result["levels"][index], metric) for result in results.values()))
    table.add_section()
    for name, key in (("mean", f"mean_{metric}"), ("IQM", f"iqm_{metric}")):
        cells = []
        for result in results.values():
            low, high = result["summary"][f"{key}_interval"]
            cells.append(f"{say(result['summary'][key])} [{say(low)}, {say(high)}]")
        table.add_row(name, *cells, style="bold")
    if metric == "return":
        table.add_row("solved", *(f"{result['summary']['mean_solved']:.1%}" for result in results.values()))
    remark = "± standard deviation of the episodes. " if metric == "return" else ""
    table.caption = f"{first['levels'][0]['episodes']} episodes a level. {remark}{first['summary']['uncertainty']}"
    return table


def _level_cell(row: Mapping[str, Any], metric: Metric) -> str:
    if metric == "solved":
        return f"{row['solved']:.0%}"
    return f"{row['return_mean']:.0f} ± {row['return_std']:.0f}"


def group_by_method(runs: Sequence[RunDirectory], suite: str | None) -> dict[str, list[EvaluationJson]]:
    """The runs' evaluations on a suite by method: runs whose configuration differs in the seed alone are one.

    Without a name it is the first suite of the first run's world.

    Raises:
        RunError: if a run has not been evaluated on the suite.
    """
    groups: dict[str, list[RunDirectory]] = {}
    if suite is None and runs:
        suite = require_suite(runs[0].domain(), None).name
    for run in runs:
        groups.setdefault(repr(method_of(run.config)), []).append(run)
    methods: dict[str, list[EvaluationJson]] = {}
    for group in groups.values():
        name = re.sub(r"-s\d+$", "", group[0].path.name)
        while name in methods:  # two configurations in directories of one name
            name += "'"
        methods[name] = [require_evaluation(run.evaluations(), str(run.path), str(suite)) for run in group]
    return methods


def mean_cvar(methods: Mapping[str, Sequence[EvaluationJson]]) -> dict[str, dict[str, Any]]:
    """`levels`, `mean` and `worst` (by share) averaged over the runs of each method whose runs all measured them."""
    means: dict[str, dict[str, Any]] = {}
    for method, results in methods.items():
        measured = [result["summary"]["cvar"] for result in results if "cvar" in result["summary"]]
        if len(measured) < len(results) or len({found["levels"] for found in measured}) > 1:
            continue
        worst = {share: fmean(found["worst"][share] for found in measured) for share in measured[0]["worst"]}
        mean = fmean(found["mean"] for found in measured)
        means[method] = {"levels": measured[0]["levels"], "mean": mean, "worst": worst}
    return means


def cvar_table(means: Mapping[str, Mapping[str, Any]]) -> Table:
    """Solve rates on all random solvable levels and on the worst of them, one row a method."""
    shares = next(iter(means.values()))["worst"]
    table = Table(title="solve rate on random solvable levels", title_justify="left")
    for name in ("method", "levels", "all", *(f"worst {100 * float(share):g}%" for share in shares)):
        table.add_column(name, justify="left" if name == "method" else "right")
    for method, found in means.items():
        rates = [found["mean"], *(found["worst"][share] for share in shares)]
        table.add_row(escape(method), f"{found['levels']:,}", *(f"{rate:.1%}" for rate in rates))
    return table
