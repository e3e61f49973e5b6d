"""Recorded rollouts and updates are the ordinary ones: here without a GPU, where the functions run as they are."""

from dataclasses import replace

import pytest
import torch

from clutr.agents.captured import CapturedRollout, CapturedUpdate
from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.agents.ppo import PPOConfig, PPOStudent
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.randomness import named_generator

CONFIG = PPOConfig(
    torso="symbols", torso_width=16, hidden=16, head=8, rollout_steps=40, epochs=2, minibatches=2, shards=1
)
DOMAIN = replace(MazeDomain(), max_steps=12)  # so that truncated episodes are among them
NUM_ENVS = 8


def _pair() -> tuple[MazeEngine, PPOStudent]:
    engine = DOMAIN.engine(NUM_ENVS)
    assert isinstance(engine, MazeEngine)
    return engine, CONFIG.build(engine.observation_space, engine.action_space, 1, "student")


def test_a_recorded_rollout_is_the_plain_one_twice_over() -> None:
    (engine, student), (other_engine, other) = _pair(), _pair()
    rollout, rng = CapturedRollout(other, other_engine), named_generator(1, "test", "levels")
    for _ in range(2):
        levels = DOMAIN.sample(NUM_ENVS, rng)
        plain, recorded = student.rollout(engine, levels), rollout(levels)
        for name in ("actions", "terminated", "truncated", "solved", "episode_starts", "rewards"):
            assert torch.equal(getattr(plain, name), getattr(recorded, name)), name
        for name in ("values", "next_values", "log_probs", "advantages"):
            torch.testing.assert_close(getattr(plain, name), getattr(recorded, name), atol=1e-5, rtol=1e-4)
        for name, seen in plain.observations.items():
            assert torch.equal(seen, recorded.observations[name]), name
        assert plain.truncated.any()


def test_a_recorded_update_is_the_plain_one() -> None:
    (engine, student), (_, other) = _pair(), _pair()
    update, rng = CapturedUpdate(other, CONFIG.minibatches), named_generator(2, "test", "levels")
    start = [one.detach().clone() for one in student.network.parameters()]
    for _ in range(2):
        played = student.rollout(engine, DOMAIN.sample(NUM_ENVS, rng))
        student.learn(played)
        update(played)
    for before, one, two in zip(start, student.network.parameters(), other.network.parameters(), strict=True):
        assert not torch.equal(before, one)
        torch.testing.assert_close(one, two, atol=2e-6, rtol=1e-4)


def test_only_maze_students_are_recorded() -> None:
    cars = CarDomain().engine(1)
    student = PixelPPOConfig().build(cars.observation_space, cars.action_space, 1, "student")
    with pytest.raises(TypeError, match="only recurrent maze students can be recorded, not PixelActorCritic"):
        CapturedRollout(student, _pair()[0])
