"""A run's student on a suite: loaded from the run's directory, evaluated, and the result kept there."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from clutr.agents.student import Student, as_evaluated
from clutr.envs.domain import DOMAINS, Domain, Suite
from clutr.envs.progress import Progress
from clutr.envs.validation import MOST_SIDE_BY_SIDE
from clutr.experiments import pretrained
from clutr.experiments.evaluation.cvar import ALPHAS, alphas_for, cvar
from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.evaluation.selection import own_evaluations
from clutr.experiments.evaluation.suite_names import require_suite_name
from clutr.experiments.evaluation_files import require_seed
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError

RECORDED_EPISODES = 4
"""Episodes a level whose paths are kept for the report."""

EPISODES = 100
"""Episodes a level unless told otherwise."""

CVAR_SUITE = "random"
"""The suite whose only task draws the random solvable levels of the conditional value at risk."""


def load_student(run: RunDirectory, checkpoint: int | None = None) -> tuple[Student, int]:
    """The evaluated student of a run, and the steps it has trained.

    Args:
        run: the run.
        checkpoint: environment steps of the checkpoint; by default the newest.

    Raises:
        RunError: if the run has no readable checkpoint, or not this one.
    """
    if (shipped := pretrained.unpacked(run.path)) is not None:
        pretrained.require_kind(shipped, "student")
    if checkpoint is not None:
        return student_of(run, run.checkpoint_at(checkpoint))
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
        # a model that ships holds its weights alone: the rest stays as it was built
        student.load_state_dict({**student.state_dict(), **state["students"][name]})
    return as_evaluated(student), state["steps"]


def require_suite(domain: Domain, name: str | None) -> Suite:
    """A suite of `domain` by name; None is its first. Raises `RunError` if there is none of that name."""
    suites = domain.suites()
    if name is None:
        return next(iter(suites.values()))
    if name not in suites:
        here = next((each for each in DOMAINS if DOMAINS[each] is type(domain)), type(domain).__name__)
        others = {each: DOMAINS[each]().suites() for each in DOMAINS if each != here}
        require_suite_name(here, name, {here: suites, **others})
    return suites[name]


def require_not_too_many(count: int, what: str = "episodes") -> None:
    """Raise `RunError` if there are more episodes a level than anybody plays."""
    if count > MOST_SIDE_BY_SIDE:
        raise RunError(f"{what} must be at most {MOST_SIDE_BY_SIDE:,}, got {count}")


def require_options(run: RunDirectory, suite_name: str | None, episodes: int, seed: int, cvar_levels: int) -> Suite:
    """The suite that a run is about to play; it is asked before anything is played.

    Raises:
        RunError: if the suite is unknown, an option does not fit, or the result could not be written.
    """
    suite = require_suite(run.domain(), suite_name)
    require_seed(seed)
    if episodes < 1 or cvar_levels < 0:
        raise RunError("episodes must be at least 1, and the levels of the conditional value at risk 0 or more")
    require_not_too_many(episodes)
    require_not_too_many(cvar_levels, "the levels of the conditional value at risk")
    if cvar_levels and suite.name != CVAR_SUITE:
        raise RunError(f"the conditional value at risk is measured on the suite {CVAR_SUITE!r}, not on {suite.name!r}")
    if cvar_levels and not alphas_for(cvar_levels):
        raise RunError(f"the worst {ALPHAS[0]:.0%} of {cvar_levels} levels are less than one: ask for more levels")
    if pretrained.unpacked(run.path) is None:  # of a model that ships the result is returned in any case
        run.require_writable(suite.name)
    return suite


def evaluate_run(
    run: RunDirectory,
    suite_name: str,
    episodes: int,
    seed: int = 1,
    deterministic: bool = False,
    cvar_levels: int = 0,
    progress: Progress | None = None,
    checkpoint: int | None = None,
) -> dict[str, Any]:
    """Evaluate a run's student on a suite, keep the result in the run's directory and return it.

    A result that can no longer be written is returned, with a line in the log.

    Args:
        run: whose student plays.
        suite_name: what it plays.
        episodes: on each level.
        seed: of levels and actions.
        deterministic: take the likeliest action instead of sampling.
        cvar_levels: random solvable levels, of which the solve rate on the worst is added as `summary["cvar"]` (see
            `clutr.experiments.evaluation.cvar.cvar`); 0 for none.
        progress: called for both parts of the work, one after the other.
        checkpoint: environment steps of the checkpoint that plays; by default the newest.

    Raises:
        RunError: if the suite is unknown, the run cannot be evaluated, or an option does not fit.
    """
    suite = require_options(run, suite_name, episodes, seed, cvar_levels)
    student, steps = load_student(run, checkpoint)
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
        robustness = cvar(
            student, suite.tasks[0], cvar_levels, rng=rng, alphas=alphas_for(cvar_levels), progress=progress
        ).to_json()
        result["summary"]["cvar"] = {name: value for name, value in robustness.items() if name != "task"}
    try:
        run.save_evaluation(result, evaluation.recordings(), evaluation.videos())
    except RunError as error:  # the disk has filled meanwhile: what was played is worth more than its file
        logging.getLogger("clutr").warning("%s The result is returned all the same.", error)
    return result


def evaluate_missing(
    runs: Sequence[RunDirectory],
    suite_name: str,
    *,
    deterministic: bool = False,
    any_steps: bool = False,
    progress: Progress | None = None,
) -> None:
    """Evaluate the runs whose newest checkpoint has no evaluation of the mode, on as many episodes as the best known.

    Raises:
        RunError: before anything is played, if a run cannot be evaluated or their newest steps differ.
    """
    kept = {run: [e for e in own_evaluations(run, suite_name) if e.deterministic == deterministic] for run in runs}
    episodes = max((each.episodes for found in kept.values() for each in found), default=EPISODES)
    steps = {run: load_student(run)[1] for run in runs}
    first = runs[0]
    for run in runs:
        require_options(run, suite_name, episodes, 1, 0)
        if steps[run] != steps[first] and not any_steps:
            raise RunError(
                f"{first.path} has trained {steps[first]:,} steps, {run.path} {steps[run]:,}: compare them with "
                + "--any-steps, or evaluate checkpoints of the same steps (`clutr eval RUN --checkpoint STEPS`)"
            )
    for run in runs:
        if not any((each.steps, each.episodes) == (steps[run], episodes) for each in kept[run]):
            evaluate_run(run, suite_name, episodes, 1, deterministic, progress=progress)
