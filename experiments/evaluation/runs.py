"""A run's student on a suite: loaded from the run's directory, evaluated, and the result kept there."""

from collections.abc import Mapping
from typing import Any

import torch

from clutr.agents.student import Student
from clutr.envs.domain import DOMAINS, Domain, Suite
from clutr.envs.progress import Progress
from clutr.envs.registry import no_such
from clutr.experiments.evaluation.cvar import cvar
from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError

RECORDED_EPISODES = 4
"""Episodes a level whose paths are kept for the report."""

CVAR_SUITE = "random"
"""The suite whose only task draws the random solvable levels of the conditional value at risk."""


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
    with run.loading(state):
        student.load_state_dict(state["students"][name])
    return student, state["steps"]


def require_suite(domain: Domain, name: str | None) -> Suite:
    """A suite of `domain` by name; None is its first. Raises `RunError` if there is none of that name."""
    suites = domain.suites()
    if name is None:
        return next(iter(suites.values()))
    if name not in suites:
        for other in DOMAINS:
            if name in DOMAINS[other]().suites():
                here = next((each for each in DOMAINS if DOMAINS[each] is type(domain)), type(domain).__name__)
                raise RunError(f"{name} is a suite of {other}; this is on {here}, with: {', '.join(suites)}")
        raise RunError(no_such("suite", name, suites))
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
        progress: called for both parts of the work, one after the other.

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
        video=True,
    )
    result = evaluation.to_json(str(run.path))
    result["summary"] |= {"steps": steps, "run_seed": run.experiment.seed}
    if cvar_levels:
        rng = torch.Generator().manual_seed(seed)
        robustness = cvar(student, suite.tasks[0], cvar_levels, rng=rng, progress=progress).to_json()
        result["summary"]["cvar"] = {name: value for name, value in robustness.items() if name != "task"}
    run.save_evaluation(suite.name, result, evaluation.recordings(), evaluation.videos())
    return result
