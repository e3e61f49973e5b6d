"""How sure one can be of a score: rliable's aggregates with hierarchical bootstrap intervals.

Aggregates are those of "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (Agarwal et al. 2021,
arXiv 2108.13264, section 4). Every aggregate takes scores `[..., runs, tasks]` and reduces the last two axes, so that
all resamples of a bootstrap are reduced in one call. Other than there a run is drawn with all its tasks, since what it
learnt shows in all of them, and within it episodes are drawn (Davison and Hinkley 1997, section 3.8).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Scores = NDArray[np.float64]
"""`[..., runs, tasks]`."""

RESAMPLES = 2_000
CONFIDENCE = 0.95
_BLOCK = 2_000_000
"""Numbers that one block of resamples may hold, so that memory stays bounded for any number of episodes."""


def mean(scores: Scores) -> Scores:
    """Mean over runs and tasks."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def median(scores: Scores) -> Scores:
    """Median over tasks of each task's mean over runs."""
    return np.asarray(np.median(scores.mean(axis=-2), axis=-1))


def interquartile_mean(scores: Scores) -> Scores:
    """Mean of the middle half of all runs x tasks: a quarter of them, rounded down, is cut at either end."""
    from scipy.stats import trim_mean  # noqa: PLC0415  # takes half a second

    return np.asarray(trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1))


def optimality_gap(scores: Scores, gamma: float = 1.0) -> Scores:
    """How far the scores fall short of `gamma` on average; what exceeds it counts as reaching it."""
    return np.asarray(gamma - np.minimum(scores, gamma).mean(axis=(-2, -1)))


def probability_of_improvement(x: Scores, y: Scores) -> Scores:
    """P(X > Y) for a random run of each method on a random task, a tie counting half.

    On each task this is the Mann-Whitney U statistic over its greatest value.

    Args:
        x: scores of one method `[..., N, tasks]`.
        y: scores of the other on the same tasks `[..., M, tasks]`.
    """
    from scipy.stats import rankdata  # noqa: PLC0415  # takes half a second

    n, m = x.shape[-2], y.shape[-2]
    ranks = rankdata(np.concatenate([x, y], axis=-2), axis=-2)[..., :n, :].sum(axis=-2)
    return np.asarray(((ranks - n * (n + 1) / 2) / (n * m)).mean(axis=-1))


def performance_profile(scores: Scores, thresholds: Scores) -> Scores:
    """The share of all runs x tasks whose score is above each threshold (section 4.3 there), `[..., thresholds]`.

    Args:
        scores: `[..., runs, tasks]`.
        thresholds: `[K]`.
    """
    flat = scores.reshape(*scores.shape[:-2], 1, -1)
    return np.asarray((flat > thresholds[:, None]).mean(axis=-1))


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float
    one_sided: bool = False
    """Nothing varied in the sample, so one end is a bound and the other the estimate itself."""

    def to_json(self) -> dict[str, Any]:
        """`{"value", "interval": [low, high]}`, and `"one_sided": true` if it is."""
        return {"value": self.value, "interval": [self.low, self.high]} | (
            {"one_sided": True} if self.one_sided else {}
        )


@dataclass(frozen=True)
class Sample:
    """What was observed of one method: the episodes of each of its runs on every task.

    Runs differ in their seed, and seeds are what a claim about a method is uncertain about. Of one run only its
    episodes can be resampled: the interval is then about that run alone, not about the method.
    """

    values: Scores
    """`[runs, episodes, tasks]`: the score of each episode; one episode a run where only its mean is known."""

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or 0 in self.values.shape:
            raise ValueError(f"a sample needs runs x episodes x tasks, got an array of shape {self.values.shape}")
        if not np.isfinite(self.values).all():
            raise ValueError("a sample holds a score that is not a finite number")

    @cached_property
    def scores(self) -> Scores:
        """`[runs, tasks]`: means over episodes."""
        return np.asarray(self.values.mean(axis=1))

    @cached_property
    def _binary(self) -> bool:
        return bool(np.isin(self.values, (0.0, 1.0)).all())

    @property
    def size(self) -> int:
        """Numbers that one resample draws."""
        return self.scores.size if self._binary else self.values.size

    def resample(self, count: int, rng: torch.Generator) -> Scores:
        """Scores `[count, runs, tasks]`: runs are drawn with replacement, and within each its episodes on each task."""
        runs, episodes, tasks = self.values.shape
        chosen = torch.randint(runs, (count, runs), generator=rng, device=rng.device).cpu().numpy()
        if self._binary:  # how many of the drawn episodes are ones is binomial
            rates = torch.from_numpy(self.scores[chosen]).to(rng.device)
            ones = torch.binomial(torch.full_like(rates, episodes), rates, generator=rng)
            return np.asarray(ones.cpu().numpy() / episodes)
        size = (count, runs, episodes, tasks)
        index = torch.randint(episodes, size, generator=rng, device=rng.device).cpu().numpy()
        return np.asarray(self.values[chosen[:, :, None, None], index, np.arange(tasks)].mean(axis=2))


def estimate(
    statistic: Callable[..., Scores],
    *samples: Sample,
    rng: torch.Generator,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    units: int | None = None,
) -> Interval:
    """A statistic of the samples with its hierarchical bootstrap percentile interval.

    Args:
        statistic: takes the scores `[..., runs, tasks]` of each sample, for instance `interquartile_mean`.
        samples: one for each argument of the statistic; they are resampled independently of each other.
        rng: draws the resamples.
        resamples: how many.
        confidence: the fraction of intervals that should hold the true value.
        units: for statistics in [0, 1]: independent observations behind the statistic. Where no resample differs, the
            interval is `bound` of so many instead of one without width.
    """
    largest = max(sample.size for sample in samples)
    values = np.concatenate(
        [
            statistic(*(sample.resample(count, rng) for sample in samples))
            for count in _blocks(resamples, max(1, _BLOCK // largest))
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    value = float(statistic(*(sample.scores for sample in samples)))
    if units is not None and np.isclose(low, high, rtol=0, atol=1e-9):
        return bound(value, units, confidence)
    return Interval(value, float(low), float(high))


def profile_band(
    sample: Sample, thresholds: Scores, rng: torch.Generator, resamples: int = RESAMPLES
) -> tuple[Scores, Scores, Scores]:
    """A performance profile with its pointwise hierarchical bootstrap interval: value, low and high, each `[K]`."""
    size = max(1, _BLOCK // max(sample.size, sample.scores.size * len(thresholds)))
    blocks = [performance_profile(sample.resample(n, rng), thresholds) for n in _blocks(resamples, size)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(blocks), [tail, 1 - tail], axis=0)
    return performance_profile(sample.scores, thresholds), low, high


def bound(value: float, units: int, confidence: float = CONFIDENCE) -> Interval:
    """How far a share may be from what all of n independent observations agree on.

    For 0 and 1 it is the one-sided bound of Clopper and Pearson 1934, `1 - (1 - confidence) ** (1 / n)`, which is about
    3 / n at 95 % (the rule of three).
    """
    width = -math.expm1(math.log1p(-confidence) / units)
    low, high = max(0.0, value - width), min(1.0, value + width)
    return Interval(value, low, high, one_sided=value in (0, 1))


def proportion(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """A fraction of independent trials with its Wilson score interval, or the one-sided `bound` if all ended alike."""
    from scipy.stats import binomtest  # noqa: PLC0415  # takes half a second

    if successes in (0, trials):
        return bound(successes / trials, trials, confidence)
    bounds = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return Interval(successes / trials, float(bounds.low), float(bounds.high))


def _blocks(total: int, largest: int) -> Iterator[int]:
    for start in range(0, total, largest):
        yield min(largest, total - start)
