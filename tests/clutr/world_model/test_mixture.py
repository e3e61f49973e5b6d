"""Mixtures against scipy and against their own samples."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from clutr.world_model.mixture import SIGMA_FLOOR, GaussianMixture


def mixture(dimensions: int = 2, gaussians: int = 3, seed: int = 0, rows: int = 1) -> GaussianMixture:
    rng = torch.Generator().manual_seed(seed)
    return GaussianMixture.from_numbers(
        torch.randn(rows, dimensions * 3 * gaussians, generator=rng).double(), dimensions
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), x=st.floats(-5, 5))
def test_density_moments_and_distribution_against_scipy(seed: int, x: float) -> None:
    found = mixture(seed=seed)
    at = torch.full((1, 2), x, dtype=torch.float64)
    for d in range(2):
        weights, means, sigmas = (part[0, d].numpy() for part in (found.log_weights.exp(), found.means, found.sigmas))
        density = (weights * norm.pdf(x, means, sigmas)).sum()
        assert math.isclose(float(found.log_density(at)[0, d]), math.log(density), rel_tol=1e-9)
        below = (weights * norm.cdf(x, means, sigmas)).sum()
        assert math.isclose(float(found.distribution(at)[0, d]), below, rel_tol=1e-6, abs_tol=1e-12)
        grid = np.linspace(-60, 60, 100_001)
        curve = (weights[:, None] * norm.pdf(grid, means[:, None], sigmas[:, None])).sum(0)
        mean = np.trapezoid(grid * curve, grid)
        assert math.isclose(float(found.mean()[0, d]), mean, abs_tol=1e-6)
        spread = np.trapezoid((grid - mean) ** 2 * curve, grid)
        assert math.isclose(float(found.variance()[0, d]), spread, rel_tol=1e-5)


def test_one_gaussian_is_a_gaussian_and_the_floor_holds() -> None:
    found = GaussianMixture.from_numbers(torch.tensor([[3.0, 0.5, -50.0]]), 1)
    assert math.isclose(float(found.sigmas), SIGMA_FLOOR, rel_tol=1e-6)
    expected = norm.logpdf(0.45, 0.5, SIGMA_FLOOR)
    assert math.isclose(float(found.log_density(torch.tensor([[0.45]]))), expected, rel_tol=1e-5)
    assert expected > 0, "a density may exceed 1, and its negative logarithm be negative"


def test_samples_follow_the_distribution() -> None:
    one = mixture(dimensions=1, seed=3)
    many = GaussianMixture(*(part.expand(4_000, -1, -1) for part in one))
    drawn = many.sample(torch.Generator().manual_seed(1))
    places = many.distribution(drawn)
    assert kstest(places.flatten().numpy(), "uniform").pvalue > 0.01
    hot = many.sample(torch.Generator().manual_seed(1), temperature=2.0)
    assert hot.var() > drawn.var()


def test_without_temperature_the_likeliest_is_taken() -> None:
    found = mixture(dimensions=2, seed=5)
    chosen = found.sample(torch.Generator(), temperature=0)
    for d in range(2):
        assert chosen[0, d] == found.means[0, d, found.log_weights[0, d].argmax()]


def test_temperature_by_hand() -> None:
    """Two Gaussians far apart with odds 4 : 1 have odds 2 : 1 at temperature 2, and variances twice as large."""
    numbers = GaussianMixture(
        torch.tensor([[[0.8, 0.2]]]).log(), torch.tensor([[[-100.0, 100.0]]]), torch.tensor([[[1.0, 1.0]]])
    )
    many = GaussianMixture(*(part.expand(20_000, 1, 2) for part in numbers))
    drawn = many.sample(torch.Generator().manual_seed(2), temperature=2.0)
    left = drawn < 0
    assert abs(float(left.float().mean()) - 2 / 3) < 0.015
    assert abs(float((drawn[left] + 100).var()) - 2) < 0.08
