"""What every task VAE has in common: a Gaussian latent inside, a box of points outside, and its place as a manifold."""

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from envs.domain import Domain, LevelBatch

Squash = Literal["cdf", "tanh"]
FARTHEST = 5.0
"""Points of the box are drawn in to this many standard deviations, so that its faces have a finite image."""
CHUNK = 128
"""Points are decoded in chunks of this many, so that no rounding, and hence no level, depends on its company."""


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each dimension, in nats; same shape."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def sample_posterior(mean: Tensor, log_variance: Tensor, rng: torch.Generator) -> Tensor:
    """A sample mean + noise * standard deviation, differentiable in both."""
    return mean + torch.randn(mean.shape, generator=rng) * (log_variance / 2).exp()


def into_box(x: Tensor, squash: Squash, bound: float) -> Tensor:
    """A Gaussian variable as a point of [-bound, bound].

    "tanh" is the published bound * tanh(x). "cdf" is the probability integral transform: the standard normal prior
    becomes exactly the uniform distribution on the box. A teacher that knows nothing then proposes draws of the prior,
    which differ from the corpus as far as the aggregate posterior differs from the prior: health measures that.
    """
    if squash == "tanh":
        return bound * torch.tanh(x)
    return bound * torch.erf(x / math.sqrt(2))


def out_of_box(z: Tensor, squash: Squash, bound: float) -> Tensor:
    """The inverse of `into_box`, at most `FARTHEST` from 0."""
    unit = z / bound
    x = torch.atanh(unit) if squash == "tanh" else torch.special.ndtri((unit + 1) / 2)
    return x.clamp(-FARTHEST, FARTHEST)


class TaskNetwork(Protocol):
    """The part in which task VAEs differ; an `nn.Module`."""

    def posterior(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[B, dim]` of the Gaussian posterior of tasks `[B, L]`."""
        ...

    def decode_tokens(self, x: Tensor) -> Tensor:
        """The likeliest task `[B, max_tokens]` for Gaussian latents `[B, dim]`; bounded, deterministic, batched."""
        ...

    def loss(
        self, tokens: Tensor, iteration: int, total: int, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The training loss of iteration `iteration` of `total` on tasks `[B, L]`, and its parts."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Weights by name."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """The inverse of `state_dict`."""
        ...

    def parameters(self) -> Any:
        """The weights."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch between training and evaluation."""
        ...


class VAEManifold:
    """A task VAE as a box of latents.

    Args:
        network: encoder and decoder.
        domain: the world.
        dim: dimensions of the latent.
        bound: the box is [-bound, bound]^dim.
        squash: how the Gaussian latent becomes a point of the box.
    """

    def __init__(self, network: TaskNetwork, domain: Domain, dim: int, bound: float, squash: Squash) -> None:
        self.network = network
        self.domain = domain
        self.dim = dim
        self.bounds = (-bound, bound)
        self.squash: Squash = squash
        self.measured: dict[str, Any] = {}
        network.train(False)

    @torch.no_grad()
    def encode(self, levels: LevelBatch) -> Tensor:
        """The posterior's mean as points of the box `[B, dim]`."""
        mean, _ = self.network.posterior(self.domain.to_tokens(levels))
        return into_box(mean, self.squash, self.bounds[1])

    @torch.no_grad()
    def decode_tokens(self, latents: Tensor) -> Tensor:
        """The likeliest task `[B, max_tokens]` for any points of the box."""
        x = out_of_box(latents, self.squash, self.bounds[1])
        rows = -len(x) % CHUNK
        chunks = torch.cat([x, x.new_zeros(rows, self.dim)]).split(CHUNK)
        decoded = [self.network.decode_tokens(chunk) for chunk in chunks]
        return torch.cat(decoded)[: len(x)] if decoded else x.new_zeros(0, self.domain.max_tokens, dtype=torch.int64)

    def decode(self, latents: Tensor) -> LevelBatch:
        """Levels for any points of the box `[B, dim]`; deterministic, batched and bounded."""
        return self.domain.from_tokens(self.decode_tokens(latents))[0]

    def health(self) -> dict[str, Any]:
        """The numbers measured after pretraining."""
        return self.measured

    def state_dict(self) -> dict[str, Any]:
        """Weights and health."""
        return {"network": dict(self.network.state_dict()), "health": self.measured}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.measured = state["health"]
