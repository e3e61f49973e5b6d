"""Outcomes by level, where environments share levels and students play different ones."""

from dataclasses import replace

import torch
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import Outcome, Proposal
from clutr.envs.maze.level import empty_levels


def statistics(mean: list[float], best: list[float], episodes: list[float], value: list[float]) -> EpisodeStatistics:
    column: list[Tensor] = [torch.tensor(values, dtype=torch.float32) for values in (mean, best, episodes)]
    average, top, count = column
    return EpisodeStatistics(
        mean_return=average,
        best_return=top,
        square_return=average.square(),
        solved=(average > 0).float(),
        episodes=count,
        length=10 * count,
        scores={"value_l1": torch.tensor(value, dtype=torch.float32)},
    )


# Three levels; the first student plays 0, 2, 0, 2 and the second 1, 1, 1, 0.
PROPOSAL = Proposal(empty_levels(3, 3, 3), torch.tensor([[0, 2, 0, 2], [1, 1, 1, 0]]), torch.ones(3, dtype=torch.bool))
OUTCOME = Outcome.stack(
    PROPOSAL,
    [
        statistics([0.5, -1.0, 0.25, 0.0], [0.5, -0.5, 0.75, 0.0], [1, 2, 3, 0], [1, 2, 3, 4]),
        statistics([0.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.5], [0, 0, 0, 2], [1, 2, 6, 8]),
    ],
)


def test_environments_that_share_a_level_count_alike() -> None:
    """However many episodes each of them finished."""
    found = OUTCOME.by_level(0)
    assert found.mean_return.tolist() == [(0.5 + 0.25) / 2, 0.0, (-1.0 + 0.0) / 2]
    assert found.square_return.tolist() == [(0.25 + 0.0625) / 2, 0.0, 0.5]
    assert found.best_return.tolist() == [0.75, 0.0, 0.0]
    assert found.episodes.tolist() == [4, 0, 2]
    assert found.length.tolist() == [(10 + 30) / 2, 0, 10]
    assert found.scores["value_l1"].tolist() == [2, 0, 3]


def test_a_level_that_was_not_played_counts_0() -> None:
    found = OUTCOME.by_level(1)
    assert found.mean_return.tolist() == [0.5, 0.0, 0.0]
    assert found.best_return.tolist() == [0.5, 0.0, 0.0]
    assert found.episodes.tolist() == [2, 0, 0]
    assert found.scores["value_l1"].tolist() == [8, 3, 0]


def test_one_environment_a_level_changes_nothing() -> None:
    alone = statistics([0.5, 0.1], [0.7, 0.2], [3, 1], [1, 2])
    found = Outcome.stack(Proposal.everyone(empty_levels(2, 3, 3), 1), [alone]).by_level()
    for name in ("mean_return", "best_return", "square_return", "solved", "episodes", "length"):
        torch.testing.assert_close(getattr(found, name), getattr(alone, name))


def test_levels_that_follow_each_other_are_joined_by_what_was_played_of_them() -> None:
    """Two environments play two levels each, of which the second one's second is never reached."""
    of_columns = statistics([0.5, -1.0, 0.25, 0.0], [0.5, -0.5, 0.75, 0.0], [1, 1, 3, 0], [1, 2, 4, 9])
    of_columns = replace(of_columns, steps=torch.tensor([10.0, 40.0, 30.0, 0.0]))
    assignment = torch.tensor([[0, 1, 1, 2]])  # the first environment plays 0, then 1; the other one 1, then 2
    proposal = Proposal(empty_levels(3, 3, 3), assignment, torch.ones(3) > 0, levels_per_rollout=2)
    found = Outcome.stack(proposal, [of_columns]).by_level()
    assert proposal.first.tolist() == [[0, 1]]
    assert found.steps is not None
    assert found.steps.tolist() == [10, 70, 0]
    assert found.mean_return.tolist() == [0.5, (-1.0 + 0.25) / 2, 0.0]
    assert found.best_return.tolist() == [0.5, 0.75, 0.0]
    assert found.episodes.tolist() == [1, 4, 0]
    # a score is a mean over steps: 40 steps of 2 and 30 of 4
    torch.testing.assert_close(found.scores["value_l1"], torch.tensor([1.0, (40 * 2 + 30 * 4) / 70, 0.0]))
