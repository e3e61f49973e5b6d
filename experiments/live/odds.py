"""From a reading to a probability, held against what happened: logistic regression on other levels (Platt scaling)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from clutr.probes.event_probability import Logistic, brier, reliability
from clutr.probes.intervals import mean_over
from clutr.probes.linear_probes import folds_of

STRENGTH = 1e3
"""Inverse penalty of the regression: next to none, for one reading."""


class Odds(NamedTuple):
    """The logarithm of the odds is linear in a reading. Source: Platt 1999, "Probabilistic outputs for SVMs"."""

    weight: float
    constant: float

    @classmethod
    def fit(cls, readings: Tensor, happened: Tensor) -> "Odds":
        """On readings `[n]` and what happened `[n]` bool; a constant where only one thing ever happened."""
        found = Logistic.fit(readings[:, None], happened, STRENGTH)
        weight = float(found.weights[0] / found.std[0])
        return cls(weight, found.constant - weight * float(found.mean[0]))

    def __call__(self, readings: Tensor) -> Tensor:
        """Probabilities of the same shape."""
        return torch.sigmoid(self.weight * readings + self.constant)


def calibrated_odds(
    readings: Tensor, happened: Tensor, groups: Tensor, rng: torch.Generator
) -> tuple[Odds, dict[str, Any]]:
    """Fit on all, and measure on levels that were held out of each fit.

    Args:
        readings: `[n]`.
        happened: `[n]` bool.
        groups: `[n]` int64: levels.
        rng: of the folds.

    Returns:
        The odds; and `moments`, `levels`, the `share` in which it happened; `said` and `happened` by bin with the
        `interval` of the latter over levels; `brier`, the mean squared error of the probabilities, `constant_brier`,
        that of always saying the share, and the `gain` between them, over the same levels; and `auroc`, None where
        only one thing ever happened.

    Raises:
        ValueError: with fewer than three levels.
    """
    folds, said, constant = folds_of(groups, rng), torch.zeros(len(readings)), torch.zeros(len(readings))
    for fold in folds.unique():
        mine = folds == fold
        said[mine] = Odds.fit(readings[~mine], happened[~mine])(readings[mine])
        constant[mine] = happened[~mine].float().mean()
    wrong, flat = brier(said, happened), brier(constant, happened)
    return Odds.fit(readings, happened), reliability(said, happened, groups) | {
        "moments": len(readings),
        "levels": len(groups.unique()),
        "constant_brier": list(mean_over(flat, groups)),
        "gain": list(mean_over(flat - wrong, groups)),
    }
