"""The level buffer: its distribution against the formulas, and that it neither loses nor duplicates a level."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.buffer import LevelBuffer, ReplayOptions, score_distribution
from clutr.envs.domain import LevelBatch
from clutr.experiments.benchmarks.buffers import PlainLevelBuffer


@dataclass(frozen=True)
class Numbers(LevelBatch):
    """A level is a number."""

    number: Tensor


def numbers(*values: int) -> Numbers:
    return Numbers(torch.tensor(values))


def buffer(**options: Any) -> LevelBuffer:
    return LevelBuffer(ReplayOptions(**options), Numbers, columns=("best_return",))


def filled(scores: list[float], **options: Any) -> LevelBuffer:
    found = buffer(**options)
    found.insert(numbers(*range(len(scores))), torch.tensor(scores), best_return=torch.zeros(len(scores)))
    return found


@pytest.mark.parametrize(
    ("priority", "temperature", "floor", "scores", "weights"),
    [
        ("rank", 1.0, 0.0, [3.0, 1.0, 2.0], [1, 1 / 3, 1 / 2]),
        ("rank", 0.5, 0.0, [3.0, 1.0, 2.0], [1, 1 / 9, 1 / 4]),
        ("rank", 1.0, 0.0, [-5.0, -1.0], [1 / 2, 1]),
        ("rank", 1.0, 0.0, [1.0, 1.0, 1.0], [1, 1 / 2, 1 / 3]),  # equal scores rank in the order of storage
        ("proportional", 1.0, 0.0, [3.0, 1.0, -2.0], [3, 1, 0]),
        ("proportional", 0.5, 0.0, [3.0, 1.0, 0.0], [9, 1, 0]),
        ("proportional", 1.0, 0.0, [0.0, -1.0], [1, 1]),  # nothing to choose by
        ("power", 1.0, 0.001, [0.999, 0.0], [1, 0.001]),
    ],
)
def test_score_distribution_by_hand(
    priority: Any, temperature: float, floor: float, scores: list[float], weights: list[float]
) -> None:
    expected = torch.tensor(weights, dtype=torch.float64)
    found = score_distribution(torch.tensor(scores), priority, temperature, floor)
    torch.testing.assert_close(found, expected / expected.sum(), rtol=1e-6, atol=1e-12)


def test_huge_scores_and_low_temperatures_do_not_overflow() -> None:
    found = score_distribution(torch.tensor([1e30, 1.0]), "proportional", 0.01)
    assert found.tolist() == [1.0, 0.0]


def test_staleness_by_hand() -> None:
    found = filled([0.0, 2.0, 1.0], staleness=0.25, priority="proportional", temperature=1.0)
    found.clock, found.last_drawn = 10, torch.tensor([4, 10, 8])
    expected = [0.75 * 0 + 0.25 * 6 / 8, 0.75 * 2 / 3 + 0, 0.75 * 1 / 3 + 0.25 * 2 / 8]
    torch.testing.assert_close(found.distribution(), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("priority", "staleness"), [("rank", 0.0), ("proportional", 0.0), ("power", 0.0)])
def test_draws_have_the_frequencies_of_the_formula(priority: str, staleness: float) -> None:
    found = filled([0.1, 0.4, 0.2, 0.3], priority=priority, staleness=staleness, temperature=1.0)
    drawn = found.draw(4_000, torch.Generator().manual_seed(1)).bincount(minlength=4)
    assert chisquare(drawn.numpy(), 4_000 * found.distribution().numpy()).pvalue > 0.01


def test_a_first_draw_follows_staleness_too_and_the_next_sees_the_one_before() -> None:
    """Pairs of draws against the product of the formula at each of the two times."""
    start = filled([0.1, 0.4, 0.2], priority="proportional", staleness=0.5, temperature=1.0)
    by_score = torch.tensor([1 / 7, 4 / 7, 2 / 7], dtype=torch.float64)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for first in range(3):
        ages = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)  # levels were put in one after the other
        chance = 0.5 * by_score[first] + 0.5 * ages[first] / 3
        ages += 1
        ages[first] = 0
        expected[first] = chance * (0.5 * by_score + 0.5 * ages / ages.sum())
    rng, counts = torch.Generator().manual_seed(2), torch.zeros(3, 3)
    state = start.state_dict()
    for _ in range(1_500):
        start.load_state_dict(state)
        first, second = start.draw(2, rng).tolist()
        counts[first, second] += 1
    assert chisquare(counts.flatten().numpy(), 1_500 * expected.flatten().numpy()).pvalue > 0.01


def test_replay_waits_for_the_minimum_fill_and_grows_with_it() -> None:
    found = buffer(capacity=4, minimum_fill=0.5, replay_probability=0.9)
    chances = []
    for number in range(5):
        found.insert(numbers(number), torch.ones(1), best_return=torch.zeros(1))
        chances.append(found.replay_chance)
    assert chances == [0.0, 0.5, 0.75, 0.9, 0.9]


def test_a_full_buffer_gives_up_what_is_least_likely_for_what_scores_as_much() -> None:
    found = filled([0.3, 0.1, 0.2], capacity=3, staleness=0.0)
    rows = found.insert(numbers(10, 11, 12), torch.tensor([0.05, 0.1, 0.5]), best_return=torch.tensor([1.0, 2.0, 3.0]))
    # 10 scores less than the least; 11 replaces level 1, and 12 that of 11
    assert rows.tolist() == [-1, -1, 1]
    assert found.levels.tensors()["number"].tolist() == [0, 12, 2]
    torch.testing.assert_close(found.scores, torch.tensor([0.3, 0.5, 0.2]))
    assert found.columns["best_return"].tolist() == [0.0, 3.0, 0.0]


def test_known_levels_get_their_new_score_before_strangers_are_offered() -> None:
    found = filled([0.1, 0.2], capacity=2, staleness=0.0)
    rows = found.insert(numbers(7, 0), torch.tensor([0.3, 0.4]), best_return=torch.tensor([1.0, 2.0]))
    assert rows.tolist() == [1, 0], "level 1 had to go, since level 0 was found to be worth more than before"
    torch.testing.assert_close(found.scores, torch.tensor([0.4, 0.3]))


def test_the_best_return_outlives_a_rollout() -> None:
    found = buffer()
    found.insert(numbers(1, 2, 3), torch.zeros(3), best_return=torch.tensor([0.5, -9.0, 0.0]))
    zeros = torch.zeros(4)
    now = EpisodeStatistics(
        zeros, torch.tensor([0.25, -3.0, 0.0, -2.0]), zeros, zeros, torch.tensor([1.0, 1, 0, 1]), zeros, {}
    )
    assert found.best_return(numbers(1, 2, 8, 9), now).tolist() == [0.5, -3.0, 0.0, -2.0]


def test_a_level_that_is_played_twice_at_once_has_one_best_return() -> None:
    found, zeros = buffer(), torch.zeros(3)
    now = EpisodeStatistics(zeros, torch.tensor([0.9, 0.5, 0.1]), zeros, zeros, torch.ones(3), zeros, {})
    levels = numbers(4, 5, 4)
    best = found.best_return(levels, now)
    torch.testing.assert_close(best, torch.tensor([0.9, 0.5, 0.9]))
    found.insert(levels, zeros, best_return=best)
    torch.testing.assert_close(found.columns["best_return"], torch.tensor([0.9, 0.5]))


def test_proposals_keep_their_levels_when_the_buffer_changes() -> None:
    found = filled([0.1, 0.2], capacity=2, staleness=0.0)
    proposed = found.levels[torch.tensor([0, 1])]
    found.insert(numbers(7), torch.tensor([0.9]), best_return=torch.zeros(1))
    assert proposed.tensors()["number"].tolist() == [0, 1]


def test_errors() -> None:
    found = buffer()
    with pytest.raises(RuntimeError, match="the level buffer is still empty"):
        found.draw(1, torch.Generator())
    with pytest.raises(RuntimeError, match="the level buffer is still empty"):
        found.levels  # noqa: B018
    with pytest.raises(ValueError, match="the buffer keeps the columns best_return, got regret"):
        found.insert(numbers(1), torch.zeros(1), regret=torch.zeros(1))
    assert found.draw(0, torch.Generator()).tolist() == []
    for options, message in [
        ({"score": "x"}, "score must be one of"),
        ({"priority": "x"}, "priority must be rank or proportional or power, got 'x'"),
        ({"capacity": 0}, "capacity must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"staleness": 1.5}, r"staleness must be in 0..1, got 1.5"),
        ({"minimum_fill": -0.5}, r"minimum_fill must be in 0..1, got -0.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            ReplayOptions(**options)  # type: ignore[arg-type]


Batches = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.floats(-1, 1, width=32)), min_size=1, max_size=5), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(batches=Batches, capacity=st.integers(1, 6), draws=st.integers(0, 3))
def test_no_level_is_lost_or_kept_twice(batches: list[list[tuple[int, float]]], capacity: int, draws: int) -> None:
    found, rng = buffer(capacity=capacity), torch.Generator().manual_seed(0)
    offered: dict[int, float] = {}
    for batch in batches:
        before = set(found.levels.tensors()["number"].tolist()) if len(found) else set()
        levels, scores = numbers(*(n for n, _ in batch)), torch.tensor([score for _, score in batch])
        rows = found.insert(levels, scores, best_return=scores * 2)
        offered |= dict(batch)
        held = found.levels.tensors()["number"].tolist()
        assert len(held) == len(set(held)) == len(found) == len(found.scores) == len(found.last_drawn) <= capacity
        assert set(held) <= before | {n for n, _ in batch}
        assert len(before - set(held)) <= len(batch)
        assert len(found) == min(capacity, len(before | {n for n, _ in batch}))
        assert [held[row] if row >= 0 else None for row in rows.tolist()] == [
            n if n in held else None for n, _ in batch
        ]
        for row, n in enumerate(held):
            assert float(found.scores[row]) == pytest.approx(offered[n])
            assert float(found.columns["best_return"][row]) == pytest.approx(2 * offered[n])
        assert found.find(levels).tolist() == rows.tolist()
        assert all(key in found for key in found.levels.key())
        if len(found):
            found.draw(draws, rng)
    copy = buffer(capacity=capacity)
    copy.load_state_dict(found.state_dict())
    assert torch.equal(copy.distribution(), found.distribution())
    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    assert copy.draw(5, first).tolist() == found.draw(5, second).tolist()
    assert copy.levels.key() == found.levels.key()


RULES = st.fixed_dictionaries(
    {
        "priority": st.sampled_from(["rank", "proportional", "power"]),
        "temperature": st.sampled_from([0.03, 0.1, 0.3, 1.0]),
        "staleness": st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
        "capacity": st.sampled_from([1, 2, 5, 130]),  # also more than one block of rows
    }
)


def scores_of(choices: list[int]) -> Tensor:
    """Scores without accidental near ties: equal for equal choices, below 0 for some, far above the rest for one."""
    return torch.tensor([1e4 if choice == 40 else math.sin(choice * choice) for choice in choices])


def assert_same(ours: LevelBuffer, plain: LevelBuffer) -> None:
    assert ours.levels.key() == ours._keys == plain.levels.key()
    for name in ("scores", "last_drawn", "columns", "clock"):
        torch.testing.assert_close(getattr(ours, name), getattr(plain, name), rtol=0, atol=0, msg=name)


@settings(max_examples=50, deadline=None)
@given(rules=RULES, seed=st.integers(0, 10**6), draws=st.integers(0, 4), distinct=st.integers(1, 41))
def test_many_levels_at_once_are_taken_as_one_by_one(
    rules: dict[str, Any], seed: int, draws: int, distinct: int
) -> None:
    """Against the buffer that computes the distribution anew for each level: levels, scores, ages, rows and clock."""
    ours = LevelBuffer(ReplayOptions(**rules), Numbers)
    plain = PlainLevelBuffer(ReplayOptions(**rules), Numbers)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(4):
        n = int(torch.randint(1, 2 * rules["capacity"] + 3, (), generator=rng))
        levels = Numbers(torch.randint(0, 3 * rules["capacity"], (n,), generator=rng))
        scores = scores_of(torch.randint(0, distinct, (n,), generator=rng).tolist())
        best = torch.rand(n, generator=rng)
        rows = ours.insert(levels, scores, best_return=best)
        assert rows.tolist() == plain.insert(levels, scores, best_return=best).tolist()
        assert_same(ours, plain)
        assert ours._rows == plain._rows
        ours.draw(draws, rng)
        plain.load_state_dict(ours.state_dict())


@settings(max_examples=40, deadline=None)
@given(
    ages=st.lists(st.integers(0, 9), min_size=1, max_size=300),
    staleness=st.sampled_from([0.3, 1.0]),
    n=st.integers(1, 9),
)
def test_draws_follow_the_formula_number_by_number(ages: list[int], staleness: float, n: int) -> None:
    """The same random numbers and the running sums of the formula's two parts, computed anew for each draw."""
    found = filled([float(i % 7) for i in range(len(ages))], staleness=staleness)
    found.clock, found.last_drawn = 400, 400 - torch.tensor(ages)
    by_score, last = score_distribution(found.scores, "rank", found.options.temperature), found.last_drawn.clone()
    expected = []
    for i, (which, where) in enumerate(
        torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    ):
        age = 400 + i - last
        parts = by_score.cumsum(0) if which >= staleness else (age if age.any() else torch.ones_like(age)).cumsum(0)
        target = where * parts[-1]
        expected.append(int((parts > (target if which >= staleness else target.floor())).long().argmax()))
        last[expected[-1]] = 400 + i + 1
    assert found.draw(n, torch.Generator().manual_seed(n)).tolist() == expected
    assert found.last_drawn.tolist() == last.tolist()
    assert found.clock == 400 + n


def test_weights_neither_overflow_nor_vanish() -> None:
    """Scores that rise and fall by dozens of orders of magnitude within a batch, each to the tenth power."""
    rules: dict[str, Any] = {"priority": "proportional", "temperature": 0.1, "staleness": 0.5, "capacity": 3}
    ours, plain = LevelBuffer(ReplayOptions(**rules), Numbers), PlainLevelBuffer(ReplayOptions(**rules), Numbers)
    levels = numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 7, 10, 11, 9, 6, 12, 13)
    scores = [1e-9, 0, 2e-9, 1e12, 1e5, 3e12, 1e30, 2e30, 1.5e30, 1e30, 1e-9, 3e-9, 4e-9, 2e-9, 3e-9, 3e-9, 5e-9]
    for buffer in (ours, plain):
        buffer.insert(levels, torch.tensor(scores), best_return=torch.zeros(len(scores)))
    assert_same(ours, plain)


def test_draws_without_replacement_are_distinct_and_follow_the_distribution() -> None:
    """The first of them is a draw from the distribution; the second one from what is left of it."""
    held = filled([3.0, 1.0, 2.0], temperature=1.0, staleness=0.0, replacement=False)
    chances = held.distribution()
    rng, firsts, pairs = torch.Generator().manual_seed(1), torch.zeros(3), torch.zeros(3, 3)
    for _ in range(3_000):
        first, second = held.draw(2, rng).tolist()
        firsts[first] += 1
        pairs[first, second] += 1
    assert chisquare(firsts, 3_000 * chances).pvalue > 0.001
    assert pairs.diagonal().tolist() == [0, 0, 0]
    left = chances[[1, 2]] / chances[[1, 2]].sum()
    assert chisquare(pairs[0, [1, 2]], pairs[0].sum() * left).pvalue > 0.001


def test_a_low_temperature_fills_a_batch_with_the_best_instead_of_one_level() -> None:
    """The published temperature: with replacement most of a batch is one level."""
    options: dict[str, Any] = {"temperature": 0.1, "staleness": 0.3}
    scores = torch.randperm(500, generator=torch.Generator().manual_seed(1)).float()
    again, once = (filled(scores.tolist(), replacement=each, **options) for each in (True, False))
    rng = torch.Generator().manual_seed(2)
    repeated, distinct = again.draw(32, rng), once.draw(32, rng)
    assert int(repeated.bincount().max()) > 16
    assert len(distinct.unique()) == 32
    best = set(scores.argsort(descending=True)[:32].tolist())
    assert len(best & set(distinct.tolist())) >= 16


def test_more_draws_than_levels_repeat_them_evenly_and_each_ages_the_others() -> None:
    held = filled([3.0, 1.0, 2.0], replacement=False)
    before = held.clock
    drawn = held.draw(7, torch.Generator().manual_seed(1))
    assert sorted(drawn.bincount().tolist()) == [2, 2, 3]
    assert held.clock == before + 7
    assert held.last_drawn[drawn[6]] == before + 7
    assert sorted(held.last_drawn.tolist()) == [before + 5, before + 6, before + 7]


@pytest.mark.parametrize("replacement", [True, False])
def test_draws_that_came_to_nothing_leave_no_mark(replacement: bool) -> None:
    """Staleness is then what drawing the others alone leaves: here the first, the third and the fourth of five."""
    held = filled([3.0, 1.0, 2.0], replacement=replacement)
    before, clock = held.last_drawn.clone(), held.clock
    rows = held.draw(5, torch.Generator().manual_seed(1))
    held.undo(rows, torch.tensor([True, False, True, True, False]), before)
    expected = before.clone()
    for row in rows[[0, 2, 3]].tolist():
        clock += 1
        expected[row] = clock
    assert held.last_drawn.tolist() == expected.tolist()
    assert held.clock == clock


def test_levels_without_any_chance_come_last() -> None:
    held = filled([0.0, 5.0, 0.0], priority="proportional", temperature=1.0, staleness=0.0, replacement=False)
    assert held.draw(3, torch.Generator().manual_seed(1)).tolist() == [1, 0, 2]
