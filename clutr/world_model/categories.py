"""Categorical latents: groups of which one class each holds, and what the world model thinks the next classes will be.

Source: Hafner et al. 2023, "DreamerV3" (arXiv 2301.04104): a stochastic state of categorical variables, with one
percent of every distribution spread evenly, so that no class is impossible. A dream draws a whole class of each group,
where a mixture draws every dimension by itself. As in STORM (arXiv 2310.09615), classes are those of the backbone.
"""

from typing import NamedTuple

import torch
from torch import Tensor

EVEN = 0.01
"""Share of every distribution that is spread evenly over its classes."""


def even_log_probs(logits: Tensor) -> Tensor:
    """Logarithms `[..., C]` of probabilities, a little of which is spread evenly."""
    return (logits.softmax(-1) * (1 - EVEN) + EVEN / logits.shape[-1]).log()


class Categories(NamedTuple):
    """G groups of C classes, of latents whose D = G * C numbers are one-hot and then normalised.

    It offers what `clutr.world_model.mixture.GaussianMixture` does.
    """

    log_probs: Tensor
    """`[..., G, C]`, normalised over C."""
    low: Tensor
    """`[..., G, C]`: what a normalised latent is where its class does not hold."""
    high: Tensor
    """`[..., G, C]`: what it is where it does."""

    @classmethod
    def from_numbers(cls, numbers: Tensor, classes: int, mean: Tensor, std: Tensor) -> "Categories":
        """From logits `[..., D]`, of latents normalised by means and standard deviations `[D]`."""
        log_probs = even_log_probs(numbers.unflatten(-1, (-1, classes)))
        low, high = ((each - mean) / std for each in (0.0, 1.0))
        shape = log_probs.shape
        return cls(log_probs, *(each.unflatten(0, (-1, classes)).expand(shape) for each in (low, high)))

    def _holds(self, x: Tensor) -> Tensor:
        """`[..., G, C]`: by how much each class holds, of normalised latents `[..., D]`."""
        groups: Tensor = x.unflatten(-1, self.low.shape[-2:])
        return (groups - self.low) / (self.high - self.low)

    def log_density(self, x: Tensor) -> Tensor:
        """Logarithm of the probability of `x` `[..., D]`; each group's is the sum over its classes, `[..., D]`."""
        logs: Tensor = (self._holds(x) * self.log_probs).flatten(-2)
        return logs

    def mean(self) -> Tensor:
        """`[..., D]`."""
        return (self.low + self.log_probs.exp() * (self.high - self.low)).flatten(-2)

    def variance(self) -> Tensor:
        """`[..., D]`."""
        chance = self.log_probs.exp()
        return (chance * (1 - chance) * (self.high - self.low).square()).flatten(-2)

    def distribution(self, x: Tensor) -> Tensor:
        """The probability of less than `x` `[..., D]` and half that of `x`, in each dimension."""
        chance = self.log_probs.exp()
        holds = self._holds(x) > 0.5
        return torch.where(holds, 1 - 0.5 * chance, 0.5 * (1 - chance)).flatten(-2)

    def sample(self, rng: torch.Generator, temperature: float = 1.0) -> Tensor:
        """A draw `[..., D]`: one class of each group.

        Args:
            rng: draws it.
            temperature: logarithms are divided by it; 0 takes the likeliest classes.
        """
        if temperature == 0:
            chosen = self.log_probs.argmax(-1)
        else:
            chances = (self.log_probs / temperature).softmax(-1).reshape(-1, self.log_probs.shape[-1])
            chosen = torch.multinomial(chances, 1, generator=rng).view(self.log_probs.shape[:-1])
        holds = torch.nn.functional.one_hot(chosen, self.log_probs.shape[-1])
        return torch.where(holds > 0, self.high, self.low).flatten(-2)
