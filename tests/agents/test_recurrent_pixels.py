"""The student with one picture and a memory: sequences, resets, joint training, and remembering what it saw once."""

from dataclasses import replace

import pytest
import torch
from fakes import ColourEngine, CountdownLevels

from clutr.agents.pixels import FRAMES
from clutr.agents.ppo import Batch, PPOStudent
from clutr.agents.recurrent_pixels import RecurrentPixelActorCritic, RecurrentPixelPPOConfig

CONFIG = RecurrentPixelPPOConfig(torso="light", rollout_steps=6, epochs=1, minibatches=1, hidden=16, head=8, shards=1)
LEVELS = CountdownLevels(torch.tensor([2, 3, 50]))


def make(config: RecurrentPixelPPOConfig = CONFIG) -> PPOStudent:
    engine = ColourEngine(1)
    return config.build(engine.observation_space, engine.action_space, 1, "student")


def test_a_sequence_is_its_steps_one_after_the_other() -> None:
    student = make()
    played = student.rollout(ColourEngine(3), LEVELS)
    assert played.episode_starts[1:].any()
    batch = Batch.of(student.network, played, None)
    policy, values = student.network(batch.prepared, batch.episode_starts)
    torch.testing.assert_close(values, played.values, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(policy.log_prob(played.actions), played.log_probs, atol=1e-4, rtol=1e-4)


def test_an_episode_knows_nothing_of_the_one_before() -> None:
    network = make().network
    first, second = ({"image": torch.full((2, 1, 96, 96, 3), shade, dtype=torch.uint8)} for shade in (10, 200))
    starts = torch.tensor([[True], [True]])
    mixed = {"image": torch.cat([second["image"][:1], first["image"][1:]])}
    _, of_first = network(network.prepare(first, starts), starts)
    _, of_mixed = network(network.prepare(mixed, starts), starts)
    assert torch.equal(of_first[1], of_mixed[1])
    through = torch.tensor([[True], [False]])
    _, remembered = network(network.prepare(mixed, through), through)
    assert not torch.equal(remembered[1], of_mixed[1])


def test_gradients_reach_the_convolutions_through_time() -> None:
    network = make().network
    starts = torch.tensor([[True], [False], [False]])
    pictures = torch.zeros(3, 1, 96, 96, 3, dtype=torch.uint8)
    pictures[0] = 200  # only the first picture shows anything
    assert isinstance(network, RecurrentPixelActorCritic)
    prepared = network.prepare({"image": pictures}, starts).float().requires_grad_()
    _, values = network(prepared, starts)
    (gradient,) = torch.autograd.grad(values[2, 0], prepared)
    assert gradient[0].abs().sum() > 0


def test_gradients_in_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    student, twin = make(), make()
    played = student.rollout(ColourEngine(3), LEVELS)
    assert student.network.chunk == 28 * 2**20 // (4 * 48 * 48 * 3 * 6)
    whole = student.learn(played)
    monkeypatch.setattr(RecurrentPixelActorCritic, "chunk", 1)
    assert twin.learn(played) == pytest.approx(whole, rel=1e-4, abs=1e-5)


def test_long_rollouts_are_learnt_from_one_environment_at_a_time() -> None:
    assert make(replace(CONFIG, torso="published", rollout_steps=1_000)).network.chunk == 1


def test_it_learns_to_remember_longer_than_four_pictures() -> None:
    network = make().network
    steps, sequences = FRAMES + 2, 2
    pictures = torch.zeros(steps, sequences, 96, 96, 3, dtype=torch.uint8)
    pictures[0, ::2], pictures[0, 1::2] = 60, 250  # black from the second on
    starts = torch.zeros(steps, sequences, dtype=torch.bool)
    starts[0] = True
    prepared = network.prepare({"image": pictures}, starts)
    target = torch.tensor([-1.0, 1.0]).repeat(sequences // 2)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(100):
        _, values = network(prepared, starts)
        loss = (values - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float((values[-1] - target).detach().square().mean()) < 0.1  # 1 for who has forgotten


def test_bad_width() -> None:
    with pytest.raises(ValueError, match="hidden must be at least 1, got 0"):
        RecurrentPixelPPOConfig(hidden=0)
