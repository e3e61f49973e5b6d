"""Single numbers about latents and their prediction, each from a paper on something else.

Stitching (as in origin identification: how well a linear map leads from one model's latents to another's), stability
under image jitter (DiGIT), quantised latents (LQ-VAE), the fidelity slider (RAVE), memory decoded to pictures by ridge
(Brain-Diffuser), and the Hurst exponent of residuals by detrended fluctuations (Peng et al. 1994).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from clutr.probes.intervals import Interval, interval_of, mean_over, r2_draws
from clutr.probes.linear_probes import cross_validated, folds_of
from clutr.world_model.linear_probe import fit_probe


def stitching(latents: Tensor, other: Tensor, groups: Tensor, rng: torch.Generator) -> Interval:
    """R^2 of other latents `[n, E]` by a linear map of latents `[n, D]`, mean over those that vary, on held-out levels.

    1: two models agree up to a linear map. The interval is over levels `[n]`.
    """
    read, _ = cross_validated(latents, other, folds_of(groups, rng))
    score, draws = r2_draws(read, other, groups)
    varies = other.std(0) > 1e-6
    return interval_of(float(score[varies].mean()), draws[:, varies].mean(1))


def jitter_stability(encode: Callable[[Tensor], Tensor], frames: Tensor, spread: Tensor, size: float = 2.0) -> Interval:
    """How far latents move when pixels do a little: E |mu(x + noise) - mu(x)| over their spread, mean over latents.

    Args:
        encode: frames `[N, H, W, 3]` in 0..255, float32, to latents `[N, D]`.
        frames: to disturb.
        spread: `[D]`: standard deviations of the latents.
        size: standard deviation of the noise, of 255.
    """
    noise = size * torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        moved = (encode(frames + noise) - encode(frames)).abs() / spread.clamp(min=1e-6)
    return mean_over(moved.mean(1))


def quantise(latents: Tensor, spread: Tensor, levels: int) -> Tensor:
    """Latents `[..., D]` put on so many values within 3 standard deviations `[D]` about 0.

    Raises:
        ValueError: for fewer than 2 levels.
    """
    if levels < 2:
        raise ValueError(f"latents are quantised to at least 2 values, got {levels}")
    step = 6 * spread.clamp(min=1e-6) / (levels - 1)
    return ((latents / step + (levels - 1) / 2).round().clamp(0, levels - 1) - (levels - 1) / 2) * step


def fidelity(latents: Tensor, share: float = 0.95) -> int:
    """The fewest directions of latents `[n, D]` that hold a share of their variance: RAVE's slider.

    Raises:
        ValueError: if the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    away = (latents - latents.mean(0)).double()
    power = torch.linalg.eigvalsh(away.T @ away).flip(0).clamp(min=0)
    held = power.cumsum(0) / power.sum().clamp(min=1e-30)
    return int((held < share - 1e-9).sum()) + 1


def memory_pictures(
    features: Tensor, latents: Tensor, decode: Callable[[Tensor], Tensor], units: Tensor, penalty: float = 1.0
) -> Tensor:
    """Scenes that are optimal for groups of units: latents are read from features by ridge, and decoded.

    Args:
        features: `[n, W]` of the memory.
        latents: `[n, D]` of the same steps.
        decode: latents `[U, D]` to pictures.
        units: `[U, W]`: directions of features, such as a cluster's; each is followed for 3 standard deviations.
        penalty: of the ridge.

    Returns:
        Pictures `[U, H, W, 3]`.
    """
    read = fit_probe(features, latents, penalty)
    spread = (features @ units.T).std(0)
    along = units / units.square().sum(1, keepdim=True).clamp(min=1e-12)
    return decode(read(features.mean(0) + 3 * spread[:, None] * along))


def hurst_exponent(series: Tensor, shortest: int = 4) -> float:
    """By detrended fluctuations, of a series `[T]`: 0.5 has no memory, above it a slow factor is missing.

    Raises:
        ValueError: for fewer than 16 values.
    """
    if len(series) < 4 * shortest:
        raise ValueError(f"a Hurst exponent needs at least {4 * shortest} values, got {len(series)}")
    profile = (series - series.mean()).double().cumsum(0)
    sizes, sums = [], []
    size = shortest
    while size <= len(series) // 4:
        windows = profile[: len(profile) // size * size].view(-1, size)
        line = torch.stack([torch.ones(size), torch.arange(size, dtype=torch.float64)], 1).double()
        fitted = line @ torch.linalg.lstsq(line, windows.T).solution
        sizes.append(size)
        sums.append(float((windows.T - fitted).square().mean().sqrt()))
        size = max(size + 1, round(1.4 * size))
    x, y = torch.tensor(sizes, dtype=torch.float64).log(), torch.tensor(sums).double().clamp(min=1e-12).log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
