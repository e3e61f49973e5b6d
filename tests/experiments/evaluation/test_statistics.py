import tracemalloc
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


def of_runs(scores: Scores) -> Sample:
    """Runs of which only the means are known: `[runs, tasks]`."""
    return Sample(scores[:, None, :])


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
    """Paired samples are resampled by the same indices: a run is drawn with all its tasks."""
    scores = random_scores(10, 3)

    def of_tasks(*tasks: Scores, axis: int) -> Scores:
        return statistic(np.stack([np.moveaxis(task, axis, -1) for task in tasks], axis=-1))

    peer = scipy.stats.bootstrap(
        tuple(scores.T), of_tasks, n_resamples=20_000, method="percentile", paired=True, rng=np.random.default_rng(0)
    ).confidence_interval
    ours = estimate(statistic, of_runs(scores), rng=seeded(), resamples=20_000)
    width = peer.high - peer.low
    assert ours.value == pytest.approx(float(statistic(scores)))
    assert ours.low == pytest.approx(peer.low, abs=0.03 * width)
    assert ours.high == pytest.approx(peer.high, abs=0.03 * width)


def test_improvement_interval_agrees_with_scipy_bootstrap() -> None:
    x, y = random_scores(8, 1, 1), random_scores(6, 1, 2) - 0.1

    def of_task(x0: Scores, y0: Scores, axis: int) -> Scores:
        assert axis == -1
        return probability_of_improvement(x0[..., None], y0[..., None])

    peer = scipy.stats.bootstrap(
        (x[:, 0], y[:, 0]), of_task, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    ours = estimate(probability_of_improvement, of_runs(x), of_runs(y), rng=seeded(), resamples=20_000)
    assert (ours.low, ours.high) == pytest.approx((peer.low, peer.high), abs=0.03)


def episodes_of(means: Scores, episodes: int, seed: int) -> Scores:
    return (np.random.default_rng(seed).random((len(means), episodes, means.shape[1])) < means[:, None]).astype(float)


def test_variance_is_that_of_runs_and_of_their_episodes() -> None:
    # Of R runs with means m: var(m) (n - 1 in neither) / R, and m (1 - m) / E within each, over R.
    means = np.array([[0.2], [0.4], [0.9], [0.5]])
    solved = np.stack([np.arange(50)[:, None] < 50 * mean for mean in means]).astype(float)
    drawn = Sample(solved).resample(20_000, seeded()).mean(axis=(1, 2))
    expected = means.var() / 4 + (means * (1 - means)).mean() / 50 / 4
    assert drawn.var() == pytest.approx(expected, rel=0.05)
    noisy = solved * 2 - 0.5  # the same for scores that are no shares
    assert Sample(noisy).resample(5_000, seeded()).mean(axis=(1, 2)).var() == pytest.approx(4 * expected, rel=0.1)


@pytest.mark.parametrize(("runs", "least", "most"), [(2, 0.5, 0.8), (3, 0.65, 0.88), (10, 0.86, 0.98)])
def test_coverage_with_few_seeds_is_what_is_said(runs: int, least: float, most: float) -> None:
    """See `compare.COVERAGE`: luck of a run moves all of its levels; the standard error over trials is 0.03."""
    generator, held, trials = np.random.default_rng(1), 0, 150
    for trial in range(trials):
        luck = generator.normal(0.5, 0.15, (runs, 1)) + generator.normal(0, 0.15, (runs, 12))
        sample = Sample(episodes_of(luck.clip(0, 1), 20, trial))
        interval = estimate(mean, sample, rng=seeded(trial), resamples=300)
        held += interval.low <= 0.5 <= interval.high
    assert least <= held / trials <= most


def test_coverage_of_a_single_run_is_that_of_its_episodes() -> None:
    held, trials = 0, 150
    rates = np.linspace(0.1, 0.9, 9)[None]
    for trial in range(trials):
        interval = estimate(mean, Sample(episodes_of(rates, 20, trial)), rng=seeded(trial), resamples=300)
        held += interval.low <= 0.5 <= interval.high
    assert 0.88 <= held / trials <= 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_all_agree_there_is_a_one_sided_bound(value: float) -> None:
    sample = Sample(np.full((2, 20, 3), value))
    found = estimate(mean, sample, rng=seeded(), units=120)
    exact = scipy.stats.binomtest(int(120 * value), 120, alternative="greater" if value else "less")
    peer = exact.proportion_ci(0.95, method="exact")
    assert (found.value, found.low, found.high) == pytest.approx((value, peer.low, peer.high))
    assert found.one_sided
    assert found.to_json()["one_sided"] is True
    assert abs(found.high - found.low) == pytest.approx(3 / 120, rel=0.02), "the rule of three"
    assert estimate(mean, sample, rng=seeded()) == Interval(value, value, value), "where nothing is known of its range"


def test_bounds_hold_the_truth() -> None:
    """A share of 0.97 gives 20 successes of 20 in 54 % of cases; the bound is wrong in at most 5 % of all."""
    successes = np.random.default_rng(0).binomial(20, 0.85, 2_000)
    wrong = [proportion(int(n), 20).low > 0.85 for n in successes if n == 20]
    assert sum(wrong) / 2_000 <= 0.05


def test_methods_that_are_apart_in_two_seeds_are_not_surely_better() -> None:
    better, worse = of_runs(np.full((2, 4), 0.9)), of_runs(np.full((2, 4), 0.1))
    found = estimate(probability_of_improvement, better, worse, rng=seeded(), units=2)
    assert (found.value, found.high, found.one_sided) == (1, 1, True)
    assert found.low == pytest.approx(0.05 ** (1 / 2)), "of pairs of runs that all agree"
    tied = estimate(probability_of_improvement, better, better, rng=seeded(), units=2)
    assert (tied.value, tied.low, tied.high, tied.one_sided) == (0.5, 0, 1, False)


def test_a_hundred_runs_a_side_fit_into_memory() -> None:
    samples = of_runs(random_scores(100, 12, 1)), of_runs(random_scores(100, 12, 2))
    tracemalloc.start()
    found = estimate(probability_of_improvement, *samples, rng=seeded(), resamples=1_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.low < 0.5 < found.high
    assert peak < 300e6


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    held, trials = 0, 400
    for trial in range(trials):
        scores = generator.normal(0.5, 0.2, (20, 4))  # symmetric and equal on all tasks: the true IQM is 0.5
        interval = estimate(interquartile_mean, of_runs(scores), rng=seeded(trial), resamples=300)
        held += interval.low <= 0.5 <= interval.high
    assert 0.90 <= held / trials <= 0.98  # 0.95 asked for; the standard error over trials is 0.011


def test_strata_are_kept() -> None:
    """Tasks differ but runs do not, so nothing is uncertain; mixing tasks would widen the interval."""
    scores = np.tile([0.0, 0.5, 1.0], (5, 1))
    assert estimate(mean, of_runs(scores), rng=seeded()) == Interval(0.5, 0.5, 0.5)


def test_episodes_of_one_run_are_reduced_before_the_statistic() -> None:
    # Solve rates 0.25 and 0.75. The IQM of one run is that of these, not of the zeros and ones.
    solved = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    sample = Sample(solved[None])
    assert sample.scores.tolist() == [[0.25, 0.75]]
    assert sample.resample(7, seeded()).shape == (7, 1, 2)
    assert estimate(median, sample, rng=seeded()).value == pytest.approx(0.5)


def test_resampled_episodes_have_the_binomial_spread() -> None:
    solved = np.repeat([[0.0], [1.0]], 50, axis=0)
    rates = Sample(solved[None]).resample(4_000, seeded())
    assert rates.std() == pytest.approx(np.sqrt(0.25 / 100), rel=0.05)


def test_blocks_bound_memory_and_lose_no_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def spy(scores: Scores) -> Scores:
        counts.append(1 if scores.ndim == 2 else len(scores))
        return mean(scores)

    monkeypatch.setattr("clutr.experiments.evaluation.statistics._BLOCK", 60)
    estimate(spy, of_runs(random_scores(4, 5)), rng=seeded(), resamples=10)
    assert counts == [3, 3, 3, 1, 1]  # the last one is the point estimate


def test_same_seed_same_interval() -> None:
    sample = of_runs(random_scores(6, 3))
    assert estimate(mean, sample, rng=seeded(1)) == estimate(mean, sample, rng=seeded(1))
    assert estimate(mean, sample, rng=seeded(1)) != estimate(mean, sample, rng=seeded(2))


def test_bad_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"runs x episodes x tasks, got an array of shape \(3,\)"):
        Sample(np.zeros(3))
    with pytest.raises(ValueError, match=r"got an array of shape \(1, 0, 2\)"):
        Sample(np.zeros((1, 0, 2)))
    with pytest.raises(ValueError, match="not a finite number"):
        Sample(np.array([[[0.0, np.nan]]]))


def test_proportion_is_wilsons_interval() -> None:
    # Wilson 1927: (p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n), z = 1.959964; for 8 of 10 by hand:
    interval = proportion(8, 10)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert proportion(10, 10).low == pytest.approx(0.05 ** (1 / 10))
    assert (proportion(0, 10).low, proportion(0, 10).high) == pytest.approx((0, 1 - 0.05 ** (1 / 10)))


def test_interval_as_json() -> None:
    assert Interval(0.5, 0.25, 0.75).to_json() == {"value": 0.5, "interval": [0.25, 0.75]}
