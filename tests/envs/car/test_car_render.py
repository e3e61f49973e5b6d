"""Our pictures beside the package's, from cars that are in the very same state."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clutr.envs.car.box2d_env import Box2DEngine
from clutr.envs.car.domain import CarDomain
from clutr.envs.car.drawing.raster import fill
from clutr.envs.car.drawing.render import PALETTE, digit_pictures, draw_observation, mean_green, new_scratch
from clutr.envs.car.drawing.thumbnail import render_tracks
from clutr.envs.car.engine import CarEngine
from clutr.envs.car.road.level import BezierLevels

BAR = 84
"""First row of the indicators."""


def level(seed: int) -> BezierLevels:
    return CarDomain().sample(1, torch.Generator().manual_seed(seed))


def follow(engine: CarEngine, points: NDArray[np.float64]) -> torch.Tensor:
    """Steer along the centre line at a moderate speed."""
    x, y, angle, speed = engine.agent_position[0].tolist()
    nearest = int(np.square(points - [x, y]).sum(axis=1).argmin())
    ahead = points[(nearest + 6) % len(points)] - [x, y]
    off = float(np.angle(np.exp(1j * (np.arctan2(ahead[1], ahead[0]) - angle - np.pi / 2))))
    return torch.tensor([[float(np.clip(-2 * off, -1, 1)), 0.4 * (speed < 40), 0.2 * (speed > 50)]])


def drive_both(road: BezierLevels, decisions: int, zoom_in: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Our pictures and the package's along a drive, `[decisions, 96, 96, 3]`."""
    ours, real = CarEngine(1, zoom_in=zoom_in), Box2DEngine(1, zoom_in=zoom_in)
    points = road.tracks()[0].points
    pictures = [[ours.reset(road)["image"][0].numpy()], [real.reset(road)["image"][0].numpy()]]
    for _ in range(decisions):
        action = follow(ours, points)
        pictures[0].append(ours.step(action).observation["image"][0].numpy())
        pictures[1].append(real.step(action).observation["image"][0].numpy())
        assert torch.equal(ours.agent_position[:, :3], real.agent_position[:, :3])
    assert float(ours.progress) > 0.1, "the driver should get along"
    first, second = (np.array(seen, np.float64) for seen in pictures)
    return first, second


@pytest.mark.parametrize(("seed", "zoom_in"), [(1, False), (2, True), (3, False)])
def test_pictures_are_the_packages_over_a_whole_drive(seed: int, zoom_in: bool) -> None:
    ours, real = drive_both(level(seed), 60, zoom_in)
    difference = np.abs(ours - real)
    assert difference.mean() < 0.6
    assert difference.mean(axis=(1, 2, 3)).max() < 1.5
    assert difference[:, BAR:].mean() < 3, "the indicators and the score"
    assert difference[:, 60:80, 40:56].mean() < 6, "the car and what is around it"
    assert np.corrcoef(ours.ravel(), real.ravel())[0, 1] > 0.99


def test_mostly_grass_is_decided_as_from_the_real_picture() -> None:
    agree, errors = [], []
    for seed in range(4):
        road = level(seed)
        ours, real = CarEngine(1), Box2DEngine(1)
        ours.reset(road)
        real.reset(road)
        rng = np.random.default_rng(seed)
        for _ in range(20):
            action = torch.tensor([[rng.uniform(-1, 1), rng.uniform(0, 1), 0.0]])
            ours.step(action)
            green = real.step(action).observation["image"][0, :, :, 1].double().mean().item()
            guess = mean_green(ours._cars, ours._roads.arrays, 0, PALETTE, 2000 / 6)
            errors.append(abs(green - guess))
            agree.append((green > 185) == (guess > 185))
    assert np.mean(errors) < 1
    assert np.mean(agree) > 0.97


def test_other_colours_change_road_field_and_grass_only() -> None:
    engine = CarEngine(1)
    plain = engine.reset(level(1))["image"][0].numpy()
    palette = np.array([[10.0, 20.0, 30.0], [200.0, 100.0, 50.0], [210.0, 120.0, 50.0]])
    picture = np.zeros((96, 96, 3), np.uint8)
    rest = (0.0, 1.0, palette, 2000 / 6, False, digit_pictures())
    draw_observation(picture, new_scratch(1)[0], engine._cars, engine._roads.arrays, 0, *rest)
    assert (picture[:BAR] == [198, 98, 48]).all(axis=2).sum() > 1000
    assert not (plain[:BAR] == [198, 98, 48]).all(axis=2).any()
    assert (picture[:BAR] == [8, 18, 28]).all(axis=2).sum() > 10
    car = (plain == [202, 0, 0]).all(axis=2)
    assert car.sum() > 4
    assert np.array_equal(picture[car], plain[car])
    assert np.array_equal(picture[BAR:, 15:], plain[BAR:, 15:])


def test_beyond_the_playfield_is_black() -> None:
    road = level(1)
    engine = CarEngine(1)
    seen = [engine.reset(road)["image"][0].numpy()]
    engine._rules.playfield[:] = 1.0  # smaller than any that an engine gives the road
    seen.append(engine.reset()["image"][0].numpy())
    field = (seen[0] == [100, 202, 100]).all(axis=2)
    assert field.sum() > 1000
    assert (seen[1][field] == 0).all()


@pytest.mark.parametrize(("score", "text"), [(7.9, "0007"), (-3.2, "-003"), (1234.0, "1234"), (-0.5, "0000")])
def test_the_score_reads_as_the_package_writes_it(score: float, text: str) -> None:
    import pygame  # noqa: PLC0415

    engine = CarEngine(1)
    engine.reset(level(1))
    picture = np.zeros((96, 96, 3), np.uint8)
    rest = (score, 1.0, PALETTE, 2000 / 6, False, digit_pictures())
    draw_observation(picture, new_scratch(1)[0], engine._cars, engine._roads.arrays, 0, *rest)
    assert f"{int(score):04d}" == text
    surface = pygame.Surface((1000, 800))
    font = pygame.font.Font(pygame.font.get_default_font(), 42)
    glyphs = font.render(text, True, (255, 255, 255), (0, 0, 0))
    surface.blit(glyphs, glyphs.get_rect(center=(60, 750)))
    expected = pygame.surfarray.array_red(pygame.transform.smoothscale(surface, (96, 96))).T
    corner = np.s_[BAR:, :12]
    assert np.corrcoef(picture[..., 0][corner].ravel(), expected[corner].ravel())[0, 1] > 0.9
    assert np.abs(picture[..., 0][corner].astype(float) - expected[corner]).mean() < 20


def test_filling_equals_a_test_of_every_sample() -> None:
    rng = np.random.default_rng(0)
    for corners in (3, 4, 8):
        for _ in range(50):
            xs, ys = rng.uniform(-10, 30, (2, 8))
            samples = np.zeros((20, 24), np.uint8)
            fill(samples, xs, ys, corners, 5)
            x, y = np.meshgrid(np.arange(24) + 0.5, np.arange(20) + 0.5)
            inside = np.zeros((20, 24), bool)
            for i in range(corners):
                j = i - 1 if i else corners - 1
                spans = (ys[i] <= y) != (ys[j] <= y)
                with np.errstate(divide="ignore", invalid="ignore"):
                    at = xs[j] + (y - ys[j]) / (ys[i] - ys[j]) * (xs[i] - xs[j])
                inside ^= spans & (x < at)
            assert ((samples == 5) == inside).mean() > 0.998
            assert set(np.unique(samples)) <= {0, 5}


def test_a_whole_track_from_above() -> None:
    tracks = level(1).tracks() + level(2).tracks()
    pictures = render_tracks(tracks, 120)
    assert pictures.shape == (2, 120, 120, 3)
    road = (pictures == [102, 102, 102]).all(axis=3).sum(axis=(1, 2))
    assert (road > 300).all()
    assert (pictures[:, :3] == [102, 204, 102]).all(), "there is a margin"
    assert not np.array_equal(pictures[0], pictures[1])
