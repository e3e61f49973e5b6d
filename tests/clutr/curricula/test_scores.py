"""Scores of levels against numbers worked by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.agents.student import EpisodeStatistics, Trajectories
from clutr.curricula.scores import SCORES, Played, Scorer, require_score
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.text import parse

# Three levels: 4 episodes of which one was solved; one that was solved; none finished.
STATISTICS = EpisodeStatistics(
    mean_return=torch.tensor([0.2, 0.9, 0.0]),
    best_return=torch.tensor([0.8, 0.9, 0.0]),
    square_return=torch.tensor([0.16, 0.81, 0.0]),
    solved=torch.tensor([0.25, 1.0, 0.0]),
    episodes=torch.tensor([4.0, 1.0, 0.0]),
    length=torch.tensor([10.0, 5.0, 0.0]),
    scores={
        "value_l1": torch.tensor([0.5, 0.1, 0.2]),
        "positive_value_loss": torch.tensor([0.3, 0.0, 0.2]),
        "negative_value_loss": torch.tensor([0.2, 0.1, 0.0]),
        "signed_value_loss": torch.tensor([0.1, -0.1, 0.2]),
        "mean_value": torch.tensor([0.5, 1.0, 0.25]),
        "discounted_return": torch.tensor([0.15, 0.8, 0.0]),
    },
)
PLAYED = Played(STATISTICS, torch.tensor([0.85, 0.9, 0.0]), torch.tensor([0.95, 0.9, 0.0]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("value_l1", [0.5, 0.1, 0.2]),
        ("positive_value_loss", [0.3, 0.0, 0.2]),
        ("negative_advantage", [0.2, 0.1, 0.0]),
        ("max_mc", [0.35, -0.1, -0.25]),
        ("grounded_positive", [0.35, 0.0, 0.0]),
        ("learnability", [0.1875, 0.0, 0.0]),
        ("return_variance", [0.12, 0.0, 0.0]),
        ("regret", [0.75, 0.0, 0.0]),
        ("discounted_regret", [0.8, 0.1, 0.0]),
    ],
)
def test_scores_by_hand(name: str, expected: list[float]) -> None:
    torch.testing.assert_close(SCORES[name](PLAYED), torch.tensor(expected), atol=1e-6, rtol=0)


def test_all_scores_are_tested() -> None:
    assert len(SCORES) == 9


def test_an_unknown_score_is_named() -> None:
    with pytest.raises(ValueError, match=r"score must be one of value_l1, .*regret, got 'luck'"):
        require_score("luck")


def test_regret_needs_a_domain_that_knows_the_optimum() -> None:
    with pytest.raises(
        ValueError,
        match="capability OptimalReturn, but CarDomain has no optimal_return",
    ):
        Scorer("regret", CarDomain())
    Scorer("value_l1", CarDomain())


def test_regret_is_measured_against_the_shortest_path() -> None:
    domain = MazeDomain(height=1, width=5, max_obstacles=0, max_steps=10)
    levels = parse("#######\n#>...G#\n#######")
    one: dict[str, Any] = {
        name: value[:1] if isinstance(value, Tensor) else {k: v[:1] for k, v in value.items()}
        for name, value in vars(STATISTICS).items()
        if value is not None
    }
    # four steps ahead: 1 - 0.9 * 4 / 10 = 0.64, of which the student got 0.2
    score = Scorer("regret", domain)(levels, EpisodeStatistics(**one), torch.tensor([0.8]))
    torch.testing.assert_close(score, torch.tensor([0.44]))


def test_discounted_regret_counts_a_far_goal_less() -> None:
    domain = MazeDomain(height=1, width=5, max_obstacles=0, max_steps=10)
    near, far = parse("#######\n#..>.G#\n#######"), parse("#######\n#>...G#\n#######")
    levels = type(near).concatenate([near, far])
    nothing: dict[str, Any] = {
        name: torch.zeros(2) if isinstance(value, Tensor) else {each: torch.zeros(2) for each in value}
        for name, value in vars(STATISTICS).items()
        if value is not None
    }
    score = Scorer("discounted_regret", domain)(levels, EpisodeStatistics(**nothing), torch.zeros(2))
    # two and four steps ahead, of which the first is not discounted
    torch.testing.assert_close(score, torch.tensor([0.995 * 0.82, 0.995**3 * 0.64]))


def test_value_statistics_of_a_rollout_by_hand() -> None:
    """Two environments, three steps; the first finishes episodes with returns 1 and 3, the second's is cut."""
    done = torch.tensor([[True, False], [False, False], [True, False]])
    advantages = torch.tensor([[1.0, 2.0], [-2.0, 2.0], [0.5, 2.0]])
    zeros = torch.zeros(3, 2)
    fields: dict[str, Any] = dict.fromkeys(Trajectories.__dataclass_fields__, zeros)
    fields |= {
        "rewards": torch.tensor([[1.0, 1.0], [1.0, 1.0], [2.0, 1.0]]),
        "terminated": done,
        "truncated": torch.zeros_like(done),
        "solved": done,
        "advantages": advantages,
        "values": torch.tensor([[3.0, 0.0], [6.0, 0.0], [0.0, 0.0]]),
    }
    found = Trajectories(**fields).statistics()
    assert found.mean_return.tolist() == [1.0, 3.0]
    assert found.square_return.tolist() == [1.0, 9.0]
    assert found.best_return.tolist() == [3.0, 3.0]
    expected = {
        "value_l1": [3.5 / 3, 2.0],
        "positive_value_loss": [0.5, 2.0],
        "negative_value_loss": [2 / 3, 0.0],
        "signed_value_loss": [-0.5 / 3, 2.0],
        "mean_value": [3.0, 0.0],
        # the first episode alone: one step, and three of which each later one counts .995 times as much
        "discounted_return": [1.0, 1 + 0.995 + 0.995**2],
    }
    assert set(found.scores) == set(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found.scores[name], torch.tensor(values))
