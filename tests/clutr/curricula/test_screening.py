"""SFL and NCC: which levels are kept, how they are drawn, and the optimised distribution against its formula."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.ncc import NCC, NCCConfig, ascend, project
from clutr.curricula.sfl import SFL, SFLConfig
from clutr.envs.maze.domain import MazeDomain

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=8)
CONTEXT = Context(DOMAIN, 1)


def played(proposal: Proposal, solved: Tensor) -> Outcome:
    """One episode in each environment, `solved` `[n]`."""
    n = len(solved)
    zeros, ones = torch.zeros(n), torch.ones(n)
    names = ("value_l1", "positive_value_loss", "negative_value_loss", "mean_value")
    statistics = EpisodeStatistics(solved, solved, solved, solved, ones, ones, dict.fromkeys(names, zeros))
    return Outcome.stack(proposal, [statistics])


def sfl(**options: Any) -> SFL:
    return SFLConfig(**{"candidates": 8, "environments": 2, "kept": 3, "train_updates": 2} | options).build(CONTEXT)


def screen(curriculum: SFL | NCC, solved: list[list[float]]) -> list[str]:
    """Play the screening's proposals with these results; the keys of all candidates."""
    keys = []
    for row in solved:
        proposal = curriculum.propose(8)
        assert not proposal.train.any(), "nothing is learnt while screening"
        assert proposal.assignment.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3]]
        curriculum.observe(played(proposal, torch.tensor(row)))
        keys += proposal.levels.key()
    return keys


# candidates 0, 2 (first batch) and 5 (second) are solved in one of their two episodes: p (1 - p) = 1/4
RESULTS = [[1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]]


def test_sfl_keeps_the_most_learnable_candidates() -> None:
    curriculum = sfl()
    keys = screen(curriculum, RESULTS)
    assert curriculum.kept is not None
    assert sorted(curriculum.kept.key()) == sorted([keys[0], keys[2], keys[5]])


def test_sfl_takes_turns() -> None:
    curriculum = sfl()
    phases = []
    for _ in range(9):
        proposal = curriculum.propose(8)
        phases.append("train" if proposal.train.all() else "screen")
        curriculum.observe(played(proposal, torch.zeros(8)))
    assert phases == ["screen", "screen", "train", "train"] * 2 + ["screen"]


def test_sfl_trains_on_kept_and_random_levels_in_their_fractions() -> None:
    curriculum = sfl(train_updates=200, kept_fraction=0.75)
    screen(curriculum, RESULTS)
    assert curriculum.kept is not None
    kept = curriculum.kept.key()
    counts = dict.fromkeys(kept, 0)
    for _ in range(100):
        proposal = curriculum.propose(8)
        keys = proposal.levels.key()
        assert set(keys[:6]) <= set(kept)
        assert not set(keys[6:]) & set(kept)
        for key in keys[:6]:
            counts[key] += 1
        curriculum.observe(played(proposal, torch.zeros(8)))
    assert chisquare(list(counts.values())).pvalue > 0.01


def ncc(**options: Any) -> NCC:
    config = {"candidates": 8, "environments": 2, "kept": 4, "train_updates": 50} | options
    return NCCConfig(**config).build(CONTEXT)


def nearest(point: np.ndarray, floor: float) -> np.ndarray:
    """The projection by bisection on the threshold."""
    low, high = point.min() - 2, point.max() + 2
    for _ in range(200):
        middle = (low + high) / 2
        total = np.maximum(point - middle, floor).sum()
        low, high = (middle, high) if total > 1 else (low, middle)
    found: np.ndarray = np.maximum(point - (low + high) / 2, floor)
    return found


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(-3, 3), min_size=1, max_size=9), fraction=st.floats(0.01, 0.9))
def test_the_projection_by_bisection(values: list[float], fraction: float) -> None:
    floor = fraction / len(values)
    found = project(torch.tensor(values, dtype=torch.float64), floor)
    assert float(found.sum()) == pytest.approx(1)
    assert float(found.min()) >= floor - 1e-12
    np.testing.assert_allclose(found.numpy(), nearest(np.array(values), floor), atol=1e-8)


def test_a_step_of_ascent_by_hand() -> None:
    """y = (1/2, 1/2), s = (1, 0), alpha = 0: the gradient is s, so y + 0.2 s = (0.7, 0.5), projected (0.6, 0.4)."""
    half = torch.full((2,), 0.5, dtype=torch.float64)
    scores = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert ascend(half, scores, 0.2, 0.0, 0.01).tolist() == pytest.approx([0.6, 0.4])


def test_ascent_ends_at_the_maximiser() -> None:
    """The maximiser of y . s + alpha H(y) is softmax(s / alpha)."""
    scores = torch.tensor([0.3, 0.1, 0.25, 0.0], dtype=torch.float64)
    y = torch.full((4,), 0.25, dtype=torch.float64)
    for _ in range(3_000):
        y = ascend(y, scores, 0.05, 0.2, 1e-4)
    torch.testing.assert_close(y, (scores / 0.2).softmax(0), atol=1e-6, rtol=0)


def test_levels_are_drawn_from_the_distribution_and_only_theirs_scores_change() -> None:
    curriculum = ncc(learning_rate=1e-9, train_updates=1_000)
    screen(curriculum, RESULTS)
    assert curriculum.levels is not None
    curriculum.distribution = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    keys, counts = curriculum.levels.key(), np.zeros(4)
    for _ in range(150):
        proposal = curriculum.propose(8)
        assert proposal.train.all()
        names = proposal.levels.key()
        assert len(set(names)) == len(names)
        for row in proposal.assignment[0].tolist():
            counts[keys.index(names[row])] += 1
        before = curriculum.scores.clone()
        curriculum.observe(played(proposal, torch.ones(8)))
        changed = curriculum.scores != before
        assert {keys[i] for i in changed.nonzero().flatten().tolist()} <= set(names)
    assert chisquare(counts, counts.sum() * np.array([0.1, 0.2, 0.3, 0.4])).pvalue > 0.01


def test_a_refreshed_buffer_holds_the_best_of_old_and_new_once_each() -> None:
    curriculum = ncc(train_updates=1)
    first = screen(curriculum, RESULTS)
    assert curriculum.levels is not None
    assert set(curriculum.levels.key()) >= {first[0], first[2], first[5]}
    proposal = curriculum.propose(8)
    curriculum.observe(played(proposal, torch.zeros(8)))
    held = dict(zip(curriculum.levels.key(), curriculum.scores.tolist(), strict=True))
    second = screen(curriculum, [[1.0, 1, 1, 1, 0, 0, 0, 0], [0.0] * 8])  # all of the first four at 1/4
    keys = curriculum.levels.key()
    assert len(set(keys)) == len(keys) == 4
    best = sorted((held | dict.fromkeys(second[:4], 0.25)).values(), reverse=True)[:4]
    assert sorted(curriculum.scores.tolist(), reverse=True) == pytest.approx(best)
    assert float(curriculum.distribution.sum()) == pytest.approx(1)


def test_messages() -> None:
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (SFLConfig, {"kept_fraction": 1.5}, r"kept_fraction must be in 0\.\.1, got 1\.5"),
        (SFLConfig, {"kept": 0}, "kept must be at least 1, got 0"),
        (SFLConfig, {"score": "x"}, "score must be one of"),
        (NCCConfig, {"entropy": 0.0}, r"entropy must be above 0, got 0\.0"),
        (NCCConfig, {"floor": 1.0}, r"floor must be below 1, got 1\.0"),
    ]
    for config, options, message in cases:
        with pytest.raises(ValueError, match=message):
            config(**options)
