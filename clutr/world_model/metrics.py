"""How far a dream can be trusted, by horizon. Every function takes what was predicted and what came; leading axes stay.

Pictures are float `[..., H, W, 3]` in [0, 1].
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

WINDOW = 7
"""Side of the square over which structural similarity is computed."""
LIMIT = 0.4
"""Latent error, in standard deviations, beyond which a dream is no longer valid."""


def nrmse(predicted: Tensor, true: Tensor, std: Tensor) -> Tensor:
    """Root mean squared error over dimensions, each in its standard deviations `[D]`: `[..., D]` to `[...]`."""
    return ((predicted - true) / std).square().mean(-1).sqrt()


def mse(predicted: Tensor, true: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of pictures; inside a `mask` `[..., H, W]` bool if there is one, NaN where that is empty."""
    squared = (predicted - true).square().mean(-1)
    if mask is None:
        return squared.mean((-1, -2))
    return (squared * mask).sum((-1, -2)) / mask.sum((-1, -2))


def psnr(predicted: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, at most 100."""
    return -10 * mse(predicted, true).clamp(min=1e-10).log10()


def ssim(predicted: Tensor, true: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), uniform windows of 7x7 with sample covariances, mean over channels."""
    shape = predicted.shape[:-3]

    def planes(pictures: Tensor) -> Tensor:
        return pictures.reshape(-1, *pictures.shape[-3:]).permute(0, 3, 1, 2).flatten(0, 1)[:, None]

    def local(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, WINDOW, 1)

    x, y = planes(predicted), planes(true)
    mean_x, mean_y = local(x), local(y)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    var_x = sample * (local(x * x) - mean_x.square())
    var_y = sample * (local(y * y) - mean_y.square())
    both = sample * (local(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    alike = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    apart = (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    return (alike / apart).mean((1, 2, 3)).view(-1, 3).mean(1).view(shape)


def spectral_error(predicted: Tensor, true: Tensor, bands: int = 4) -> Tensor:
    """Share of each spatial frequency band's power that is wrong, from the longest waves to the shortest.

    |F(predicted) - F(true)|^2 over |F(true)|^2, both summed over a ring of radial frequencies. The bands are octaves
    below the highest frequency that a picture can hold along an axis; the first one takes all that is lower.
    `[..., bands]`.
    """
    size = predicted.shape[-2]
    wrong = torch.fft.fft2(predicted - true, dim=(-3, -2)).abs().square().sum(-1)
    power = torch.fft.fft2(true - true.mean((-3, -2), keepdim=True), dim=(-3, -2)).abs().square().sum(-1)
    rows = torch.fft.fftfreq(predicted.shape[-3]) * predicted.shape[-3]
    columns = torch.fft.fftfreq(size) * size
    radius = (rows[:, None].square() + columns.square()).sqrt()
    edges = [0.0] + [size / 2 / 2 ** (bands - 1 - band) for band in range(bands - 1)] + [float("inf")]
    rings = [(radius >= low) & (radius < high) for low, high in pairwise(edges)]
    shares = [(wrong * ring).sum((-1, -2)) / (power * ring).sum((-1, -2)).clamp(min=1e-12) for ring in rings]
    return torch.stack(shares, -1)


class Calibration(NamedTuple):
    """Whether stated uncertainties are true."""

    histogram: list[float]
    """Share of outcomes in each tenth of what was expected: 0.1 each if calibrated."""
    coverage: dict[float, float]
    """Share of outcomes inside the central intervals of these probabilities."""


def calibration(places: Tensor, levels: Sequence[float] = (0.5, 0.9)) -> Calibration:
    """From probability integral transforms of outcomes, of any shape, in [0, 1]."""
    flat = places.flatten().double()
    counts = torch.histc(flat, 10, 0.0, 1.0)
    inside = {level: float(((flat - 0.5).abs() <= level / 2).double().mean()) for level in levels}
    return Calibration((counts / len(flat)).tolist(), inside)


class Horizon(NamedTuple):
    """The first horizon at which a dream is no longer valid, with its interval over episodes."""

    value: float
    low: float
    high: float


def valid_horizon(
    errors: NDArray[np.float64],
    copying: NDArray[np.float64],
    limit: float = LIMIT,
    resamples: int = 2_000,
    seed: int = 1,
) -> Horizon:
    """How many steps a dream holds: until its mean error exceeds `limit`, or that of copying the last frame.

    Args:
        errors: `[E, H]` of each episode and horizon 1..H; NaN (of a backbone without active latents) holds for none.
        copying: the same for copying the last frame of the context.
        limit: in the errors' units.
        resamples: episodes are drawn with replacement so often for a 95 % percentile interval.
        seed: of the resamples.
    """

    def first_failure(mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
        failed = ~((mine <= limit) & (mine <= theirs))  # NaN compares as false
        return float(failed.argmax()) if failed.any() else float(len(failed))

    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(errors), size=(resamples, len(errors)))
    values = [first_failure(errors[rows].mean(0), copying[rows].mean(0)) for rows in drawn]
    low, high = np.quantile(values, [0.025, 0.975])
    return Horizon(first_failure(errors.mean(0), copying.mean(0)), float(low), float(high))
