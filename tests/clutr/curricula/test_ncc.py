"""NCC's distribution against enumerations and fixed points worked out another way, and what a refresh keeps."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.ncc import NCC, NCCConfig, adapted_step, ascend, gradient_of, project
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import MazeLevels

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=8)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def nearest(point: np.ndarray, floor: float) -> np.ndarray:
    """The nearest distribution, among those for each choice of which outcomes lie on the floor."""
    count, found, least = len(point), np.array([]), np.inf
    for size in range(1, count + 1):
        for free in combinations(range(count), size):
            candidate = np.full(count, floor)
            rows = list(free)
            candidate[rows] = point[rows] + (1 - floor * (count - size) - point[rows].sum()) / size
            distance = float(((candidate - point) ** 2).sum())
            if candidate.min() >= floor - 1e-12 and distance < least:
                found, least = candidate, distance
    return found


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(-2, 2), min_size=1, max_size=6), fraction=st.floats(0.01, 0.95))
def test_the_projection_by_enumeration(values: list[float], fraction: float) -> None:
    floor = fraction / len(values)
    found = project(doubles(*values), floor)
    np.testing.assert_allclose(found.numpy(), nearest(np.array(values), floor), atol=1e-9)
    torch.testing.assert_close(project(found, floor), found)


def test_ascent_by_hand_with_entropy() -> None:
    """Without scores the gradient is -(log y + 1): (log 4 - 1, log 4/3 - 1), and the sum is mended by halves."""
    moved = [0.25 + 0.1 * (math.log(4) - 1), 0.75 + 0.1 * (math.log(4 / 3) - 1)]
    mend = (1 - sum(moved)) / 2
    found = ascend(doubles(0.25, 0.75), doubles(0, 0), 0.1, 1.0, 0.01)
    assert found.tolist() == pytest.approx([moved[0] + mend, moved[1] + mend])


def test_ascent_by_hand_on_the_floor() -> None:
    """(0.2, 0.3, 0.5) + (-10, 0, 1): the first two end on the floor of 0.05, the third has the rest."""
    assert ascend(doubles(0.2, 0.3, 0.5), doubles(-10, 0, 1), 1.0, 0.0, 0.05).tolist() == pytest.approx(
        [0.05, 0.05, 0.9]
    )


def test_adapted_steps_by_hand() -> None:
    """(0.1 + 0.9)^-0.4 = 1, and (0.1 + 31.9)^-0.4 = 32^-0.4 = 2^-2."""
    assert adapted_step(0.5, doubles(0.9, 31.9)).tolist() == pytest.approx([0.5, 0.125])
    found = ascend(doubles(0.5, 0.5), doubles(1, 0), doubles(0.2, 0.1), 0.0, 0.01)
    assert found.tolist() == pytest.approx([0.6, 0.4])  # (0.7, 0.5), and the sum is mended by halves


@pytest.mark.parametrize("floor", [0.001, 0.1, 0.2])
def test_ascent_ends_at_the_maximiser_with_or_without_the_floor(floor: float) -> None:
    """The maximiser of y . s + alpha H(y) over y >= floor is max(floor, c exp(s / alpha)) with the c that sums to 1."""
    scores, alpha = doubles(0.5, 0.1, 0.25, 0.0), 0.15
    weights = (scores / alpha).exp().numpy()
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if np.maximum(floor, middle * weights).sum() > 1 else (middle, high)
    y, value = doubles(0.7, 0.1, 0.1, 0.1), -math.inf
    y = project(y, floor)
    for _ in range(1_500):
        y = ascend(y, scores, 0.02, alpha, floor)
        now = float(y @ scores - alpha * (y * y.log()).sum())
        assert now >= value - 1e-12, "no step goes down"
        value = now
    np.testing.assert_allclose(y.numpy(), np.maximum(floor, low * weights), atol=1e-6)


class Scripted:
    """A domain whose samples are given, so that a level can come twice."""

    level_type = MazeLevels

    def __init__(self, levels: MazeLevels) -> None:
        self.levels, self.next = levels, 0

    def sample(self, n: int, _: torch.Generator) -> MazeLevels:
        self.next += n
        return self.levels[self.next - n : self.next]


def ncc(order: list[int], **options: Any) -> tuple[NCC, list[str]]:
    """NCC that screens these of twelve levels in turn, two a batch of four, and the twelve keys."""
    pool = DOMAIN.sample(12, torch.Generator().manual_seed(3))
    assert len(set(pool.key())) == 12
    domain: Any = Scripted(pool[torch.tensor(order)])
    config: dict[str, Any] = {
        "score": "max_mc",
        "candidates": 4,
        "environments": 2,
        "kept": 3,
        "train_updates": 1,
    } | options
    return NCCConfig(**config).build(Context(domain, 1)), pool.key()


def observe(curriculum: NCC, proposal: Proposal, best: list[float]) -> dict[str, Tensor]:
    """One episode an environment, whose return is its score."""
    value, ones = torch.tensor(best), torch.ones(len(best))
    statistics = EpisodeStatistics(value, value, value, value, ones, ones, {"mean_value": 0 * value})
    return curriculum.observe(Outcome.stack(proposal, [statistics]))


def screen(curriculum: NCC, scores: list[float]) -> None:
    for first, second in zip(scores[::2], scores[1::2], strict=True):
        proposal = curriculum.propose(4)
        assert not proposal.train.any()
        observe(curriculum, proposal, [first, second] * 2)


def held(curriculum: NCC) -> dict[str, float]:
    assert curriculum.levels is not None
    return dict(zip(curriculum.levels.key(), curriculum.scores.tolist(), strict=True))


def test_a_first_screening_keeps_the_best_at_equal_chances() -> None:
    curriculum, keys = ncc([0, 1, 2, 3])
    screen(curriculum, [0.2, 0.9, 0.1, 0.4])
    assert held(curriculum) == pytest.approx({keys[1]: 0.9, keys[3]: 0.4, keys[0]: 0.2})
    assert curriculum.distribution.tolist() == pytest.approx([1 / 3] * 3)


def test_a_level_that_is_screened_again_is_kept_once_with_its_newest_score_and_its_chance() -> None:
    curriculum, keys = ncc([0, 1, 2, 3, 1, 0, 4, 4], floor=0.3)
    screen(curriculum, [0.2, 0.9, 0.1, 0.4])
    curriculum.trained = 1
    curriculum.distribution = doubles(0.2, 0.3, 0.5)  # of levels 1, 3, 0
    screen(curriculum, [0.05, 0.8, 0.6, 0.7])  # 1 has become worse, 0 better, and 4 comes twice
    assert held(curriculum) == pytest.approx({keys[0]: 0.8, keys[4]: 0.7, keys[3]: 0.4})
    # 0 and 3 keep 0.5 and 0.3, the newcomer has 1/3; the sum is 17/15, so each gives a third of 2/15
    assert curriculum.distribution.tolist() == pytest.approx([0.5 - 2 / 45, 1 / 3 - 2 / 45, 0.3 - 2 / 45])


def test_no_level_is_kept_twice_to_fill_the_buffer() -> None:
    curriculum, keys = ncc([5, 5, 5, 6])
    screen(curriculum, [0.1, 0.2, 0.3, 0.4])
    assert held(curriculum) == pytest.approx({keys[6]: 0.4, keys[5]: 0.3})
    assert curriculum.distribution.tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("order", [[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 3]])
def test_entropy_is_a_fraction_of_the_largest_possible(order: list[int]) -> None:
    curriculum, _ = ncc(order, kept=4, learning_rate=1e-12)
    screen(curriculum, [0.5] * 4)
    found = observe(curriculum, curriculum.propose(4), [0.5] * 4)
    assert float(found["entropy"]) == pytest.approx(1.0)


def test_the_distribution_moves_towards_what_scores_more() -> None:
    curriculum, keys = ncc([0, 1, 2, 3], kept=2, train_updates=100)
    screen(curriculum, [0.5, 0.5, 0.0, 0.0])
    for _ in range(40):
        proposal = curriculum.propose(4)
        assert proposal.train.all()
        names = proposal.levels.key()
        returns = [1.0 if names[level] == keys[1] else 0.0 for level in proposal.assignment[0].tolist()]
        observe(curriculum, proposal, returns)
    assert curriculum.levels is not None
    best = curriculum.levels.key().index(keys[1])
    assert float(curriculum.distribution[best]) > 0.65
    assert float(curriculum.distribution.min()) >= 0.05  # a tenth of the uniform chance


def test_an_adaptive_step_remembers_the_gradients_of_levels_that_stay() -> None:
    curriculum, keys = ncc([0, 1, 2, 3, 1, 4, 5, 6], adaptive=True, learning_rate=0.01)
    screen(curriculum, [0.2, 0.9, 0.1, 0.4])
    proposal = curriculum.propose(4)
    observe(curriculum, proposal, [0.0] * 4)
    gradient = gradient_of(doubles(1 / 3, 1 / 3, 1 / 3), curriculum.scores.double(), 0.05)
    torch.testing.assert_close(curriculum.squares, gradient.square())
    assert curriculum.levels is not None
    before = dict(zip(curriculum.levels.key(), curriculum.squares.tolist(), strict=True))
    screen(curriculum, [0.9, 0.8, 0.0, 0.0])
    after = dict(zip(curriculum.levels.key(), curriculum.squares.tolist(), strict=True))
    assert after[keys[1]] == before[keys[1]]
    assert after[keys[4]] == 0


def test_the_whole_buffer_is_scored_anew_before_the_distribution_moves() -> None:
    curriculum, keys = ncc([0, 1, 2, 3], rescore=True, train_updates=100)
    screen(curriculum, [0.2, 0.9, 0.1, 0.4])
    observe(curriculum, curriculum.propose(4), [0.5] * 4)
    uniform = curriculum.distribution.clone()
    seen: list[str] = []
    for _ in range(2):  # three levels, two at a time
        assert torch.equal(curriculum.distribution, uniform)
        proposal = curriculum.propose(4)
        assert not proposal.train.any()
        names = proposal.levels.key()
        seen += names
        observe(
            curriculum, proposal, [0.7 if names[row] == keys[3] else 0.1 for row in proposal.assignment[0].tolist()]
        )
    assert sorted(seen) == sorted([keys[0], keys[1], keys[3]])
    assert held(curriculum) == pytest.approx({keys[0]: 0.1, keys[1]: 0.1, keys[3]: 0.7})
    assert curriculum.levels is not None
    assert int(curriculum.distribution.argmax()) == curriculum.levels.key().index(keys[3])
    assert curriculum.propose(4).train.all()


def test_bad_steps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"learning_rate must be above 0, got 0\.0"):
        NCCConfig(learning_rate=0.0)
    with pytest.raises(ValueError, match=r"floor must be above 0, got 0\.0"):
        NCCConfig(floor=0.0)
    with pytest.raises(ValueError, match="candidates must be at least 1, got 0"):
        NCCConfig(candidates=0)
