import pytest
import torch
from torch import Tensor

from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.population import PopulationPAIRED, PopulationPAIREDConfig
from clutr.curricula.regret import flexible_regret, population_regret
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import empty_levels


def outcome(mean: Tensor, best: Tensor, proposal: Proposal | None = None) -> Outcome:
    students, n = mean.shape
    zeros = torch.zeros(students, n)
    return Outcome(
        proposal=proposal or Proposal.everyone(empty_levels(n, 3, 3), students),
        mean_return=mean,
        best_return=best,
        square_return=zeros,
        solved=zeros,
        episodes=zeros + 1,
        length=zeros,
        scores={},
    )


def test_regret_of_three_by_hand() -> None:
    # Levels: the protagonist is best; the first antagonist; the second; all fail; the best is worse than the others'
    # mean; all are best, so that the first antagonist is set against the two others.
    best = torch.tensor(
        [[0.75, 0.5, 0.5, 0.0, -1.0, 0.5], [0.5, 0.75, 0.0, 0.0, -2.0, 0.5], [0.0, 0.25, 1.0, 0.0, -2.0, 0.5]]
    )
    mean = torch.tensor(
        [[0.5, 0.25, 0.5, 0.0, -3.0, 0.5], [0.25, 0.5, 0.0, 0.0, 0.0, 0.0], [0.0, 0.125, 0.75, 0.0, 0.0, 0.25]]
    )
    assert population_regret(outcome(mean, best)).tolist() == [0.625, 0.5625, 0.75, 0.0, 0.0, 0.125]


def test_of_two_students_it_is_flexible_regret() -> None:
    rng = torch.Generator().manual_seed(0)
    best = torch.rand(2, 2000, generator=rng)
    best[:, ::3] = best[:1, ::3]  # ties
    played = outcome(best - torch.rand(2, 2000, generator=rng) + 0.2, best)
    assert torch.equal(population_regret(played), flexible_regret(played))


def test_the_best_mean_of_the_champion_does_not_count() -> None:
    best, mean = torch.tensor([[0.1], [0.9], [0.2], [0.3]]), torch.tensor([[0.1], [0.8], [0.2], [0.3]])
    torch.testing.assert_close(population_regret(outcome(mean, best)), torch.tensor([0.9 - 0.2]))


def build(students: int) -> PopulationPAIRED:
    config = PopulationPAIREDConfig(students=students, filters=2, recurrent=8, noise=3)
    return config.build(Context(MazeDomain(height=4, width=4, max_obstacles=3), 1))


@pytest.mark.parametrize("students", [2, 3, 5])
def test_every_student_plays_every_level_and_the_teacher_learns_from_the_best(students: int) -> None:
    curriculum = build(students)
    assert (
        curriculum.students
        == ("protagonist", "antagonist-1", "antagonist-2", "antagonist-3", "antagonist-4")[:students]
    )
    proposal = curriculum.propose(4)
    assert proposal.assignment.tolist() == [[0, 1, 2, 3]] * students
    best = torch.rand(students, 4, generator=torch.Generator().manual_seed(0))
    played = outcome(best / 2, best, proposal)
    before = [parameter.clone() for parameter in curriculum.designer.parameters()]
    assert torch.equal(curriculum.observe(played)["regret"], population_regret(played))
    assert any(not torch.equal(old, new) for old, new in zip(before, curriculum.designer.parameters(), strict=True))


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="students must be at least 2, got 1"):
        PopulationPAIREDConfig(students=1)
    with pytest.raises(ValueError, match="the regret of a population is flexible, got 'paired'"):
        PopulationPAIREDConfig(regret="paired")
