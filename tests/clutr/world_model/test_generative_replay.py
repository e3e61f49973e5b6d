"""Generative replay: a memory that learns something new forgets the old without it, and with it does not."""

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch

from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.evaluation import one_step
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import MemoryConfig
from clutr.world_model.replay import DreamReplay, DreamStarts
from clutr.world_model.training import MemoryTraining, MemoryTrainingOptions

OPTIONS = MemoryTrainingOptions(
    epochs=8, streams=4, length=10, learning_rate=1e-2, imagination_steps=0, patience=99, sample=False
)
LENGTH = 40


def episode(gear: int, seed: int) -> LatentEpisode:
    """The latent turns one way in the first gear and the other way in the second; actions push it and tell the gear."""
    rng = torch.Generator().manual_seed(seed)
    angle = torch.tensor(0.4 if gear else -0.4)
    turn = 0.95 * torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    actions = torch.cat([torch.randn(LENGTH, 1, generator=rng), torch.full((LENGTH, 1), float(gear))], 1)
    latents = [torch.randn(2, generator=rng)]
    for push in actions[:, :1]:
        latents.append(turn @ latents[-1] + 0.5 * push)
    mean = torch.stack(latents)
    return LatentEpisode(mean, torch.full_like(mean, -9.0), actions, mean[1:, 0].clone(), torch.zeros(LENGTH))


def episodes(gear: int, first: int = 0, count: int = 12) -> list[LatentEpisode]:
    return [episode(gear, seed=1_000 * gear + first + number) for number in range(count)]


def endless(run: MemoryTraining) -> MemoryTraining:
    """Its dreams never end: a little chance of that is predicted where nothing ever ended."""
    assert isinstance(run.replay, DreamReplay)
    with torch.no_grad():
        run.replay.dreamer.memory.outcome.bias[1] = -1e3
    return run


@cache
def first_gear(seed: int = 1) -> MemoryTraining:
    """Trained in the first gear alone; others leave it as it is."""
    memory = MemoryConfig(core=GRUConfig(width=16), gaussians=2).build(2, 2, seed)
    run = MemoryTraining(memory, OPTIONS, episodes(0), episodes(0, 50, 4), seed)
    run.run()
    return run


def starts() -> DreamStarts:
    """Twenty steps from each of 32 states in the first gear."""
    old = first_gear()
    return DreamStarts.recorded(Dreamer(old.memory, old.scale), old.train, torch.Generator().manual_seed(1), 32, 20)


def trained_on(share: float | None, seed: int = 1, epochs: int = OPTIONS.epochs) -> MemoryTraining:
    """A training in the second gear of the memory that knows the first one; it has not begun."""
    old = first_gear(seed)
    replay = None
    if share is not None:
        frozen = Dreamer(copy.deepcopy(old.memory), old.scale)
        kept = DreamStarts.recorded(frozen, old.train, torch.Generator().manual_seed(1), 32, 20)
        replay = DreamReplay(frozen, kept, share)
    options, memory = replace(OPTIONS, epochs=epochs), copy.deepcopy(old.memory)
    return MemoryTraining(memory, options, episodes(1), episodes(1, 50, 4), seed, old.scale, replay)


def nats(run: MemoryTraining, gear: int) -> float:
    return float(one_step(episodes(gear, 80, 4), Dreamer(run.memory, run.scale))["nll"])


def test_without_replay_the_old_is_forgotten_and_with_it_is_not() -> None:
    """As many gradient steps: with half of each batch replayed, a pass makes twice as many."""
    old, without, with_it = first_gear(), trained_on(None), trained_on(0.5, epochs=4)
    without.run()
    with_it.run()
    for run in (without, with_it):
        assert nats(run, 1) < nats(old, 1) - 5.0, "it learns the new"
    forgotten, kept = nats(without, 0) - nats(old, 0), nats(with_it, 0) - nats(old, 0)
    assert forgotten > 3.0
    assert kept < 0.3 * forgotten


@pytest.mark.parametrize(("share", "replayed"), [(0.25, 1), (0.5, 2), (0.75, 3)])
def test_replay_has_its_share_of_every_batch(share: float, replayed: int) -> None:
    run = endless(trained_on(share))
    batches = run._batches(run.train, learn=True)
    for batch in batches:
        gears = batch.actions[..., 1]
        assert not gears[:, -replayed:].any(), "the last streams dream in the first gear"
        assert batch.real[:, -replayed:].all(), "without a gap"
        assert gears[:, :-replayed][batch.real[:, :-replayed]].all()
    assert sum(int(batch.real[:, :-replayed].sum()) for batch in batches) == 12 * LENGTH, "each recorded step once"
    validated = run._batches(run.valid, learn=False)
    assert all(batch.actions[..., 1][batch.real].all() for batch in validated), "validation is on the recording alone"


def test_dreams_begin_where_the_memory_was_after_all_that_came_before() -> None:
    old, kept = first_gear(), starts()
    assert int((kept.states == 0).all(1).sum()) >= 8, "a quarter begins where an episode does"
    for row in range(len(kept.lengths)):
        ((number, time),) = [
            (n, int(t))
            for n, each in enumerate(old.train)
            for t in (old.scale.normalise(each.mean) - kept.latents[row]).abs().sum(1).lt(1e-5).nonzero()
        ]
        state, normal = old.memory.initial_state(1), old.scale.normalise(old.train[number].mean)
        for step in range(time):
            state, _ = old.memory.step(state, normal[step : step + 1], old.train[number].actions[step : step + 1])
        torch.testing.assert_close(kept.states[row : row + 1], state, atol=1e-5, rtol=1e-5)
        assert torch.equal(kept.actions[:, row], old.train[number].actions[time : time + 20])


def test_what_is_replayed_is_dreamt_by_the_old_memory_under_recorded_actions() -> None:
    run, kept = endless(trained_on(0.5, epochs=1)), starts()
    run.run()  # the memory learns, the copy that dreams does not
    assert isinstance(run.replay, DreamReplay)
    found = run.replay.episodes(100, 10, torch.Generator().manual_seed(5))
    assert [len(each) for each in found] == [20] * 5
    rng = torch.Generator().manual_seed(5)
    rows = torch.randint(32, (5,), generator=rng)
    begun = LatentState(kept.states[rows], kept.latents[rows])
    old = first_gear()
    dream = Dreamer(old.memory, old.scale).dream(begun, kept.actions[:, rows], 20, 1.0, rng)
    for column, each in enumerate(found):
        assert torch.equal(each.actions, kept.actions[:, rows[column]])
        torch.testing.assert_close(each.mean[1:], dream.latents[:, column])
        torch.testing.assert_close(each.rewards, dream.rewards[:, column])
        assert not each.terminated.any()


def test_a_dream_ends_where_its_episode_does() -> None:
    run = trained_on(0.5)
    assert isinstance(run.replay, DreamReplay)
    replay = run.replay
    with torch.no_grad():
        replay.dreamer.memory.outcome.weight[1] = 0.0
        replay.dreamer.memory.outcome.bias[1] = torch.tensor(0.2).logit()
    found = replay.episodes(4_000, 10, torch.Generator().manual_seed(1))
    assert sum(map(len, found)) >= 4_000
    expected = (1 - 0.8**20) / 0.2  # of a geometric length, cut at 20
    assert sum(map(len, found)) / len(found) == pytest.approx(expected, rel=0.05)
    assert all(torch.allclose(each.terminated, torch.tensor(0.2)) for each in found)


def test_dreams_are_whole_chunks_where_actions_last() -> None:
    replay = endless(trained_on(0.5)).replay
    assert replay is not None
    lengths = {
        length: {len(each) for each in replay.episodes(50, length, torch.Generator().manual_seed(1))}
        for length in (5, 7, 20, 30)
    }
    assert lengths == {5: {20}, 7: {14}, 20: {20}, 30: {20}}


def test_an_interrupted_training_with_replay_continues_bit_for_bit() -> None:
    whole, parted, resumed = (trained_on(0.5, epochs=2) for _ in range(3))
    whole.run()
    parted.one_epoch()
    resumed.load_state_dict(parted.state_dict())
    resumed.run()
    assert resumed.history == whole.history
    assert all(torch.equal(value, resumed.memory.state_dict()[k]) for k, value in whole.memory.state_dict().items())


def test_a_memory_that_is_trained_on_keeps_its_scale() -> None:
    assert torch.equal(trained_on(None).scale.latent_std, first_gear().scale.latent_std)


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"a share of 0\.1 of 4 streams is 0 of them: replay and recording need"):
        trained_on(0.1)
    with pytest.raises(ValueError, match=r"a share of 0\.9 of 4 streams is 4 of them"):
        trained_on(0.9)
    old = first_gear()
    with pytest.raises(ValueError, match="there is no episode with a step"):
        DreamStarts.recorded(Dreamer(old.memory, old.scale), [], torch.Generator())
