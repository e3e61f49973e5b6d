"""Linear probes: ridge regression from a representation to the true state, and R^2.

What a probe is worth, beside controls, says `clutr.probes.linear_probes`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

READ_OUT_PENALTY = 1e-2
"""Ridge penalty of a read-out, relative to the sample variance of the latents."""


class LinearProbe(NamedTuple):
    """A linear map from states to one or more quantities."""

    weights: Tensor
    """`[H, Q]`."""
    constant: Tensor
    """`[Q]`."""
    penalty: float
    """The largest, where quantities have their own."""

    def __call__(self, states: Tensor) -> Tensor:
        """Quantities `[..., Q]` of states `[..., H]`."""
        return states @ self.weights + self.constant


def fit_probe(states: Tensor, targets: Tensor, penalty: float) -> LinearProbe:
    """Ridge regression on n states `[n, H]` and targets `[n, Q]`, with a free constant.

    Args:
        states: inputs.
        targets: what is predicted.
        penalty: relative to the mean variance of the states (divided by n).
    """
    states, targets = states.double(), targets.double()
    mean, level = states.mean(0), targets.mean(0)
    away = states - mean
    square = away.T @ away / len(away)
    ridge = penalty * square.diagonal().mean().clamp(min=1e-12) * torch.eye(len(square), dtype=torch.float64)
    weights = torch.linalg.solve(square + ridge, away.T @ (targets - level) / len(away))
    return LinearProbe(weights.float(), (level - mean @ weights).float(), penalty)


def fit_read_out(latents: Tensor, privileged_state: Tensor, visible: Tensor | None = None) -> LinearProbe:
    """The probe by which reports and pages read the true state `[n, Q]` from latents `[n, D]`.

    With `visible` `[n, Q]` bool each quantity is fitted where it can be seen, or everywhere if that is hardly anywhere.
    """
    if visible is None:
        n = len(latents)
        return fit_probe(latents, privileged_state, READ_OUT_PENALTY * n / (n - 1))
    parts = []
    for column in range(privileged_state.shape[1]):
        rows = visible[:, column]
        rows = rows if int(rows.sum()) >= 2 else torch.ones_like(rows)
        parts.append(fit_read_out(latents[rows], privileged_state[rows, column : column + 1]))
    return LinearProbe(
        torch.cat([part.weights for part in parts], 1),
        torch.cat([part.constant for part in parts]),
        max(part.penalty for part in parts),
    )


def r2(predicted: Tensor, targets: Tensor, visible: Tensor | None = None) -> Tensor:
    """R^2 of each quantity, `[n, Q]` to `[Q]`; 0 for one that never changes. Only rows where it is `visible` count."""
    if visible is not None:
        columns = range(targets.shape[1])
        return torch.cat([r2(predicted[visible[:, c], c : c + 1], targets[visible[:, c], c : c + 1]) for c in columns])
    spread = (targets - targets.mean(0)).square().sum(0)
    return torch.where(spread > 0, 1 - (predicted - targets).square().sum(0) / spread.clamp(min=1e-12), 0.0)
