"""Trust now: for how long a dream from this moment will hold, and whether the moment is unlike what was trained on.

The horizon is read by ridge regression from the memory's features. Its lower bound is conformal: of held-out moments so
many hold at least as long as is said (Vovk et al. 2005, split over levels). The alarm compares how surprised the model
was by the last few frames with how surprised it is on familiar roads.
"""

from typing import Any, NamedTuple

import scipy  # its parts are imported at their first use, which takes a second
import torch
from torch import Tensor

from clutr.probes.intervals import Interval, interval_of, mean_over, resamples
from clutr.probes.linear_probes import PENALTIES, cross_validated, folds_of
from clutr.world_model.dream import Dreamer
from clutr.world_model.linear_probe import LinearProbe, fit_probe

CONFIDENCE = 0.9
"""Share of moments whose dreams hold at least as long as is said."""
FALSE_ALARMS = 0.05
"""Share of familiar moments that raise the alarm."""
LAST = 5
"""Frames whose surprise is averaged."""


@torch.no_grad()
def surprise(dreamer: Dreamer, latents: Tensor, actions: Tensor, last: int = LAST) -> Tensor:
    """How unlikely the last frames were, `[N]`: nats a dimension, of active ones, mean over the last frames.

    Args:
        dreamer: expects each frame from those before.
        latents: `[C + 1, N, D]`, in the backbone's units, from an episode's beginning.
        actions: `[C, N, A]`.
        last: frames that are averaged.
    """
    _, expected = dreamer.observe(latents, actions)
    logs = expected.latent.log_density(dreamer.scale.normalise(latents[1:]))[..., dreamer.scale.active]
    return -logs.mean(-1)[-last:].mean(0)


class Trust(NamedTuple):
    """What is said of N moments, each `[N]`."""

    horizon: Tensor
    """Steps that a dream is expected to hold."""
    at_least: Tensor
    """Steps that it holds with the confidence `CONFIDENCE`."""
    alarm: Tensor
    """Bool: unlike what was trained on."""


class TrustModel(NamedTuple):
    """Says it."""

    probe: LinearProbe
    """Reads the logarithm of 1 + the horizon."""
    slack: float
    """What is taken off for the lower bound."""
    limit: float
    """Surprise above which the alarm is raised."""

    def __call__(self, features: Tensor, surprised: Tensor) -> Trust:
        """Of features `[N, W]` and surprise `[N]`."""
        read = self.probe(features)[:, 0]
        steps = (each.exp() - 1 for each in (read, read - self.slack))
        horizon, at_least = (each.clamp(min=0) for each in steps)
        return Trust(horizon, at_least, surprised > self.limit)


def fit_trust(features: Tensor, horizons: Tensor, surprised: Tensor, read: Tensor, penalty: float) -> TrustModel:
    """Fit on familiar moments.

    Args:
        features: `[n, W]` of the memory.
        horizons: `[n]`: steps that dreams held.
        surprised: `[n]`.
        read: `[n]`: log(1 + horizon) as read by probes of other levels; its errors are the slack.
        penalty: of the ridge.
    """
    true = (1 + horizons).log()
    slack = torch.quantile((read - true).double(), CONFIDENCE)
    limit = torch.quantile(surprised.double(), 1 - FALSE_ALARMS)
    return TrustModel(fit_probe(features, true[:, None], penalty), float(slack), float(limit))


def calibrated_trust(
    features: Tensor,
    horizons: Tensor,
    surprised: Tensor,
    groups: Tensor,
    unfamiliar: dict[str, Tensor],
    rng: torch.Generator,
) -> tuple[TrustModel, dict[str, Any]]:
    """Fit, and measure on levels that were held out.

    Args:
        features: `[n, W]`.
        horizons: `[n]`.
        surprised: `[n]`.
        groups: `[n]` int64: levels.
        unfamiliar: surprise by the name of what was done to make moments unfamiliar.
        rng: of the folds.

    Returns:
        The model, fitted on all; and `rank_correlation` of said and true horizons, `error` of the said horizon in steps
        and that of saying the mean (`constant_error`), `coverage` of the lower bound (nominal `CONFIDENCE`),
        `false_alarms` (nominal `FALSE_ALARMS`), each with its interval over levels; `alarms` by what was done.

    Raises:
        ValueError: with fewer than three levels.
    """
    true = (1 + horizons).log()
    folds = folds_of(groups, rng)
    read, penalties = cross_validated(features, true[:, None], folds)
    read = read[:, 0]
    covered, alarmed, constant = torch.zeros(len(read)), torch.zeros(len(read)), torch.zeros(len(read))
    for fold in folds.unique():
        mine = folds == fold
        slack = torch.quantile((read - true)[~mine].double(), CONFIDENCE)
        limit = torch.quantile(surprised[~mine].double(), 1 - FALSE_ALARMS)
        covered[mine] = (true[mine] >= read[mine] - slack).float()
        alarmed[mine] = (surprised[mine] > limit).float()
        constant[mine] = true[~mine].mean()
    said, flat = ((each.exp() - 1).clamp(min=0) for each in (read, constant))
    model = fit_trust(features, horizons, surprised, read, penalties[0] if penalties else PENALTIES[-1])
    found = {
        "moments": len(read),
        "levels": len(groups.unique()),
        "rank_correlation": list(rank_correlation(said, horizons, groups)),
        "error": list(mean_over((said - horizons).abs(), groups)),
        "constant_error": list(mean_over((flat - horizons).abs(), groups)),
        "coverage": list(mean_over(covered, groups)),
        "false_alarms": list(mean_over(alarmed, groups)),
        "alarms": {name: float((each > model.limit).float().mean()) for name, each in unfamiliar.items()},
    }
    return model, found


def rank_correlation(a: Tensor, b: Tensor, groups: Tensor, draws: int = 200) -> Interval:
    """Spearman's, of `[n]` with `[n]`, with its interval over groups; 0 if one of them never changes."""
    names, places = groups.unique(return_inverse=True)
    rows = [(places == group).nonzero().flatten() for group in range(len(names))]

    def value(chosen: Tensor) -> float:
        x, y = a[chosen], b[chosen]
        return float(scipy.stats.spearmanr(x, y).statistic) if x.std() > 0 and y.std() > 0 else 0.0

    found = []
    for weights in resamples(len(names), draws):
        parts = [rows[group].repeat(int(times)) for group, times in enumerate(weights.tolist()) if times]
        found.append(value(torch.cat(parts)))
    return interval_of(value(torch.arange(len(a))), torch.tensor(found))
