"""How local and how coarse a latent is: the size, place and scale of its map on the picture."""

from typing import NamedTuple

import torch
from torch import Tensor


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
