"""Training the memory: every step is seen once a pass, states are carried, and learning shows."""

import dataclasses
from collections import Counter
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dreamer
from clutr.world_model.latents import LatentEpisode, Streams
from clutr.world_model.memory import Memory, MemoryConfig
from clutr.world_model.training import MemoryTraining, MemoryTrainingOptions, convergence


def episode(length: int, mark: float = 0.0, seed: int = 0) -> LatentEpisode:
    """The latent turns by a fixed angle a step and is pushed by the action; the reward is its first coordinate."""
    rng = torch.Generator().manual_seed(seed + length)
    turn = torch.tensor([[0.9, -0.4], [0.4, 0.9]])
    actions = torch.randn(length, 1, generator=rng)
    latents = [torch.randn(2, generator=rng)]
    for action in actions:
        latents.append(turn @ latents[-1] + 0.5 * action)
    mean = torch.cat([torch.stack(latents), torch.full((length + 1, 1), mark)], 1)
    ends = torch.zeros(length)
    ends[-1] = 1.0
    return LatentEpisode(mean, torch.full_like(mean, -9.0), actions, mean[1:, 0].clone(), ends)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 23), min_size=1, max_size=9),
    streams=st.integers(1, 4),
    size=st.integers(1, 8),
    shifted=st.booleans(),
)
def test_every_moment_comes_once_and_in_order(lengths: list[int], streams: int, size: int, shifted: bool) -> None:
    episodes = [episode(length, mark=float(number + 1)) for number, length in enumerate(lengths)]
    seen: Counter[int] = Counter()
    places = [(0, 0)] * streams
    rng, offsets = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    for chunk in Streams(episodes, streams, size, rng, False, offsets if shifted else None).epoch():
        for stream in range(streams):
            real = int(chunk.real[:, stream].sum())
            assert chunk.real[:real, stream].all(), "recorded steps come first"
            if not real:
                continue
            number = int(chunk.latents[0, stream, 2]) - 1
            start = 0 if chunk.first[stream] else places[stream][1]
            assert chunk.first[stream] or places[stream][0] == number, "what is carried on is the same episode"
            expected = episodes[number]
            assert torch.equal(chunk.latents[: real + 1, stream], expected.mean[start : start + real + 1])
            assert torch.equal(chunk.actions[:real, stream], expected.actions[start : start + real])
            assert torch.equal(chunk.rewards[:real, stream], expected.rewards[start : start + real])
            assert torch.equal(chunk.terminated[:real, stream], expected.terminated[start : start + real])
            seen[number] += real
            places[stream] = (number, start + real)
            assert bool(chunk.goes_on[stream]) == (start + real < len(expected))
    assert seen == Counter(dict(enumerate(lengths)))


def test_sampling_spreads_latents_as_the_backbone_says() -> None:
    still = LatentEpisode(
        torch.zeros(401, 1), torch.full((401, 1), 4.0).log(), torch.zeros(400, 1), torch.zeros(400), torch.zeros(400)
    )
    (chunk,) = Streams([still], 1, 400, torch.Generator().manual_seed(1), sample=True).epoch()
    assert float(chunk.latents.std()) == pytest.approx(2.0, rel=0.1)


EPISODES = [episode(40, seed=number) for number in range(12)]
VALID = [episode(40, seed=100 + number) for number in range(4)]
OPTIONS = MemoryTrainingOptions(epochs=12, streams=4, length=10, learning_rate=1e-2, imagination_steps=4, sample=False)


def memory() -> Memory:
    return MemoryConfig(core=GRUConfig(width=16), gaussians=2).build(3, 1, seed=1)


def training(options: MemoryTrainingOptions = OPTIONS, model: Memory | None = None) -> MemoryTraining:
    return MemoryTraining(model or memory(), options, EPISODES, VALID, seed=3)


@cache
def trained() -> MemoryTraining:
    """The same for all tests, which leave it as it is."""
    run = training()
    run.run()
    return run


def test_it_learns_the_dynamics_the_reward_and_the_end() -> None:
    first, *_, last = trained().history
    assert last["valid_nll"] < first["valid_nll"] - 0.5
    assert last["valid_reward"] < 0.2 < first["valid_reward"], "the reward is the next latent, known from the last"
    assert last["valid_termination"] < 0.2
    assert last["valid_dream_mse"] < 0.2 * first["valid_dream_mse"]


def test_it_stops_early_and_keeps_the_best_weights() -> None:
    run = training(dataclasses.replace(OPTIONS, epochs=50, learning_rate=0.5, patience=2))
    run.run()
    assert run.epoch < 50
    assert run.epoch - run.best_epoch == 2
    assert all(torch.equal(value, run.best[name]) for name, value in run.memory.state_dict().items())


def test_an_interrupted_training_continues_bit_for_bit() -> None:
    whole, parted = trained(), training()
    for _ in range(5):
        parted.one_epoch()
    resumed = training()
    resumed.load_state_dict(parted.state_dict())
    resumed.run()
    assert resumed.history == whole.history
    mine, other = resumed.memory.state_dict(), whole.memory.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_the_state_that_is_carried_is_that_of_the_whole_episode() -> None:
    """Trained in chunks of 10 steps or tested on 40 at once, an untrained memory has the same loss."""

    def untrained_loss(length: int) -> Tensor:
        options = MemoryTrainingOptions(streams=4, length=length, imagination_steps=0, sample=False)
        with torch.no_grad():
            return training(options)._pass(VALID, learn=False)

    torch.testing.assert_close(untrained_loss(10), untrained_loss(40))


def test_chunks_that_begin_anywhere_carry_the_state_too() -> None:
    """With steps of next to no size, a pass over chunks at random offsets has the loss of whole episodes."""

    def loss(length: int, shifted: bool) -> Tensor:
        options = MemoryTrainingOptions(
            learning_rate=1e-12, streams=4, length=length, imagination_steps=0, sample=False, random_offsets=shifted
        )
        return training(options)._pass(EPISODES, learn=True)

    torch.testing.assert_close(loss(10, shifted=True), loss(40, shifted=False))


def test_dreams_begin_at_different_steps_in_every_pass() -> None:
    streams = Streams(EPISODES, 12, 10, torch.Generator().manual_seed(1), False, torch.Generator().manual_seed(2))
    firsts = [int(size) for _ in range(20) for size in streams.epoch()[0].real.sum(0)]
    assert set(firsts) == set(range(1, 11))


def test_an_interrupted_training_with_offsets_and_a_schedule_continues_bit_for_bit() -> None:
    options = dataclasses.replace(OPTIONS, epochs=4, random_offsets=True, schedule="cosine")
    whole, parted, resumed = (training(options) for _ in range(3))
    whole.run()
    parted.one_epoch()
    resumed.load_state_dict(parted.state_dict())
    resumed.run()
    assert resumed.history == whole.history


def test_the_step_size_falls_along_a_cosine() -> None:
    run = training(dataclasses.replace(OPTIONS, epochs=4, learning_rate=0.4, schedule="cosine"))
    sizes = []
    for epoch, share in ((0, 0.0), (1, 0.0), (2, 0.0), (3, 0.5)):
        run.epoch = epoch
        run._set_learning_rate(share)
        sizes.append(run.optimiser.param_groups[0]["lr"])
    assert sizes == pytest.approx([0.4, 0.2 * (1 + 0.5**0.5), 0.2, 0.2 * (1 - 0.923880)], rel=1e-5)


def test_convergence_is_judged_by_the_last_tenth() -> None:
    falling = [10.0 - pass_ for pass_ in range(20)]  # the last two passes bring 2 of 19
    found = convergence(falling)
    assert found[:3] == (False, 20, 20)
    assert found.late_gain == pytest.approx(2 / 19)
    flat = [10.0, 5.0, 2.0, *[1.0] * 17]
    assert convergence(flat) == (True, 4, 20, 0.0)
    assert convergence([3.0]) == (False, 1, 1, 0.0)
    with pytest.raises(ValueError, match="at least one pass"):
        convergence([])


def test_what_is_dreamt_in_training_is_what_a_dreamer_dreams() -> None:
    """Of one episode of 40 steps the last 7 are dreamt, and judged against what came."""
    run = training(MemoryTrainingOptions(streams=4, length=40, imagination_steps=7, sample=False))
    with torch.no_grad():
        watched, dreamt = run._pass(VALID, learn=False)
    plain = training(MemoryTrainingOptions(streams=4, length=40, imagination_steps=0, sample=False))
    with torch.no_grad():
        torch.testing.assert_close(plain._pass(VALID, learn=False)[0], watched)
    dreamer, rewards = Dreamer(run.memory, run.scale), []
    latents, actions = (torch.stack([getattr(e, name) for e in VALID], 1) for name in ("mean", "actions"))
    latent_state, _ = dreamer.observe(latents[:34], actions[:33])
    wrong = []
    for time in range(33, 40):
        latent_state, expected = dreamer.step(latent_state, actions[time], temperature=None)
        wrong.append((latent_state.latent - run.scale.normalise(latents[time + 1])).square().mean() / 2)
        true = torch.stack([e.rewards[time] for e in VALID]) / run.scale.reward_std
        rewards.append((expected.reward - true).square().mean())
    torch.testing.assert_close(dreamt[:2], torch.stack([torch.stack(wrong).mean(), torch.stack(rewards).mean()]))


def test_the_control_leaves_its_core_as_it_was() -> None:
    model = memory()
    model.freeze_core()
    before: list[Tensor] = [value.clone() for value in model.core.state_dict().values()]
    run = training(model=model)
    run.one_epoch()
    assert all(torch.equal(a, b) for a, b in zip(before, model.core.state_dict().values(), strict=True))
    assert run.history[0]["train_nll"] > 0


def test_messages() -> None:
    with pytest.raises(ValueError, match="needs episodes to train and to validate on: record more"):
        MemoryTraining(memory(), OPTIONS, EPISODES, [], seed=1)
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        MemoryTrainingOptions(patience=0)
    with pytest.raises(ValueError, match="imagination_steps must be at least 0 and less than length, 8, got 8"):
        MemoryTrainingOptions(length=8, imagination_steps=8)
    with pytest.raises(ValueError, match="schedule must be constant or cosine, got 'linear'"):
        MemoryTrainingOptions(schedule="linear")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="learning_rate must be above 0, got 0"):
        MemoryTrainingOptions(learning_rate=0)
