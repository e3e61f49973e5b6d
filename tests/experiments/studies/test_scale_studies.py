"""The arithmetic of what is measured about distributed training, without Ray."""

from pathlib import Path

import numpy as np
import pytest

from clutr.experiments.benchmarks.scale import BANDWIDTH, LATENCY, CostModel, Rollouts, fit
from clutr.experiments.studies.backends import QUANTITIES, difference, draw, halves, report
from clutr.experiments.studies.soak import BLOCKS, resident_bytes, slope


def test_the_cost_model_is_fitted_by_least_squares() -> None:
    """Overheads 0.03, 0.05 and 0.09 for 1, 2 and 4 runners: 0.01 and 0.02 for each."""
    rollouts = [Rollouts(1, 0.53, 0.5), Rollouts(2, 0.55, 0.5), Rollouts(4, 1.09, 1.0)]
    model = fit(rollouts, sent=1.25e6, learn=0.4, weights=1.25e5)
    assert model.play == 0.5
    assert model.fixed == pytest.approx(0.01)
    assert model.each == pytest.approx(0.02)
    # a thousandth of a second for each runner's bytes at 10 Gbit/s
    assert model.rollout(10) == pytest.approx(0.5 + 0.01 + 10 * 0.021 + 2 * LATENCY)
    # 16 runners have 2 learners: each learns from 8 shares, and 18 copies of the weights travel
    assert model.update(16) == pytest.approx(model.rollout(16) + 8 * 0.4 + 18 * 1e-4 + 16 * 1e-3)


def test_neither_part_of_the_overhead_is_below_zero() -> None:
    falling = fit([Rollouts(1, 0.6, 0.5), Rollouts(2, 0.54, 0.5)], 0.0, 0.0, 0.0)
    assert (falling.fixed, falling.each) == pytest.approx((0.07, 0.0))
    steep = fit([Rollouts(1, 0.5, 0.5), Rollouts(2, 0.6, 0.5)], 0.0, 0.0, 0.0)
    assert (steep.fixed, steep.each) == pytest.approx((0.0, 0.04))  # 0.2 / 5 through the origin
    assert fit([Rollouts(1, 0.6, 0.5)], 0.0, 0.0, 0.0).fixed == pytest.approx(0.1)
    assert Rollouts(1, 0.4, 0.5).overhead == 0
    assert CostModel(1, 0, 0, BANDWIDTH, 0, 0).rollout(2) == pytest.approx(3 + 2 * LATENCY)


def test_slope_of_memory() -> None:
    """A straight line has its slope and no interval; noise has an interval that holds zero."""
    seconds = np.linspace(0, 1_000, 40 * BLOCKS)
    assert slope(seconds, 5 + 0.25 * seconds) == pytest.approx((0.25, 0.25, 0.25), abs=1e-9)
    noise = np.random.default_rng(0).normal(size=len(seconds))
    middle, low, high = slope(seconds, noise)
    assert low < 0 < high
    assert middle == pytest.approx((low + high) / 2)
    with pytest.raises(ValueError, match="too short for a slope"):
        slope(seconds[:2], seconds[:2])
    resident, private = resident_bytes()
    assert 2**20 < private < resident


def test_paired_differences() -> None:
    """Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), and t(0.975, 2) = 4.3027."""
    found = difference(np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0, 7.0]))
    assert (found.low, found.high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-3)
    assert found.agrees
    assert found.seeds == pytest.approx(np.sqrt(7 / 3))
    assert not difference(np.array([1.0, 2.0]), np.array([2.0, 3.0])).agrees
    with pytest.raises(ValueError, match="at least two seeds"):
        difference(np.array([1.0]), np.array([1.0]))
    assert halves(np.array([1.0, 3.0, 5.0, np.nan])) == (2.0, 5.0)


def test_report_of_backends(tmp_path: Path) -> None:
    steps = np.arange(4) * 100.0
    runs = [{"steps": steps} | {name: np.arange(4) * 0.1 + seed for name in QUANTITIES} for seed in range(2)]
    text = report({"native": runs, "rllib": runs}, "About.")
    assert "| mean return | first | 0.5500 | 0.5500 | +0.0000 [+0.0000, +0.0000] | 0.7071 | yes |" in text
    draw({"native": runs, "rllib": runs}, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().count("<path") > 4
