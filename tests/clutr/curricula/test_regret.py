from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clutr.curricula.base import Outcome, Proposal
from clutr.curricula.regret import RunningStd, flexible_regret, minimax, paired_regret, students_of
from clutr.envs.maze.level import empty_levels


def outcome(mean: list[list[float]], best: list[list[float]]) -> Outcome:
    n = len(mean[0])
    zeros = torch.zeros(len(mean), n)
    return Outcome(
        proposal=Proposal.everyone(empty_levels(n, 3, 3), len(mean)),
        mean_return=torch.tensor(mean),
        best_return=torch.tensor(best),
        square_return=zeros,
        solved=zeros,
        episodes=zeros,
        length=zeros,
        scores={},
    )


# Levels: antagonist better; protagonist better; nobody finished; only the antagonist finished; only the protagonist;
# equally good at best, protagonist less reliable; equally good at best, antagonist less reliable.
PLAYED = outcome(
    mean=[[0.25, 0.75, 0.0, 0.0, 0.5, 0.25, 0.5], [0.5, 0.25, 0.0, 0.5, 0.0, 0.5, 0.25]],
    best=[[0.5, 0.875, 0.0, 0.0, 0.75, 0.5, 0.5], [0.75, 0.5, 0.0, 0.625, 0.0, 0.5, 0.5]],
)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (paired_regret, [0.5, 0.0, 0.0, 0.625, 0.0, 0.25, 0.0]),
        (flexible_regret, [0.5, 0.625, 0.0, 0.625, 0.75, 0.25, 0.0]),
        (minimax, [-0.5, -0.875, 0.0, 0.0, -0.75, -0.5, -0.5]),
    ],
)
def test_worked_by_hand(objective: Any, expected: list[float]) -> None:
    assert objective(PLAYED).tolist() == expected


def test_paired_regret_is_never_negative_but_counts_negative_returns() -> None:
    played = outcome(mean=[[-3.0, 2.0]], best=[[-1.0, 2.0]])
    both = outcome(mean=[[-3.0, 2.0], [-2.0, 1.0]], best=[[-1.0, 2.0], [-1.0, 1.0]])
    assert paired_regret(both).tolist() == [2.0, 0.0]
    assert minimax(played).tolist() == [1.0, -2.0]


def test_students_of_objectives() -> None:
    assert students_of("paired") == students_of("flexible") == ("protagonist", "antagonist")
    assert students_of("minimax") == ("protagonist",)
    with pytest.raises(ValueError, match="regret must be one of paired, flexible, minimax, got 'true'"):
        students_of("true")


@given(st.lists(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=5), min_size=1, max_size=5))
def test_running_std_equals_numpy_over_everything_seen(batches: list[list[float]]) -> None:
    scale = RunningStd()
    for batch in batches:
        scale.update(torch.tensor(batch))
    std = np.std(np.concatenate(batches))
    if std > 1e-3:
        np.testing.assert_allclose(scale.divide(torch.tensor([1.0])).item(), 1 / std, rtol=1e-4)


def test_running_std_leaves_values_alone_while_nothing_varies() -> None:
    scale = RunningStd()
    assert scale.divide(torch.tensor([3.0])).tolist() == [3.0]
    scale.update(torch.zeros(4))
    assert scale.divide(torch.tensor([3.0, 0.0])).tolist() == [3.0, 0.0]


def test_running_std_continues_from_its_state() -> None:
    def feed(scale: RunningStd, batches: list[Tensor]) -> None:
        for batch in batches:
            scale.update(batch)

    rng = torch.Generator().manual_seed(1)
    batches = [torch.rand(5, generator=rng) for _ in range(6)]
    straight, first, second = RunningStd(), RunningStd(), RunningStd()
    feed(straight, batches)
    feed(first, batches[:3])
    second.load_state_dict(first.state_dict())
    feed(first, batches[3:])  # must not reach into the state that was taken
    feed(second, batches[3:])
    assert torch.equal(second.divide(batches[0]), straight.divide(batches[0]))
    assert torch.equal(first.divide(batches[0]), straight.divide(batches[0]))
