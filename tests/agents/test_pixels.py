"""The network for pictures: its size, its stacks, its convolutions."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes import ColourEngine, CountdownLevels
from torch import Tensor

from clutr.agents.pixels import FRAMES, TORSOS, PixelActorCritic, PixelTorso, Stacks, Torso, shrink


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(torso: Torso = "published") -> PixelActorCritic:
    engine = ColourEngine(1)
    return PixelActorCritic(engine.observation_space, engine.action_space, torso, 100, generator())


def rollout_frames(steps: int = 7, envs: int = 3, side: int = 5) -> tuple[Tensor, Tensor]:
    frames = torch.randint(1, 256, (steps, envs, side, side, 3), generator=generator(), dtype=torch.uint8)
    episode_starts = torch.zeros(steps, envs, dtype=torch.bool)
    episode_starts[0] = True
    episode_starts[2, 0] = episode_starts[3, 0] = episode_starts[6, 0] = episode_starts[4, 1] = True
    return frames, episode_starts


def stacks_by_hand(frames: Tensor, episode_starts: Tensor) -> Tensor:
    """`[T, N, FRAMES, ...]`: each environment pushes its frames into a queue that episodes empty."""
    rows = []
    for n in range(frames.shape[1]):
        queue = [torch.zeros_like(frames[0, 0])] * FRAMES
        for t in range(len(frames)):
            if episode_starts[t, n]:
                queue = [torch.zeros_like(frames[0, 0])] * FRAMES
            queue = [*queue[1:], frames[t, n]]
            rows.append(torch.stack(queue))
    return torch.stack(rows).view(frames.shape[1], len(frames), *rows[0].shape).transpose(0, 1)


def test_stacks_by_index_are_stacks() -> None:
    frames, episode_starts = rollout_frames()
    expected = stacks_by_hand(frames, episode_starts).float()
    pixels = Stacks.of(frames, episode_starts).pixels()
    assert pixels.dtype == torch.float32
    # ours is [T * N, height, width, FRAMES * 3], the newest frame last
    ours = pixels.unflatten(3, (FRAMES, 3)).permute(0, 3, 1, 2, 4).unflatten(0, episode_starts.shape)
    assert torch.equal(ours, expected)


def test_stacks_are_chosen_like_a_tensors_rows() -> None:
    frames, episode_starts = rollout_frames()
    stacks = Stacks.of(frames, episode_starts)
    index = torch.tensor([20, 0, 6, 6])
    assert torch.equal(stacks[:, index].pixels(), stacks.pixels()[index])
    assert len(stacks[:, index[:0]].pixels()) == 0


def test_stacks_copy_no_frame() -> None:
    frames, episode_starts = rollout_frames()
    stacks = Stacks.of(frames, episode_starts)[:, torch.tensor([3, 4])]
    assert stacks.frames.data_ptr() == frames.data_ptr()


def test_the_first_step_is_a_start_whatever_it_says() -> None:
    frames, episode_starts = rollout_frames()
    expected = Stacks.of(frames, episode_starts).pixels()
    episode_starts[0] = False
    assert torch.equal(Stacks.of(frames, episode_starts).pixels(), expected)


def test_published_size() -> None:
    network = make()
    convolutions = [(12, 8, 4), (8, 16, 3), (16, 32, 3), (32, 64, 3), (64, 128, 3), (128, 256, 3)]
    torso = sum((inputs * side**2 + 1) * filters for inputs, filters, side in convolutions)
    actor, critic = 257 * 100 + 2 * 101 * 3, 257 * 100 + 101
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == torso + actor + critic == 446_979
    assert network.torso.width == 256


def test_torso_is_a_stack_of_convolutions_over_scaled_pictures() -> None:
    torso = PixelTorso(96, 96, "published", generator())
    pixels = torch.randint(0, 256, (2, 96, 96, 12), generator=generator()).float()
    features = (pixels / 128 - 1).permute(0, 3, 1, 2)
    sides = []
    for weight, bias, (_, _, stride) in zip(torso.weights, torso.biases, TORSOS["published"].layers, strict=True):
        features = F.conv2d(features, weight.permute(0, 3, 1, 2), bias, stride).relu()
        sides.append(features.shape[-1])
    assert sides == [47, 23, 11, 5, 3, 1]
    torch.testing.assert_close(torso(pixels), features.flatten(1), atol=1e-5, rtol=1e-4)


def test_torso_starts_as_published() -> None:
    torso = PixelTorso(96, 96, "published", generator())
    for weight, bias in zip(torso.weights, torso.biases, strict=True):
        reference = torch.empty(weight.permute(0, 3, 1, 2).shape)
        torch.nn.init.xavier_uniform_(reference, 2**0.5, generator=generator(1))
        assert weight.std().item() == pytest.approx(reference.std().item(), rel=0.05)
        assert weight.abs().max().item() == pytest.approx(reference.abs().max().item(), rel=0.02)
        assert (bias == torch.tensor(0.1)).all()


def test_larger_pictures_give_more_features() -> None:
    torso = PixelTorso(112, 96, "published", generator())
    assert torso(torch.zeros(1, 112, 96, 12)).shape == (1, torso.width) == (1, 2 * 256)


def test_the_first_policy_hardly_depends_on_the_picture() -> None:
    network = make()
    picture = torch.randint(0, 256, (6, 96, 96, 3), generator=generator(), dtype=torch.uint8)
    policy, _, _ = network.step({"image": picture}, network.initial_state(6))
    assert policy.alpha.min() > 1
    assert (policy.mode() - 0.5).abs().max() < 0.05


def test_shrinking_averages_squares() -> None:
    picture = torch.randint(0, 256, (2, 5, 6, 7, 3), generator=generator(), dtype=torch.uint8)
    small = shrink(picture, 2)
    assert small.dtype == torch.uint8
    squares = picture[:, :, :, :6].float().unflatten(3, (3, 2)).unflatten(2, (3, 2)).mean((3, 5))
    assert torch.equal(small, (squares + 0.5).floor().to(torch.uint8))
    by_threes = picture[:, :, :, :6].float().unflatten(3, (2, 3)).unflatten(2, (2, 3)).mean((3, 5))
    assert torch.equal(shrink(picture, 3), (by_threes + 0.5).floor().to(torch.uint8))
    assert shrink(picture, 1) is picture


@pytest.mark.parametrize(
    ("name", "convolutions", "picture"),
    [
        ("light", [(12, 8, 4), (8, 32, 3), (32, 64, 3), (64, 128, 3), (128, 256, 3)], 48),
        ("small", [(12, 16, 4), (16, 32, 3), (32, 64, 3), (64, 256, 2)], 24),
    ],
)
def test_size_of_lighter_torsos(name: Torso, convolutions: list[tuple[int, int, int]], picture: int) -> None:
    network = make(name)
    torso = sum((inputs * side**2 + 1) * filters for inputs, filters, side in convolutions)
    assert sum(parameter.numel() for parameter in network.torso.parameters()) == torso
    assert network.torso.width == 256
    assert network.initial_state(2).shape == (2, 3, picture, picture, 3)


@pytest.mark.parametrize("torso", TORSOS)
def test_steps_see_what_the_update_sees(torso: Torso) -> None:
    """Playing carries frames in its state; the update finds them by index."""
    network, engine = make(torso), ColourEngine(3)
    observation = engine.reset(CountdownLevels(torch.tensor([2, 3, 50])))
    state = network.initial_state(3)
    episode_starts, frames, alphas, values = [torch.ones(3, dtype=torch.bool)], [], [], []
    for _ in range(6):
        frames.append(observation["image"])
        policy, value, state = network.step(observation, state)
        alphas.append(policy.alpha)
        values.append(value)
        observation, _, terminated, truncated = engine.step(torch.zeros(3, 3))
        episode_starts.append(terminated | truncated)
        observation = engine.reset(mask=episode_starts[-1])
        state = state.masked_fill(episode_starts[-1].view(-1, 1, 1, 1, 1), 0)
    begins = torch.stack(episode_starts[:-1])
    prepared = network.prepare({"image": torch.stack(frames)}, begins)
    policy, seen = network(prepared, network.samples(begins))
    torch.testing.assert_close(policy.alpha, network.samples(torch.stack(alphas)))
    torch.testing.assert_close(seen, network.samples(torch.stack(values)), atol=1e-5, rtol=1e-4)


def test_other_devices_are_reached() -> None:
    """torch's meta device stands for a GPU: it fails where tensors of two devices meet."""
    network = make().to("meta")
    observation = {"image": torch.zeros(2, 96, 96, 3, dtype=torch.uint8, device="meta")}
    policy, values, state = network.step(observation, network.initial_state(2))
    assert policy.to_engine(policy.mode()).device.type == values.device.type == state.device.type == "meta"
    episode_starts = torch.ones(4, 2, dtype=torch.bool, device="meta")
    stacks = Stacks.of(torch.zeros(4, 2, 96, 96, 3, dtype=torch.uint8, device="meta"), episode_starts)
    assert stacks.index.device.type == stacks.known.device.type == "meta"
    assert network.chunk is None
    assert make().chunk == 66
    assert make("light").chunk == 4 * 66 + 1


BOX = gymnasium.spaces.Box(-1, 1, (3,), np.float32)


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        ({"image": gymnasium.spaces.Box(0, 255, (96, 96, 3), np.uint8)}, gymnasium.spaces.Discrete(3), "continuous"),
        (
            {"image": gymnasium.spaces.Box(0, 255, (96, 96, 3), np.uint8)},
            gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32),
            "actions within bounds, not Box",
        ),
        ({"pixels": gymnasium.spaces.Box(0, 255, (96, 96, 3), np.uint8)}, BOX, "sees `image`, uint8"),
        ({"image": gymnasium.spaces.Box(0, 1, (96, 96, 3), np.float32)}, BOX, "sees `image`, uint8"),
        ({"image": gymnasium.spaces.Box(0, 255, (96, 96), np.uint8)}, BOX, "sees `image`, uint8"),
        (
            {"image": gymnasium.spaces.Box(0, 255, (64, 96, 3), np.uint8)},
            BOX,
            "sees pictures of at least 96x96 pixels, not 64x96",
        ),
    ],
)
def test_foreign_spaces_are_refused(
    observation: dict[str, gymnasium.Space[Any]], action: gymnasium.Space[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^this student .*{message}"):
        PixelActorCritic(gymnasium.spaces.Dict(observation), action, "published", 100, generator())
