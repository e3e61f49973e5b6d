"""Screening scores of a simulated student, whose chance on each level is known."""

import math

import pytest
import torch
from torch import Tensor

from clutr.agents.student import Trajectories
from clutr.curricula.base import Outcome, Proposal
from clutr.curricula.scores import Played, learnability
from clutr.envs.maze.level import empty_levels

LIMIT, STEPS, LEVELS, SHARED = 250, 256, 4_000, 2
"""Time limit; steps of a rollout; levels, each in two environments."""


def simulate(chance: float, steps_to_success: int, steps: int = STEPS, seed: int = 1) -> Trajectories:
    """Rollouts of a student that solves each episode after so many steps with this chance, and never otherwise."""
    envs = LEVELS * SHARED
    lucky = torch.rand(steps, envs, generator=torch.Generator().manual_seed(seed)) < chance
    solved, truncated = torch.zeros(2, steps, envs, dtype=torch.bool)
    success, age = lucky[0], torch.zeros(envs, dtype=torch.int64)
    for t in range(steps):
        age = age + 1
        solved[t] = success & (age == steps_to_success)
        truncated[t] = age == LIMIT
        done = solved[t] | truncated[t]
        success, age = torch.where(done, lucky[t], success), age.masked_fill(done, 0)
    zeros = torch.zeros(steps, envs)
    return Trajectories({}, zeros, zeros, solved.float(), solved, truncated, solved, zeros.bool(), zeros, zeros, zeros)


def by_level(played: Trajectories) -> tuple[Tensor, Tensor]:
    """Solved fraction and learnability of each level, as screenings see them."""
    proposal = Proposal(empty_levels(LEVELS, 3, 3), torch.arange(LEVELS).repeat(SHARED)[None], torch.zeros(LEVELS) > 0)
    statistics = Outcome.stack(proposal, [played.statistics()]).by_level()
    return statistics.solved, learnability(Played(statistics, statistics.best_return, None))


@pytest.mark.parametrize("steps_to_success", [3, 10, 100, 249])
@pytest.mark.parametrize("chance", [0.5, 0.8])
def test_scores_do_not_depend_on_how_fast_a_level_is_solved(chance: float, steps_to_success: int) -> None:
    """With k environments a level the expected p (1 - p) is 1 - 1/k of the true one, whatever the level."""
    solved, scores = by_level(simulate(chance, steps_to_success))
    error = math.sqrt(chance * (1 - chance) / (LEVELS * SHARED))
    assert float(solved.mean()) == pytest.approx(chance, abs=4 * error)
    expected = chance * (1 - chance) * (1 - 1 / SHARED)
    assert float(scores.mean()) == pytest.approx(expected, abs=4 * float(scores.std()) / math.sqrt(LEVELS))


def test_all_finished_episodes_would_prefer_quick_levels() -> None:
    """The bias that first episodes do not have is there to be seen."""
    played = simulate(0.8, 10)
    finished, successes = ((each.sum(0).float()) for each in (played.terminated | played.truncated, played.solved))
    pooled = (successes[:LEVELS] + successes[LEVELS:]) / (finished[:LEVELS] + finished[LEVELS:])
    assert float(pooled.mean()) > 0.86


@pytest.mark.parametrize(("steps_to_success", "expected"), [(100, 0.5), (200, 0.0)])
def test_a_rollout_shorter_than_the_time_limit_still_sees_failures(steps_to_success: int, expected: float) -> None:
    """What is not solved by the rollout's end counts as a failure, so the chance is that of solving it by then."""
    solved, scores = by_level(simulate(0.5, steps_to_success, steps=128))
    assert float(solved.mean()) == pytest.approx(expected, abs=0.025)
    assert float(scores.mean()) == pytest.approx(expected * (1 - expected) / 2, abs=0.01)
