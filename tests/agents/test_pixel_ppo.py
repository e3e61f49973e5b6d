"""The student for pictures: rollouts in normalised units, updates, and learning to steer by colour."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from fakes import ColourEngine, CountdownLevels

from clutr.agents.losses import ActionEvaluation, clipped_losses
from clutr.agents.normaliser import ReturnNormaliser
from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.agents.pixels import PixelActorCritic
from clutr.agents.ppo import Batch, PPOStudent
from clutr.agents.rollout import generalised_advantages
from clutr.agents.student import Trajectories

CONFIG = PixelPPOConfig(rollout_steps=6, epochs=1, minibatches=1)
LEVELS = CountdownLevels(torch.tensor([2, 3, 50]))


def make(config: PixelPPOConfig = CONFIG, seed: int = 1) -> PPOStudent:
    engine = ColourEngine(1)
    return config.build(engine.observation_space, engine.action_space, seed, "student")


def play(student: PPOStudent) -> Trajectories:
    return student.rollout(ColourEngine(3), LEVELS)


def weights(student: PPOStudent) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in student.network.parameters()])


def test_defaults_are_published() -> None:
    config = PixelPPOConfig()
    assert (config.rollout_steps, config.epochs, config.minibatches) == (125, 8, 4)
    assert (config.learning_rate, config.discount, config.gae_lambda, config.clip) == (3e-4, 0.99, 0.9, 0.2)
    assert (config.value_coefficient, config.entropy_coefficient, config.max_gradient_norm) == (0.5, 0.0, 0.5)
    assert (config.value_loss, config.normalise_returns, config.head) == ("smooth-l1", True, 100)


def test_advantages_are_in_normalised_units_and_returns_are_not() -> None:
    student = make()
    trajectories = play(student)
    dones = trajectories.terminated | trajectories.truncated
    assert dones.any()
    normalised = ReturnNormaliser(student.config.discount)(trajectories.rewards, dones)
    assert not torch.allclose(normalised, trajectories.rewards)
    expected = generalised_advantages(
        normalised,
        trajectories.values,
        trajectories.next_values,
        dones,
        student.config.discount,
        student.config.gae_lambda,
    )
    torch.testing.assert_close(trajectories.advantages, expected)
    # the first episode of the first environment is its first two steps, of the environment's own rewards
    statistics = trajectories.statistics()
    assert statistics.episodes.tolist() == [3, 2, 0]
    episodes = trajectories.rewards[:, 0].view(3, 2).sum(1)
    torch.testing.assert_close(statistics.mean_return[0], episodes[0])
    torch.testing.assert_close(statistics.best_return[0], episodes.max())
    assert statistics.solved.tolist() == [1, 0, 0]


def test_moments_go_on_from_rollout_to_rollout() -> None:
    student = make()
    reference = ReturnNormaliser(student.config.discount)
    for _ in range(2):
        trajectories = play(student)
        reference(trajectories.rewards, trajectories.terminated | trajectories.truncated)
    assert student.normaliser is not None
    assert torch.equal(student.normaliser.moments, reference.moments)
    assert torch.equal(student.state_dict()["normaliser"]["moments"], reference.moments)


def test_frames_are_stored_once_as_bytes() -> None:
    frames = play(make()).observations["image"]
    assert frames.shape == (6, 3, 96, 96, 3)
    assert frames.dtype == torch.uint8
    # the level of three steps shows each of its pictures again in the second episode
    assert torch.equal(frames[:3, 1], frames[3:, 1])


def test_update_sees_what_the_rollout_saw() -> None:
    student = make()
    trajectories = play(student)
    network = student.network
    episode_starts = network.samples(trajectories.episode_starts)
    policy, values = network(network.prepare(trajectories.observations, trajectories.episode_starts), episode_starts)
    assert trajectories.actions.shape == (6, 3, 3)
    assert trajectories.actions.min() > 0
    assert trajectories.actions.max() < 1
    log_probs = policy.log_prob(network.samples(trajectories.actions))
    torch.testing.assert_close(log_probs, network.samples(trajectories.log_probs), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(values, network.samples(trajectories.values), atol=1e-5, rtol=1e-4)


def test_one_update_equals_plain_autograd() -> None:
    student, twin = make(), make()
    trajectories = play(student)
    metrics = student.learn(trajectories)
    network = twin.network
    policy, values = network(
        network.prepare(trajectories.observations, trajectories.episode_starts),
        network.samples(trajectories.episode_starts),
    )
    advantages = network.samples(trajectories.advantages)
    advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-5)
    distribution = torch.distributions.Beta(policy.alpha, policy.beta)
    log_probs = distribution.log_prob(network.samples(trajectories.actions)).sum(-1)
    difference = values - network.samples(trajectories.returns)
    size = difference.abs()
    value = torch.where(size < 1, 0.5 * size.square(), size - 0.5).mean()
    # before any update the ratio is 1 and nothing is clipped, so the gradient is that of the plain policy gradient
    (-(log_probs * advantages).mean() + 0.5 * value).backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    optimiser = torch.optim.Adam(network.parameters(), 3e-4, eps=1e-5)
    optimiser.step()
    assert metrics["value_loss"] == pytest.approx(value.item(), rel=1e-4)
    assert metrics["gradient_norm"] == pytest.approx(float(norm), rel=1e-3)
    torch.testing.assert_close(weights(student), weights(twin), atol=2e-6, rtol=1e-4)


def test_gradients_in_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    student, twin = make(), make()
    trajectories = play(student)
    whole = student.learn(trajectories)
    monkeypatch.setattr(PixelActorCritic, "chunk", 5)
    parts = twin.learn(trajectories)
    assert parts == pytest.approx(whole, rel=1e-4, abs=1e-5)
    torch.testing.assert_close(weights(student), weights(twin), atol=2e-6, rtol=1e-4)


def test_minibatches_mix_the_steps_of_all_environments() -> None:
    student = make(replace(CONFIG, minibatches=4))
    seen: list[torch.Tensor] = []
    step = student.gradient_step

    def record(batch: Batch) -> torch.Tensor:
        seen.append(batch.returns)
        return step(batch)

    student.gradient_step = record  # type: ignore[method-assign]
    trajectories = play(student)
    student.learn(trajectories)
    assert [part.shape for part in seen] == [(1, 5), (1, 5), (1, 4), (1, 4)]
    assert torch.equal(torch.cat(seen, 1).flatten().sort().values, trajectories.returns.flatten().sort().values)
    assert not torch.equal(torch.cat(seen, 1).flatten(), trajectories.returns.flatten())


def test_masked_environments_do_not_matter() -> None:
    student, twin = make(), make()
    trajectories, poisoned = play(student), play(twin)
    mask = torch.tensor([True, False, True])
    for name in ("advantages", "values", "log_probs", "next_values", "rewards"):
        getattr(poisoned, name)[:, ~mask] = torch.nan
    poisoned.actions[:, ~mask] = 0
    poisoned.observations["image"][:, ~mask] = 7
    student.learn(trajectories, mask)
    twin.learn(poisoned, mask)
    assert torch.equal(weights(student), weights(twin))
    assert not weights(student).isnan().any()
    before = weights(student)
    assert student.learn(trajectories, torch.zeros(3, dtype=torch.bool)) == {}
    assert torch.equal(weights(student), before)


def test_smooth_l1_is_not_clipped() -> None:
    values, returns = torch.tensor([0.0, 3.0, -2.0]), torch.tensor([0.5, 0.0, 0.0])
    zeros = torch.zeros(3)
    new, old = ActionEvaluation(zeros, values, zeros), ActionEvaluation(zeros, zeros, zeros)
    losses = clipped_losses(new, old, zeros, returns, 0.2, "smooth-l1")
    assert float(losses.value) == pytest.approx((0.125 + 2.5 + 1.5) / 3)
    torch.testing.assert_close(losses.value, F.smooth_l1_loss(values, returns))
    assert float(clipped_losses(new, old, zeros, returns, 0.2).value) == pytest.approx((0.125 + 4.5 + 2.0) / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"torso": "resnet"}, "torso must be published or light or small, got 'resnet'"),
        ({"head": 0}, "head must be at least 1, got 0"),
        ({"minibatches": 0}, "minibatches must be at least 1, got 0"),
        ({"value_loss": "mse"}, "value_loss must be clipped or smooth-l1, got 'mse'"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelPPOConfig(**options)  # type: ignore[arg-type]


def test_learns_to_steer_by_colour() -> None:
    engine = ColourEngine(8)
    levels = CountdownLevels(torch.arange(5, 13))
    student = make(PixelPPOConfig(rollout_steps=6, learning_rate=2e-3, epochs=4, minibatches=2, discount=0.5))
    rewards = []
    for _ in range(17):
        trajectories = student.rollout(engine, levels)
        rewards.append(float(trajectories.rewards.mean()))
        student.learn(trajectories)
    assert sum(rewards[:2]) / 2 < 0.5
    assert sum(rewards[-2:]) / 2 > 0.7
