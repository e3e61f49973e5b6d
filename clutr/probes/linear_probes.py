"""Linear probes with their controls, and intervals over levels.

A probe is ridge regression. Scores are cross-validated: every level is read by a probe that was fitted, and whose
penalty was chosen, on other levels. A good score alone says little: a control task (random values that depend on the
place, Hewitt & Liang, arXiv 1909.03368) shows how much the probe could have memorised. Whether the model uses what is
read asks `clutr.probes.causal`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clutr.probes.intervals import Interval, interval_of, r2_draws
from clutr.world_model.linear_probe import LinearProbe, fit_probe, r2

PENALTIES = (1e-4, 1e-2, 1.0, 1e2)
"""Ridge penalties that are tried, relative to the mean variance of the representation."""
FOLDS = 5
"""Parts into which levels are cut; each is read by a probe of the others."""


class LinearProbeResult(NamedTuple):
    """What a probe found, and what it is worth."""

    probe: LinearProbe
    """Fitted on all rows."""
    read: Tensor
    """`[n, Q]`: each row as a probe reads it that was fitted on other groups; NaN where it does not count."""
    score: list[Interval]
    """R^2 of each quantity over groups."""
    control: list[Interval]
    """R^2 for a control task."""
    selectivity: list[Interval]
    """Score beyond the control's, or beyond 0."""


def probe(
    states: Tensor,
    targets: Tensor,
    groups: Tensor,
    cells: Tensor,
    rng: torch.Generator,
    counted: Tensor | None = None,
) -> LinearProbeResult:
    """Fit a probe and test it on other groups, beside a control task.

    The control gives each cell (a stretch of track, a place in a maze) a random value drawn from the target's own:
    a probe with a good score on it has memorised cells.

    Args:
        states: `[n, H]`.
        targets: `[n, Q]`.
        groups: `[n]` int64: episodes or levels.
        cells: `[n]` int64: where each row is, for the control task.
        rng: of split and control.
        counted: `[n, Q]` bool: where a quantity is to be read at all; None: everywhere. A quantity that counts in fewer
            than three groups is not read: scores of 0, and NaN in `read`.

    Raises:
        ValueError: if there are fewer than three groups.
    """
    folds = folds_of(groups, rng)
    read, penalties = cross_validated(states, targets, folds, counted)
    names, places = cells.unique(return_inverse=True)
    labels = targets[torch.randint(len(targets), (len(names),), generator=rng)][places]
    memorised, _ = cross_validated(states, labels, folds, counted)
    score, draws = r2_draws(read, targets, groups)
    control, control_draws = r2_draws(memorised, labels, groups)
    apart = draws - control_draws.clamp(min=0)
    best = [_fit(states, targets, column, penalty, counted) for column, penalty in enumerate(penalties)]
    return LinearProbeResult(
        _side_by_side(best),
        read,
        _intervals(score, draws),
        _intervals(control, control_draws),
        _intervals(score - control.clamp(min=0), apart),
    )


def _intervals(values: Tensor, draws: Tensor) -> list[Interval]:
    return [interval_of(value, draws[:, column]) for column, value in enumerate(values.tolist())]


def beyond(mine: Tensor, other: Tensor, targets: Tensor, groups: Tensor) -> list[Interval]:
    """By how much R^2 of one reading `[n, Q]` exceeds that of another one, or 0, over the same groups."""
    (a, a_draws), (b, b_draws) = (r2_draws(read, targets, groups) for read in (mine, other))
    return _intervals(a - b.clamp(min=0), a_draws - b_draws.clamp(min=0))


def folds_of(groups: Tensor, rng: torch.Generator, folds: int = FOLDS) -> Tensor:
    """The part `[n]` int64 of each row; all rows of a group are in one. Raises `ValueError` for fewer than 3 groups."""
    names, places = groups.unique(return_inverse=True)
    if len(names) < 3:
        raise ValueError(f"a split by group needs at least 3 groups, got {len(names)}")
    part = torch.arange(len(names)) % min(folds, len(names))
    return part[torch.randperm(len(names), generator=rng)][places]


def cross_validated(
    states: Tensor, targets: Tensor, folds: Tensor, counted: Tensor | None = None
) -> tuple[Tensor, list[float]]:
    """Read every row by a probe of other folds.

    The penalty is chosen on one of those folds, with the others to fit on.

    Args:
        states: `[n, H]`.
        targets: `[n, Q]`.
        folds: `[n]` int64, of `folds_of`.
        counted: `[n, Q]` bool; None: everywhere.

    Returns:
        `[n, Q]`, NaN where a quantity does not count; and of each quantity the penalty that was chosen most.
    """
    count = int(folds.max()) + 1
    found = torch.full_like(targets, torch.nan)
    everywhere = torch.ones_like(targets, dtype=torch.bool) if counted is None else counted
    chosen: list[list[int]] = [[] for _ in range(targets.shape[1])]
    patterns: dict[bytes, list[int]] = {}
    for column in range(targets.shape[1]):  # quantities that count on the same rows are read together
        patterns.setdefault(everywhere[:, column].numpy().tobytes(), []).append(column)
    for columns in patterns.values():
        rows = everywhere[:, columns[0]]
        if len(folds[rows].unique()) < 3:
            continue
        for fold in range(count):
            tested, valid = rows & (folds == fold), rows & (folds == (fold + 1) % count)
            train = rows & ~tested & ~valid
            if not tested.any() or not valid.any() or not train.any():
                continue
            tried = [fit_probe(states[train], targets[train][:, columns], penalty) for penalty in PENALTIES]
            scores = torch.stack([r2(each(states[valid]), targets[valid][:, columns]) for each in tried])
            best = scores.argmax(0).tolist()
            for place, column in enumerate(columns):
                one = tried[best[place]]
                found[tested, column] = states[tested] @ one.weights[:, place] + one.constant[place]
                chosen[column].append(best[place])
    return found, [PENALTIES[max(set(each), key=each.count)] if each else PENALTIES[-1] for each in chosen]


def _fit(states: Tensor, targets: Tensor, column: int, penalty: float, counted: Tensor | None) -> LinearProbe:
    rows = torch.ones(len(states), dtype=torch.bool) if counted is None else counted[:, column]
    rows = rows if int(rows.sum()) > 1 else torch.ones_like(rows)
    return fit_probe(states[rows], targets[rows, column : column + 1], penalty)


def _side_by_side(parts: Sequence[LinearProbe]) -> LinearProbe:
    """Probes of one quantity each as one."""
    return LinearProbe(
        weights=torch.cat([part.weights for part in parts], 1),
        constant=torch.cat([part.constant for part in parts]),
        penalty=max(part.penalty for part in parts),
    )
