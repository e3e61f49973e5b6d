"""From a reading to a probability, held against what happened: logistic regression on other levels (Platt scaling)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from clutr.probes.intervals import mean_over
from clutr.probes.linear_probes import folds_of

BINS = 5
"""Of a reliability diagram: equally many moments in each."""


class Odds(NamedTuple):
    """The logarithm of the odds is linear in a reading. Source: Platt 1999, "Probabilistic outputs for SVMs"."""

    weight: float
    constant: float

    @classmethod
    def fit(cls, readings: Tensor, happened: Tensor) -> "Odds":
        """On readings `[n]` and what happened `[n]` bool; a constant where only one thing ever happened."""
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  # takes a second

        if happened.all() or not happened.any():
            share = (float(happened.sum()) + 0.5) / (len(happened) + 1)
            return cls(0.0, float(torch.tensor(share).logit()))
        found = LogisticRegression(C=1e3).fit(readings[:, None].numpy(), happened.numpy())
        return cls(float(found.coef_[0, 0]), float(found.intercept_[0]))

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
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  # takes a second

    folds, said, constant = folds_of(groups, rng), torch.zeros(len(readings)), torch.zeros(len(readings))
    for fold in folds.unique():
        mine = folds == fold
        said[mine] = Odds.fit(readings[~mine], happened[~mine])(readings[mine])
        constant[mine] = happened[~mine].float().mean()
    true = happened.float()
    wrong, flat = (said - true).square(), (constant - true).square()
    bins = []
    for rows in said.argsort().chunk(BINS):
        told = mean_over(true[rows], groups[rows])
        bins.append({"said": float(said[rows].mean()), "happened": told.value, "interval": [told.low, told.high]})
    both = bool(happened.any()) and not bool(happened.all())
    return Odds.fit(readings, happened), {
        "moments": len(readings),
        "levels": len(groups.unique()),
        "share": float(true.mean()),
        "bins": bins,
        "brier": list(mean_over(wrong, groups)),
        "constant_brier": list(mean_over(flat, groups)),
        "gain": list(mean_over(flat - wrong, groups)),
        "auroc": float(roc_auc_score(happened.numpy(), said.numpy())) if both else None,
    }
