"""PACE: parameter changes against plain autograd, and what its buffer keeps."""

from typing import Any

import pytest
import torch

from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.agents.ppo import PPOConfig, PPOStudent
from clutr.curricula.base import Context, Outcome
from clutr.curricula.pace import PACE, PACEConfig
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=10)


def maze_student() -> tuple[PPOStudent, Any]:
    engine = DOMAIN.engine(3)
    config = PPOConfig(rollout_steps=16, hidden=8, head=4, torso="symbols", torso_width=8)
    return config.build(engine.observation_space, engine.action_space, 1, "student"), engine


def test_a_change_is_the_squared_norm_of_a_plain_policy_gradient() -> None:
    """At the acting policy the gradient of mean ratio x advantage is that of mean log-probability x advantage."""
    student, engine = maze_student()
    played = student.rollout(engine, DOMAIN.sample(3, torch.Generator().manual_seed(1)))
    found = student.parameter_change(played)
    network, expected = student.network, []
    for env in range(3):
        network.zero_grad()
        observations = {name: value[:, env : env + 1] for name, value in played.observations.items()}
        starts = played.episode_starts[:, env : env + 1]
        policy, _ = network(network.prepare(observations, starts), starts)
        log_probs = policy.log_prob(played.actions[:, env : env + 1])
        (log_probs * played.advantages[:, env : env + 1]).mean().backward()
        expected.append(sum(float(p.grad.square().sum()) for p in network.parameters() if p.grad is not None))
    assert min(expected) > 0
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-3, atol=1e-9)


def test_what_teaches_nothing_changes_nothing_and_nothing_is_changed() -> None:
    student, engine = maze_student()
    played = student.rollout(engine, DOMAIN.sample(3, torch.Generator().manual_seed(1)))
    played.advantages[:, 1] = 0.0
    before = [parameter.detach().clone() for parameter in student.network.parameters()]
    whole = student.parameter_change(played)
    assert float(whole[1]) == 0
    played.advantages[:, 0] *= 3
    torch.testing.assert_close(student.parameter_change(played)[0], 9 * whole[0])
    for parameter, old in zip(student.network.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.grad is None


def test_pixel_students_tell_it_by_environment_too() -> None:
    domain = CarDomain(max_frames=32)
    engine = domain.engine(2)
    config = PixelPPOConfig(torso="light", rollout_steps=3)
    student = config.build(engine.observation_space, engine.action_space, 1, "student")
    played = student.rollout(engine, domain.sample(2, torch.Generator().manual_seed(1)))
    played.advantages[:, 0] = 0.0
    found = student.parameter_change(played)
    assert float(found[0]) == 0
    assert float(found[1]) > 0


def test_levels_that_change_the_student_most_are_kept_and_learnt_on() -> None:
    config = PACEConfig(capacity=3, minimum_fill=1.0, replay_probability=1.0, staleness=0.0)
    curriculum = config.build(Context(DOMAIN, 1))
    assert isinstance(curriculum, PACE)
    student, engine = maze_student()
    keys: dict[str, float] = {}
    for _ in range(3):
        proposal = curriculum.propose(3)
        played = student.rollout(engine, proposal.levels[proposal.assignment[0]])
        statistics = played.statistics()
        statistics.scores.update(curriculum.measure(student, played))
        found = curriculum.observe(Outcome.stack(proposal, [statistics]))
        torch.testing.assert_close(found["score"][proposal.assignment[0]], student.parameter_change(played))
        if not keys:
            assert not proposal.train.any(), "new levels are only scored"
            keys = dict.fromkeys(proposal.levels.key(), 0.0)
        else:
            assert proposal.train.all()
            assert set(proposal.levels.key()) == set(keys), "drawn without replacement"


def test_messages() -> None:
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        PACEConfig(capacity=0)
    curriculum = PACEConfig().build(Context(DOMAIN, 1))
    stranger: Any = object()
    with pytest.raises(ValueError, match="the curriculum 'pace' trains the students ppo and pixel-ppo, not a object"):
        curriculum.require_student(stranger)
