"""Error regression: the memory's state, inferred from observations by gradient descent.

PV-RNN (Ahmadi & Tani 2019) explains a window of observations by changing the latent causes at its start until the
predictions fit, with a meta-prior that weighs the fit against how far the causes move from what was expected. Here the
causes are the memory's state before the window and a small correction of each latent; the weights stay as they are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.agents.adam import Adam
from clutr.envs.validation import require_above, require_at_least
from clutr.world_model.dream import LatentState
from clutr.world_model.memory import Memory, Scale


@dataclass(frozen=True)
class RegressionOptions:
    """How the state is inferred."""

    meta_prior: float = 0.1
    """Weight of how far the causes move, against the misfit: large values trust the model, small ones the window."""
    steps: int = 40
    """Steps of gradient descent."""
    learning_rate: float = 0.05
    """Adam's step size."""

    def __post_init__(self) -> None:
        require_at_least(self, 0, "meta_prior", "steps")
        require_above(self, 0, "learning_rate")


@dataclass(frozen=True)
class Explanation:
    """The causes that explain a window."""

    latent_state: LatentState
    """At the window's last frame: dreams start here."""
    start: Tensor
    """`[N, S]`: the inferred state before the window."""
    corrections: Tensor
    """`[C, N, D]`: what was added to each normalised latent."""
    misfit: list[float]
    """Mean negative log-density of the observed latents, in nats a dimension, after each step; the first before any."""


def regress(
    memory: Memory,
    scale: Scale,
    latents: Tensor,
    actions: Tensor,
    options: RegressionOptions,
    state: Tensor | None = None,
) -> Explanation:
    """Infer the causes of a window of observations.

    Args:
        memory: its weights are not changed.
        scale: of its latents.
        latents: `[C + 1, N, D]` that were observed, in the backbone's units.
        actions: `[C, N, A]` between them.
        options: how.
        state: `[N, S]` that is expected before the window; None: that of an episode's start.
    """
    normal = scale.normalise(latents)
    expected = memory.initial_state(latents.shape[1]) if state is None else state
    start = expected.clone().requires_grad_()
    corrections = torch.zeros_like(normal[:-1]).requires_grad_()
    optimiser = Adam([start, corrections], options.learning_rate)
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
