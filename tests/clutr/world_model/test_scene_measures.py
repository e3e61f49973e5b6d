"""Measures of what matters in a picture, on pictures drawn by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dream, Dreamer, LatentState
from clutr.world_model.evaluation import (
    LatentRollouts,
    Windows,
    calibration_ahead,
    cut_windows,
    outcome_curves,
    physical_curves,
)
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe, fit_read_out, r2
from clutr.world_model.memory import MemoryConfig
from clutr.world_model.scene import Palette, iou, split_error, surface_iou, visible_quantities
from clutr.world_model.scene_evaluation import Scene, ordinary_driving, scene_curves, seen_agreement
from clutr.world_model.training import scale_of
from clutr.world_model.views import Carried, CarView

OBJECTS = ("grass", "road", "kerb", "car", "indicators", "outside")
GRASS, LIGHT_GRASS, ROAD, RED, BLACK = (
    torch.tensor(colour) / 255
    for colour in ((100.0, 202.0, 100.0), (100.0, 228.0, 100.0), (100.0, 100.0, 100.0), (253.0, 20.0, 20.0), (0.0,) * 3)
)
VIEW = CarView(2)


def drawn(left: int, right: int, grass: Tensor = GRASS) -> tuple[Tensor, Tensor]:
    """A picture `[64, 64, 3]` and its mask of a straight road from column `left` to `right`, car and indicators."""
    picture, mask = grass.expand(64, 64, 3).clone(), torch.zeros(64, 64, dtype=torch.uint8)
    picture[:, left:right], mask[:, left:right] = ROAD, 1
    picture[46:50, 30:34], mask[46:50, 30:34] = RED, 3
    picture[56:], mask[56:] = BLACK, 4
    return picture, mask


def palette() -> Palette:
    picture, mask = drawn(20, 40)
    return Palette.of((255 * picture).round().to(torch.uint8)[None], mask[None], left_out=[3, 4])


def test_the_palette_is_the_mean_colour_of_each_object_of_the_world() -> None:
    found = palette()
    assert found.numbers == (0, 1)
    torch.testing.assert_close(found.colours, torch.stack([GRASS, ROAD]))
    assert found.classify(torch.stack([LIGHT_GRASS, 0.6 * ROAD + 0.4 * GRASS])).tolist() == [0, 1]
    with pytest.raises(ValueError, match="no pixel of these frames shows an object of the world"):
        Palette.of(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), torch.zeros(1, 2, 2, dtype=torch.uint8), left_out=[0])


def test_intersection_over_union_by_hand() -> None:
    """Columns 0 to 3 against 1 to 4 of four rows, of which the last does not count: 3 of 5."""
    first, second, counted = (torch.zeros(4, 8, dtype=torch.bool) for _ in range(3))
    first[:, 0:4], second[:, 1:5], counted[:3] = True, True, True
    assert float(iou(first, second, counted)) == pytest.approx(3 / 5)
    assert float(iou(first & False, second & False, counted)) == 1.0
    assert float(iou(first, second & False, counted)) == 0.0


def test_wallpaper_and_indicators_do_not_count_and_a_shifted_road_does() -> None:
    picture, mask = drawn(20, 40)
    papered = drawn(20, 40, LIGHT_GRASS)[0]
    papered[56:] = RED
    shifted = drawn(25, 45)[0]
    for shown, expected in ((picture, 1.0), (papered, 1.0), (shifted, 15 / 25)):
        found = surface_iou(shown, mask, palette(), VIEW, OBJECTS)["road"]
        # the car hides sixteen pixels of road that is right either way
        rows, car = 56, 16
        by_hand = (expected * 25 * rows - car) / (25 * rows - car) if expected < 1 else 1.0
        assert float(found) == pytest.approx(by_hand)


def test_errors_of_seen_and_unseen_pixels_are_apart() -> None:
    true = torch.zeros(2, 4, 4, 3)
    shown = true.clone()
    shown[0, :2], shown[0, 2:] = 0.5, 0.1
    seen, world = torch.zeros(2, 4, 4, dtype=torch.bool), torch.ones(2, 4, 4, dtype=torch.bool)
    seen[0, :2], world[0, 0] = True, False
    seen[1] = True
    known, unknown = split_error(shown, true, seen, world)
    assert known.tolist() == pytest.approx([0.25, 0.0])
    assert float(unknown[0]) == pytest.approx(0.01)
    assert math.isnan(unknown[1]), "all of the second picture had been seen"


def test_scene_curves_of_a_dream_that_drifts_off() -> None:
    """The dream's road moves aside a column a step; with 20 columns, steps 1 to 4 have an IoU of .65 or more."""
    horizons = (1, 2, 4, 5, 8)
    pictures = {step: drawn(20 + step, 40 + step)[0] for step in range(1, 9)}

    def decode(latents: Tensor) -> Tensor:
        return torch.stack([pictures[int(latent)] for latent in latents[:, 0]])

    true, mask = drawn(20, 40)
    frames = (255 * true).round().to(torch.uint8).expand(5, 3, 64, 64, 3)
    carried = Carried(frames, torch.ones(5, 3, 64, 64, dtype=torch.bool))
    scene = Scene(VIEW, palette(), OBJECTS, horizons, frames, mask.expand(5, 3, 64, 64), carried)
    latents = torch.arange(1.0, 9.0)[:, None, None].expand(8, 3, 1)
    found = scene_curves(LatentRollouts({"dream": latents}, {}), decode, scene)
    dream, ceiling = found["methods"]["dream"], found["methods"]["ceiling"]
    assert found["surface"] == "road"
    assert ceiling["iou/road"] == [1.0] * 5
    assert ceiling["iou_horizon"] == {"value": 8, "interval": [8, 8]}
    assert ceiling["mse_seen"] == pytest.approx([0.0] * 5, abs=1e-5)
    assert dream["iou/road"] == pytest.approx([(20 - h) / (20 + h) for h in horizons], abs=0.01)
    assert dream["iou_horizon"] == {"value": 4, "interval": [4, 4]}
    assert dream["mse_unseen"] == [None] * 5
    assert found["seen_share"] == [1.0] * 5


def test_who_knows_what_it_invented_agrees_with_what_was_seen() -> None:
    """Of 14x16 cells of 4x4 pixels the upper seven rows had been seen; the model thinks the upper eight."""
    seen, told = torch.zeros(2, 1, 64, 64, dtype=torch.bool), torch.zeros(2, 1, 14, 16)
    seen[:, :, :28] = True
    told[0, :, :8], told[1, :, :7] = 1.0, 0.9
    assert seen_agreement(told, seen, VIEW) == [pytest.approx(13 / 14, abs=1e-5), 1.0]
    assert seen_agreement(torch.zeros(2, 1, 5, 5), seen, VIEW) is None


def windows() -> Windows:
    rng = torch.Generator().manual_seed(1)
    episodes = []
    for _ in range(40):
        mean = torch.randn(31, 2, generator=rng)
        ends = torch.zeros(30)
        episodes.append(LatentEpisode(mean, torch.full_like(mean, -9.0), torch.zeros(30, 1), mean[1:, 0].exp(), ends))
    return cut_windows(episodes, context=5, horizon=20, most=40)


WINDOWS = windows()
SCALE = scale_of(
    [
        LatentEpisode(each, torch.full_like(each, -9.0), torch.zeros(24, 1), torch.zeros(24), torch.zeros(24))
        for each in WINDOWS.latents.unbind(1)
    ]
)


def test_a_constant_reward_scores_one_and_the_median_does_not_hide() -> None:
    mean, median = float(WINDOWS.rewards.mean()), float(WINDOWS.rewards.median())
    constants = {name: torch.full_like(WINDOWS.rewards, value) for name, value in (("mean", mean), ("median", median))}
    found = outcome_curves(WINDOWS, LatentRollouts({}, constants | {"truth": WINDOWS.rewards}))
    shares = {name: sum(curve["reward_error_share"]) / 20 for name, curve in found.items()}
    assert shares["mean"] == pytest.approx(1.0, abs=1e-4)
    assert shares["median"] > 1.0
    assert shares["truth"] == 0.0
    assert sum(found["median"]["reward_mae"]) < sum(found["mean"]["reward_mae"]), "what a mean absolute error rewards"


def test_no_share_is_told_where_rewards_do_not_vary() -> None:
    same = WINDOWS._replace(rewards=torch.full_like(WINDOWS.rewards, -0.1))
    found = outcome_curves(same, LatentRollouts({}, {"some": torch.zeros_like(same.rewards)}))["some"]
    assert found["reward_error_share"] == [None] * 20
    assert found["reward_mae"][0] == pytest.approx(0.1)


class Guesser(Dreamer):
    """Draws latents of a standard deviation."""

    def __init__(self, spread: float) -> None:
        super().__init__(MemoryConfig(core=GRUConfig(width=4)).build(2, 1, seed=1), SCALE)
        self.spread = spread

    def dream(self, latent_state: LatentState, _: Any, horizon: int, *rest: Any, **__: Any) -> Dream:  # type: ignore[override]
        rng = rest[1]
        latents = self.spread * torch.randn(horizon, len(latent_state.latent), 2, generator=rng)
        none = torch.zeros(latents.shape[:2])
        return Dream(latents, none, none, none)


def test_calibration_ahead_tells_who_is_too_sure() -> None:
    """Outcomes are standard normal. Draws half as wide hold half their interval: P(|x| < .6745 / 2) = .264."""
    found = {spread: calibration_ahead(WINDOWS, Guesser(spread), 5, draws=200) for spread in (0.5, 1.0)}
    assert set(found[1.0]) == {"1", "10"}, "fifty steps are more than there are"
    wide, narrow = (sum(found[spread][k]["coverage"]["0.5"] for k in ("1", "10")) / 2 for spread in (1.0, 0.5))
    assert wide == pytest.approx(0.5, abs=0.08)
    assert narrow == pytest.approx(0.264, abs=0.08)
    assert sum(found[1.0]["1"]["pit"]) == pytest.approx(1.0)


def test_quantities_count_only_where_they_can_be_seen() -> None:
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[1, :5, :10] = 1  # 50 of 4,096 pixels show road
    names = ("lateral_offset", "yaw_rate")
    visible = visible_quantities(masks, OBJECTS, names, VIEW.needs)
    assert visible.tolist() == [[False, True], [True, True]]
    read_out = LinearProbe(torch.eye(2), torch.zeros(2), 0.0)
    rollouts = LatentRollouts({"dream": torch.tensor([[[9.0, 1.0], [2.0, 1.0]]])}, {})
    found = physical_curves(rollouts, read_out, torch.zeros(1, 2, 2), names, visible[None])["dream"]
    assert found == {"lateral_offset": [2.0], "yaw_rate": [1.0]}
    hidden = physical_curves(rollouts, read_out, torch.zeros(1, 2, 2), names, torch.zeros(1, 2, 2, dtype=torch.bool))
    assert hidden["dream"]["yaw_rate"] == [None]


def test_a_read_out_is_fitted_and_judged_where_things_can_be_seen() -> None:
    rng = torch.Generator().manual_seed(1)
    latents = torch.randn(400, 2, generator=rng)
    visible = torch.stack([torch.arange(400) < 300, torch.ones(400, dtype=torch.bool)], 1)
    state = torch.stack([torch.where(visible[:, 0], 3 * latents[:, 0], 50.0), latents[:, 1]], 1)
    probe = fit_read_out(latents, state, visible)
    assert r2(probe(latents), state, visible).tolist() == pytest.approx([1.0, 1.0], abs=1e-3)
    assert float(r2(fit_read_out(latents, state)(latents), state)[0]) < 0.2
    nowhere = fit_read_out(latents, state, torch.zeros(400, 2, dtype=torch.bool))
    torch.testing.assert_close(nowhere.weights, fit_read_out(latents, state).weights)


def test_ordinary_driving() -> None:
    states = torch.tensor([[4.0, 0.1], [1.0, 0.1], [4.0, -3.0], [2.0, 2.4]])
    found = ordinary_driving(states, ("wheels_on_road", "yaw_rate"))
    assert found is not None
    assert found.tolist() == [True, False, False, True]
    assert ordinary_driving(states, ("row", "column")) is None
