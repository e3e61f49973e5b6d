"""Linear probes with their controls: a control task, and a causal test of whether the model uses what is read.

A probe is ridge regression, its penalty chosen on validation groups. A good score alone says little: a control task
(random values that depend on the group, Hewitt & Liang, arXiv 1909.03368) shows how much the probe could have
memorised, and the causal test pushes the representation along the probe's direction and looks whether what the model
says moves by as much.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clutr.world_model.linear_probe import LinearProbe, fit_probe, r2

PENALTIES = (1e-4, 1e-2, 1.0, 1e2)
"""Ridge penalties that are tried, relative to the mean variance of the representation."""


class Split(NamedTuple):
    """Rows of a data set by purpose; no group is in two of them."""

    train: Tensor
    valid: Tensor
    test: Tensor


def split_by_group(groups: Tensor, rng: torch.Generator, shares: Sequence[float] = (0.7, 0.15)) -> Split:
    """Split rows so that all rows of a group (an episode, a level) stay together.

    Args:
        groups: `[n]` int64.
        rng: shuffles the groups.
        shares: of training and validation; the rest is for the test.

    Raises:
        ValueError: if there are fewer than three groups.
    """
    names = groups.unique()
    if len(names) < 3:
        raise ValueError(f"a split by group needs at least 3 groups, got {len(names)}")
    order = names[torch.randperm(len(names), generator=rng)]
    first = max(1, min(len(names) - 2, round(shares[0] * len(names))))
    second = max(first + 1, min(len(names) - 1, first + round(shares[1] * len(names))))
    parts = order[:first], order[first:second], order[second:]
    return Split(*(torch.isin(groups, part).nonzero().flatten() for part in parts))


class LinearProbeResult(NamedTuple):
    """What a probe found, and what it is worth."""

    probe: LinearProbe
    score: Tensor
    """`[Q]`: R^2 on test groups."""
    control: Tensor
    """`[Q]`: R^2 on the same groups for a control task, learnt on all rows but those that are tested."""
    selectivity: Tensor
    """`[Q]`: score - control."""


def probe(states: Tensor, targets: Tensor, groups: Tensor, cells: Tensor, rng: torch.Generator) -> LinearProbeResult:
    """Fit a probe, choose its penalty on validation groups, and test it beside a control task.

    The control gives each cell (a stretch of track, a place in a maze) a random value drawn from the target's own:
    a probe with a good score on it has memorised cells.

    Args:
        states: `[n, H]`.
        targets: `[n, Q]`.
        groups: `[n]` int64: episodes or levels.
        cells: `[n]` int64: where each row is, for the control task.
        rng: of split and control.
    """
    split = split_by_group(groups, rng)

    def chosen(wanted: Tensor) -> LinearProbe:
        tried = [fit_probe(states[split.train], wanted[split.train], penalty) for penalty in PENALTIES]
        scores = torch.stack([r2(each(states[split.valid]), wanted[split.valid]) for each in tried])
        return _best_of(tried, scores)

    best = chosen(targets)
    score = r2(best(states[split.test]), targets[split.test])
    names, places = cells.unique(return_inverse=True)
    drawn = torch.randint(len(targets), (len(names),), generator=rng)
    labels = targets[drawn][places]
    control = r2(chosen(labels)(states[split.test]), labels[split.test])
    return LinearProbeResult(best, score, control, score - control.clamp(min=0))


def _best_of(tried: Sequence[LinearProbe], scores: Tensor) -> LinearProbe:
    """For each quantity the probe with the best of the scores `[P, Q]`."""
    best = scores.argmax(0).tolist()
    return LinearProbe(
        weights=torch.stack([tried[row].weights[:, column] for column, row in enumerate(best)], 1),
        constant=torch.stack([tried[row].constant[column] for column, row in enumerate(best)]),
        penalty=max(tried[row].penalty for row in best),
    )


class CausalTest(NamedTuple):
    """Whether what a probe reads is what the model uses."""

    slope: float
    """Change of what the model says over the change that was made, in the target's units: about 1 if it is used."""
    correlation: float
    control_slope: float
    """The same for random directions of equal length: about 0."""


def causal_test(
    found: LinearProbe,
    quantity: int,
    states: Tensor,
    says: Callable[[Tensor], Tensor],
    amounts: Tensor,
    rng: torch.Generator,
    along: Tensor | None = None,
) -> CausalTest:
    """Push states along a probe's direction and see what the model then says.

    Args:
        found: the probe.
        quantity: which of its quantities.
        states: `[n, H]`.
        says: from states to the quantity as the model's own output tells it, `[n]`.
        amounts: `[K]`: changes to make, in the target's units.
        rng: draws the random directions.
        along: `[H]`: the direction to push in; None: the probe's weights.
    """
    direction = found.weights[:, quantity]
    way = direction if along is None else along
    unit = way / (way @ direction)  # along it the probe's reading changes by one
    noise = torch.randn(len(direction), generator=rng)
    noise = noise - (noise @ direction) * direction / direction.square().sum()
    noise = noise / noise.norm() * unit.norm()
    before = says(states)

    def response(way: Tensor) -> tuple[Tensor, Tensor]:
        made = amounts[:, None].expand(-1, len(states))
        seen = torch.stack([says(states + amount * way) - before for amount in amounts])
        return made.flatten().double(), seen.flatten().double()

    made, seen = response(unit)
    _, elsewhere = response(noise)
    power = made.square().sum()
    correlation = torch.corrcoef(torch.stack([made, seen]))[0, 1] if seen.std() > 0 else torch.tensor(0.0)
    return CausalTest(float(made @ seen / power), float(correlation), float(made @ elsewhere / power))
