from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clutr.experiments.evaluation.statistics import (
    Interval,
    Sample,
    Scores,
    estimate,
    interquartile_mean,
    mean,
    median,
    optimality_gap,
    probability_of_improvement,
    proportion,
)

STATISTICS = [mean, median, interquartile_mean, optimality_gap]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_scores(runs: int, tasks: int, seed: int = 0) -> Scores:
    return np.random.default_rng(seed).normal(np.linspace(0.2, 0.8, tasks), 0.2, (runs, tasks))


def test_aggregates_on_numbers_worked_by_hand() -> None:
    # Two runs on four tasks; task means 0.1, 0.2, 0.8, 1.5.
    scores = np.array([[0.0, 0.1, 0.6, 2.0], [0.2, 0.3, 1.0, 1.0]])
    assert mean(scores) == pytest.approx(5.2 / 8)
    assert median(scores) == pytest.approx((0.2 + 0.8) / 2)
    # Sorted 0 .1 | .2 .3 .6 1 | 1 2: a quarter is two values at either end.
    assert interquartile_mean(scores) == pytest.approx((0.2 + 0.3 + 0.6 + 1.0) / 4)
    # 2.0 counts as 1.0.
    assert optimality_gap(scores) == pytest.approx(1 - 4.2 / 8)
    assert optimality_gap(scores, gamma=0.5) == pytest.approx(0.5 - (0 + 0.1 + 0.5 * 4 + 0.2 + 0.3) / 8)


def test_a_quarter_is_rounded_down() -> None:
    # 6 values: floor(1.5) = 1 is cut at either end.
    assert interquartile_mean(np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 100.0]])) == pytest.approx(2.5)


def test_probability_of_improvement_on_numbers_worked_by_hand() -> None:
    x = np.array([[1.0, 0.5], [3.0, 0.5]])
    y = np.array([[2.0, 0.5], [0.0, 0.7], [1.0, 0.1]])
    # Task 1: 1 beats 0 and ties 1; 3 beats all: (1.5 + 3) / 6. Task 2: each 0.5 ties, loses, wins: 3 / 6.
    assert probability_of_improvement(x, y) == pytest.approx((4.5 / 6 + 3 / 6) / 2)
    assert probability_of_improvement(y, x) == pytest.approx(1 - (4.5 / 6 + 3 / 6) / 2)


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float64, (4, 3), elements=st.integers(0, 5).map(float)),
    arrays(np.float64, (6, 3), elements=st.integers(0, 5).map(float)),
)
def test_aggregates_agree_with_scipy(x: Scores, y: Scores) -> None:
    assert interquartile_mean(x) == pytest.approx(scipy.stats.trim_mean(x, 0.25, axis=None))
    u_statistics = [scipy.stats.mannwhitneyu(x[:, task], y[:, task]).statistic for task in range(3)]
    assert probability_of_improvement(x, y) == pytest.approx(np.mean(u_statistics) / (4 * 6))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_leading_axes_are_batches(statistic: Callable[..., Scores]) -> None:
    batch = np.stack([random_scores(5, 4, seed) for seed in range(6)]).reshape(2, 3, 5, 4)
    reduced = statistic(batch)
    assert reduced.shape == (2, 3)
    assert reduced[1, 2] == pytest.approx(float(statistic(batch[1, 2])))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_intervals_agree_with_scipy_bootstrap(statistic: Callable[..., Scores]) -> None:
    """Given one sample a task, scipy resamples each by itself: a stratified bootstrap."""
    scores = random_scores(10, 3)

    def of_tasks(*tasks: Scores, axis: int) -> Scores:
        return statistic(np.stack([np.moveaxis(task, axis, -1) for task in tasks], axis=-1))

    peer = scipy.stats.bootstrap(
        tuple(scores.T), of_tasks, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    ours = estimate(statistic, Sample(scores, "seeds"), rng=seeded(), resamples=20_000)
    width = peer.high - peer.low
    assert ours.value == pytest.approx(float(statistic(scores)))
    assert ours.low == pytest.approx(peer.low, abs=0.03 * width)
    assert ours.high == pytest.approx(peer.high, abs=0.03 * width)


def test_improvement_interval_agrees_with_scipy_bootstrap() -> None:
    x, y = random_scores(8, 2, 1), random_scores(6, 2, 2) - 0.1

    def of_tasks(x0: Scores, x1: Scores, y0: Scores, y1: Scores, axis: int) -> Scores:
        mine, other = np.stack([x0, x1], axis=-1), np.stack([y0, y1], axis=-1)
        assert axis == -1
        return probability_of_improvement(mine, other)

    peer = scipy.stats.bootstrap(
        (*x.T, *y.T), of_tasks, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    samples = Sample(x, "seeds"), Sample(y, "seeds")
    ours = estimate(probability_of_improvement, *samples, rng=seeded(), resamples=20_000)
    assert (ours.low, ours.high) == pytest.approx((peer.low, peer.high), abs=0.03)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    held, trials = 0, 400
    for trial in range(trials):
        scores = generator.normal(0.5, 0.2, (20, 4))  # symmetric and equal on all tasks: the true IQM is 0.5
        interval = estimate(interquartile_mean, Sample(scores, "seeds"), rng=seeded(trial), resamples=300)
        held += interval.low <= 0.5 <= interval.high
    assert 0.90 <= held / trials <= 0.98  # 0.95 asked for; the standard error over trials is 0.011


def test_strata_are_kept() -> None:
    """Tasks differ but runs do not, so nothing is uncertain; mixing tasks would widen the interval."""
    scores = np.tile([0.0, 0.5, 1.0], (5, 1))
    assert estimate(mean, Sample(scores, "seeds"), rng=seeded()) == Interval(0.5, 0.5, 0.5)


def test_episodes_of_one_run_are_reduced_before_the_statistic() -> None:
    # Solve rates 0.25 and 0.75. The IQM of one run is that of these, not of the zeros and ones.
    solved = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    sample = Sample(solved, "episodes")
    assert sample.scores.tolist() == [[0.25, 0.75]]
    assert sample.resample(7, seeded()).shape == (7, 1, 2)
    assert estimate(median, sample, rng=seeded()).value == pytest.approx(0.5)


def test_resampled_episodes_have_the_binomial_spread() -> None:
    solved = np.repeat([[0.0], [1.0]], 50, axis=0)
    rates = Sample(solved, "episodes").resample(4_000, seeded())
    assert rates.std() == pytest.approx(np.sqrt(0.25 / 100), rel=0.05)


def test_blocks_bound_memory_and_lose_no_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def spy(scores: Scores) -> Scores:
        counts.append(1 if scores.ndim == 2 else len(scores))
        return mean(scores)

    monkeypatch.setattr("clutr.experiments.evaluation.statistics._BLOCK", 60)
    estimate(spy, Sample(random_scores(4, 5), "seeds"), rng=seeded(), resamples=10)
    assert counts == [3, 3, 3, 1, 1]  # the last one is the point estimate


def test_same_seed_same_interval() -> None:
    sample = Sample(random_scores(6, 3), "seeds")
    assert estimate(mean, sample, rng=seeded(1)) == estimate(mean, sample, rng=seeded(1))
    assert estimate(mean, sample, rng=seeded(1)) != estimate(mean, sample, rng=seeded(2))


def test_bad_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"repetitions x tasks, got an array of shape \(3,\)"):
        Sample(np.zeros(3), "seeds")
    with pytest.raises(ValueError, match=r"got an array of shape \(0, 2\)"):
        Sample(np.zeros((0, 2)), "seeds")
    with pytest.raises(ValueError, match="not a finite number"):
        Sample(np.array([[0.0, np.nan]]), "seeds")


def test_proportion_is_wilsons_interval() -> None:
    # Wilson 1927: (p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n), z = 1.959964; for 8 of 10 by hand:
    interval = proportion(8, 10)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert proportion(10, 10).low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)
    assert proportion(0, 10).low == 0.0


def test_interval_as_json() -> None:
    assert Interval(0.5, 0.25, 0.75).to_json() == {"value": 0.5, "interval": [0.25, 0.75]}
