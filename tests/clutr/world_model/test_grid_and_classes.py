"""Latents in a grid under a convolutional memory, and latents that are classes."""

from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.world_model.backbones.categorical import CategoricalConfig
from clutr.world_model.backbones.spatial_vae import SpatialVAEConfig
from clutr.world_model.categories import EVEN, Categories
from clutr.world_model.cores.conv_gru import ConvGRUConfig
from clutr.world_model.cores.geometric import GeometricConfig
from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import MemoryConfig, Scale
from clutr.world_model.training import MemoryTraining, MemoryTrainingOptions


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- a grid


GRID: dict[str, Any] = {"width": 3, "rows": 5, "columns": 6, "channels": 2, "kernel": 3}


def test_a_step_reaches_neighbours_and_no_further() -> None:
    core = ConvGRUConfig(**GRID).build(61, generator())
    core.glance.weight.data.zero_()
    x, moved = torch.zeros(1, 61), torch.zeros(1, 61)
    moved[0, 2 * 6 + 2] = 1.0  # first channel, row 2, column 2
    with torch.no_grad():
        (state, features), (other_state, other) = (core.step(core.initial_state(1), each) for each in (x, moved))
    units = (state != other_state).view(3, 5, 6).any(0)
    assert [each.values.tolist() for each in (units.nonzero().min(0), units.nonzero().max(0))] == [[1, 1], [3, 3]]
    change = core.parts(other, 60).proposal - core.parts(features, 60).proposal
    assert change.view(2, 5, 6)[:, :, 4].abs().max() > 0, "two convolutions reach two columns"
    assert change.view(2, 5, 6)[:, :, 5].abs().max() == 0
    assert float(change.view(2, 5, 6)[0, 2, 2]) == pytest.approx(1, abs=0.3), "a proposal is the present, changed"


def test_a_memory_of_a_grid_learns_what_moves_through_it() -> None:
    """A bright column goes one place to the right each step: convolutions fail at the edge only."""

    def walk(first: int) -> LatentEpisode:
        cells = torch.zeros(13, 3, 6)
        for time in range(13):
            cells[time, :, (first + time) % 6] = 1.0
        mean, nothing = cells.flatten(1), torch.zeros(12)
        return LatentEpisode(mean, torch.full_like(mean, -9.0), torch.zeros(12, 1), nothing, nothing)

    core = ConvGRUConfig(width=4, rows=3, columns=6, channels=1, kernel=3)
    memory = MemoryConfig(core=core, gaussians=1).build(18, 1, seed=1)
    options = MemoryTrainingOptions(epochs=30, streams=6, length=6, learning_rate=2e-2, imagination_steps=2)
    run = MemoryTraining(memory, options, [walk(first) for first in range(6)], [walk(0)], seed=1)
    run.run()
    assert run.history[0]["valid_dream_mse"] > 0.5
    assert run.history[-1]["valid_dream_mse"] < 0.45 * run.history[0]["valid_dream_mse"]


def test_places_of_a_spatial_vae_are_where_their_pixels_are() -> None:
    backbone = SpatialVAEConfig(latents=2 * 16 + 3, channels=(4, 4, 4)).build((32, 32), 1)
    assert (backbone.each, backbone.rest, backbone.grid) == (2, 3, [4, 4])
    frames = torch.full((2, 32, 32, 3), 90, dtype=torch.uint8)
    frames[1, 28:, 28:] = 255  # the last corner
    mean, _ = backbone.encode(frames)
    changed = (mean[0] != mean[1])[:32].view(2, 4, 4)
    assert changed[:, 3, 3].all()
    assert not changed[:, :2].any(), "the upper half sees nothing of the corner"
    assert not changed[:, :, :2].any()
    with pytest.raises(ValueError, match="4x4 places need at least 16 latents, got 15"):
        SpatialVAEConfig(latents=15, channels=(4, 4, 4)).build((32, 32), 1)


# --- classes


def categories(logits: Tensor) -> Categories:
    """Two classes a group, of latents with mean .25 and standard deviation .5: 0 is -.5, and 1 is 1.5."""
    return Categories.from_numbers(logits, 2, torch.full((4,), 0.25), torch.full((4,), 0.5))


def test_categories_by_hand() -> None:
    found = categories(torch.tensor([[0.0, 0.0, 9.0, -9.0]]))
    even, sure = 0.5, 1 - EVEN / 2
    torch.testing.assert_close(
        found.log_probs.exp()[0], torch.tensor([[even, even], [sure, 1 - sure]]), atol=1e-4, rtol=0
    )
    x = torch.tensor([[1.5, -0.5, 1.5, -0.5]])  # the first class of either group
    torch.testing.assert_close(
        found.log_density(x).view(2, 2).sum(1), torch.tensor([even, sure]).log(), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(found.mean()[0, :2], torch.full((2,), 0.5))
    torch.testing.assert_close(found.variance()[0, :2], torch.full((2,), 1.0))
    torch.testing.assert_close(found.distribution(x)[0, :2], torch.tensor([0.75, 0.25]))
    assert found.sample(generator(), 0)[0, 2:].tolist() == [1.5, -0.5]


def test_draws_are_whole_classes_as_often_as_they_are_probable() -> None:
    drawn = categories(torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(4_000, 4)).sample(generator())
    holds = (drawn > 0).view(4_000, 2, 2)
    assert (holds.sum(2) == 1).all()
    chance = torch.tensor([1.0, 0.0]).softmax(0)[0] * (1 - EVEN) + EVEN / 2
    assert float(holds[:, 0, 0].float().mean()) == pytest.approx(float(chance), abs=0.03)
    cold = categories(torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(4_000, 4)).sample(generator(), 0.2)
    assert float((cold[:, 0] > 0).float().mean()) > 0.95


def test_a_memory_learns_which_class_follows() -> None:
    """Classes 0, 1, 2, 0, ...: known for certain, and drawn dreams keep to it."""

    def walk(first: int) -> LatentEpisode:
        mean = torch.eye(3)[(first + torch.arange(13)) % 3]
        nothing = torch.zeros(12)
        return LatentEpisode(mean, torch.full_like(mean, -12.0), torch.zeros(12, 1), nothing, nothing)

    memory = MemoryConfig(core=GRUConfig(width=8), classes=3).build(3, 1, seed=1)
    options = MemoryTrainingOptions(epochs=30, streams=3, length=6, learning_rate=2e-2, imagination_steps=2)
    run = MemoryTraining(memory, options, [walk(first) for first in range(3)], [walk(1)], seed=1)
    run.run()
    assert run.history[-1]["valid_nll"] < 0.1 * run.history[0]["valid_nll"]
    dreamer = Dreamer(memory, run.scale)
    start, _ = dreamer.observe(walk(0).mean[:4, None], walk(0).actions[:3, None])
    dream = dreamer.dream(start, torch.zeros(5, 1, 1), 5, temperature=1.0, rng=generator())
    torch.testing.assert_close(dream.latents.sum(-1), torch.ones(5, 1))
    assert float((dream.latents[:, 0] * torch.eye(3)[(1 + torch.arange(5)) % 3]).sum()) >= 4, "one slip in a hundred"
    other = MemoryConfig(core=GRUConfig(width=8), classes=3).build(3, 1, seed=2)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.latent_mean, run.scale.latent_mean), "it knows the scale after a file, too"


def test_rare_classes_are_not_clipped_away() -> None:
    memory = MemoryConfig(core=GRUConfig(width=4), classes=2).build(2, 1, seed=1)
    scale = Scale(torch.tensor([0.01, 0.99]), torch.tensor([0.1, 0.1]), torch.ones(2), 1.0)
    memory.use_scale(scale)
    memory.categories.weight.data.zero_()
    memory.categories.bias.data.copy_(torch.tensor([20.0, 0.0]))
    start = LatentState(memory.initial_state(1), torch.zeros(1, 2))
    now, _ = Dreamer(memory, scale).step(start, torch.zeros(1, 1), 0.0)
    torch.testing.assert_close(scale.restore(now.latent), torch.tensor([[1.0, 0.0]]))


def test_messages() -> None:
    with pytest.raises(ValueError, match="latents must be groups of 16 classes, got 40"):
        CategoricalConfig(latents=40)
    with pytest.raises(ValueError, match="classes must be at least 2, got 1"):
        CategoricalConfig(classes=1)
    with pytest.raises(ValueError, match="5 latents are no groups of 3 classes"):
        MemoryConfig(core=GRUConfig(width=4), classes=3).build(5, 1, seed=1)
    grid = GeometricConfig(rows=2, columns=2, channels=1, width=4)
    with pytest.raises(ValueError, match="or the core's latents are numbers"):
        MemoryConfig(core=grid, classes=2).build(6, 1, seed=1)
    with pytest.raises(ValueError, match="conv-gru has 8x8 places of 4 latents: it needs more than 256 inputs, got 35"):
        ConvGRUConfig().build(35, generator())
    with pytest.raises(ValueError, match="kernel must be odd, got 4"):
        ConvGRUConfig(kernel=4)
