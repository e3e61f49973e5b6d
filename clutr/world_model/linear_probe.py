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


def fit_read_out(latents: Tensor, privileged_state: Tensor) -> LinearProbe:
    """The probe by which reports and pages read the true state `[n, Q]` from latents `[n, D]`."""
    n = len(latents)
    return fit_probe(latents, privileged_state, READ_OUT_PENALTY * n / (n - 1))


def r2(predicted: Tensor, targets: Tensor) -> Tensor:
    """R^2 of each quantity, `[n, Q]` to `[Q]`; 0 for one that never changes."""
    spread = (targets - targets.mean(0)).square().sum(0)
    return torch.where(spread > 0, 1 - (predicted - targets).square().sum(0) / spread.clamp(min=1e-12), 0.0)
