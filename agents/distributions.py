"""Distributions over actions: what a network makes of an observation."""

from typing import Protocol

import torch
from torch import Tensor

EDGE = 1e-6
"""Samples are kept this far from 0 and 1, where a Beta density is 0 and its logarithm infinite."""


class Distribution(Protocol):
    """A batch of distributions `[...]` over actions."""

    def sample(self, rng: torch.Generator) -> Tensor:
        """One action each, in the policy's own terms."""
        ...

    def mode(self) -> Tensor:
        """The action to take where nothing may be left to chance, in the policy's own terms."""
        ...

    def log_prob(self, actions: Tensor) -> Tensor:
        """Of actions in the policy's own terms, `[...]`."""
        ...

    def entropy(self) -> Tensor:
        """`[...]`."""
        ...

    def to_engine(self, actions: Tensor) -> Tensor:
        """Actions in the policy's own terms as an engine takes them."""
        ...


def sample_actions(log_probs: Tensor, noise: Tensor) -> Tensor:
    """Actions `[...]` by inverse transform: `log_probs` `[..., A]`, `noise` `[...]` uniform on [0, 1)."""
    cumulative = log_probs.exp().cumsum(-1)
    # rounding can leave the last sum no higher than the noise
    return (cumulative <= noise.unsqueeze(-1)).sum(-1).clamp_(max=log_probs.shape[-1] - 1)


@torch.no_grad()
def sample_beta(alpha: Tensor, beta: Tensor, rng: torch.Generator) -> Tensor:
    """Samples in [EDGE, 1 - EDGE] from the generator given, which torch's own `Beta` cannot take.

    X / (X + Y) is Beta(a, b) for X ~ Gamma(a) and Y ~ Gamma(b).
    """
    first = torch._standard_gamma(alpha, generator=rng)
    second = torch._standard_gamma(beta, generator=rng)
    return (first / (first + second)).clamp(EDGE, 1 - EDGE)


class Categorical:
    """One of A actions, numbered from 0.

    Args:
        log_probs: `[..., A]`, normalised.
    """

    def __init__(self, log_probs: Tensor) -> None:
        self.log_probs = log_probs

    def sample(self, rng: torch.Generator) -> Tensor:
        """See `Distribution`."""
        shape, device = self.log_probs.shape[:-1], self.log_probs.device
        return sample_actions(self.log_probs, torch.rand(shape, generator=rng, device=device))

    def mode(self) -> Tensor:
        """The most probable action."""
        return self.log_probs.argmax(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """See `Distribution`."""
        return self.log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """See `Distribution`."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)

    def to_engine(self, actions: Tensor) -> Tensor:
        """As they are."""
        return actions


class ScaledBeta:
    """Independent Beta distributions over (0, 1)^A, stretched over a box when the engine gets their samples.

    The policy's own terms are the samples in (0, 1): log-probabilities are theirs, so that nothing is lost by mapping
    to the box and back (arXiv 2110.02439, CarRacing).

    Args:
        alpha: `[..., A]`.
        beta: `[..., A]`.
        low: `[A]`, least action.
        high: `[A]`, greatest action.
    """

    def __init__(self, alpha: Tensor, beta: Tensor, low: Tensor, high: Tensor) -> None:
        self.alpha, self.beta = alpha, beta
        self.low, self.high = low, high

    def sample(self, rng: torch.Generator) -> Tensor:
        """See `Distribution`; `[..., A]` in (0, 1)."""
        return sample_beta(self.alpha, self.beta, rng)

    def mode(self) -> Tensor:
        """The mean, which exists where the density has no single peak and does not jump with the parameters."""
        return self.alpha / (self.alpha + self.beta)

    def log_prob(self, actions: Tensor) -> Tensor:
        """See `Distribution`; of the joint action `[..., A]`."""
        density = (self.alpha - 1) * actions.log() + (self.beta - 1) * torch.log1p(-actions)
        return (density - self._log_norm()).sum(-1)

    def entropy(self) -> Tensor:
        """See `Distribution`; differential, of the joint action on the unit box."""
        total = self.alpha + self.beta
        entropy = (
            self._log_norm()
            - (self.alpha - 1) * torch.digamma(self.alpha)
            - (self.beta - 1) * torch.digamma(self.beta)
            + (total - 2) * torch.digamma(total)
        )
        return entropy.sum(-1)

    def to_engine(self, actions: Tensor) -> Tensor:
        """Stretched from the unit box to the engine's."""
        return torch.lerp(self.low, self.high, actions)

    def _log_norm(self) -> Tensor:
        """Logarithm of the Beta function."""
        return torch.lgamma(self.alpha) + torch.lgamma(self.beta) - torch.lgamma(self.alpha + self.beta)
