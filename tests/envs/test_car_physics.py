"""The compiled car beside the real one: Gymnasium's CarRacing with its drawing taken away."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.car.gjk import tile_hull
from envs.car.physics import drive, idle, new_cars, place
from envs.car.roads import RoadBank
from envs.car.track import Track

gymnasium = pytest.importorskip("gymnasium")
box2d = pytest.importorskip("Box2D")

Action = NDArray[np.float32]
Driver = Callable[[Any, int, np.random.Generator], Action]


def real_car(seed: int, track: Track | None = None) -> Any:
    """The package's environment, which draws nothing, after its reset; on its own track or a given one."""
    env = gymnasium.make("CarRacing-v3").unwrapped
    env._render = lambda mode: None
    if track is not None:
        env._create_track = lambda: lay(env, track)
    env.reset(seed=seed)
    return env


def lay(env: Any, track: Track) -> bool:
    """Build a track's tiles in the package's world, as its `_create_track` does."""
    env.road = []
    for index, quad in enumerate(track.quads()):
        env.fd_tile.shape.vertices = [(float(x), float(y)) for x, y in quad]
        tile = env.world.CreateStaticBody(fixtures=env.fd_tile)
        tile.userData = tile
        tile.color = env.road_color + 0.0
        tile.road_visited = False
        tile.road_friction = 1.0
        tile.idx = index
        tile.fixtures[0].sensor = True
        env.road.append(tile)
    env.track = [(0.0, float(b), float(x), float(y)) for b, (x, y) in zip(track.directions, track.points, strict=True)]
    return True


class Twins:
    """One car of each kind on one road."""

    def __init__(self, seed: int, track: Track | None = None) -> None:
        self.env = real_car(seed, track)
        self.bank = RoadBank(1)
        road = Track.from_gymnasium(self.env.track) if track is None else track
        self.bank.load([0], [road])
        self.cars = new_cars(1)
        place(self.cars, 0, *road.start)
        self.tiles = int(idle(self.cars, self.bank.roads, 0))
        self.check(-1)

    def step(self, action: Action, frame: int) -> None:
        self.env.step(action)
        new_tiles, _ = drive(self.cars, self.bank.roads, 0, *(float(part) for part in action))
        self.tiles += int(new_tiles)
        self.check(frame)

    def check(self, frame: int) -> None:
        wheels = self.env.car.wheels
        bodies = [self.env.car.hull, *wheels]
        cars = self.cars
        assert np.array_equal(cars.origin[0], [tuple(body.position) for body in bodies]), frame
        assert np.array_equal(cars.centre[0], [tuple(body.worldCenter) for body in bodies]), frame
        assert np.array_equal(cars.angle[0], [body.angle for body in bodies]), frame
        assert np.array_equal(cars.velocity[0], [tuple(body.linearVelocity) for body in bodies]), frame
        assert np.array_equal(cars.spin[0], [body.angularVelocity for body in bodies]), frame
        assert np.array_equal(cars.omega[0], [wheel.omega for wheel in wheels]), frame
        assert np.array_equal(cars.phase[0], [wheel.phase for wheel in wheels]), frame
        assert np.array_equal(cars.on_road[0], [bool(wheel.tiles) for wheel in wheels]), frame
        assert self.tiles == self.env.tile_visited_count, frame
        if frame % 50 == 0:
            assert np.array_equal(self.bank.roads.visited[0, : len(self.env.road)], self.visited()), frame

    def visited(self) -> list[bool]:
        return [tile.road_visited for tile in self.env.road]


def random_driver(env: Any, frame: int, rng: np.random.Generator) -> Action:
    return rng.uniform([-1, 0, 0], [1, 1, 1]).astype(np.float32) * np.float32([1, 1, rng.random() < 0.2])


def full_throttle(env: Any, frame: int, rng: np.random.Generator) -> Action:
    return np.float32([0.15 * math.sin(frame / 40), 1, 0])


def drifter(env: Any, frame: int, rng: np.random.Generator) -> Action:
    phase = frame % 120
    return np.float32([math.copysign(1, math.sin(frame / 50)) * (phase > 60), phase < 90, 0.3 + 0.7 * (phase > 110)])


def lap_driver(env: Any, frame: int, rng: np.random.Generator) -> Action:
    """Follow the centre line at a moderate speed; stop for a while, so that the car falls asleep."""
    if 300 < frame < 380:
        return np.float32([0, 0, 1])
    hull = env.car.hull
    x, y = hull.position
    points = np.array(env.track)[:, 2:]
    nearest = int(np.argmin(np.square(points - [x, y]).sum(axis=1)))
    ahead_x, ahead_y = points[(nearest + 4) % len(points)] - [x, y]
    off = math.remainder(math.atan2(ahead_y, ahead_x) - (hull.angle + math.pi / 2), 2 * math.pi)
    speed = math.hypot(*hull.linearVelocity)
    return np.float32([np.clip(-2 * off, -1, 1), 0.5 * (speed < 40), 0.3 * (speed > 55)])


DRIVERS: dict[str, Driver] = {
    "random": random_driver,
    "throttle": full_throttle,
    "drift": drifter,
    "lap": lap_driver,
}


def race(seed: int, driver: str, frames: int, track: Track | None = None) -> Twins:
    """Drive both cars and compare every frame; by hand this runs over many seeds."""
    twins = Twins(seed, track)
    rng = np.random.default_rng(seed)
    for frame in range(frames):
        twins.step(DRIVERS[driver](twins.env, frame, rng), frame)
    assert np.array_equal(twins.bank.roads.visited[0, : len(twins.env.road)], twins.visited())
    return twins


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("seed", range(4))
def test_the_car_moves_bit_for_bit_as_the_packages(seed: int, driver: str) -> None:
    race(seed, driver, 600)
