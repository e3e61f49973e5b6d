"""How local and how coarse a latent is: the size, place and scale of its map on the picture."""

from typing import NamedTuple

import torch
from torch import Tensor

from clutr.world_model.backbones.base import BATCH, Frames


class Locality(NamedTuple):
    """Of k maps."""

    area: Tensor
    """`[k]`: effective number of pixels, the inverse participation ratio 1 / sum w^2 of weights w that sum to 1."""
    centre: Tensor
    """`[k, 2]`: mean row and column."""
    frequency: Tensor
    """`[k]`: mean spatial frequency of the map's power, in waves a picture."""


def locality(maps: Tensor) -> Locality:
    """Of maps `[k, H, W, 3]`, such as a backbone's `pixel_maps` or a correlator; weights are squares over channels."""
    weights = maps.square().sum(-1)
    weights = weights / weights.sum((1, 2), keepdim=True).clamp(min=1e-30)
    rows, columns = (torch.arange(size, dtype=maps.dtype) for size in weights.shape[1:])
    centre = torch.stack([(weights.sum(2) * rows).sum(1), (weights.sum(1) * columns).sum(1)], 1)
    power = torch.fft.fft2(maps, dim=(1, 2)).abs().square().sum(-1)
    down = torch.fft.fftfreq(maps.shape[1]) * maps.shape[1]
    across = torch.fft.fftfreq(maps.shape[2]) * maps.shape[2]
    waves = (down[:, None].square() + across.square()).sqrt()
    frequency = (power * waves).sum((1, 2)) / power.sum((1, 2)).clamp(min=1e-30)
    return Locality(1 / weights.square().sum((1, 2)).clamp(min=1e-30), centre, frequency)


def correlator(frames: Frames, latents: Tensor) -> Tensor:
    """Correlation `[k, H, W, 3]` of each pixel with each latent; 0 where one never changes.

    The visible-hidden correlator of arXiv 1906.05212, a map of any encoder's latents onto the picture. Two passes, in
    chunks.

    Args:
        frames: n of them.
        latents: `[n, k]`, of each frame.

    Raises:
        ValueError: if there are not as many latents as frames.
    """
    if len(frames) != len(latents):
        raise ValueError(f"there are latents of {len(latents)} frames, but {len(frames)} frames")
    chunks = torch.arange(len(frames)).split(BATCH)
    shape = frames[torch.zeros(1, dtype=torch.int64)].shape[1:]
    mean = torch.stack([frames[rows].double().flatten(1).sum(0) for rows in chunks]).sum(0) / len(frames)
    hidden = latents.double() - latents.double().mean(0)
    products = torch.zeros(hidden.shape[1], len(mean), dtype=torch.float64)
    power = torch.zeros_like(mean)
    for rows in chunks:
        pixels = frames[rows].double().flatten(1) - mean
        products += hidden[rows].T @ pixels
        power += pixels.square().sum(0)
    scale = hidden.norm(dim=0)[:, None] * power.sqrt()
    return torch.where(scale > 1e-12, products / scale.clamp(min=1e-12), 0.0).float().view(-1, *shape)
