"""What every registered student promises."""

import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clutr.agents.student import STUDENTS, Student
from clutr.envs.domain import DOMAINS, Domain
from clutr.experiments.storage import load_state, save_state

SMALL: dict[str, dict[str, Any]] = {
    "maze": {"height": 5, "width": 5, "max_obstacles": 6, "max_steps": 5},
    "car": {"max_frames": 40},
}
"""Options of domains whose defaults would take long, or end no episode within the few steps played here."""
SMALL_STUDENT = {
    "rollout_steps": 6, "hidden": 8, "head": 4, "minibatches": 2, "epochs": 2, "features": 8, "memory": 8,
    "learning_starts": 15, "buffer_size": 64, "batch_size": 8, "steps_per_gradient": 6,
}  # fmt: skip
"""Options that, where a student has them, make it quick."""
LIGHT = {"pixel-ppo": {"torso": "light"}, "recurrent-pixel-ppo": {"torso": "light"}}
"""More of them, by student."""
ENVS, STEPS = 4, 6
PAIRS = [(student, domain) for student in STUDENTS for domain in DOMAINS]
REFUSAL = "this student (sees|takes) .*, not "


def make_domain(name: str) -> Domain:
    return DOMAINS[name](**SMALL.get(name, {}))


def make(name: str, domain: Domain, seed: int = 1) -> Student:
    config: Any = STUDENTS[name]()
    options = {field.name: SMALL_STUDENT[field.name] for field in fields(config) if field.name in SMALL_STUDENT}
    small, engine = replace(config, **options, **LIGHT.get(name, {})), domain.engine(1)
    student: Student = small.build(engine.observation_space, engine.action_space, seed, "student")
    return student


def plays(name: str, domain: Domain) -> bool:
    """Whether the student can play there; if not, it must say why."""
    try:
        make(name, domain)
    except ValueError as error:
        reason = str(error)
    else:
        return True
    assert re.match(REFUSAL, reason), f"not a reason: {reason}"
    return False


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, Domain]:
    """A student and a domain in which it can play."""
    name, domain = request.param[0], make_domain(request.param[1])
    if not plays(name, domain):
        pytest.skip(f"{name} cannot play in {request.param[1]}")
    return name, domain


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_can_play_somewhere(name: str) -> None:
    assert any(plays(name, make_domain(domain)) for domain in DOMAINS)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_has_a_student(domain: str) -> None:
    assert any(plays(name, make_domain(domain)) for name in STUDENTS)


def train(student: Student, domain: Domain, updates: int, seed: int = 0) -> list[dict[str, float]]:
    engine, rng = domain.engine(ENVS), torch.Generator().manual_seed(seed)
    return [student.learn(student.rollout(engine, domain.sample(ENVS, rng))) for _ in range(updates)]


def same(left: Any, right: Any) -> bool:
    """Whether two nested states are equal, bit for bit."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def test_rollout_reports_every_step(pair: tuple[str, Domain]) -> None:
    name, domain = pair
    student = make(name, domain)
    levels = domain.sample(ENVS, torch.Generator().manual_seed(0))
    trajectories = student.rollout(domain.engine(ENVS), levels)
    for column in (
        "log_probs",
        "rewards",
        "terminated",
        "truncated",
        "episode_starts",
        "values",
        "next_values",
        "advantages",
    ):
        assert getattr(trajectories, column).shape == (STEPS, ENVS), column
    assert not (trajectories.terminated & trajectories.truncated).any()
    assert trajectories.episode_starts[0].all()
    dones = (trajectories.terminated | trajectories.truncated)[:-1]
    assert torch.equal(trajectories.episode_starts[1:], dones)
    metrics = student.learn(trajectories, torch.arange(ENVS) % 2 == 0)
    assert metrics
    assert all(math.isfinite(value) for value in metrics.values()), metrics
    statistics = trajectories.statistics()
    assert torch.equal(statistics.episodes, (trajectories.terminated | trajectories.truncated).sum(0).float())


def test_act_keeps_environments_apart(pair: tuple[str, Domain]) -> None:
    name, domain = pair
    student = make(name, domain)
    engine = domain.engine(ENVS)
    seen = engine.reset(domain.sample(ENVS, torch.Generator().manual_seed(0)))
    state = student.initial_state(ENVS)
    assert not state.any()
    actions, state = student.act(seen, state, torch.Generator().manual_seed(0), True)
    alone, state_alone = student.act(
        {key: value[2:3] for key, value in seen.items()}, student.initial_state(1), torch.Generator(), True
    )
    assert actions.shape == (ENVS, *(engine.action_space.shape or ()))
    assert all(one.numpy().astype(engine.action_space.dtype)[()] in engine.action_space for one in actions)
    torch.testing.assert_close(actions[2], alone[0])
    torch.testing.assert_close(state[2:3], state_alone)


def test_learning_depends_on_the_seed_alone(pair: tuple[str, Domain]) -> None:
    name, domain = pair
    torch.manual_seed(1)
    first = train(make(name, domain), domain, 2)
    torch.manual_seed(2)
    assert train(make(name, domain), domain, 2) == first
    assert train(make(name, domain, seed=2), domain, 1) != first[:1]


def test_state_continues_bit_for_bit(pair: tuple[str, Domain], tmp_path: Path) -> None:
    name, domain = pair
    student = make(name, domain)
    train(student, domain, 2)
    save_state(tmp_path / "student", student.state_dict())
    other = make(name, domain, seed=7)
    assert not same(other.state_dict(), student.state_dict())
    other.load_state_dict(load_state(tmp_path / "student"))
    assert same(other.state_dict(), student.state_dict())
    assert train(other, domain, 2, seed=1) == train(student, domain, 2, seed=1)
    assert same(other.state_dict(), student.state_dict())


def test_global_randomness_is_untouched(pair: tuple[str, Domain]) -> None:
    name, domain = pair
    student = make(name, domain)
    before = torch.random.get_rng_state()
    train(student, domain, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
