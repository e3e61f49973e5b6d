"""95 % intervals over levels: steps of one level are alike, so whole levels are drawn with replacement.

Percentile bootstrap (Efron & Tibshirani 1993, chapter 13). What is compared is drawn together: the interval of a
difference is over the same levels on both sides.
"""

from typing import NamedTuple

import torch
from torch import Tensor

DRAWS = 1_000
"""Resamples of an interval."""


class Interval(NamedTuple):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """As it is told: 0.71 [0.65, 0.77]."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def resamples(groups: int, draws: int = DRAWS, seed: int = 1) -> Tensor:
    """How often each of so many groups is drawn: `[draws, groups]` float64; the same for the same arguments."""
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randint(groups, (draws, groups), generator=rng)
    return torch.zeros(draws, groups, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(draws, groups, dtype=torch.float64)
    )


def interval_of(value: float, draws: Tensor) -> Interval:
    """A number with the central 95 % of its resamples `[B]`; NaN where there are none."""
    known = draws[~draws.isnan()].double()
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = torch.quantile(known, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(value, low, high)


def mean_over(values: Tensor, groups: Tensor | None = None, seed: int = 1) -> Interval:
    """The mean of values `[n]`, resampled by group `[n]` int64; None: each value is a group of its own."""
    values = values.double()
    if groups is None:
        groups = torch.arange(len(values))
    names, places = groups.unique(return_inverse=True)
    sums = torch.zeros(2, len(names), dtype=torch.float64)
    sums[0].index_add_(0, places, values)
    sums[1].index_add_(0, places, torch.ones_like(values))
    weights = resamples(len(names), seed=seed)
    return interval_of(float(values.mean()), (weights @ sums[0]) / (weights @ sums[1]))


def r2_draws(predicted: Tensor, targets: Tensor, groups: Tensor, seed: int = 1) -> tuple[Tensor, Tensor]:
    """R^2 of each quantity, and its resamples by group.

    Args:
        predicted: `[n, Q]`; rows where it is NaN do not count.
        targets: `[n, Q]`.
        groups: `[n]` int64.
        seed: of the resamples; the same for the same groups.

    Returns:
        `[Q]` and `[B, Q]`; 0 for a quantity that never changes or is nowhere predicted.
    """
    names, places = groups.unique(return_inverse=True)
    counted = ~predicted.isnan()
    level = torch.where(counted, targets, 0).double().sum(0) / counted.sum(0).clamp(min=1)
    true = torch.where(counted, targets.double() - level, 0.0)
    wrong = torch.where(counted, (predicted - targets).double().square(), 0.0)
    parts = torch.zeros(4, len(names), targets.shape[1], dtype=torch.float64)
    for row, values in enumerate((counted.double(), true, true.square(), wrong)):
        parts[row].index_add_(0, places, values)

    def scores(weights: Tensor) -> Tensor:
        count, total, squares, missed = (weights @ part for part in parts)
        spread = squares - total.square() / count.clamp(min=1)
        return torch.where(spread > 1e-12, 1 - missed / spread.clamp(min=1e-12), 0.0)

    whole = scores(torch.ones(1, len(names), dtype=torch.float64))[0]
    return whole, scores(resamples(len(names), seed=seed))
