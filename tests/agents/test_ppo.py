"""PPO's update against an independent implementation, and learning on a small maze."""

from dataclasses import replace

import pytest
import torch
from fakes import CountdownEngine, CountdownLevels

from clutr.agents.losses import policy_change
from clutr.agents.ppo import Batch, PPOConfig, PPOStudent
from clutr.agents.student import Trajectories
from clutr.envs.maze.domain import MazeDomain

CONFIG = PPOConfig(
    rollout_steps=6, hidden=8, head=4, torso="symbols", torso_width=8, epochs=1, entropy_coefficient=0.02
)
LEVELS = CountdownLevels(torch.tensor([2, 3, 4, 9]))


def make(config: PPOConfig = CONFIG, seed: int = 1) -> PPOStudent:
    engine = CountdownEngine(1)
    return config.build(engine.observation_space, engine.action_space, seed, "student")


def play(student: PPOStudent) -> Trajectories:
    return student.rollout(CountdownEngine(4), LEVELS)


def weights(student: PPOStudent) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in student.network.parameters()])


def test_published_student_has_the_published_size() -> None:
    engine = MazeDomain().engine(1)
    student = PPOConfig().build(engine.observation_space, engine.action_space, 1, "student")
    count = sum(parameter.numel() for parameter in student.network.parameters())
    convolution, heading = 16 * 3 * 9 + 16, 5 * 4 + 5
    core = 4 * 256 * (149 + 256 + 2)
    actor, critic = 32 * 257 + 7 * 33, 32 * 257 + 33
    assert count == convolution + heading + core + actor + critic == 433_953


def losses_by_hand(student: PPOStudent, trajectories: Trajectories, old: Trajectories) -> tuple[float, float, float]:
    """Policy loss, value loss and entropy, sample by sample in plain Python."""
    clip = student.config.clip
    network = student.network
    with torch.no_grad():
        policy_now, values = network(
            network.prepare(trajectories.observations, trajectories.episode_starts), trajectories.episode_starts
        )
    log_probs = policy_now.log_probs
    advantages = old.advantages.double()
    mean, deviation = advantages.mean(), advantages.std(correction=0)
    policy, value, entropy = [], [], []
    for t in range(advantages.shape[0]):
        for n in range(advantages.shape[1]):
            ratio = float((log_probs[t, n, old.actions[t, n]] - old.log_probs[t, n]).exp())
            advantage = float((advantages[t, n] - mean) / (deviation + 1e-5))
            policy.append(-min(ratio * advantage, max(min(ratio, 1 + clip), 1 - clip) * advantage))
            target, before, now = float(old.returns[t, n]), float(old.values[t, n]), float(values[t, n])
            near = before + max(min(now - before, clip), -clip)
            value.append(0.5 * max((now - target) ** 2, (near - target) ** 2))
            entropy.append(-sum(float(p) * float(p.log()) for p in log_probs[t, n].exp()))
    return tuple(sum(each) / len(each) for each in (policy, value, entropy))  # type: ignore[return-value]


def test_losses_by_hand() -> None:
    """The second epoch's losses: the policy has moved, so ratios and clipping matter."""
    student = make(replace(CONFIG, learning_rate=0.2, clip=0.02))
    trajectories = play(student)
    student.learn(trajectories)
    policy, value, entropy = losses_by_hand(student, trajectories, trajectories)
    metrics = student.learn(trajectories)
    assert metrics["clip_fraction"] > 0, "the test needs ratios outside the clip range"
    assert metrics["policy_loss"] == pytest.approx(policy, abs=1e-5)
    assert metrics["value_loss"] == pytest.approx(value, rel=1e-5)
    assert metrics["entropy"] == pytest.approx(entropy, abs=1e-5)


def test_one_update_equals_plain_autograd() -> None:
    student, twin = make(), make()
    trajectories = play(student)
    student.learn(trajectories)
    network = twin.network
    optimiser = torch.optim.Adam(network.parameters(), CONFIG.learning_rate, eps=1e-5)
    episode_starts = trajectories.episode_starts
    policy_now, values = network(network.prepare(trajectories.observations, episode_starts), episode_starts)
    distribution = torch.distributions.Categorical(logits=policy_now.log_probs)
    advantages = trajectories.advantages
    advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-5)
    # before any update the ratio is 1 and nothing is clipped, so the gradient is that of the plain policy gradient
    policy = -(distribution.log_prob(trajectories.actions) * advantages).mean()
    value = 0.5 * (values - trajectories.returns).square().mean()
    (policy + 0.5 * value - 0.02 * distribution.entropy().mean()).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), CONFIG.max_gradient_norm)
    optimiser.step()
    torch.testing.assert_close(weights(student), weights(twin), atol=1e-6, rtol=1e-5)


def test_nothing_to_train_on_leaves_the_weights() -> None:
    student = make()
    before = weights(student)
    assert student.learn(play(student), torch.zeros(4, dtype=torch.bool)) == {}
    assert torch.equal(weights(student), before)


def test_masked_environments_do_not_matter() -> None:
    student, twin = make(), make()
    trajectories, poisoned = play(student), play(twin)
    mask = torch.tensor([True, False, True, False])
    for name in ("advantages", "values", "log_probs", "next_values", "rewards"):
        getattr(poisoned, name)[:, ~mask] = torch.nan
    poisoned.actions[:, ~mask] = 0
    student.learn(trajectories, mask)
    twin.learn(poisoned, mask)
    assert torch.equal(weights(student), weights(twin))
    assert not weights(student).isnan().any()


def test_minibatches_visit_every_environment_once() -> None:
    student = make(replace(CONFIG, minibatches=2))
    seen: list[torch.Tensor] = []
    step = student.gradient_step

    def record(batch: Batch) -> torch.Tensor:
        seen.append(batch.advantages[0])
        return step(batch)

    student.gradient_step = record  # type: ignore[method-assign]
    trajectories = play(student)
    student.learn(trajectories)
    assert [len(part) for part in seen] == [2, 2]
    assert torch.equal(torch.cat(seen).sort().values, trajectories.advantages[0].sort().values)


def test_target_kl_ends_an_update() -> None:
    """The first gradient step finds the policy that acted, KL 0; the second sees what a huge step did to it."""
    hot = replace(CONFIG, learning_rate=0.2, epochs=6)
    free, held, patient = (make(replace(hot, target_kl=kl)) for kl in (0.0, 1e-3, 1e9))
    metrics = [student.learn(play(student)) for student in (free, held, patient)]
    assert [each["gradient_steps"] for each in metrics] == [6, 2, 6]
    assert torch.equal(weights(free), weights(patient))
    assert metrics[1]["approx_kl"] > 1e-3 / 2, "the mean over a step at 0 and one beyond the limit"
    twin = make(replace(hot, epochs=2))
    assert twin.learn(play(twin)) == metrics[1], "what was done before the end is the same"


def test_target_kl_counts_gradient_steps_of_minibatches() -> None:
    student = make(replace(CONFIG, learning_rate=0.2, epochs=6, minibatches=2, target_kl=1e-3))
    assert student.learn(play(student))["gradient_steps"] == 2


def test_approximate_kl_and_clip_fraction_by_hand() -> None:
    """Ratios 1, 2 and 1/2: r - 1 - log r is 0, 1 - log 2 and log 2 - 1/2."""
    change = policy_change(torch.tensor([1.0, 2.0, 0.5]).log(), torch.zeros(3), clip=0.6)
    assert change.approx_kl == pytest.approx(0.5 / 3)
    assert change.clip_fraction == pytest.approx(1 / 3)


def test_linear_schedule_falls_to_nothing() -> None:
    student, constant = make(replace(CONFIG, learning_rate_schedule="linear")), make()
    for progress, rate in ((0.0, 1e-4), (0.25, 7.5e-5), (1.0, 0.0)):
        student.schedule(progress)
        constant.schedule(progress)
        assert student.optimiser.param_groups[0]["lr"] == pytest.approx(rate)
        assert constant.optimiser.param_groups[0]["lr"] == 1e-4
    before = weights(student)
    student.learn(play(student))
    assert torch.equal(weights(student), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"rollout_steps": 10**12}, "rollout_steps must be at most 1,000,000, got 1000000000000"),
        ({"target_kl": -0.1}, "target_kl must be at least 0, got -0.1"),
        ({"learning_rate_schedule": "cosine"}, "learning_rate_schedule must be constant or linear, got 'cosine'"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"discount": 1.5}, r"discount must be in 0..1"),
        ({"torso": "resnet"}, "torso must be conv or symbols, got 'resnet'"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PPOConfig(**options)  # type: ignore[arg-type]


def test_learns_a_small_maze() -> None:
    domain = MazeDomain(height=3, width=3, max_obstacles=0, max_steps=12)
    config = PPOConfig(
        rollout_steps=32,
        learning_rate=5e-3,
        hidden=32,
        head=32,
        torso="symbols",
        torso_width=32,
        discount=0.95,
        epochs=4,
    )
    engine = domain.engine(32)
    student = config.build(engine.observation_space, engine.action_space, 1, "student")
    rng = torch.Generator().manual_seed(0)
    solved = []
    for _ in range(36):
        trajectories = student.rollout(engine, domain.sample(32, rng))
        statistics = trajectories.statistics()
        solved.append(float(statistics.solved.mean()))
        student.learn(trajectories)
    assert sum(solved[:3]) / 3 < 0.6
    assert sum(solved[-5:]) / 5 > 0.9
