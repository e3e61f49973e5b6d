"""Which of the runs' evaluations go together in a table: of one mode, one number of steps and of episodes."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from clutr.experiments.config import method_of
from clutr.experiments.evaluation_files import KeptEvaluation, mode_name
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError


def require_different(runs: Sequence[RunDirectory]) -> None:
    """Raise `RunError` if a run is named twice, through two paths or as a copy: it would count as two seeds."""
    for one, other in combinations(runs, 2):
        if one.path.resolve() == other.path.resolve():
            raise RunError(f"{one.path} and {other.path} are the same run: name it once")
        seeds = [(run.config.get("seed"), run.config.get("manifold_seed")) for run in (one, other)]
        if seeds[0] == seeds[1] and method_of(one.config) == method_of(other.config):
            raise RunError(
                f"{one.path} and {other.path} are the same run: their configurations and seeds are equal. "
                + "Name one of them, or train it with another --seed"
            )


def own_evaluations(run: RunDirectory, suite: str) -> list[KeptEvaluation]:
    """The evaluations of the run's own student on a suite, weakest first."""
    return [kept for kept in run.evaluations() if kept.name == kept.suite == suite]


def choose(
    kept: Mapping[RunDirectory, Sequence[KeptEvaluation]],
    suite: str,
    *,
    deterministic: bool = False,
    any_steps: bool = False,
) -> list[KeptEvaluation]:
    """Of each run one evaluation on a suite: the newest steps, then the most episodes, that all of them have.

    Args:
        kept: their own evaluations on the suite, weakest first.
        suite: what they played.
        deterministic: those of the most probable actions; else of sampled ones.
        any_steps: take each run's newest steps, though they differ.

    Raises:
        RunError: if a run lacks one, or they have no steps or episodes in common; the message names both runs.
    """
    runs, found = list(kept), list(kept.values())
    for run, mine in zip(runs, found, strict=True):
        if not mine:
            raise RunError(_missing(run, suite))
    mode = mode_name(deterministic)
    matching = [[each for each in mine if each.deterministic == deterministic] for mine in found]
    for run, mine in zip(runs, matching, strict=True):
        if not mine:
            others = [other.path for other, theirs in zip(runs, matching, strict=True) if theirs]
            beside = f", unlike {others[0]}" if others else ""
            flag = " --deterministic" * deterministic
            raise RunError(
                f"{run.path} was evaluated on {suite!r} with {mode_name(not deterministic)} actions alone{beside}. "
                + f"Run `clutr eval {run.path} --suite {suite}{flag}` for {mode} ones"
                + ("" if deterministic else ", or compare with --deterministic")
            )
    advice = ": evaluate them at the same steps (`clutr eval RUN --checkpoint STEPS`), or compare with --any-steps"
    matching = _in_common(runs, matching, lambda each: each.steps, None if any_steps else f"steps{advice}")
    advice = f": evaluate both with `clutr eval RUN --suite {suite}` and the same number of episodes"
    matching = _in_common(runs, matching, lambda each: each.episodes, f"episodes a level{advice}")
    return [mine[-1] for mine in _in_common(runs, matching, lambda each: -each.seed, None)]


def _in_common(
    runs: Sequence[RunDirectory],
    found: Sequence[Sequence[KeptEvaluation]],
    number: Callable[[KeptEvaluation], int],
    complaint: str | None,
) -> list[list[KeptEvaluation]]:
    """Those of the greatest number that all runs have; without a complaint each run's own greatest if there is none."""
    numbers = [{number(kept) for kept in mine} for mine in found]
    common = set.intersection(*numbers)
    if not common and complaint is not None:
        pairs = combinations(zip(runs, numbers, strict=True), 2)
        apart = next(((a, b) for a, b in pairs if not a[1] & b[1]), None)
        one, other = apart or next(combinations(zip(runs, numbers, strict=True), 2))
        texts = [f"{run.path} at {' and '.join(f'{n:,}' for n in sorted(have))}" for run, have in (one, other)]
        raise RunError(f"{texts[0]} and {texts[1]} were not evaluated at the same {complaint}")
    greatest = [max(common or mine) for mine in numbers]
    return [[kept for kept in mine if number(kept) == top] for mine, top in zip(found, greatest, strict=True)]


def _missing(run: RunDirectory, suite: str) -> str:
    known = sorted({kept.name for kept in run.evaluations()})
    there = f"; it has: {', '.join(known)}" if known else ""
    return (
        f"{run.path} has no evaluation on the suite {suite!r}{there}. "
        + f"Run `clutr eval {run.path} --suite {suite}` first."
    )
