"""CLUTR's teacher as the presets use it: where it starts, when it moves, and what it does with several batches."""

from dataclasses import replace
from typing import Any

import pytest
import scipy.stats
import torch

from clutr.agents.losses import ActionEvaluation
from clutr.curricula.bandit import BetaPolicy, LatentBandit
from clutr.curricula.clutr import CLUTRConfig
from clutr.curricula.ppo import TeacherOptions

DIM, TASKS = 16, 32
LIMITED = TeacherOptions(learning_rate=1e-3, entropy_coefficient=0.01, target_kl=0.01)
FREE = TeacherOptions(learning_rate=1e-3, entropy_coefficient=0.01)


def bandit(options: TeacherOptions = LIMITED, seed: int = 1, **more: Any) -> LatentBandit:
    return LatentBandit(DIM, 8, 32, options, torch.Generator().manual_seed(seed), **{"uniform": True} | more)


def test_it_starts_exactly_uniform_whatever_the_noise() -> None:
    rng = torch.Generator().manual_seed(1)
    distribution, _ = BetaPolicy(5, 4, 6, rng, uniform=True)(torch.rand(7, 5, generator=rng))
    torch.testing.assert_close(distribution.concentration1, torch.ones(7, 6))
    torch.testing.assert_close(distribution.concentration0, torch.ones(7, 6))
    torch.testing.assert_close(distribution.entropy(), torch.zeros(7, 6), atol=1e-6, rtol=0)
    points = bandit().act(1_000)
    assert scipy.stats.kstest(points.flatten().numpy(), "uniform").pvalue > 0.001
    published = bandit(uniform=False).act(1_000)
    assert float(published.var()) < 0.065 < float(points.var()), "the published one is not: 1/12 is 0.083"


def train(teacher: LatentBandit, noise: float, slope: float, updates: int = 80) -> dict[str, float]:
    """Rewards are `slope` times the mean coordinate, plus normal noise."""
    rng = torch.Generator().manual_seed(5)
    rewards, metrics = [], {}
    for _ in range(updates):
        points = teacher.act(TASKS)
        rewards.append(slope * points.mean(1))
        metrics = teacher.learn(rewards[-1] + noise * torch.randn(TASKS, generator=rng))
    return {"reward": float(torch.stack(rewards[-10:]).mean()), "entropy": float(metrics["teacher/entropy"])}


def test_it_climbs_on_a_noiseless_reward() -> None:
    options = replace(LIMITED, learning_rate=2e-3)
    assert train(bandit(options), noise=0.0, slope=1.0, updates=60)["reward"] > 0.8


def test_it_keeps_its_entropy_on_pure_noise() -> None:
    """And more of it than without the limit, from where the published policy starts."""
    kept = train(bandit(), noise=1.0, slope=0.0)["entropy"]
    free = train(bandit(FREE, uniform=False), noise=1.0, slope=0.0)["entropy"]
    assert kept > -1
    assert free < kept - 1


def test_the_limit_ends_an_update() -> None:
    hot, held = (TeacherOptions(learning_rate=0.05, target_kl=kl) for kl in (0.0, 1e-4))
    changes = []
    for options in (hot, held):
        teacher = bandit(options)
        before = torch.cat([p.detach().flatten() for p in teacher.policy.parameters()])
        metrics = teacher.learn(teacher.act(TASKS)[:, 0])
        after = torch.cat([p.detach().flatten() for p in teacher.policy.parameters()])
        changes.append((float((after - before).norm()), float(metrics["teacher/approx_kl"])))
    assert changes[1][0] < 0.7 * changes[0][0]
    assert 0 < changes[1][1] < changes[0][1]


def test_rounds_are_one_batch() -> None:
    """Two rounds of eight points make the update that one batch of these sixteen makes."""
    teacher, twin = bandit(rounds=2), bandit()
    points = [teacher.act(8)]
    rewards = [torch.linspace(0, 1, 8), torch.linspace(1, 3, 8)]
    assert teacher.learn(rewards[0]) == {}
    points.append(teacher.act(8))
    noise, old = (torch.cat([teacher.gathered["noise"], teacher._pending._batch.noise]), None)  # type: ignore[union-attr]
    actions, reward = torch.cat(points), torch.cat(rewards)
    with torch.no_grad():
        old = twin.policy.evaluate(noise, actions)
    twin.learner.update(
        lambda index: twin.policy.evaluate(noise[index], actions[index]), old, reward - old.values, reward
    )
    assert "teacher/approx_kl" in teacher.learn(rewards[1])
    for ours, expected in zip(teacher.policy.parameters(), twin.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)
    assert isinstance(old, ActionEvaluation)


def test_a_half_gathered_batch_is_resumed_bit_for_bit() -> None:
    teacher, other = bandit(rounds=3), bandit(rounds=3, seed=9)
    teacher.learn(teacher.act(8)[:, 0])
    other.load_state_dict(teacher.state_dict())
    for _ in range(3):
        points = [each.act(8) for each in (teacher, other)]
        assert torch.equal(*points)
        found = [each.learn(points[0][:, 0]) for each in (teacher, other)]
        assert found[0] == found[1]
    assert "gathered" not in bandit().state_dict(), "states of teachers that gather nothing stay as they were"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "anywhere"}, "start must be published or uniform, got 'anywhere'"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"environments": 0}, "environments must be at least 1, got 0"),
        ({"target_kl": -1.0}, r"target_kl must be at least 0, got -1\.0"),
    ],
)
def test_messages(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CLUTRConfig(**options)
