import numpy as np
import torch

from clutr.envs.car.drawing.trajectory_map import FAST, SIDE, draw_trajectories, speed_scale
from clutr.envs.car.road.level import BezierLevels
from clutr.envs.car.road.track import Track


def square() -> Track:
    points = torch.tensor([[[40.0, 40.0], [240.0, 40.0], [240.0, 240.0], [40.0, 240.0]]])
    return BezierLevels(points, torch.tensor([4])).tracks()[0]


def drive(track: Track, tiles: int, speed: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A way along the first tiles, padded to twice their number."""
    way = np.full((2 * tiles, 4), np.nan, np.float32)
    way[:tiles, :2] = track.points[:tiles]
    way[:tiles, 2] = 0
    way[:tiles, 3] = speed
    return way


def near(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], colour: str) -> int:
    """How many pixels are about of a colour."""
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    return int((np.abs(picture.astype(int) - wanted).max(axis=2) < 12).sum())


def test_the_way_has_the_colour_of_its_speed() -> None:
    track, colours = square(), speed_scale().colours
    slow, fast, none = draw_trajectories([track] * 3, np.stack([drive(track, 40, v) for v in (0.0, 2 * FAST, np.nan)]))
    assert slow.shape == (SIDE, SIDE, 3)
    assert near(slow, colours[0]) > 100 > near(slow, colours[-1])
    assert near(fast, colours[-1]) > 100 > near(fast, colours[0])
    assert near(none, colours[-1]) == near(none, colours[0]) == 0


def test_longer_ways_leave_more_on_the_map_and_padding_nothing() -> None:
    track, colour = square(), speed_scale().colours[-1]
    amounts = [near(draw_trajectories([track], drive(track, tiles, FAST)[None])[0], colour) for tiles in (10, 20, 40)]
    assert amounts[0] < amounts[1] < amounts[2]
    padded, bare = drive(track, 20, FAST), drive(track, 20, FAST)[:20]
    assert np.array_equal(draw_trajectories([track], padded[None])[0], draw_trajectories([track], bare[None])[0])


def test_a_car_off_the_road_is_still_on_the_map() -> None:
    track = square()
    way = drive(track, 20, FAST)
    way[10:20, :2] = np.linspace(track.points[10], track.points[10] + 400, 10)
    inside, outside = draw_trajectories([track] * 2, np.stack([drive(track, 20, FAST), way]))
    assert near(outside, "#c9ccd1") < 0.5 * near(inside, "#c9ccd1")  # the whole is drawn smaller


def test_no_maps_of_nothing() -> None:
    assert draw_trajectories([], np.zeros((0, 3, 4), np.float32)).shape == (0, SIDE, SIDE, 3)
