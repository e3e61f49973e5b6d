"""Whether an explanation can be believed: does what it calls relevant matter, and does it depend on what was learnt?

Deletion and insertion: Petsiuk et al. 2018; the area between the orders is one number (ABPC). Infidelity and
sensitivity: Yeh et al. 2019. Randomisation: Adebayo et al. 2018. Agreement with masks uses the definitions of Quantus
and of gaze research.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

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
    model: Model, inputs: Tensor, relevance: Tensor, rng: torch.Generator, noise: float = 0.1, draws: int = 50
) -> float:
    """Mean of (I . relevance - (f(x) - f(x - I)))^2 over random disturbances I, whose deviation is `noise`."""
    before, total = model(inputs), 0.0
    for _ in range(draws):
        disturbance = noise * torch.randn(inputs.shape, generator=rng, dtype=inputs.dtype)
        told = (disturbance * relevance).sum(1)
        total += float((told - (before - model(inputs - disturbance))).square().mean())
    return total / draws


def masked_infidelity(
    model: Model,
    inputs: Tensor,
    relevance: Tensor,
    baseline: Tensor,
    rng: torch.Generator,
    share: float = 0.2,
    draws: int = 20,
) -> float:
    """Infidelity of relevance that is told against a baseline: what removing random features does, and is said to do.

    Args:
        model: what is explained.
        inputs: `[N, F]`.
        relevance: `[N, F]`: of each feature for the difference from the baseline.
        baseline: `[N, F]` or what broadcasts to it.
        rng: chooses the features.
        share: of them that go.
        draws: how often.

    Returns:
        The mean squared difference over the mean square of what it really does: 0 for a relevance that foretells all,
        1 for one that says nothing.
    """
    before, values, wrong, size = model(inputs), baseline.expand_as(inputs), 0.0, 0.0
    for _ in range(draws):
        gone = torch.rand(inputs.shape, generator=rng) < share
        made = before - model(torch.where(gone, values, inputs))
        wrong += float((relevance.masked_fill(~gone, 0).sum(1) - made).square().mean())
        size += float(made.square().mean())
    return wrong / max(size, 1e-30)


def max_sensitivity(
    explain: Callable[[Tensor], Tensor], inputs: Tensor, rng: torch.Generator, radius: float = 0.05, draws: int = 10
) -> Tensor:
    """Largest relative change of the explanation `[N]` for disturbances of the inputs of at most `radius`."""
    relevance = explain(inputs)
    size = relevance.flatten(1).norm(dim=1).clamp(min=1e-12)
    worst = torch.zeros(len(inputs), dtype=inputs.dtype)
    for _ in range(draws):
        moved = inputs + radius * (2 * torch.rand(inputs.shape, generator=rng, dtype=inputs.dtype) - 1)
        worst = torch.maximum(worst, (explain(moved) - relevance).flatten(1).norm(dim=1) / size)
    return worst


class Randomisation(NamedTuple):
    """How like an explanation of the trained model is to one of a model with random weights."""

    similarity: float
    """Mean rank correlation of absolute relevance over inputs."""
    passed: bool
    """Whether it is low: an explanation that does not notice the weights explains nothing of them."""


def randomisation(trained: Tensor, random: Tensor, limit: float = 0.5) -> Randomisation:
    """Compare relevances `[N, F]` of the trained model and of the model with weights drawn anew."""
    pairs = zip(trained.abs().double(), random.abs().double(), strict=True)
    # an even map has no ranks
    known = [float(stats.spearmanr(a, b).statistic) for a, b in pairs if a.std() > 0 and b.std() > 0]
    similarity = sum(known) / len(known) if known else 0.0
    return Randomisation(similarity, abs(similarity) < limit)


class Agreement(NamedTuple):
    """How a map agrees with the simulator's mask of an object."""

    mass: float
    """Share of positive relevance inside the mask."""
    rank: float
    """Share of the mask's pixels among as many pixels of the most relevance."""
    pointing: bool
    """Whether the greatest relevance lies inside."""
    nss: float
    """Mean inside the mask of the map standardised over the picture: 0 is chance."""
    chance: float
    """Share of the picture that the mask covers: what `mass` and `rank` would be by chance."""


def agreement(relevance: Tensor, mask: Tensor) -> Agreement:
    """Of a map `[H, W]` with a mask `[H, W]` bool. Raises `ValueError` for an empty mask."""
    size = int(mask.sum())
    if not size:
        raise ValueError("the mask is empty: the object is not on this picture")
    flat, inside = relevance.flatten().double(), mask.flatten()
    positive = flat.clamp(min=0)
    top = flat.argsort(dim=0, descending=True, stable=True)[:size]
    spread = flat.std(correction=0)
    standard = (flat - flat.mean()) / spread if spread > 0 else torch.zeros_like(flat)
    return Agreement(
        mass=float(positive[inside].sum() / positive.sum()) if positive.sum() > 0 else 0.0,
        rank=float(inside[top].double().mean()),
        pointing=bool(inside[flat.argmax()]),
        nss=float(standard[inside].mean()),
        chance=size / len(flat),
    )
