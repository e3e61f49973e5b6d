"""What every registered student promises."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.student import STUDENTS, Student
from envs.maze.domain import MazeDomain
from experiments.files import load_state, save_state

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=10)
ENVS, STEPS = 4, 24


def make(name: str, seed: int = 1) -> Student:
    config: Any = STUDENTS[name]()
    config = replace(config, rollout_steps=STEPS, hidden=8, head=4, minibatches=2)
    engine = DOMAIN.engine(1)
    student: Student = config.build(engine.observation_space, engine.action_space, seed, "student")
    return student


def train(student: Student, updates: int, seed: int = 0) -> list[dict[str, float]]:
    engine, rng = DOMAIN.engine(ENVS), torch.Generator().manual_seed(seed)
    return [student.learn(student.rollout(engine, DOMAIN.sample(ENVS, rng))) for _ in range(updates)]


def same(left: Any, right: Any) -> bool:
    """Whether two nested states are equal, bit for bit."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@pytest.mark.parametrize("name", STUDENTS)
def test_rollout_reports_every_step(name: str) -> None:
    student = make(name)
    levels = DOMAIN.sample(ENVS, torch.Generator().manual_seed(0))
    trajectories = student.rollout(DOMAIN.engine(ENVS), levels)
    for column in ("log_probs", "rewards", "terminated", "truncated", "starts", "values", "next_values", "advantages"):
        assert getattr(trajectories, column).shape == (STEPS, ENVS), column
    assert not (trajectories.terminated & trajectories.truncated).any()
    assert trajectories.starts[0].all()
    ended = (trajectories.terminated | trajectories.truncated)[:-1]
    assert torch.equal(trajectories.starts[1:], ended)
    metrics = student.learn(trajectories, torch.arange(ENVS) % 2 == 0)
    assert metrics
    assert all(math.isfinite(value) for value in metrics.values()), metrics
    statistics = trajectories.statistics()
    assert torch.equal(statistics.episodes, (trajectories.terminated | trajectories.truncated).sum(0).float())


@pytest.mark.parametrize("name", STUDENTS)
def test_act_keeps_environments_apart(name: str) -> None:
    student = make(name)
    engine = DOMAIN.engine(ENVS)
    seen = engine.reset(DOMAIN.sample(ENVS, torch.Generator().manual_seed(0)))
    actions, state = student.act(seen, student.initial_state(ENVS), torch.Generator().manual_seed(0), True)
    alone, state_alone = student.act(
        {key: value[2:3] for key, value in seen.items()}, student.initial_state(1), torch.Generator(), True
    )
    assert actions.shape == (ENVS,)
    assert actions[2] == alone[0]
    torch.testing.assert_close(state[2:3], state_alone)


@pytest.mark.parametrize("name", STUDENTS)
def test_learning_depends_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = train(make(name), 2)
    torch.manual_seed(2)
    assert train(make(name), 2) == first
    assert train(make(name, seed=2), 2) != first


@pytest.mark.parametrize("name", STUDENTS)
def test_state_continues_bit_for_bit(name: str, tmp_path: Path) -> None:
    student = make(name)
    train(student, 2)
    save_state(tmp_path / "student", student.state_dict())
    other = make(name, seed=7)
    assert not same(other.state_dict(), student.state_dict())
    other.load_state_dict(load_state(tmp_path / "student"))
    assert same(other.state_dict(), student.state_dict())
    assert train(other, 2, seed=1) == train(student, 2, seed=1)
    assert same(other.state_dict(), student.state_dict())


@pytest.mark.parametrize("name", STUDENTS)
def test_global_randomness_is_untouched(name: str) -> None:
    student = make(name)
    before = torch.random.get_rng_state()
    train(student, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
