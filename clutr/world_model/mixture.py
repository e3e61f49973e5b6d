"""Mixtures of Gaussians, one for each dimension: what the world model thinks the next latent will be.

Source: Ha & Schmidhuber 2018, "World Models", after Bishop 1994. A density has no upper limit, so its negative
logarithm may well be negative. A floor keeps standard deviations from collapsing onto single frames.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMA_FLOOR = 0.05
"""Least standard deviation, in standard deviations of the latent."""


class GaussianMixture(NamedTuple):
    """K Gaussians for each of D dimensions."""

    log_weights: Tensor
    """`[..., D, K]`, normalised over K."""
    means: Tensor
    """`[..., D, K]`."""
    sigmas: Tensor
    """`[..., D, K]`, at least `SIGMA_FLOOR`."""

    @classmethod
    def from_numbers(cls, numbers: Tensor, dimensions: int) -> "GaussianMixture":
        """From unconstrained numbers `[..., D * 3 K]`: weights, means and standard deviations of each dimension."""
        weights, means, sigmas = numbers.unflatten(-1, (dimensions, 3, -1)).unbind(-2)
        return cls(weights.log_softmax(-1), means, F.softplus(sigmas) + SIGMA_FLOOR)

    def log_density(self, x: Tensor) -> Tensor:
        """Natural logarithm of the density of `x` `[..., D]` in each dimension, `[..., D]`."""
        away = (x[..., None] - self.means) / self.sigmas
        logs = self.log_weights - 0.5 * away.square() - self.sigmas.log() - 0.5 * math.log(2 * math.pi)
        density: Tensor = torch.logsumexp(logs, -1)
        return density

    def mean(self) -> Tensor:
        """`[..., D]`."""
        return (self.log_weights.exp() * self.means).sum(-1)

    def variance(self) -> Tensor:
        """`[..., D]`: within and between the Gaussians."""
        weights = self.log_weights.exp()
        second = (weights * (self.sigmas.square() + self.means.square())).sum(-1)
        return second - self.mean().square()

    def distribution(self, x: Tensor) -> Tensor:
        """The probability of no more than `x` `[..., D]` in each dimension: the probability integral transform."""
        inside: Tensor = torch.special.ndtr((x[..., None] - self.means) / self.sigmas)
        total: Tensor = (self.log_weights.exp() * inside).sum(-1)
        return total

    def sample(self, rng: torch.Generator, temperature: float = 1.0) -> Tensor:
        """A draw `[..., D]`.

        Args:
            rng: draws it.
            temperature: tau. Logits of the weights are divided by it and variances multiplied (Ha & Schmidhuber); 0
                takes the mean of the likeliest Gaussian.
        """
        if temperature == 0:
            chosen = self.log_weights.argmax(-1, keepdim=True)
            likeliest: Tensor = self.means.gather(-1, chosen).squeeze(-1)
            return likeliest
        shape = self.log_weights.shape
        chances = (self.log_weights / temperature).softmax(-1).reshape(-1, shape[-1])
        chosen = torch.multinomial(chances, 1, generator=rng).reshape(*shape[:-1], 1)
        noise = torch.randn(shape[:-1], generator=rng) * temperature**0.5
        drawn: Tensor = self.means.gather(-1, chosen).squeeze(-1) + self.sigmas.gather(-1, chosen).squeeze(-1) * noise
        return drawn
