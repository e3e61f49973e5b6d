"""Baselines that a world model must beat: predictions with next to no memory, from the same context and actions.

They take a context of latents `[C, N, D]`, and some the actions to come `[H, N, A]`, and give latents `[H, N, D]`.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

RIDGE = 1e-3
"""Relative weight of the penalty that keeps least squares solvable."""


def copy_last(context: Tensor, horizon: int) -> Tensor:
    """The last latent of the context, again and again. `[H, N, D]`."""
    return context[-1].expand(horizon, *context.shape[1:])


def mean_latent(mean: Tensor, n: int, horizon: int) -> Tensor:
    """The mean `[D]` of the data. `[H, N, D]`."""
    return mean.expand(horizon, n, len(mean))


def damped_velocity(context: Tensor, horizon: int, damping: float = 0.9) -> Tensor:
    """The last change goes on and fades: z + v (d + d^2 + ... + d^k). `[H, N, D]`."""
    velocity = context[-1] - context[-2]
    travelled = torch.cumsum(damping ** torch.arange(1.0, horizon + 1), 0)
    return context[-1] + travelled[:, None, None] * velocity


@dataclass(frozen=True)
class LinearDynamics:
    """Dynamic mode decomposition with control: the next latent is linear in the present one and the action."""

    weights: Tensor
    """`[D + A + 1, D]`; the last row is the constant."""

    @classmethod
    def fit(cls, latents: Tensor, actions: Tensor, following: Tensor) -> Self:
        """Least squares on n steps: latents `[n, D]`, actions `[n, A]` and what followed `[n, D]`."""
        inputs = torch.cat([latents, actions, torch.ones(len(latents), 1)], 1).double()
        square = inputs.T @ inputs
        penalty = RIDGE * square.diagonal().mean() / len(inputs) * torch.eye(len(square), dtype=torch.float64)
        return cls(torch.linalg.solve(square + penalty, inputs.T @ following.double()).float())

    def step(self, latents: Tensor, actions: Tensor) -> Tensor:
        """The next latents `[N, D]`."""
        return torch.cat([latents, actions, torch.ones(len(latents), 1)], 1) @ self.weights

    def roll(self, context: Tensor, actions: Tensor) -> Tensor:
        """Latents `[H, N, D]` after the context under `actions` `[H, N, A]`."""
        latent, found = context[-1], []
        for action in actions:
            latent = self.step(latent, action)
            found.append(latent)
        return torch.stack(found)
