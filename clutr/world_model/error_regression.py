"""Error regression: what the memory must have been thinking, inferred from what came.

PV-RNN (Ahmadi & Tani 2019) explains a window of observations by changing the latent causes at its beginning until the
predictions fit, with a meta-prior that weighs the fit against how far the causes may go from what was expected. Here
this is an inference option on any core: the causes are the memory's state before the window and a small correction of
each latent that it is fed with, found by gradient descent through the core; the weights stay as they are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.world_model.dream import LatentState
from clutr.world_model.memory import Memory, Scale


@dataclass(frozen=True)
class RegressionOptions:
    """How a window is explained."""

    meta_prior: float = 0.1
    """Weight of how far the causes go from what was expected, against the misfit: large trusts the model, small the
    window."""
    steps: int = 40
    """Steps of gradient descent."""
    learning_rate: float = 0.05
    """Adam's step size."""

    def __post_init__(self) -> None:
        if self.meta_prior < 0:
            raise ValueError(f"meta_prior must not be negative, got {self.meta_prior}")
        if self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")


@dataclass(frozen=True)
class Explanation:
    """A window and the causes that explain it."""

    moment: LatentState
    """Of the window's last frame: dreams go on from here."""
    start: Tensor
    """`[N, S]`: the inferred state before the window."""
    corrections: Tensor
    """`[C, N, D]`: what was added to each normalised latent."""
    misfit: list[float]
    """Mean negative log-density of what came, in nats a dimension, after each step; the first before any."""


def explain(
    memory: Memory,
    scale: Scale,
    latents: Tensor,
    actions: Tensor,
    options: RegressionOptions,
    state: Tensor | None = None,
) -> Explanation:
    """Infer the causes of a window.

    Args:
        memory: its weights are not changed.
        scale: of its latents.
        latents: `[C + 1, N, D]` that came, in the backbone's units.
        actions: `[C, N, A]` between them.
        options: how.
        state: `[N, S]` that is expected before the window; None: nothing seen yet.
    """
    normal = scale.normalise(latents)
    expected = memory.initial_state(latents.shape[1]) if state is None else state
    start = expected.clone().requires_grad_()
    corrections = torch.zeros_like(normal[:-1]).requires_grad_()
    optimiser = torch.optim.Adam([start, corrections], options.learning_rate)
    misfit: list[float] = []
    for turn in range(options.steps + 1):
        _, found = memory.scan(start, normal[:-1] + corrections, actions)
        wrong = -found.latent.log_density(normal[1:]).mean()
        misfit.append(float(wrong.detach()))
        if turn == options.steps:
            break
        away = (start - expected).square().mean() + corrections.square().mean()
        optimiser.zero_grad()
        (wrong + options.meta_prior * away).backward(inputs=[start, corrections])
        optimiser.step()
    with torch.no_grad():
        end, _ = memory.scan(start, normal[:-1] + corrections, actions)
    return Explanation(LatentState(end, normal[-1]), start.detach(), corrections.detach(), misfit)
