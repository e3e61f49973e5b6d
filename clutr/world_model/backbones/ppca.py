"""Probabilistic PCA (Tipping & Bishop 1999), a VAE in closed form.

The noise sigma^2 is the mean of the discarded variances, the posterior of component i has mean sqrt(lambda_i -
sigma^2) / lambda_i * u_i (x - mu) and variance sigma^2 / lambda_i, and its KL to the prior, averaged over the data,
is ln(lambda_i / sigma^2) / 2. Each latent has one pixel map, u_i. In physics, discarding components of small variance
is a momentum shell of the renormalisation group ("PCA meets RG", arXiv 1610.09733).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_at_least
from clutr.world_model.backbones.base import (
    BACKBONES,
    Frames,
    Once,
    Tensors,
    batches,
    count_visible,
    require_latents,
    visible,
)
from clutr.world_model.backbones.covariance import principal_components

FLOOR = 1e-8
"""Least noise variance, for data that the components explain completely."""


@BACKBONES.register("ppca")
@dataclass(frozen=True)
class PPCAConfig:
    """Probabilistic PCA."""

    latents: int = 32
    """Principal components that are kept."""
    fitted_on: int = 10_000
    """Most frames that are used for fitting."""
    masked_rows: int = 0
    """Rows at the bottom that are masked, such as indicators."""

    def __post_init__(self) -> None:
        require_at_least(self, 2, "fitted_on")
        require_at_least(self, 1, "latents")
        require_at_least(self, 0, "masked_rows")

    def build(self, size: tuple[int, int], seed: int) -> "PPCABackbone":  # noqa: ARG002 (nothing is drawn yet)
        """An unfitted backbone. Raises `ValueError` if there are more latents than numbers in a picture."""
        return PPCABackbone(size, self.latents, self.fitted_on, self.masked_rows)

    def fitting(self, backbone: "PPCABackbone", frames: Frames, seed: int) -> Once:
        """One pass for the mean and a few for the components."""
        return Once(backbone, frames, seed)


class PPCABackbone(Tensors):
    """Probabilistic PCA.

    Args:
        size: rows and columns of a picture.
        latents: components k.
        fitted_on: most frames for fitting.
        masked_rows: masked rows at the bottom; the noise is that of the others.
    """

    FOUND: ClassVar = ("mean", "directions", "variances", "noise")

    def __init__(self, size: tuple[int, int], latents: int, fitted_on: int = 10_000, masked_rows: int = 0) -> None:
        dimensions = size[0] * size[1] * 3
        require_latents(latents, count_visible(size, masked_rows) - 1)
        self.size, self.latents, self.fitted_on, self.masked_rows = size, latents, fitted_on, masked_rows
        self.mean = torch.zeros(dimensions)
        self.directions = torch.eye(latents, dimensions)
        self.variances = torch.ones(latents)
        self.noise = torch.tensor(FLOOR)

    def fit(self, frames: Frames, seed: int, progress: Progress) -> dict[str, Any]:
        """Find mean, components and noise."""
        chosen = batches(frames, self.fitted_on, seed)

        def chunks() -> Any:
            return (visible(frames[index], self.masked_rows).flatten(1) for index in chosen)

        found = principal_components(chunks, self.latents, named_generator(seed, "modes"))
        self.mean, self.directions, self.variances = found.mean, found.directions, found.variances
        kept = float(found.variances.double().sum())
        left = max(found.total - kept, 0.0) / (count_visible(self.size, self.masked_rows) - self.latents)
        self.noise = torch.tensor(max(left, FLOOR))
        progress(1, 1, {})
        return {"kept_variance": kept / max(found.total, 1e-30), "noise": float(self.noise), "kl": self.kl().tolist()}

    def signal(self) -> Tensor:
        """`[k]`: variance of each component beyond the noise, at least 0."""
        return (self.variances - self.noise).clamp(min=0)

    def kl(self) -> Tensor:
        """`[k]`: KL of each latent's posterior to the prior in nats, averaged over the data."""
        return 0.5 * (self.variances.clamp(min=float(self.noise)) / self.noise).log()

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The exact posterior of frames `[N, H, W, 3]` uint8."""
        away = visible(frames, self.masked_rows).flatten(1) - self.mean
        variances = self.variances.clamp(min=float(self.noise))
        mean = away @ self.directions.T * (self.signal().sqrt() / variances)
        return mean, (self.noise / variances).log().expand(len(mean), -1)

    def decode(self, latents: Tensor) -> Tensor:
        """The mean picture plus each latent's map; of a posterior mean it is the projection, shrunk by the noise."""
        return (self.mean + latents @ self._weights()).view(-1, *self.size, 3)

    def _weights(self) -> Tensor:
        return self.signal().sqrt()[:, None] * self.directions

    def pixel_maps(self) -> Tensor:
        """`[k, H, W, 3]`: sqrt(lambda_i - sigma^2) u_i."""
        return self._weights().view(-1, *self.size, 3)
