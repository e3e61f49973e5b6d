"""How sure one can be of a score: rliable's aggregates with stratified bootstrap intervals.

Definitions of "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (Agarwal et al. 2021,
arXiv 2108.13264, section 4). Every aggregate takes scores `[..., runs, tasks]` and reduces the last two axes, so that
all resamples of a bootstrap are reduced in one call.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

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
    mine, other = x[..., :, None, :], y[..., None, :, :]
    return np.asarray(((mine > other) + 0.5 * (mine == other)).mean(axis=(-3, -2, -1)))


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """`{"value", "interval": [low, high]}`."""
        return {"value": self.value, "interval": [self.low, self.high]}


@dataclass(frozen=True)
class Sample:
    """What was observed of one method: repetitions of every task, and what a repetition is.

    Several runs differ in their seed, and seeds are what a claim about a method is uncertain about. Of one run only its
    episodes can be resampled: the interval is then about that run alone, not about the method.
    """

    values: Scores
    """`[repetitions, tasks]`: the score of each seed, or of each episode of the only seed."""
    resampled: Literal["seeds", "episodes"]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or 0 in self.values.shape:
            raise ValueError(f"a sample needs repetitions x tasks, got an array of shape {self.values.shape}")
        if not np.isfinite(self.values).all():
            raise ValueError("a sample holds a score that is not a finite number")

    @property
    def scores(self) -> Scores:
        """`[runs, tasks]`; one run if episodes are resampled."""
        return self._runs(self.values)

    def _runs(self, values: Scores) -> Scores:
        return values if self.resampled == "seeds" else values.mean(axis=-2, keepdims=True)

    def resample(self, count: int, rng: torch.Generator) -> Scores:
        """Scores `[count, runs, tasks]`: repetitions are drawn with replacement within each task (the stratum)."""
        repetitions = self.values.shape[0]
        size = (count, *self.values.shape)
        index = torch.randint(repetitions, size, generator=rng, device=rng.device).cpu().numpy()
        return self._runs(np.take_along_axis(self.values[None], index, axis=1))


def estimate(
    statistic: Callable[..., Scores],
    *samples: Sample,
    rng: torch.Generator,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """A statistic of the samples with its stratified bootstrap percentile interval (arXiv 2108.13264, section 4.1).

    Args:
        statistic: takes the scores `[..., runs, tasks]` of each sample, for instance `interquartile_mean`.
        samples: one for each argument of the statistic; they are resampled independently of each other.
        rng: draws the resamples.
        resamples: how many.
        confidence: the fraction of intervals that should hold the true value.
    """
    largest = max(sample.values.size for sample in samples)
    values = [
        statistic(*(sample.resample(count, rng) for sample in samples))
        for count in _blocks(resamples, max(1, _BLOCK // largest))
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return Interval(float(statistic(*(sample.scores for sample in samples))), float(low), float(high))


def proportion(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """A fraction of independent trials with its Wilson score interval.

    Resampling trials that all succeeded or all failed gives an interval of width zero; this one stays honest there.
    """
    from scipy.stats import binomtest  # noqa: PLC0415  # takes half a second

    bounds = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return Interval(successes / trials, float(bounds.low), float(bounds.high))


def _blocks(total: int, largest: int) -> Iterator[int]:
    for start in range(0, total, largest):
        yield min(largest, total - start)
