"""Motion trained by itself: as the core moves with its map, learnt before the memory, resumed to the same weights."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.world_model import motion_training
from clutr.world_model.cores.geometric import GeometricConfig, GeometricCore
from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.latents import LatentEpisode, Streams
from clutr.world_model.memory import MemoryConfig
from clutr.world_model.motion_training import MotionTraining
from clutr.world_model.training import MemoryTraining, MemoryTrainingOptions

CAR: dict[str, Any] = {"rows": 5, "columns": 5, "channels": 1, "width": 6, "painter": 2, "map_cell": 5.0}
LATENTS = 27
"""25 cells, and two indicators: how fast it goes and how it turns."""


def drive(seed: int, length: int = 90) -> LatentEpisode:
    """The action changes the speed by little, which the first indicator shows, and the second one is noise."""
    rng = torch.Generator().manual_seed(seed)
    actions = torch.randn(length, 1, generator=rng)
    speed = [torch.zeros(())]
    for action in actions[:, 0]:
        speed.append(0.9 * speed[-1] + 0.3 * action)
    speeds = torch.stack(speed)
    cells = 0.1 * torch.randn(length + 1, 25, generator=rng)
    mean = torch.cat([cells, speeds[:, None], torch.randn(length + 1, 1, generator=rng)], 1)
    motion = torch.stack([torch.zeros(length), 2 + speeds[1:], 0.1 * speeds[1:]], 1)
    nothing = torch.zeros(length)
    return LatentEpisode(mean, torch.full_like(mean, -9.0), actions, nothing, nothing, motion)


TRAIN, VALID = [drive(seed) for seed in range(16)], [drive(100 + seed, 75) for seed in range(3)]
OPTIONS: dict[str, Any] = {"epochs": 1, "streams": 8, "length": 20, "imagination_steps": 2, "sample": False}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STREAMS", 8), ("LENGTH", 16), ("DREAMT", 4)):
        monkeypatch.setattr(motion_training, name, value)


def training(passes: int, episodes: int = len(TRAIN)) -> MemoryTraining:
    memory = MemoryConfig(core=GeometricConfig(**CAR), gaussians=1).build(LATENTS, 1, seed=1)
    options = MemoryTrainingOptions(**OPTIONS, motion_passes=passes)
    return MemoryTraining(memory, options, TRAIN[:episodes], VALID, seed=1)


def alone(passes: int) -> MotionTraining:
    found = training(passes).motion
    assert found is not None
    return found


@torch.no_grad()
def test_motion_is_that_of_the_core_with_its_map() -> None:
    core = GeometricConfig(**CAR).build(LATENTS + 1, torch.Generator().manual_seed(1))
    core.use_scale(torch.zeros(LATENTS), torch.ones(LATENTS))
    xs = torch.randn(7, 3, LATENTS + 1, generator=torch.Generator().manual_seed(2))
    observed, dreamt = core.motions(core.initial_units(3), xs, LATENTS, 3, (4, 0))
    state, features = core.initial_state(3), []
    for time, x in enumerate(xs):
        state, feature = core.step(state, x)
        features.append(feature)
        if time == 3:
            awake = state
    parts = core.parts(torch.stack(features), LATENTS)
    assert parts.motion is not None
    torch.testing.assert_close(observed.motion, parts.motion)
    torch.testing.assert_close(observed.rest, parts.proposal[..., 25:])
    torch.testing.assert_close(observed.units[-1], state[:, -6:])
    # in dreams, which are side by side, indicators are its own predictions, which it is not told
    for dream, (begin, before) in enumerate(((4, awake), (0, core.initial_state(3)))):
        state, expected, columns = before, xs[begin, :, 25:LATENTS], slice(3 * dream, 3 * dream + 3)
        for time in range(3):
            x = torch.cat([xs[begin + time, :, :25], expected, xs[begin + time, :, LATENTS:]], 1)
            behind, feature = core.step(state, x)
            state = core.dreaming(behind, True)
            parts = core.parts(feature, LATENTS)
            assert parts.motion is not None
            torch.testing.assert_close(dreamt.motion[time, columns], parts.motion)
            expected = parts.proposal[:, 25:]
            torch.testing.assert_close(dreamt.rest[time, columns], expected)


def by_hand(run: MotionTraining, episodes: list[LatentEpisode]) -> Tensor:
    """Mean losses `[2]` of motion and of the rest, episode by episode as a whole."""
    core = run.core
    assert isinstance(core, GeometricCore)
    motions, rests = [], []
    for episode in episodes:
        latents = run.scale.normalise(episode.mean)
        xs = torch.cat([latents[:-1], episode.actions], 1)[:, None]
        found, _ = core.motions(core.initial_units(1), xs, LATENTS, 1, (0,))
        assert episode.motion is not None
        motions.append(core.displacement(found.motion[:, 0], core.in_deviations(episode.motion), False))
        rests.append(0.5 * (found.rest[:, 0] - latents[1:, 25:]).square().mean(1))
    return torch.stack([torch.cat(motions).mean(), torch.cat(rests).mean()])


@torch.no_grad()
def test_what_is_remembered_is_carried_over_chunks_of_any_length() -> None:
    run = alone(1)
    for offsets in (None, torch.Generator().manual_seed(3)):
        rng = torch.Generator().manual_seed(1)
        found = run._pass(Streams(VALID, 8, 16, rng, sample=False, offsets=offsets), learn=False)
        torch.testing.assert_close(found[:2], by_hand(run, VALID))


def test_motion_is_learnt_first() -> None:
    told: list[dict[str, float]] = []
    run = training(30)
    run.run(lambda done, total, metrics: told.append({"done": done, "total": total, **metrics}))
    assert [row["done"] for row in told] == list(range(1, 32))
    assert {row["total"] for row in told} == {31}
    first, last = told[0], told[29]
    assert last["valid_motion"] < 0.05
    assert first["train_motion"] > 0.5
    assert last["valid_dream_motion"] < 0.2 * first["valid_dream_motion"]
    # the second indicator is noise of variance 1, and nobody can tell it: half its square, over two indicators
    assert 0.25 < last["valid_rest"] < 0.85 * first["train_rest"]
    assert told[30]["valid_motion"] == pytest.approx(last["valid_motion"]), "the memory's own passes leave it as it is"
    assert run.convergence.epochs == 1


def test_an_interrupted_training_ends_as_if_it_had_not_been() -> None:
    class StoppedError(Exception):
        pass

    def stop(done: int, _total: int, _metrics: dict[str, float]) -> None:
        if done == 2:
            raise StoppedError

    whole, stopped, resumed = (training(3, episodes=4) for _ in range(3))
    whole.run()
    with pytest.raises(StoppedError):
        stopped.run(stop)
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    assert resumed.motion is not None
    assert resumed.motion.done == 2
    resumed.run()
    for name, value in whole.memory.state_dict().items():
        assert torch.equal(value, resumed.memory.state_dict()[name]), name


def test_who_has_no_motion_to_learn_does_without() -> None:
    frozen = MemoryConfig(core=GeometricConfig(**CAR), gaussians=1).build(LATENTS, 1, seed=1)
    frozen.freeze_core()
    other = MemoryConfig(core=GRUConfig(4), gaussians=1).build(LATENTS, 1, seed=1)
    options = MemoryTrainingOptions(**OPTIONS, motion_passes=3)
    for memory in (frozen, other):
        assert MemoryTraining(memory, options, TRAIN, VALID, seed=1).motion is None
    assert training(0).motion is None
    before = training(1)
    again = MemoryTraining(before.memory, options, TRAIN, VALID, seed=1, scale=before.scale)
    assert again.motion is None, "a memory that is trained on has learnt it"
    changed = training(1)
    changed.load_state_dict(copy.deepcopy(training(0).state_dict()))
    assert changed.motion is None, "a training that was begun without goes on without"
    with pytest.raises(ValueError, match="motion_passes must be at least 0, got -1"):
        MemoryTrainingOptions(motion_passes=-1)


def test_heads_learn_nothing_at_the_expense_of_motion() -> None:
    run = training(0)
    memory = run.memory
    xs = torch.randn(4, 2, LATENTS, generator=torch.Generator().manual_seed(1))
    _, found = memory.scan(memory.initial_state(2), xs, torch.zeros(4, 2, 1))
    (found.reward.sum() + found.termination.sum() + found.latent.log_density(xs).sum()).backward()
    core = memory.core
    assert isinstance(core, GeometricCore)
    assert core.turn.weight.grad is None or not core.turn.weight.grad.any()
    assert core.glance.weight.grad is not None
    memory.zero_grad()
    _, found = memory.scan(memory.initial_state(2), xs, torch.zeros(4, 2, 1))
    (found.reward.sum() + found.termination.sum()).backward()
    assert all(each.grad is None or not each.grad.any() for each in core.motion_parameters())
