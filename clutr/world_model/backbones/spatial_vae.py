"""A convolutional VAE whose latents lie in a grid: a few for each place of the last field, and some for the whole.

As `vae`, but no layer mixes the places of the grid, so that a core can move latents about
(`clutr.world_model.cores.conv_gru`) and pictures keep their layout. Latents are all of the first channel, row by row,
then the next, then those of the whole picture, such as indicators; the order is that of `cells`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_at_least
from clutr.world_model.backbones.base import BACKBONES, Frames, blacken, visible
from clutr.world_model.backbones.vae import VAEBackbone, VAEConfig, VAETraining, _layer


@BACKBONES.register("spatial-vae")
@dataclass(frozen=True)
class SpatialVAEConfig:
    """A convolutional VAE whose latents lie in a grid."""

    latents: int = 264
    """In all: as many for each place of the grid as there are, and the rest for the whole picture."""
    channels: tuple[int, ...] = (16, 32, 64)
    """Of the convolutions, each of which halves the sides; the grid is what the last one gives."""
    iterations: int = 4_000
    """Gradient steps."""
    batch_size: int = 64
    """Frames of each."""
    learning_rate: float = 1e-3
    """Adam's step size at the start; it falls to 0 along a cosine."""
    masked_rows: int = 0
    """Rows at the bottom that are masked, such as indicators."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "latents")
        self.network  # noqa: B018 (it checks the other options)

    @property
    def network(self) -> VAEConfig:
        """The options of encoder and decoder."""
        return VAEConfig(
            self.latents,
            self.channels,
            self.iterations,
            self.batch_size,
            self.learning_rate,
            masked_rows=self.masked_rows,
        )

    def build(self, size: tuple[int, int], seed: int) -> "SpatialVAEBackbone":
        """An untrained backbone. Raises `ValueError` for fewer latents than places, or sides that cannot be halved."""
        return SpatialVAEBackbone(size, self, named_generator(seed, "spatial-vae", "weights"))

    def fitting(self, backbone: "SpatialVAEBackbone", frames: Frames, seed: int) -> VAETraining:
        """Gradient descent, as of `vae`."""
        return VAETraining(backbone, self.network, frames, seed)


class SpatialVAEBackbone(VAEBackbone):
    """See `SpatialVAEConfig`.

    Args:
        size: rows and columns of a picture.
        config: the options.
        rng: draws the initial weights.
    """

    def __init__(self, size: tuple[int, int], config: SpatialVAEConfig, rng: torch.Generator) -> None:
        super().__init__(size, config.network, rng)
        depth, *self.grid = self.field
        places = self.grid[0] * self.grid[1]
        self.each, self.rest = divmod(config.latents, places)
        if not self.each:
            raise ValueError(
                f"{self.grid[0]}x{self.grid[1]} places need at least {places} latents, got {config.latents}"
            )
        self.posterior = _layer(nn.Conv2d, rng, depth, 2 * self.each, kernel_size=1)
        self.spread = _layer(nn.Conv2d, rng, self.each, depth, kernel_size=1)
        if self.rest:
            self.whole = _layer(nn.Linear, rng, depth * places, 2 * self.rest)
            self.spread_whole = _layer(nn.Linear, rng, self.rest, depth * places)

    def posterior_of(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[N, k]`, differentiable."""
        shown = visible(frames.to(self.posterior.weight.device), self.masked_rows)
        features = self.down(shown.permute(0, 3, 1, 2))
        parts = [each.flatten(1) for each in self.posterior(features).chunk(2, 1)]
        if self.rest:
            more = self.whole(features.flatten(1)).chunk(2, 1)
            parts = [torch.cat(pair, 1) for pair in zip(parts, more, strict=True)]
        return parts[0], parts[1].clamp(-12, 6)

    def picture(self, latents: Tensor) -> Tensor:
        """Pictures `[N, H, W, 3]` in (0, 1), differentiable."""
        here, whole = latents.split([latents.shape[1] - self.rest, self.rest], 1)
        field = self.spread(here.reshape(len(latents), self.each, *self.grid))
        if self.rest:
            field = field + self.spread_whole(whole).view(field.shape)
        shown: Tensor = torch.sigmoid(self.up(field)).permute(0, 2, 3, 1)
        return shown

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[N, H, W, 3]` of latents `[N, k]`."""
        return blacken(self.picture(latents).contiguous(), self.masked_rows)
