"""Whether a map of relevance tells what matters: deletion and infidelity.

Deletion: Petsiuk et al. 2018; the area between the orders is one number (ABPC). Infidelity: Yeh et al. 2019.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from clutr.probes.intervals import Interval, interval_of, resamples

Model = Callable[[Tensor], Tensor]
"""A target `[N]` from inputs `[N, F]`."""


def deletion(model: Model, inputs: Tensor, order: Tensor, baseline: Tensor, steps: int = 20) -> Tensor:
    """Targets `[steps + 1, N]` while features are replaced by a baseline in some order.

    Args:
        model: what is explained.
        inputs: `[N, F]`.
        order: `[N, F]` int64: numbers of features, the first to go first.
        baseline: `[N, F]` or what broadcasts to it.
        steps: stages from nothing to everything replaced.
    """
    features = inputs.shape[1]
    place = torch.empty_like(order).scatter_(1, order, torch.arange(features).expand_as(order))
    values = baseline.expand_as(inputs)
    curve = []
    for stage in range(steps + 1):
        gone = place < round(stage / steps * features)
        curve.append(model(torch.where(gone, values, inputs)))
    return torch.stack(curve)


class Perturbation(NamedTuple):
    """Mean targets over stages of deletion, for three orders; each `[steps + 1]`."""

    most_first: Tensor
    least_first: Tensor
    random: Tensor
    abpc: float
    """Area between least-relevant-first and most-relevant-first, per stage: above 0 if relevance tells what matters."""
    random_gap: float
    """Area between random order and most-relevant-first: above 0 if it tells more than chance."""
    gap_error: float
    """Standard error of that area over inputs; NaN for a single one."""


def perturb(model: Model, inputs: Tensor, relevance: Tensor, baseline: Tensor, rng: torch.Generator) -> Perturbation:
    """Delete by falling relevance `[N, F]`, by rising relevance and at random."""
    falling = relevance.argsort(dim=1, descending=True, stable=True)
    chance = torch.rand(relevance.shape, generator=rng).argsort(1)
    curves = [deletion(model, inputs, order, baseline) for order in (falling, falling.flip(1), chance)]
    gaps = (curves[2] - curves[0]).mean(0)
    error = float(gaps.std() / len(gaps) ** 0.5) if len(gaps) > 1 else float("nan")
    most, least, random = (curve.mean(1) for curve in curves)
    return Perturbation(most, least, random, float((least - most).mean()), float(gaps.mean()), error)


def infidelity(
    model: Model,
    inputs: Tensor,
    relevance: Tensor,
    baseline: Tensor,
    rng: torch.Generator,
    share: float = 0.2,
    draws: int = 20,
    signed: bool = True,
) -> Interval:
    """What removing random features does, and should do by the map: the share of it that the map misses.

    Args:
        model: what is explained.
        inputs: `[N, F]`.
        relevance: `[N, F]`: of each feature for the difference from the baseline.
        baseline: `[N, F]` or what broadcasts to it.
        rng: draws the features.
        share: of the features that are removed at a time.
        draws: how often.
        signed: whether relevance is a part of the prediction. If not, it stands for the size of changes, in units of
            its own: it is put to its best scale, and compared with an even map at the best scale of that.

    Returns:
        0 for a perfect map, 1 for one that says no more than an empty (or an even) one, above 1 for a worse one; with
        its interval over inputs.
    """
    before, values = model(inputs), baseline.expand_as(inputs)
    made, told, even = [], [], []
    for _ in range(draws):
        gone = torch.rand(inputs.shape, generator=rng) < share
        made.append(before - model(torch.where(gone, values, inputs)))
        told.append(relevance.masked_fill(~gone, 0).sum(1))
        even.append(gone.sum(1).to(relevance.dtype))
    effect, said = torch.stack(made).double(), torch.stack(told).double()  # [draws, N]
    if signed:
        wrong, size = (said - effect).square().mean(0), effect.square().mean(0)
    else:
        effect = effect.abs()
        wrong, size = (_left(effect, each) for each in (said, torch.stack(even).double()))
    weights = resamples(len(wrong))
    ratios = (weights @ wrong) / (weights @ size).clamp(min=1e-30)
    return interval_of(float(wrong.mean() / size.mean().clamp(min=1e-30)), ratios)


def _left(effect: Tensor, told: Tensor) -> Tensor:
    """Mean squares `[N]` of effects `[draws, N]` that are left by what was told, at its best scale."""
    scale = (effect * told).sum() / told.square().sum().clamp(min=1e-30)
    return (effect - scale.clamp(min=0) * told).square().mean(0)
