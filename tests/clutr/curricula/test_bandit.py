import copy
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.distributions import Beta

from clutr.agents.distributions import EDGE, sample_beta
from clutr.curricula.bandit import BetaPolicy, LatentBandit
from clutr.curricula.ppo import METRICS, TeacherOptions


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bandit(dim: int = 6, seed: int = 1, options: TeacherOptions | None = None) -> LatentBandit:
    return LatentBandit(dim, noise=5, hidden=4, options=options or TeacherOptions(), rng=generator(seed))


def test_the_published_network() -> None:
    maze, car = BetaPolicy(50, 10, 64, generator()), BetaPolicy(4, 8, 64, generator())
    assert sum(p.numel() for p in maze.parameters()) == 1_929
    assert sum(p.numel() for p in car.parameters()) == 1_201
    distribution, values = maze(torch.rand(3, 50, generator=generator()))
    assert distribution.concentration1.shape == distribution.concentration0.shape == (3, 64)
    assert values.shape == (3,)
    assert (distribution.concentration1 > 1).all()  # one mode
    assert (distribution.concentration0 > 1).all()


def test_evaluation_agrees_with_scipy() -> None:
    policy = BetaPolicy(5, 4, 6, generator())
    noise = torch.rand(7, 5, generator=generator(2))
    distribution, _ = policy(noise)
    actions = sample_beta(distribution.concentration1, distribution.concentration0, generator(3))
    evaluation = policy.evaluate(noise, actions)
    alpha, beta = distribution.concentration1.detach().numpy(), distribution.concentration0.detach().numpy()
    expected = scipy.stats.beta(alpha, beta)
    np.testing.assert_allclose(
        evaluation.log_probs.detach().numpy(), expected.logpdf(actions.numpy()).sum(-1), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(evaluation.entropy.detach().numpy(), expected.entropy().sum(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (1.7, 4.0), (30.0, 2.0)])
def test_samples_have_the_distribution(alpha: float, beta: float) -> None:
    n = 20_000
    samples = sample_beta(torch.full((n,), alpha), torch.full((n,), beta), generator())
    assert scipy.stats.kstest(samples.numpy(), scipy.stats.beta(alpha, beta).cdf).pvalue > 0.001


def test_samples_stay_off_the_edges_where_the_density_vanishes() -> None:
    sharp = torch.tensor([1.0, 1e6]).expand(1000, 2)
    samples = sample_beta(sharp, sharp.flip(1), generator())
    assert samples.min() >= EDGE
    assert samples.max() <= 1 - EDGE
    assert Beta(torch.tensor(2.0), torch.tensor(2.0)).log_prob(samples).isfinite().all()


def test_joint_log_probability_sums_over_dimensions() -> None:
    policy = BetaPolicy(5, 4, 6, generator())
    noise, actions = torch.rand(3, 5, generator=generator(2)), torch.rand(3, 6, generator=generator(3))
    one_by_one = policy(noise)[0].log_prob(actions)
    assert one_by_one.shape == (3, 6)
    torch.testing.assert_close(policy.evaluate(noise, actions).log_probs, one_by_one.sum(1))


def naive_update(
    policy: BetaPolicy,
    options: TeacherOptions,
    noise: Tensor,
    actions: Tensor,
    rewards: Tensor,
    rng: torch.Generator,
) -> None:
    """PPO one sample at a time, written from the paper's formulas."""
    optimiser = torch.optim.Adam(policy.parameters(), lr=options.learning_rate, eps=1e-5)
    n = len(rewards)

    def look(i: int) -> tuple[Tensor, Tensor, Tensor]:
        distribution, value = policy(noise[i : i + 1])
        return distribution.log_prob(actions[i]).sum(), value[0], distribution.entropy().sum()

    def value_error(value: Tensor, before: Tensor, reward: Tensor) -> Tensor:
        if options.value_loss == "smooth-l1":
            distance = (value - reward).abs()
            return 0.5 * distance**2 if distance < 1 else distance - 0.5
        moved = before + torch.clamp(value - before, -options.clip, options.clip)
        return 0.5 * torch.maximum((value - reward) ** 2, (moved - reward) ** 2)

    with torch.no_grad():
        old = [look(i)[:2] for i in range(n)]
    for _ in range(options.epochs):
        order = list(range(n)) if options.minibatches == 1 else torch.randperm(n, generator=rng).tolist()
        size = -(-n // options.minibatches)
        for part in (order[at : at + size] for at in range(0, n, size)):
            advantages = np.array([float(rewards[i] - old[i][1]) for i in part])
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-5)
            loss = torch.zeros(())
            for i, advantage in zip(part, advantages.tolist(), strict=True):
                log_prob, value, entropy = look(i)
                ratio = torch.exp(log_prob - old[i][0])
                clipped = min(max(ratio.item(), 1 - options.clip), 1 + options.clip)
                if ratio.item() * advantage <= clipped * advantage:  # otherwise clipped: no gradient
                    loss = loss - ratio * advantage
                loss = loss + options.value_coefficient * value_error(value, old[i][1], rewards[i])
                loss = loss - options.entropy_coefficient * entropy
            optimiser.zero_grad()
            (loss / len(part)).backward()
            nn.utils.clip_grad_norm_(policy.parameters(), options.max_gradient_norm)
            optimiser.step()


PUBLISHED_FOR_CARS = TeacherOptions(learning_rate=3e-4, epochs=8, minibatches=4, value_loss="smooth-l1")


@pytest.mark.parametrize(
    "options",
    [
        TeacherOptions(),
        TeacherOptions(0.05, 7, clip=0.1, value_coefficient=0.25, entropy_coefficient=0.01, max_gradient_norm=10.0),
        PUBLISHED_FOR_CARS,
    ],
)
def test_update_equals_a_naive_implementation(options: TeacherOptions) -> None:
    teacher = bandit(options=options)
    before = copy.deepcopy(teacher.policy)
    twin_rng = generator()
    twin_rng.set_state(teacher.rng.get_state())
    actions = teacher.act(8)
    noise = torch.rand(8, 5, generator=twin_rng)  # the first thing that `act` draws
    rewards = 3 * torch.rand(8, generator=generator(4))
    twin_rng.set_state(teacher.rng.get_state())
    metrics = teacher.learn(rewards)
    naive_update(before, options, noise, actions, rewards, twin_rng)
    for ours, naive in zip(teacher.policy.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-4, atol=1e-6)
    assert set(metrics) == {f"teacher/{name}" for name in METRICS}


def test_learns_to_maximise_a_known_function() -> None:
    teacher = bandit(dim=8, options=TeacherOptions(learning_rate=0.03))

    def mean_of_first() -> float:
        actions = teacher.act(32)
        teacher.learn(-(actions[:, 0] - 0.9).abs())
        return float(actions[:, 0].mean())

    early = mean_of_first()
    for _ in range(20):
        mean_of_first()
    late = np.mean([mean_of_first() for _ in range(5)])
    assert early < 0.65
    assert late > 0.8


def test_entropy_bonus_keeps_the_policy_broader() -> None:
    def final_entropy(coefficient: float) -> float:
        teacher = bandit(dim=2, options=TeacherOptions(learning_rate=0.03, entropy_coefficient=coefficient))
        for _ in range(40):
            metrics = teacher.learn(-(teacher.act(32)[:, 0] - 0.9).abs())
        return float(metrics["teacher/entropy"])

    assert final_entropy(1.0) > final_entropy(0.0) + 0.2


def test_order_of_calls() -> None:
    teacher = bandit()
    with pytest.raises(RuntimeError, match="observe was called before propose"):
        teacher.learn(torch.zeros(4))
    teacher.act(4)
    with pytest.raises(RuntimeError, match="propose was called twice"):
        teacher.act(4)
    with pytest.raises(RuntimeError, match="taken after observe, before propose"):
        teacher.state_dict()
    teacher.learn(torch.zeros(4))
    assert teacher.act(4).shape == (4, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"minibatches": 0}, "minibatches must be at least 1, got 0"),
        ({"value_loss": "mse"}, "value_loss must be clipped or smooth-l1, got 'mse'"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"clip": -0.1}, "clip must be above 0, got -0.1"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TeacherOptions(**options)
