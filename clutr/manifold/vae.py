"""What every task VAE has in common: a Gaussian latent inside, a box of points outside, and both as a manifold."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from clutr.envs.capabilities import Tokens
from clutr.envs.domain import LevelBatch
from clutr.envs.state import Stateful
from clutr.manifold.posterior import TaskNetwork, posterior_health

Squash = Literal["cdf", "tanh"]
FARTHEST = 5.0
"""Points of the box are drawn in to this many standard deviations, so that its faces have a finite image."""
CHUNK = 128
"""Points are decoded in chunks of this many, so that no rounding, and hence no level, depends on the batch."""


def into_box(x: Tensor, squash: Squash, bound: float) -> Tensor:
    """A Gaussian variable as a point of [-bound, bound].

    "tanh" is the published bound * tanh(x). "cdf" is the probability integral transform: the standard normal prior
    becomes exactly the uniform distribution on the box. A uniform teacher then proposes draws of the prior, which
    differ from the corpus as far as the aggregate posterior differs from the prior: health measures that.
    """
    if squash == "tanh":
        return bound * torch.tanh(x)
    return bound * torch.erf(x / math.sqrt(2))


def out_of_box(z: Tensor, squash: Squash, bound: float) -> Tensor:
    """The inverse of `into_box`, at most `FARTHEST` from 0."""
    unit = z / bound
    x = torch.atanh(unit) if squash == "tanh" else torch.special.ndtri((unit + 1) / 2)
    return x.clamp(-FARTHEST, FARTHEST)


class VAEManifold(Stateful):
    """A task VAE as a box of latents.

    Args:
        network: encoder and decoder.
        domain: the domain.
        dim: dimensions of the latent.
        bound: the box is [-bound, bound]^dim.
        squash: how the Gaussian latent becomes a point of the box.
    """

    saved = ("network", "measured")

    def __init__(self, network: TaskNetwork, domain: Tokens, dim: int, bound: float, squash: Squash) -> None:
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

    @torch.no_grad()
    def deviations(self, latents: Tensor, levels: LevelBatch) -> Tensor:
        """How far points of the box lie from their levels' codes, in standard deviations of the posterior.

        `[B]`, the root mean square over dimensions, of the Gaussian variables: about 1 for the posterior's own samples.
        """
        mean, log_variance = self.network.posterior(self.domain.to_tokens(levels))
        x = out_of_box(latents, self.squash, self.bounds[1])
        return ((x - mean).square() / log_variance.exp()).mean(1).sqrt()

    def priors(self, n: int, rng: torch.Generator) -> dict[str, Tensor]:
        """Points of the box `[n, dim]` by the name of what they are drawn from: the Gaussian prior, squashed."""
        return {"prior_gaussian": into_box(torch.randn(n, self.dim, generator=rng), self.squash, self.bounds[1])}

    def own_health(self, levels: LevelBatch, rng: torch.Generator) -> dict[str, Any]:
        """What only a Gaussian posterior has (see `clutr.manifold.posterior`)."""
        return posterior_health(self.network, self.domain.to_tokens(levels), rng)

    def health(self) -> dict[str, Any]:
        """The numbers measured after pretraining."""
        return self.measured
