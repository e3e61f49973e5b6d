"""The report's numbers: a dreamer that knows the dynamics is right for ever, and one that copies is copying."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dream, Dreamer, LatentState
from clutr.world_model.evaluation import (
    EvaluationOptions,
    LatentRollouts,
    cut_windows,
    fit_linear,
    latent_curves,
    observe_windows,
    one_step,
    outcome_curves,
    physical_curves,
    picture_curves,
    roll_out,
)
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import fit_probe, r2
from clutr.world_model.memory import MemoryConfig
from clutr.world_model.training import scale_of

TURN = torch.tensor([[0.96, -0.28], [0.28, 0.96]])
PUSH = torch.tensor([[0.05, 0.1]])


def episode(length: int, seed: int) -> LatentEpisode:
    rng = torch.Generator().manual_seed(seed)
    actions, latents = torch.randn(length, 1, generator=rng), [torch.randn(2, generator=rng)]
    for action in actions:
        latents.append(TURN @ latents[-1] + action @ PUSH)
    mean, ends = torch.stack(latents), torch.zeros(length)
    ends[-1] = 1.0
    return LatentEpisode(mean, torch.full_like(mean, -9.0), actions, mean[1:, 0].clone(), ends)


EPISODES = [episode(30, seed) for seed in range(10)]
SCALE = scale_of(EPISODES)
WINDOWS = cut_windows(EPISODES, context=5, horizon=20, most=8)


class Oracle(Dreamer):
    """Knows the dynamics."""

    def __init__(self) -> None:
        super().__init__(MemoryConfig(core=GRUConfig(width=4)).build(2, 1, seed=1), SCALE)

    def dream(self, latent_state: LatentState, actions: Tensor, _: int, **__: object) -> Dream:  # type: ignore[override]
        latent, found = SCALE.restore(latent_state.latent), []
        for action in actions:
            latent = latent @ TURN.T + action @ PUSH
            found.append(latent)
        latents = torch.stack(found)
        sure = torch.zeros(latents.shape[:2])
        return Dream(latents, latents[..., 0], sure, sure)


def rollouts() -> LatentRollouts:
    return roll_out(WINDOWS, {"oracle": Oracle()}, fit_linear(EPISODES), 5, SCALE)


def test_windows_are_stretches_of_episodes() -> None:
    assert len(WINDOWS.episodes) == 8
    assert WINDOWS.latents.shape == (25, 8, 2)
    for column, (number, start) in enumerate(zip(WINDOWS.episodes, WINDOWS.starts, strict=True)):
        assert torch.equal(WINDOWS.latents[:, column], EPISODES[number].mean[start : start + 25])
        # the first action of the horizon is the one in the last frame of the context
        assert torch.equal(WINDOWS.rewards[:, column], EPISODES[number].rewards[start + 4 : start + 24])
        assert torch.equal(WINDOWS.actions[:, column], EPISODES[number].actions[start : start + 24])
    with pytest.raises(ValueError, match=r"no episode has 60 frames \(context 10 and horizon 50\); most have 31"):
        cut_windows(EPISODES, 10, 50, 4)


def test_windows_are_observed_from_their_episode_s_beginning() -> None:
    """Episodes of two lengths, whose windows start at different steps."""
    episodes = [episode(30, 1), episode(40, 2), episode(30, 3)]
    windows = cut_windows(episodes, context=5, horizon=20, most=8)
    assert windows.starts == [3, 8, 3]
    dreamer = Dreamer(MemoryConfig(core=GRUConfig(width=4)).build(2, 1, seed=1), SCALE)
    found = observe_windows(dreamer, windows)
    for row, (each, start) in enumerate(zip(episodes, windows.starts, strict=True)):
        alone, _ = dreamer.observe(each.mean[: start + 5, None], each.actions[: start + 4, None])
        torch.testing.assert_close(found.state[row], alone.state[0])
        assert torch.equal(found.latent[row], SCALE.normalise(windows.latents[4, row]))
    middle, _ = dreamer.observe(windows.latents[:5], windows.actions[:4])
    assert float((found.state - middle.state).abs().max()) > 1e-3, "observed from the middle, the state is another one"


def test_who_knows_the_world_is_right_for_ever() -> None:
    curves = latent_curves(WINDOWS, rollouts(), 5, SCALE)
    assert max(curves["oracle"]["nrmse"]) < 1e-4
    assert curves["oracle"]["valid_horizon"]["value"] == 20
    assert max(curves["linear"]["nrmse"]) < 0.05, "the dynamics are linear"
    assert curves["copy last"]["nrmse"][0] < curves["copy last"]["nrmse"][8]
    assert curves["copy last"]["valid_horizon"]["value"] < 10
    assert curves["mean"]["nrmse"][3] == pytest.approx(
        float((WINDOWS.latents[8] - SCALE.latent_mean).div(SCALE.latent_std).square().mean(1).sqrt().mean()), rel=1e-4
    )
    assert set(curves) == {"copy last", "mean", "damped velocity", "linear", "oracle"}


def test_rewards() -> None:
    found = outcome_curves(WINDOWS, rollouts())["oracle"]
    assert max(found["reward_mae"]) < 1e-4
    wrong = outcome_curves(WINDOWS._replace(rewards=WINDOWS.rewards + 0.5), rollouts())["oracle"]
    assert wrong["reward_mae"] == pytest.approx([0.5] * 20, abs=1e-4)


def paint(latents: Tensor) -> Tensor:
    """A picture whose left half shows the first coordinate and whose right half the second."""
    shades = (0.5 + 0.1 * latents).clamp(0, 1)
    return shades.repeat_interleave(8, 1)[:, None, :, None].expand(-1, 16, 16, 3)


def test_pictures_are_compared_where_objects_are() -> None:
    horizons = (1, 5, 20)
    true = torch.stack([paint(WINDOWS.latents[4 + h, :4]) for h in horizons])
    masks = torch.zeros(3, 4, 16, 16, dtype=torch.uint8)
    masks[:, :, :, :8] = 1
    found = picture_curves(
        rollouts(), paint, (255 * true).round().to(torch.uint8), masks, ("right", "left", "nowhere"), horizons
    )
    assert max(found["oracle"]["mse"]) < 1e-4
    assert min(found["oracle"]["ssim"]) > 0.95
    assert "mse_in/nowhere" not in found["oracle"]
    copied = found["copy last"]
    both = [(a + b) / 2 for a, b in zip(copied["mse_in/left"], copied["mse_in/right"], strict=True)]
    np.testing.assert_allclose(copied["mse"], both, rtol=1e-3)
    assert len(copied["spectrum"]) == 3
    assert len(copied["spectrum"][0]) == 4


def test_physical_quantities_are_read_in_their_units() -> None:
    rng = torch.Generator().manual_seed(1)
    latents = torch.randn(500, 2, generator=rng)
    privileged_state = torch.stack([3 * latents[:, 0] + 10, torch.full((500,), 7.0)], 1)
    read_out = fit_probe(latents, privileged_state, 1e-6)
    torch.testing.assert_close(read_out(latents), privileged_state, atol=1e-2, rtol=1e-3)
    score = r2(read_out(latents), privileged_state)
    assert float(score[0]) == pytest.approx(1, abs=1e-4)
    assert float(score[1]) == 0
    true = torch.stack([3 * WINDOWS.latents[5:, :, 0] + 10, torch.full((20, 8), 7.0)], 2)
    found = physical_curves(rollouts(), read_out, true, ("speed", "constant"))
    assert max(error or 0.0 for error in found["oracle"]["speed"]) < 0.05
    expected = 3 * (WINDOWS.latents[4, :, 0] - WINDOWS.latents[8, :, 0]).square().mean().sqrt()
    assert found["copy last"]["speed"][3] == pytest.approx(float(expected), rel=0.02)


def test_one_step_beside_a_gaussian_that_knows_nothing() -> None:
    found = one_step(EPISODES, Dreamer(MemoryConfig(core=GRUConfig(width=4), gaussians=1).build(2, 1, seed=1), SCALE))
    normal = torch.cat([SCALE.normalise(e.mean[1:]) for e in EPISODES])
    assert found["gaussian_nll"] == pytest.approx(0.5 * float(normal.square().mean()) + 0.5 * math.log(2 * math.pi))
    assert sum(found["pit"]) == pytest.approx(1)
    assert 0 <= found["coverage"]["0.5"] <= found["coverage"]["0.9"] <= 1


def test_messages() -> None:
    with pytest.raises(ValueError, match="context must be at least 2, got 1"):
        EvaluationOptions(context=1)
