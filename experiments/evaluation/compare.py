"""Methods side by side on one suite: its figure with confidence intervals, and probabilities of improvement."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clutr.envs.domain import Metric
from clutr.experiments.config import method_of
from clutr.experiments.evaluation import statistics
from clutr.experiments.evaluation.runs import require_suite
from clutr.experiments.evaluation.selection import choose, own_evaluations, require_different
from clutr.experiments.evaluation.statistics import Interval, Sample
from clutr.experiments.evaluation_files import EvaluationJson, in_words, mode_name
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError

COVERAGE = {2: 65, 3: 75, 4: 80, 5: 85}
"""In how many per cent of cases the 95 % interval of so few runs holds the truth: means of 12 levels x 20 episodes,
where a run's luck moves all of its levels as much as each by itself (standard deviation 0.15). With 10 it is 94."""


def metric_of(evaluation: EvaluationJson) -> Metric:
    """The metric of an evaluation's suite."""
    metric: Metric = (evaluation.get("summary") or {}).get("metric", "solved")
    return metric


def metric_name(metric: Metric) -> str:
    """The figure as a person says it."""
    return {"solved": "solve rate", "return": "mean return"}[metric]


@dataclass(frozen=True)
class MethodResult:
    """One method on the suite. Scores are solve rates in [0, 1], or returns."""

    method: str
    metric: Metric
    """What the scores are."""
    runs: tuple[str, ...]
    resampled: str
    """What the intervals resample: "seeds and episodes", or "episodes" of the only run."""
    levels: dict[str, Interval]
    mean: Interval
    median: Interval
    iqm: Interval
    optimality_gap: Interval | None
    """None for returns: they have no known optimum."""
    mean_solved: float
    mean_return: float
    improvement: Interval | None
    """P(this method > baseline), a tie counting half; None for the baseline itself."""
    students: int = 1
    """How many students its runs train, each of which plays as many steps."""

    def intervals(self) -> list[Interval]:
        """All of them."""
        aggregates = [self.mean, self.median, self.iqm, self.optimality_gap, self.improvement]
        return [*self.levels.values(), *(each for each in aggregates if each is not None)]

    def to_json(self) -> dict[str, Any]:
        """Plain values; an interval is `{"value", "interval": [low, high]}`."""
        means = {"mean_solved": self.mean_solved, "mean_return": self.mean_return}
        aggregates = {"mean": self.mean, "median": self.median, "iqm": self.iqm}
        return {
            "method": self.method,
            "runs": list(self.runs),
            "students": self.students,
            "resampled": self.resampled,
            "levels": {level: interval.to_json() for level, interval in self.levels.items()},
            **means,
            **{f"{name}_{self.metric}": interval.to_json() for name, interval in aggregates.items()},
            **({"optimality_gap": self.optimality_gap.to_json()} if self.optimality_gap else {}),
            "probability_of_improvement": self.improvement.to_json() if self.improvement else None,
        }


@dataclass(frozen=True)
class Comparison:
    """Methods on one suite, the baseline first."""

    suite: str
    episodes: int
    """Of each run on each level."""
    methods: tuple[MethodResult, ...]
    evaluated: str
    """Steps, mode and seeds of the evaluations, in words."""
    cvar: dict[str, dict[str, Any]]
    """What `mean_cvar` gives for those methods whose runs all measured it."""
    evaluations: Mapping[str, Sequence[EvaluationJson]] = field(default_factory=dict, repr=False)
    """What was compared, by method."""

    @property
    def metric(self) -> Metric:
        """What the scores are."""
        return self.methods[0].metric

    @property
    def baseline(self) -> str:
        """The method that the others are measured against."""
        return self.methods[0].method

    @property
    def uncertainty(self) -> str:
        """How the intervals were computed and what they do not cover, in sentences."""
        sentences = [
            f"Intervals: {100 * statistics.CONFIDENCE:g} %, hierarchical percentile bootstrap over runs (seeds) and "
            + f"the episodes of each, {statistics.RESAMPLES} resamples."
        ]
        sentences += [
            f"{count} seeds of {result.method}: such intervals hold the truth in about {COVERAGE[count]} % of cases."
            for result in self.methods
            if (count := len(result.runs)) in COVERAGE
        ]
        sentences += [
            f"Steps are those of one student: {result.method} trains {result.students}, which play as many each."
            for result in self.methods
            if result.students > 1
        ]
        single = [result.method for result in self.methods if len(result.runs) == 1]
        if single:
            sentences.append(
                f"One run only of {', '.join(single)}: its episodes are resampled instead of seeds"
                + (" (levels: Wilson)" if self.metric == "solved" else "")
                + ", so its intervals are about that run, not about the method."
            )
        if any(interval.one_sided for result in self.methods for interval in result.intervals()):
            sentences.append(
                f">= and <=: all agree, so it is a one-sided {100 * statistics.CONFIDENCE:g} % bound (Clopper-Pearson) "
                + "over the episodes of all runs; for P(better) over as many pairs of runs as the smaller method has."
            )
        return " ".join(sentences)

    def to_json(self) -> dict[str, Any]:
        """What `clutr compare --json` prints: plain values only."""
        return {
            "suite": self.suite,
            "metric": self.metric,
            "baseline": self.baseline,
            "episodes": self.episodes,
            "evaluated": self.evaluated,
            "methods": [result.to_json() for result in self.methods],
            "uncertainty": self.uncertainty,
            **({"cvar": self.cvar} if self.cvar else {}),
        }


def compare(evaluations: Mapping[str, Sequence[EvaluationJson]], rng: torch.Generator) -> Comparison:
    """Compare methods by the evaluations of their runs on one suite.

    Args:
        evaluations: of each method the evaluations of its runs, which differ in their seed only. The first method is
            the baseline.
        rng: draws the resamples.

    Raises:
        RunError: if there is nothing to compare, or the evaluations are not of the same suite, levels and number of
            episodes.
    """
    if not evaluations:
        raise RunError("there is nothing to compare: name at least one run")
    for method, runs in evaluations.items():
        if not runs:
            raise RunError(f"the method {method!r} has no run to compare")
    first = next(iter(evaluations.values()))[0]
    for runs in evaluations.values():
        for run in runs:
            _check_alike(first, run)
    levels = [row["level"] for row in first["levels"]]
    baseline = sample_of(next(iter(evaluations.values())), metric_of(first))
    results = [
        _summarise(method, runs, levels, baseline if index else None, rng)
        for index, (method, runs) in enumerate(evaluations.items())
    ]
    told = in_words([run for runs in evaluations.values() for run in runs])
    played = first["levels"][0]["episodes"]
    return Comparison(first["suite"], played, tuple(results), told, mean_cvar(evaluations), evaluations)


def _check_alike(first: EvaluationJson, run: EvaluationJson) -> None:
    if run["suite"] != first["suite"]:
        raise RunError(
            f"{run['run']} was evaluated on the suite {run['suite']!r}, {first['run']} on {first['suite']!r}: "
            + "compare runs on one suite"
        )
    modes = [bool(evaluation.get("summary", {}).get("deterministic")) for evaluation in (run, first)]
    if modes[0] != modes[1]:
        words = [f"{each['run']} with {mode_name(mode)}" for each, mode in zip((run, first), modes, strict=True)]
        raise RunError(f"{words[0]} actions and {words[1]} ones were evaluated: compare runs in one mode")
    again = f"evaluate both anew with `clutr eval RUN --suite {run['suite']}` and the same number of episodes"
    mine, other = ([row["level"] for row in evaluation["levels"]] for evaluation in (run, first))
    if mine != other:
        differing = sorted(set(mine) ^ set(other)) or mine
        raise RunError(
            f"{run['run']} and {first['run']} were evaluated on different levels ({', '.join(differing)}); {again}"
        )
    expected = first["levels"][0]["episodes"]
    for row in run["levels"]:
        if row["episodes"] != expected:
            raise RunError(
                f"{run['run']} played {row['episodes']} episodes on {row['level']}, {first['run']} played {expected} "
                + f"on {first['levels'][0]['level']}; {again}"
            )


def _successes(row: Mapping[str, Any]) -> int:
    episodes: int = row["episodes"]
    return round(float(row["solved"]) * episodes)


def sample_of(runs: Sequence[EvaluationJson], metric: Metric) -> Sample:
    """The scores of a method's episodes, `[runs, episodes, levels]`; means over them where returns were not kept."""

    def episodes(row: Mapping[str, Any]) -> NDArray[np.float64]:
        if metric == "return":
            return np.asarray(row.get("returns") or [row["return_mean"]], dtype=np.float64)
        return (np.arange(row["episodes"]) < _successes(row)).astype(np.float64)

    return Sample(np.stack([np.stack([episodes(row) for row in run["levels"]], axis=1) for run in runs]))


def _summarise(
    method: str, runs: Sequence[EvaluationJson], levels: Sequence[str], baseline: Sample | None, rng: torch.Generator
) -> MethodResult:
    metric = metric_of(runs[0])
    sample = sample_of(runs, metric)
    played = len(runs) * runs[0]["levels"][0]["episodes"] if metric == "solved" else None
    if len(runs) > 1 or metric == "return":
        scores = [
            statistics.estimate(statistics.mean, Sample(sample.values[:, :, [i]]), rng=rng, units=played)
            for i in range(len(levels))
        ]
    else:
        scores = [statistics.proportion(_successes(row), row["episodes"]) for row in runs[0]["levels"]]
    improvement, gap = None, None
    if baseline is not None:
        pairs = min(len(sample.values), len(baseline.values))
        improvement = statistics.estimate(statistics.probability_of_improvement, sample, baseline, rng=rng, units=pairs)
    everything = None if played is None else played * len(levels)
    half = None if played is None else played * (len(levels) // 2 + 1)  # a median may hang on half of the levels
    if metric == "solved":
        gap = statistics.estimate(statistics.optimality_gap, sample, rng=rng, units=everything)
    return MethodResult(
        method=method,
        metric=metric,
        runs=tuple(str(run["run"]) for run in runs),
        resampled="seeds and episodes" if len(runs) > 1 else "episodes",
        levels=dict(zip(levels, scores, strict=True)),
        mean=statistics.estimate(statistics.mean, sample, rng=rng, units=everything),
        median=statistics.estimate(statistics.median, sample, rng=rng, units=half),
        iqm=statistics.estimate(statistics.interquartile_mean, sample, rng=rng, units=half),
        optimality_gap=gap,
        mean_solved=_plain_mean(runs, "solved"),
        mean_return=_plain_mean(runs, "return_mean"),
        improvement=improvement,
        students=max(run.get("students", 1) for run in runs),
    )


def _plain_mean(runs: Sequence[EvaluationJson], key: str) -> float:
    return float(np.mean([[row[key] for row in run["levels"]] for run in runs]))


def group_by_method(
    runs: Sequence[RunDirectory], suite: str | None, *, deterministic: bool = False, any_steps: bool = False
) -> dict[str, list[EvaluationJson]]:
    """The runs' matching evaluations on a suite by method: runs whose configuration differs in the seed alone are one.

    Without a name it is the first suite of the first run's domain; for the rest see `selection.choose`.

    Raises:
        RunError: if a run is named twice or has not been evaluated on the suite, or evaluations do not match.
    """
    if not runs:
        return {}
    require_different(runs)
    suite = require_suite(runs[0].domain(), suite).name
    kept = {run: own_evaluations(run, suite) for run in runs}
    chosen = choose(kept, suite, deterministic=deterministic, any_steps=any_steps)
    groups: dict[str, list[tuple[RunDirectory, EvaluationJson]]] = {}
    for run, evaluation in zip(runs, chosen, strict=True):
        result = {**evaluation.result, "run": str(run.path), "students": run.students()}  # it may have been moved
        groups.setdefault(repr(method_of(run.config)), []).append((run, result))
    methods: dict[str, list[EvaluationJson]] = {}
    for group in groups.values():
        name = re.sub(r"-s\d+$", "", group[0][0].path.name)
        while name in methods:  # two configurations in directories of one name
            name += "'"
        methods[name] = [result for _, result in group]
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
