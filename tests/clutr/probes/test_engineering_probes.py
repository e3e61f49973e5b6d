"""Seen or invented, trust, neighbours and small measures, where the truth is planted."""

import math

import pytest
import torch
from torch import Tensor

from clutr.probes.latent_measures import (
    fidelity,
    hurst_exponent,
    jitter_stability,
    memory_pictures,
    quantise,
    stitching,
)
from clutr.probes.nearest_situations import SituationIndex
from clutr.probes.seen_or_invented import error_budget, of_the_viewer, seen_or_invented, tint
from clutr.probes.trust import calibrated_trust, rank_correlation, surprise
from clutr.world_model.cores.lstm_gru import LSTMConfig
from clutr.world_model.dream import Dreamer
from clutr.world_model.memory import MemoryConfig, Scale
from clutr.world_model.views import MazeView

UNIT = Scale(torch.zeros(3), torch.ones(3), torch.ones(3), 1.0)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- seen or invented, and the error budget


def test_a_step_ahead_brings_one_row_that_nobody_saw() -> None:
    view = MazeView(5)
    side, tile = 64, 64 // 5
    frames = torch.randint(0, 255, (1, side, side, 3), generator=generator(), dtype=torch.uint8)
    masks = torch.zeros(1, side, side, dtype=torch.uint8)
    names = ["row", "column", "heading_sine", "heading_cosine"]
    states = torch.tensor([[3.0, 2.0, 0.0, 1.0], [3.0, 3.0, 0.0, 1.0]])  # it looks right and steps there
    found = seen_or_invented(view, frames, masks, ("floor", "agent", "unseen"), states, names)
    assert found.seen.shape == (1, side, side)
    first = (side - tile * 5) // 2
    columns = slice(first + 1, first + 5 * tile - 1)
    assert not bool(found.seen[0, : tile - 1, columns].any()), "what came into view"
    assert bool(found.seen[0, tile + 1 : first + 5 * tile - 1, columns].all()), "what had been in view"
    before, now = frames[0, first + tile, first + tile].int(), found.carried[0, first + 2 * tile, first + tile].int()
    torch.testing.assert_close(now, before, atol=1, rtol=0)
    with pytest.raises(ValueError, match="1 states of 1 observed frames leave none to come"):
        seen_or_invented(view, frames, masks, ("floor",), states[:1], names)
    tinted = tint(frames[0], found.seen[0])
    assert torch.equal(tinted[found.seen[0]], frames[0][found.seen[0]])
    assert not torch.equal(tinted[~found.seen[0]], frames[0][~found.seen[0]])
    masks[0, 0, 0] = 1
    assert int(of_the_viewer(view, masks, ("floor", "agent")).sum()) == 1


def test_the_error_budget_by_hand() -> None:
    true = torch.zeros(1, 2, 2, 3)
    reconstructed, dreamt = true.clone(), true.clone()
    reconstructed[0, 0, 0, 0] = 1.0  # the backbone's: 1
    dreamt[0, 0, 0, 0] = 1.0
    dreamt[0, 0, 1, 0] = 2.0  # seen: 4
    dreamt[0, 1, 0, 0] = 1.0  # not seen: 1
    dreamt[0, 1, 1, 0] = 2.0  # the viewer's: 4
    seen = torch.tensor([[[True, True], [False, True]]])
    viewer = torch.tensor([[[False, False], [False, True]]])
    assert error_budget(dreamt, reconstructed, true, seen, viewer) == pytest.approx((0.1, 0.4, 0.1, 0.4))


# --- trust


def moments(told: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = generator(3)
    n = 400
    features = torch.randn(n, 6, generator=rng)
    horizons = (2 + (features[:, 0] if told else torch.randn(n, generator=rng)) * 0.5).exp().round()
    return features, horizons, torch.randn(n, generator=rng), torch.arange(n) // 10


def test_a_horizon_that_features_tell_is_told_with_a_bound_that_holds() -> None:
    features, horizons, surprised, groups = moments(told=True)
    model, found = calibrated_trust(features, horizons, surprised, groups, {"far away": surprised + 9}, generator())
    assert found["rank_correlation"][1] > 0.9
    assert found["error"][2] < found["constant_error"][1]
    assert found["coverage"][0] == pytest.approx(0.9, abs=0.05)
    assert found["false_alarms"][1] <= 0.05 <= found["false_alarms"][2]
    assert found["alarms"] == {"far away": 1.0}
    said = model(features[:5], torch.tensor([0.0, 0.0, 0.0, 0.0, 99.0]))
    assert said.alarm.tolist() == [False] * 4 + [True]
    assert bool((said.at_least <= said.horizon).all())


def test_a_horizon_that_nothing_tells_is_not_told() -> None:
    features, horizons, surprised, groups = moments(told=False)
    _, found = calibrated_trust(features, horizons, surprised, groups, {}, generator())
    low, high = found["rank_correlation"][1:]
    assert low < 0.1
    assert high < 0.3
    assert found["error"][0] > 0.95 * found["constant_error"][0]
    assert rank_correlation(torch.zeros(400), horizons, groups).value == 0.0


def test_a_memory_is_surprised_by_what_it_did_not_expect() -> None:
    memory = MemoryConfig(core=LSTMConfig(width=4), gaussians=1).build(3, 1, 1)
    dreamer = Dreamer(memory, UNIT)
    still = torch.zeros(8, 2, 3)
    jumps = still.clone()
    jumps[-1, 1] = 5.0
    found = surprise(dreamer, jumps, torch.zeros(7, 2, 1))
    assert float(found[1]) > float(found[0]) + 1
    alone = surprise(dreamer, still, torch.zeros(7, 2, 1))
    assert float(found[0]) == pytest.approx(float(alone[0]), rel=1e-5)


# --- nearest situations


def test_neighbours_are_of_other_levels_and_near() -> None:
    latents = torch.randn(120, 3, generator=generator(6))
    groups, rows = torch.arange(120) // 20, torch.arange(120) + 1_000
    scale = Scale(torch.zeros(3), torch.ones(3), torch.tensor([1.0, 1.0, 0.01]), 1.0)
    index = SituationIndex(latents, rows, groups, scale)
    found = index.nearest(latents[[7]], 3)
    assert int(found.rows[0, 0]) == 1_007
    assert float(found.distances[0, 0]) == pytest.approx(0, abs=1e-3)
    other = index.nearest(latents[[7]], 5, not_group=0)
    levels = ((other.rows[0] - 1_000) // 20).tolist()
    assert sorted(levels) == [1, 2, 3, 4, 5]
    by_hand = ((latents[20:] - latents[7])[:, :2].square().mean(1)).sqrt()
    assert float(other.distances[0, 0]) == pytest.approx(float(by_hand.min()), rel=1e-4), "passive latents do not count"
    with pytest.raises(ValueError, match="6 situations of levels of their own were asked for, and there are 5 levels"):
        index.nearest(latents[[7]], 6, not_group=0)
    with pytest.raises(ValueError, match="nothing to compare: 0 frames"):
        SituationIndex(latents[:0], rows[:0], groups[:0], scale)


# --- small measures


def test_latents_that_agree_up_to_a_linear_map_are_stitched() -> None:
    rng = generator(7)
    latents, groups = torch.randn(300, 4, generator=rng), torch.arange(300) // 10
    turned = latents @ torch.randn(4, 4, generator=rng) + 2
    assert stitching(latents, turned, groups, rng).low > 0.99
    assert stitching(latents, torch.randn(300, 4, generator=rng), groups, rng).high < 0.05
    assert stitching(latents, torch.cat([turned, torch.zeros(300, 1)], 1), groups, rng).low > 0.99, (
        "constants are no loss"
    )


def test_the_fewest_directions_by_hand() -> None:
    latents = torch.randn(5_000, 3, generator=generator(8)) * torch.tensor([3.0, 1.0, 0.1])
    assert [fidelity(latents, share) for share in (0.5, 0.95, 1.0)] == [1, 2, 3]
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, got 0"):
        fidelity(latents, 0)


def test_quantised_latents_are_on_a_grid() -> None:
    spread = torch.tensor([1.0, 2.0])
    found = quantise(torch.tensor([[0.4, -9.0], [3.1, 0.1]]), spread, 3)
    torch.testing.assert_close(found, torch.tensor([[0.0, -6.0], [3.0, 0.0]]))
    fine = quantise(torch.tensor([[0.4, 1.3]]), spread, 601)
    torch.testing.assert_close(fine, torch.tensor([[0.4, 1.3]]), atol=0.011, rtol=0)
    with pytest.raises(ValueError, match="at least 2 values, got 1"):
        quantise(found, spread, 1)


def test_a_mean_is_more_stable_than_a_pixel() -> None:
    frames = torch.full((200, 8, 8, 3), 100.0)
    mean = jitter_stability(lambda x: x.mean((1, 2, 3))[:, None], frames, torch.ones(1))
    pixel = jitter_stability(lambda x: x[:, 0, 0, :1], frames, torch.ones(1))
    assert pixel.value > 5 * mean.value
    assert pixel.value == pytest.approx(2 * (2 / math.pi) ** 0.5, rel=0.2)


def test_the_picture_of_a_unit_is_what_goes_with_it() -> None:
    rng = generator(9)
    latents = torch.randn(500, 2, generator=rng)
    features = torch.cat([2 * latents[:, :1], torch.randn(500, 2, generator=rng)], 1)
    shown = memory_pictures(features, latents, lambda z: z[:, None, None], torch.eye(3), 1e-4)
    assert float(shown[0, 0, 0, 0]) == pytest.approx(3 * float(latents[:, 0].std()), rel=0.1)
    assert abs(float(shown[1, 0, 0, 0])) < 0.4


def test_hurst_exponents_of_known_series() -> None:
    white = torch.randn(4_000, generator=generator(10), dtype=torch.float64)
    assert hurst_exponent(white) == pytest.approx(0.5, abs=0.08)
    assert hurst_exponent(white.cumsum(0)) == pytest.approx(1.5, abs=0.12)
    with pytest.raises(ValueError, match="needs at least 16 values, got 15"):
        hurst_exponent(white[:15])
