"""Counterfactual risk: the probability that all wheels leave the road within a second, if one brakes, steers, goes on.

The model dreams each option several times and reads the wheels on the road; the lowest reading of a dream is turned
into a probability by logistic regression on moments of other levels (Platt scaling). What the probability is worth, a
reliability diagram says, against what the simulator did.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clutr.probes.intervals import mean_over
from clutr.probes.linear_probes import folds_of
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.linear_probe import LinearProbe

BINS = 5
"""Of a reliability diagram: equally many moments in each."""

CAR_OPTIONS: Mapping[str, tuple[float, float, float]] = {
    "brake": (0.0, 0.0, 0.8),
    "steer left": (-0.6, 0.1, 0.0),
    "steer right": (0.6, 0.1, 0.0),
    "straight on": (0.0, 0.2, 0.0),
}
"""Steering, gas and brake of what a driver could do; going on with the last action comes with them."""


def options_of(last: Tensor, steps: int) -> dict[str, Tensor]:
    """Actions `[steps, N, A]` by option, for last actions `[N, A]` of cars."""
    found = {"go on": last.expand(steps, *last.shape)}
    for name, action in CAR_OPTIONS.items():
        found[name] = torch.tensor(action, dtype=last.dtype).expand(steps, *last.shape)
    return found


@torch.no_grad()
def lowest_reading(
    dreamer: Dreamer, starts: LatentState, actions: Tensor, read_out: LinearProbe, column: int, draws: int,
    rng: torch.Generator,
) -> Tensor:  # fmt: skip
    """The lowest reading of a quantity in each dream, `[draws, N]`, for actions `[H, N, A]`."""
    count = len(starts.latent)
    rows = torch.arange(count).repeat(draws)
    dream = dreamer.dream(starts.branch(rows), actions[:, rows], len(actions), 1.0, rng, keep_states=False)
    return read_out(dream.latents)[..., column].amin(0).view(draws, count)


def leaves_road(wheels: Tensor, steps: int, limit: float = 0.5) -> Tensor:
    """Whether all wheels leave the road within so many steps, `[T - steps, ...]` bool, of wheels on it `[T, ...]`."""
    return wheels.unfold(0, steps + 1, 1)[:, 1:].amin(-1) < limit


class Platt(NamedTuple):
    """Turns readings into probabilities."""

    weight: float
    constant: float

    @classmethod
    def fit(cls, readings: Tensor, happened: Tensor) -> "Platt":
        """On mean readings `[n]` and what happened `[n]` bool; a constant where only one thing ever happened."""
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  # takes a second

        share = float(happened.float().mean())
        if share in (0.0, 1.0):
            odds = (len(happened) * share + 0.5) / (len(happened) * (1 - share) + 0.5)
            return cls(0.0, float(torch.tensor(odds).log()))
        found = LogisticRegression(C=1e3).fit(readings[:, None].numpy(), happened.numpy())
        return cls(float(found.coef_[0, 0]), float(found.intercept_[0]))

    def __call__(self, readings: Tensor) -> Tensor:
        """Probabilities of the same shape."""
        return torch.sigmoid(self.weight * readings + self.constant)


def reliability(
    readings: Tensor, happened: Tensor, groups: Tensor, rng: torch.Generator
) -> tuple[Platt, dict[str, Any]]:
    """Calibrate readings `[n]`, and measure the probabilities on levels that they were not calibrated on.

    Returns:
        The calibration on all, and `said` and `happened` by bin with the `interval` of the latter over levels; `brier`,
        the mean squared error of the probabilities; `constant_brier`, that of always saying how often it does; `gain`,
        by how much it is better, over the same levels; and `auroc`, None where only one thing ever happened.

    Raises:
        ValueError: with fewer than three levels.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  # takes a second

    folds, said, constant = folds_of(groups, rng), torch.zeros(len(readings)), torch.zeros(len(readings))
    for fold in folds.unique():
        mine = folds == fold
        said[mine] = Platt.fit(readings[~mine], happened[~mine])(readings[mine])
        constant[mine] = happened[~mine].float().mean()
    true = happened.float()
    bins = []
    for rows in said.argsort().chunk(BINS):
        told = mean_over(true[rows], groups[rows])
        bins.append({"said": float(said[rows].mean()), "happened": told.value, "interval": [told.low, told.high]})
    both = bool(happened.any()) and not bool(happened.all())
    return Platt.fit(readings, happened), {
        "moments": len(readings),
        "levels": len(groups.unique()),
        "share": float(true.mean()),
        "bins": bins,
        "brier": list(mean_over((said - true).square(), groups)),
        "constant_brier": list(mean_over((constant - true).square(), groups)),
        "gain": list(mean_over((constant - true).square() - (said - true).square(), groups)),
        "auroc": float(roc_auc_score(happened.numpy(), said.numpy())) if both else None,
    }
