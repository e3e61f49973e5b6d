"""The probability of an event from a few readings: logistic regression, and what such probabilities are worth."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from clutr.probes.intervals import Interval, mean_over

BINS = 5
"""Of a reliability diagram: equally many moments in each."""


class Logistic(NamedTuple):
    """Turns F readings into a probability."""

    mean: Tensor
    std: Tensor
    weights: Tensor
    constant: float

    @classmethod
    def fit(cls, readings: Tensor, happened: Tensor, strength: float) -> "Logistic":
        """On `[n, F]` and `[n]` bool, with an inverse penalty; the share where only one thing ever happened."""
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  # takes a second

        mean, std = readings.mean(0), readings.std(0, correction=0).clamp(min=1e-6)
        share = (float(happened.sum()) + 0.5) / (len(happened) + 1)
        if happened.all() or not happened.any():
            return cls(mean, std, torch.zeros(readings.shape[1]), float(torch.tensor(share).logit()))
        found = LogisticRegression(C=strength).fit(((readings - mean) / std).numpy(), happened.numpy())
        return cls(mean, std, torch.from_numpy(found.coef_[0]).float(), float(found.intercept_[0]))

    def __call__(self, readings: Tensor) -> Tensor:
        """Probabilities `[...]` for readings `[..., F]`."""
        return torch.sigmoid((readings - self.mean) / self.std @ self.weights + self.constant)


def brier(said: Tensor, happened: Tensor) -> Tensor:
    """Squared errors `[n]` of probabilities `[n]`; their mean is the Brier score (Brier 1950)."""
    return (said - happened.float()).square()


def reliability(said: Tensor, happened: Tensor, groups: Tensor) -> dict[str, Any]:
    """What probabilities are worth; intervals are over groups.

    Args:
        said: `[n]`.
        happened: `[n]` bool.
        groups: `[n]` int64: levels.

    Returns:
        The `share` in which it happened; the `brier` score with its interval; `auroc`, None where only one thing ever
        happened; and `bins` of about equally many moments: `said`, and `happened` with its `interval`.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  # takes a second

    true, bins = happened.float(), []
    for rows in said.argsort().chunk(BINS):
        seen: Interval = mean_over(true[rows], groups[rows])
        bins.append({"said": float(said[rows].mean()), "happened": seen.value, "interval": [seen.low, seen.high]})
    both = bool(happened.any()) and not bool(happened.all())
    return {
        "share": float(true.mean()),
        "brier": list(mean_over(brier(said, happened), groups)),
        "auroc": float(roc_auc_score(happened.numpy(), said.numpy())) if both else None,
        "bins": bins,
    }
