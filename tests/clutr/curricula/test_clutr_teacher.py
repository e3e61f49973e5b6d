from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.clutr import CLUTR, CLUTRConfig
from clutr.curricula.regret import paired_regret, regret_by_level
from clutr.envs.domain import LevelBatch


@dataclass(frozen=True)
class Points(LevelBatch):
    position: Tensor


class Box:
    """A manifold whose levels are its latents; only what a curriculum needs of it."""

    dim = 3
    bounds = (-4.0, 2.0)

    def decode(self, latents: Tensor) -> Points:
        return Points(latents)


def curriculum(config: CLUTRConfig | None = None, seed: int = 1) -> CLUTR:
    context: Any = Context(domain=None, seed=seed, manifold=Box())  # type: ignore[arg-type]  # CLUTR uses no domain
    return (config or CLUTRConfig()).build(context)


def outcome(proposal: Proposal, protagonist: Tensor, antagonist: Tensor) -> Outcome:
    """Both students finished one episode on each level, so mean and best return are the same."""
    returns = torch.stack([protagonist, antagonist])
    ones = torch.ones_like(returns)
    return Outcome(proposal, returns, returns, returns.square(), ones, ones, ones, {})


def test_proposals_are_latents_of_the_box_decoded_for_two_students() -> None:
    proposal = curriculum().propose(500)
    assert proposal.latents is not None
    assert isinstance(proposal.levels, Points)
    assert torch.equal(proposal.levels.position, proposal.latents)
    assert proposal.latents.shape == (500, 3)
    assert proposal.latents.min() >= -4
    assert proposal.latents.max() <= 2
    assert proposal.latents.min() < -3.5  # scaled from (0, 1) to the whole box, not left unscaled
    assert proposal.latents.max() > 1.5
    assert proposal.assignment.tolist() == [list(range(500))] * 2
    assert proposal.train.all()


def test_observe_reports_regret_and_the_teachers_metrics() -> None:
    teacher = curriculum()
    scores = teacher.observe(outcome(teacher.propose(3), torch.tensor([0.5, 0.25, 0]), torch.tensor([0.75, 0, 0])))
    assert scores["regret"].tolist() == [0.25, 0.0, 0.0]
    assert {"teacher/entropy", "teacher/policy_loss", "teacher/value_loss"} < set(scores)
    assert all(value.ndim == 0 for name, value in scores.items() if name != "regret")


def test_flexible_regret_swaps_roles() -> None:
    teacher = curriculum(CLUTRConfig(regret="flexible"))
    scores = teacher.observe(outcome(teacher.propose(2), torch.tensor([0.5, 0.0]), torch.tensor([0.25, 1.0])))
    assert scores["regret"].tolist() == [0.25, 1.0]


def test_normalised_regret_scales_the_reward_and_not_the_report() -> None:
    teacher = curriculum(CLUTRConfig(normalise_regret=True))
    recorder = Mock(side_effect=teacher.teacher.learn)
    teacher.teacher.learn = recorder  # type: ignore[method-assign]  # look at what the bandit receives
    regret = torch.tensor([1.0, 3.0])  # population standard deviation 1
    scores = teacher.observe(outcome(teacher.propose(2), torch.zeros(2), regret))
    assert scores["regret"].tolist() == [1.0, 3.0]
    assert recorder.call_args.args[0].tolist() == [1.0, 3.0]
    # with (5, 7): four values of mean 4 and standard deviation sqrt(5)
    scores = teacher.observe(outcome(teacher.propose(2), torch.zeros(2), torch.tensor([5.0, 7.0])))
    assert scores["regret"].tolist() == [5.0, 7.0]
    torch.testing.assert_close(recorder.call_args.args[0], torch.tensor([5.0, 7.0]) / 5**0.5)


def test_the_teacher_moves_towards_regret() -> None:
    """Students disagree only where the first coordinate is large: the teacher learns to go there."""
    teacher = curriculum(CLUTRConfig(learning_rate=0.03, hidden=32))
    means = []
    for _ in range(60):
        proposal = teacher.propose(32)
        assert proposal.latents is not None
        first = proposal.latents[:, 0]
        teacher.observe(outcome(proposal, torch.zeros(32), (first + 4) / 6))
        means.append(float(first.mean()))
    assert abs(means[0] + 1) < 0.4  # starts around the middle of [-4, 2]
    assert sum(means[-5:]) / 5 > 0.5


def test_bad_options_and_missing_manifold() -> None:
    with pytest.raises(ValueError, match="regret must be paired or flexible, got 'minimax'"):
        CLUTRConfig(regret="minimax")  # type: ignore[arg-type]  # a YAML file can say anything
    with pytest.raises(ValueError, match="hidden must be at least 1, got 0"):
        replace(CLUTRConfig(), hidden=0)
    with pytest.raises(ValueError, match="the curriculum 'clutr' chooses latents, so the experiment needs a manifold"):
        CLUTRConfig().build(Context(domain=None, seed=1))  # type: ignore[arg-type]  # CLUTR uses no domain


def test_environments_share_a_task_and_its_regret_is_of_all_of_them() -> None:
    teacher = curriculum(CLUTRConfig(environments=2))
    proposal = teacher.propose(5)
    assert len(proposal.levels) == 2
    assert proposal.assignment.tolist() == [[0, 1, 0, 1, 0]] * 2
    played = outcome(proposal, torch.tensor([0.0, 0.2, 0.3, 0.6, 0.0]), torch.tensor([0.1, 0.5, 0.9, 0.0, 0.2]))
    # the antagonist's best, 0.9 and 0.5, minus the protagonist's mean, 0.1 and 0.4
    torch.testing.assert_close(teacher.observe(played)["regret"], torch.tensor([0.8, 0.1]))


def test_regret_by_level_is_regret_where_every_environment_has_its_own() -> None:
    proposal = curriculum().propose(3)
    played = outcome(proposal, torch.tensor([0.5, 0.25, 0.0]), torch.tensor([0.75, 0.0, 0.0]))
    expected: Tensor = paired_regret(played)
    assert torch.equal(regret_by_level(paired_regret, played), expected)
