"""Haar wavelets: a fixed, exactly invertible split of a picture into scales.

Each 2x2 block (a b; c d) of a channel becomes its coarse value and three details by an orthonormal matrix, and the
coarse picture is split again; in physics this is the block-spin step of the renormalisation group (arXiv 2207.04941).
The inverse is the transpose. The latents are the coarse coefficients and those detail coefficients that vary most over
the data; each one has a position on the picture.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from clutr.envs.progress import Progress
from clutr.envs.validation import require_at_least
from clutr.world_model.backbones.base import (
    BACKBONES,
    Frames,
    Once,
    Tensors,
    batches,
    blacken,
    count_visible,
    require_latents,
    visible,
)

BLOCK = 0.5 * torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
"""Rows: coarse value, horizontal, vertical and diagonal detail of (a, b, c, d)."""
FLOOR = 1e-6
"""Least variance of a latent."""


def forward(pictures: Tensor, levels: int) -> Tensor:
    """All coefficients `[N, H * W * 3]` of pictures `[N, H, W, 3]`: coarse field, then details from coarse to fine.

    Raises:
        ValueError: if a side cannot be halved so often.
    """
    _check(pictures.shape[1:3], levels)
    details, coarse = [], pictures
    for _ in range(levels):
        n, rows, columns, channels = coarse.shape
        blocks = coarse.view(n, rows // 2, 2, columns // 2, 2, channels).permute(0, 1, 3, 5, 2, 4)
        split = blocks.reshape(n, rows // 2, columns // 2, channels, 4) @ BLOCK.T
        coarse = split[..., 0]
        details.append(split[..., 1:].flatten(1))
    return torch.cat([coarse.flatten(1), *reversed(details)], 1)


def inverse(coefficients: Tensor, size: tuple[int, int], levels: int) -> Tensor:
    """Pictures `[N, H, W, 3]` of coefficients `[N, H * W * 3]`: the transpose of `forward`."""
    _check(size, levels)
    rows, columns = size[0] >> levels, size[1] >> levels
    used = rows * columns * 3
    coarse = coefficients[:, :used].view(len(coefficients), rows, columns, 3)
    for _ in range(levels):
        count = 9 * coarse.shape[1] * coarse.shape[2]
        detail = coefficients[:, used : used + count].view(*coarse.shape, 3)
        used += count
        blocks = torch.cat([coarse[..., None], detail], -1) @ BLOCK
        n, rows, columns, channels, _ = blocks.shape
        coarse = blocks.view(n, rows, columns, channels, 2, 2).permute(0, 1, 4, 2, 5, 3)
        coarse = coarse.reshape(n, 2 * rows, 2 * columns, channels)
    return coarse


def _check(size: Any, levels: int) -> None:
    if levels < 1 or size[0] % (1 << levels) or size[1] % (1 << levels):
        raise ValueError(f"pictures of {size[0]}x{size[1]} pixels cannot be halved {levels} times")


@BACKBONES.register("haar")
@dataclass(frozen=True)
class HaarConfig:
    """Haar wavelets."""

    latents: int = 32
    """Coefficients that are kept: the coarse field, then details by their variance over the data."""
    levels: int = 5
    """How often the picture is halved."""
    fitted_on: int = 10_000
    """Most frames that means and variances are found from."""
    masked_rows: int = 0
    """Rows at the bottom that are masked, such as indicators."""

    def __post_init__(self) -> None:
        require_at_least(self, 2, "fitted_on")
        require_at_least(self, 1, "latents", "levels")
        require_at_least(self, 0, "masked_rows")

    def build(self, size: tuple[int, int], seed: int) -> "HaarBackbone":  # noqa: ARG002 (nothing is drawn)
        """An unfitted backbone. Raises `ValueError` if the picture cannot be halved so often."""
        return HaarBackbone(size, self)

    def fitting(self, backbone: "HaarBackbone", frames: Frames, seed: int) -> Once:
        """One pass."""
        return Once(backbone, frames, seed)


class HaarBackbone(Tensors):
    """Some wavelet coefficients, each in its standard deviations over the data.

    The posterior variance of a latent is the mean variance of the coefficients that are left out, in units of the
    latent.

    Args:
        size: rows and columns of a picture.
        config: the options.
    """

    FOUND: ClassVar = ("mean", "kept", "spread", "noise")

    def __init__(self, size: tuple[int, int], config: HaarConfig) -> None:
        _check(size, config.levels)
        dimensions = size[0] * size[1] * 3
        require_latents(config.latents, count_visible(size, config.masked_rows) - 1)
        self.size, self.config = size, config
        self.latents, self.masked_rows = config.latents, config.masked_rows
        self.mean = torch.zeros(dimensions)
        self.kept = torch.arange(config.latents)
        """Which coefficients, in the order of `forward`."""
        self.spread = torch.ones(config.latents)
        self.noise = torch.tensor(FLOOR)

    def fit(self, frames: Frames, seed: int, progress: Progress) -> dict[str, Any]:
        """Find means and variances of all coefficients, and which to keep."""
        total = torch.zeros(len(self.mean), dtype=torch.float64)
        squares, count = torch.zeros_like(total), 0
        for index in batches(frames, self.config.fitted_on, seed):
            rows = forward(visible(frames[index], self.masked_rows), self.config.levels).double()
            total += rows.sum(0)
            squares += rows.square().sum(0)
            count += len(rows)
        mean = total / count
        variances = (squares / count - mean.square()).clamp(min=0)
        coarse = (self.size[0] >> self.config.levels) * (self.size[1] >> self.config.levels) * 3
        wanted = variances.clone()
        wanted[:coarse] += float(variances.sum()) + 1  # the coarse field comes before any detail
        self.kept = wanted.argsort(descending=True, stable=True)[: self.latents].sort().values
        self.mean, self.spread = mean.float(), variances[self.kept].sqrt().clamp(min=FLOOR**0.5).float()
        left = float(variances.sum() - variances[self.kept].sum()) / (
            count_visible(self.size, self.masked_rows) - self.latents
        )
        self.noise = torch.tensor(max(left, FLOOR))
        progress(1, 1, {})
        return {
            "kept_variance": float(variances[self.kept].sum() / variances.sum().clamp(min=1e-30)),
            "noise": float(self.noise),
            "coarse_latents": int((self.kept < coarse).sum()),
        }

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Kept coefficients of frames `[N, H, W, 3]` uint8, centred, in standard deviations."""
        coefficients = forward(visible(frames, self.masked_rows), self.config.levels)[:, self.kept]
        mean = (coefficients - self.mean[self.kept]) / self.spread
        spread = (self.noise / self.spread.square()).clamp(max=1.0)
        return mean, spread.log().expand(len(mean), -1)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures with the kept coefficients, the others at their means."""
        coefficients = self.mean.repeat(len(latents), 1)
        coefficients[:, self.kept] += latents * self.spread
        return blacken(inverse(coefficients, self.size, self.config.levels), self.masked_rows)

    def pixel_maps(self) -> Tensor:
        """`[k, H, W, 3]`: a block, or a block with steps in it, each."""
        unit = torch.zeros(self.latents, len(self.mean))
        unit[torch.arange(self.latents), self.kept] = self.spread
        return blacken(inverse(unit, self.size, self.config.levels), self.masked_rows)
