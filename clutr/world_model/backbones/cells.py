"""Pictures as grids of cells: mean colours in a few directions of colour, and principal components of what is outside.

Latents lie where their pixels are, so that a core can move them about (`clutr.world_model.cores.geometric`). Encoding,
decoding and what each latent means are linear. Cells are the averages of block spins, as in `haar`, at one scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clutr.envs.capabilities import SIDE
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_at_least
from clutr.world_model.backbones.base import (
    BACKBONES,
    Frames,
    Once,
    Tensors,
    batches,
    blacken,
    count_visible,
    visible,
)
from clutr.world_model.backbones.covariance import principal_components

NOISE = 1e-3
"""Variance of the posterior as a share of a latent's own: colours are rounded, and little else is uncertain."""
FLOOR = 1e-8
"""Least variance of the posterior."""


@BACKBONES.register("cells")
@dataclass(frozen=True)
class CellsConfig:
    """Mean colours of the cells of a grid, and components of what is outside."""

    latents: int = 458
    """In all: `channels` for each cell, and the rest for components of pixels outside the box."""
    rows: int = 14
    """Of the grid."""
    columns: int = 16
    """Of the grid."""
    channels: int = 2
    """Directions of colour that are kept, at most 3."""
    box: tuple[int, int, int, int] = (0, 0, 56, 64)
    """Top, left, bottom and right of the grid in a picture of 64x64 pixels; scaled for others."""
    smooth: bool = True
    """Whether pictures are interpolated between cells, or cells are of one colour."""
    fitted_on: int = 5_000
    """Most frames that are used for fitting."""
    masked_rows: int = 0
    """Rows at the bottom that are masked; they must lie outside the box."""

    def __post_init__(self) -> None:
        require_at_least(self, 2, "fitted_on")
        require_at_least(self, 1, "latents", "rows", "columns", "channels")
        require_at_least(self, 0, "masked_rows")
        if self.channels > 3:
            raise ValueError(f"channels must be in 1..3, got {self.channels}")
        if self.rest < 0:
            raise ValueError(
                f"{self.rows}x{self.columns} cells of {self.channels} channels are {self.latents - self.rest} latents, "
                + f"more than the {self.latents} there are"
            )

    @property
    def rest(self) -> int:
        """Latents that are no cells."""
        return self.latents - self.rows * self.columns * self.channels

    def build(self, size: tuple[int, int], seed: int) -> "CellsBackbone":  # noqa: ARG002 (nothing is drawn yet)
        """An unfitted backbone. Raises `ValueError` if the cells are no whole pixels, or some of them are masked."""
        return CellsBackbone(size, self)

    def fitting(self, backbone: "CellsBackbone", frames: Frames, seed: int) -> Once:
        """One pass for the colours and a few for the components."""
        return Once(backbone, frames, seed)


class CellsBackbone(Tensors):
    """See `CellsConfig`. The latents are all of the first channel, row by row, then the next, then the rest.

    Args:
        size: rows and columns of a picture.
        config: the options.
    """

    FOUND = ("noise", "colour", "directions", "outside_mean", "outside_directions")

    def __init__(self, size: tuple[int, int], config: CellsConfig) -> None:
        count_visible(size, config.masked_rows)  # raises if there is nothing to see
        self.size, self.config, self.latents, self.masked_rows = size, config, config.latents, config.masked_rows
        top, left, bottom, right = (place * side / SIDE for place, side in zip(config.box, (*size, *size), strict=True))
        self.cell = (bottom - top) / config.rows, (right - left) / config.columns
        places = top, left, bottom, right, *self.cell
        if any(place != int(place) for place in places) or min(self.cell) < 1:
            raise ValueError(f"{config.rows}x{config.columns} cells in the box {config.box} are no whole pixels")
        self.box = int(top), int(left), int(bottom), int(right)
        if self.box[2] > size[0] - config.masked_rows:
            raise ValueError(f"the last {config.masked_rows} rows are masked, but the box ends at row {self.box[2]}")
        outside = torch.ones(*size, 3, dtype=torch.bool)
        outside[self.box[0] : self.box[2], self.box[1] : self.box[3]] = False
        outside[size[0] - config.masked_rows :] = False
        self.outside = outside.flatten().nonzero().flatten()
        self.noise = torch.ones(config.latents)
        self.colour, self.directions = torch.zeros(3), torch.eye(3)[: config.channels].clone()
        self.outside_mean = torch.zeros(len(self.outside))
        self.outside_directions = torch.zeros(config.rest, len(self.outside))

    def _cells(self, pictures: Tensor) -> Tensor:
        """Mean colours `[N, rows, columns, 3]` of pictures `[N, H, W, 3]`."""
        top, left, bottom, right = self.box
        rows, columns = self.config.rows, self.config.columns
        box: Tensor = pictures[:, top:bottom, left:right]
        cells: Tensor = box.unflatten(2, (columns, -1)).unflatten(1, (rows, -1)).mean((2, 4))
        return cells

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[N, k]` of frames `[N, H, W, 3]` uint8."""
        pictures = visible(frames, self.masked_rows)
        cells = (self._cells(pictures) - self.colour) @ self.directions.T
        rest = (pictures.flatten(1)[:, self.outside] - self.outside_mean) @ self.outside_directions.T
        mean = torch.cat([cells.permute(0, 3, 1, 2).flatten(1), rest], 1)
        return mean, self.noise.log().expand_as(mean).clone()

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[N, H, W, 3]` of latents `[N, k]`."""
        config, count = self.config, len(latents)
        cells = latents[:, : config.latents - config.rest].view(count, config.channels, config.rows, config.columns)
        top, left, bottom, right = self.box
        if config.smooth and count:
            cells = F.interpolate(cells, (bottom - top, right - left), mode="bilinear", align_corners=False)
        else:
            cells = cells.repeat_interleave(int(self.cell[0]), 2).repeat_interleave(int(self.cell[1]), 3)
        pictures = torch.zeros(count, *self.size, 3)
        flat = pictures.flatten(1)
        flat[:, self.outside] = self.outside_mean + latents[:, config.latents - config.rest :] @ self.outside_directions
        pictures = flat.view(pictures.shape)
        pictures[:, top:bottom, left:right] = self.colour + cells.permute(0, 2, 3, 1) @ self.directions
        return blacken(pictures, self.masked_rows)

    def pixel_maps(self) -> Tensor:
        """`[k, H, W, 3]`."""
        return self.decode(torch.eye(self.latents)) - self.decode(torch.zeros(1, self.latents))

    def fit(self, frames: Frames, seed: int, progress: Progress) -> dict[str, Any]:
        """Find the directions of colour and the components; returns `explained`, the share of the cells' variance."""
        config = self.config
        chosen = batches(frames, config.fitted_on, seed)
        total, square, count = torch.zeros(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64), 0
        for index in chosen:
            colours = self._cells(visible(frames[index], self.masked_rows)).flatten(0, 2).double()
            total, square, count = total + colours.sum(0), square + colours.T @ colours, count + len(colours)
        mean = total / count
        variances, vectors = torch.linalg.eigh(square / count - torch.outer(mean, mean))
        variances, directions = variances.flip(0).clamp(min=0), vectors.T.flip(0)
        signs = torch.where(directions.gather(1, directions.abs().argmax(1, keepdim=True)) < 0, -1.0, 1.0)
        self.colour, self.directions = mean.float(), (directions * signs)[: config.channels].float().contiguous()
        progress(1, 3, {})

        def outside() -> Iterator[Tensor]:
            return (visible(frames[index], self.masked_rows).flatten(1)[:, self.outside] for index in chosen)

        spread = torch.zeros(config.rest, dtype=torch.float64)
        known = min(config.rest, len(self.outside))
        if known:
            found = principal_components(outside, known, named_generator(seed, "cells", "outside"))
            self.outside_mean = found.mean
            self.outside_directions = F.pad(found.directions, (0, 0, 0, config.rest - known))
            spread[:known] = found.variances.double()
        progress(2, 3, {})
        cells = variances[: config.channels].repeat_interleave(config.rows * config.columns)
        self.noise = (NOISE * torch.cat([cells, spread])).clamp(min=FLOOR).float()
        progress(3, 3, {})
        return {"explained": float(variances[: config.channels].sum() / variances.sum().clamp(min=1e-12))}
