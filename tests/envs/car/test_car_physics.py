"""The compiled car beside the real one: Gymnasium's CarRacing with its drawing taken away."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from Box2D import b2World
from Box2D.b2 import polygonShape
from gymnasium.envs.box2d.car_dynamics import Car
from numpy.typing import NDArray

from clutr.envs.car.physics import chassis, joints
from clutr.envs.car.physics.car_dynamics import drive, idle, new_cars, place_car
from clutr.envs.car.physics.gjk import overlap, tile_hull
from clutr.envs.car.road.packing import PackedRoads
from clutr.envs.car.road.track import HALF_WIDTH, Track

Action = NDArray[np.float32]
Driver = Callable[[Any, int, np.random.Generator], Action]


def real_car(seed: int, track: Track | None = None) -> Any:
    """The package's environment, which draws nothing, after its reset; on its own track or a given one."""
    env: Any = gymnasium.make("CarRacing-v3").unwrapped
    env._render = lambda _: None
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
        tile.color = env.road_color + 0.01 * (index % 3) * 255
        tile.road_visited = False
        tile.road_friction = 1.0
        tile.idx = index
        tile.fixtures[0].sensor = True
        env.road.append(tile)
    env.track = [(0.0, float(b), float(x), float(y)) for b, (x, y) in zip(track.directions, track.points, strict=True)]
    return True


def wavy_track(spacing: float, seed: int) -> Track:
    """A closed road around the origin whose tiles have about one length."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    radius = 60 + sum(rng.uniform(2, 12) / k * np.sin(k * angles + rng.uniform(0, 6)) for k in (2, 3, 5))
    line = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    wanted = np.arange(0, along[-1] - spacing / 2, spacing)
    return Track.from_centre_line(np.stack([np.interp(wanted, along, line[:, axis]) for axis in range(2)], axis=1))


class Twins:
    """One car of each kind on one road."""

    def __init__(self, seed: int, track: Track | None = None) -> None:
        self.env = real_car(seed, track)
        self.packed = PackedRoads(1)
        table = np.asarray(self.env.track, dtype=np.float64)
        self.env.points = table[:, 2:]
        no_kerbs = np.zeros(len(table), np.bool_)
        road = Track(table[:, 2:], table[:, 1], np.zeros(len(table)), no_kerbs) if track is None else track
        self.packed.load([0], [road])
        self.cars = new_cars(1)
        place_car(self.cars, 0, *road.start)
        self.tiles = int(idle(self.cars, self.packed.arrays, 0))
        self.check(-1)

    def step(self, action: Action, frame: int) -> None:
        self.env.step(action)
        new_tiles, _ = drive(self.cars, self.packed.arrays, 0, *(float(part) for part in action))
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
        if frame % 10 == 0:
            self.check_tiles(frame)

    def check_tiles(self, frame: int) -> None:
        roads, road = self.packed.arrays, self.env.road
        assert roads.visited[0, : len(road)].tolist() == [tile.road_visited for tile in road], frame
        # the package paints what the car touches in the plain colour; every third tile has it from the start
        plain = (np.array([tile.color for tile in road]) == self.env.road_color).all(axis=1)
        plain[::3] = roads.touched[0, : len(road) : 3]
        assert roads.touched[0, : len(road)].tolist() == plain.tolist(), frame


def act(steer: float, gas: float, brake: float) -> Action:
    return np.array([steer, gas, brake], np.float32)


def random_driver(env: Any, frame: int, rng: np.random.Generator) -> Action:
    return act(rng.uniform(-1, 1), rng.uniform(0, 1), rng.uniform(0, 1) * (rng.random() < 0.2))


def full_throttle(env: Any, frame: int, rng: np.random.Generator) -> Action:
    return act(0.15 * math.sin(frame / 40), 1, 0)


def drifter(env: Any, frame: int, rng: np.random.Generator) -> Action:
    """Off the road in full turns, with every kind of brake, and stops long enough to fall asleep."""
    phase = frame % 150
    brake = 1.0 if phase > 110 else 0.5 if 80 < phase < 90 else 0.0
    return act(math.copysign(1, math.sin(frame / 50)) * (40 < phase < 80), phase < 80, brake)


def lap_driver(env: Any, frame: int, rng: np.random.Generator) -> Action:
    """Follow the centre line at a moderate speed."""
    hull = env.car.hull
    x, y = hull.position
    points = env.points
    nearest = int(np.argmin(np.square(points - [x, y]).sum(axis=1)))
    ahead = max(1, round(12 / float(np.linalg.norm(points[1] - points[0]))))
    ahead_x, ahead_y = points[(nearest + ahead) % len(points)] - [x, y]
    off = math.remainder(math.atan2(ahead_y, ahead_x) - (hull.angle + math.pi / 2), 2 * math.pi)
    speed = math.hypot(*hull.linearVelocity)
    return act(float(np.clip(-2 * off, -1, 1)), 0.5 * (speed < 40), 0.3 * (speed > 55))


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
    twins.check_tiles(frames)
    return twins


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("seed", range(6))
def test_cars_move_as_the_packages_bit_for_bit(seed: int, driver: str) -> None:
    twins = race(seed, driver, 600)
    if driver == "lap":
        assert twins.tiles > 60


@pytest.mark.parametrize("spacing", [0.4, 2.4])
def test_cars_reach_tiles_of_any_length_in_the_packages_frame(spacing: float) -> None:
    for seed in range(3):
        twins = race(seed, "lap", 500, wavy_track(spacing, seed))
        assert twins.tiles > 100 / spacing
        race(seed, "random", 200, wavy_track(spacing, seed))


def test_a_car_that_stands_still_falls_asleep_and_wakes() -> None:
    twins = Twins(0)
    awake = []
    for frame in range(120):
        twins.step(act(0, frame >= 90, 0), frame)
        awake.append(twins.env.car.hull.awake)
    assert not all(awake[:90])
    assert all(awake[100:])
    assert np.hypot(*twins.cars.velocity[0, 0]) > 1


def test_steered_wheels_reach_both_limits() -> None:
    twins = Twins(0)
    limits = set()
    for frame in range(200):
        twins.step(act(1 if frame < 100 else -1, 0.5, 0), frame)
        limits.update(twins.cars.limit[0].tolist())
    assert limits == {joints.FREE, joints.AT_LOWER, joints.AT_UPPER}


def test_controls_are_taken_as_the_package_takes_them() -> None:
    twins = Twins(0)
    for frame, action in enumerate([act(0.3, 1.7, 0), act(-0.3, -1, 0.4), act(0, 0.25, 0.95), act(0, 0.05, 0)]):
        twins.step(action, frame)
        wheels = twins.env.car.wheels
        for name in ("gas", "brake", "steer"):
            assert getattr(twins.cars, name)[0].tolist() == [getattr(wheel, name) for wheel in wheels], name


def test_placing_is_building_a_new_car() -> None:
    cars = new_cars(2)
    for array in cars:
        array[:] = 1
    place_car(cars, 1, 0.7, 200.1, -31.7)
    car = Car(b2World(gravity=(0, 0)), 0.7, 200.1, -31.7)
    bodies = [car.hull, *car.wheels]
    assert cars.origin[1].tolist() == [list(body.position) for body in bodies]
    assert cars.centre[1].tolist() == [list(body.worldCenter) for body in bodies]
    assert cars.angle[1].tolist() == [body.angle for body in bodies]
    assert cars.rotation[1].tolist() == [list(body.GetWorldVector((1, 0)))[::-1] for body in bodies]
    for name in cars._fields:
        if name not in ("origin", "centre", "angle", "rotation"):
            assert not getattr(cars, name)[1].any(), name
        assert (getattr(cars, name)[0] == 1).all(), name


def test_the_masses_are_box2ds() -> None:
    car = Car(b2World(gravity=(0, 0)), 0.0, 0.0, 0.0)
    assert float(chassis.HULL_MASS) == car.hull.mass
    assert (float(chassis.CENTRE_X), float(chassis.CENTRE_Y)) == tuple(car.hull.localCenter)
    # Box2D only tells inertia about the origin, and adds to ours what moves it there
    centre = chassis.CENTRE_X * chassis.CENTRE_X + chassis.CENTRE_Y * chassis.CENTRE_Y
    assert float(chassis.HULL_INERTIA + chassis.HULL_MASS * centre) == car.hull.inertia
    for wheel in car.wheels:
        assert (float(chassis.WHEEL_MASS), float(chassis.WHEEL_INERTIA)) == (wheel.mass, wheel.inertia)
        assert tuple(wheel.localCenter) == (0, 0)
    shapes = [wheel.fixtures[0].shape for wheel in car.wheels] + [fixture.shape for fixture in car.hull.fixtures]
    for part, shape in enumerate(shapes):
        corners = chassis.PART_CORNERS[part, : chassis.PART_COUNTS[part]]
        assert corners.tolist() == [list(corner) for corner in shape.vertices]


def test_a_frame_tells_whether_the_first_tile_was_among_the_new_ones() -> None:
    twins = Twins(3)
    roads = twins.packed.arrays
    assert roads.visited[0, 0]
    assert drive(twins.cars, roads, 0, 0.0, 0.0, 0.0) == (0, -1)
    roads.visited[0] = False
    new_tiles, first = drive(twins.cars, roads, 0, 0.0, 0.0, 0.0)
    assert (new_tiles, first) == (twins.tiles, 1)
    roads.visited[0] = False
    roads.visited[0, 0] = True
    assert drive(twins.cars, roads, 0, 0.0, 0.0, 0.0) == (twins.tiles - 1, -1)


def test_tiles_are_kept_as_box2d_keeps_them() -> None:
    rng = np.random.default_rng(0)
    counts, refused = set(), 0
    for case in range(2000):
        quad = rng.normal(size=(4, 2)) * rng.choice([0.1, 3, 30]) + rng.uniform(-300, 300, 2)
        if case % 4 == 1:  # two corners in one place, as where a road turns about its edge
            quad[3] = quad[0]
        elif case % 4 == 2:  # three on a line
            quad[1] = (quad[0] + quad[2]) / 2
        elif case % 4 == 3:  # many equal coordinates
            quad = np.round(quad)
        quad = quad.astype(np.float32)
        try:
            kept = polygonShape(vertices=[(float(x), float(y)) for x, y in quad]).vertices
        except AssertionError:  # Box2D refuses what has next to no area
            refused += 1
            continue
        hull, count = tile_hull(quad)
        assert hull[:count].tolist() == [list(corner) for corner in kept], quad
        assert not hull[count:].any()
        counts.add(count)
    assert counts == {3, 4}
    assert refused < 200


def test_shapes_touch_up_to_their_skin() -> None:
    rng = np.random.default_rng(0)
    found = {True: 0, False: 0}
    for _ in range(3000):
        half = rng.uniform(0.2, HALF_WIDTH)
        middle = rng.uniform(-200, 200, 2)
        quad = (rng.uniform(-half, half, (4, 2)) + middle).astype(np.float32)
        hull, count = tile_hull(quad)
        angle, (x, y) = rng.uniform(-4, 4), middle + rng.uniform(-half - 0.5, half + 0.5, 2)
        rotation = np.array([np.sin(angle), np.cos(angle)], np.float32)
        part = int(rng.integers(chassis.PARTS))
        corners = chassis.PART_CORNERS[part, : chassis.PART_COUNTS[part]]
        turn = np.array([[rotation[1], rotation[0]], [-rotation[0], rotation[1]]])
        wheel = (corners @ turn + np.array([x, y])).astype(np.float32)
        apart = gap(hull[:count].astype(float), wheel.astype(float))
        if abs(apart - 0.02) > 2e-4:  # beyond what float32 tells so far out
            touching = bool(overlap(hull, count, wheel, corners, rotation))
            assert touching == (apart < 0.02)
            found[touching] += 1
    assert min(found.values()) > 500


def gap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The distance of two convex shapes, corners counter-clockwise; 0 if they overlap."""
    for shape, points in ((one, other), (other, one)):
        edges = np.roll(shape, -1, axis=0) - shape
        normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
        if ((points[:, None] - shape) * normals).sum(axis=-1).min(axis=0).max() > 0:
            break
    else:
        return 0.0
    nearest = math.inf
    for shape, points in ((one, other), (other, one)):
        edges = np.roll(shape, -1, axis=0) - shape
        away = points[:, None] - shape
        shares = np.clip((away * edges).sum(axis=-1) / (edges * edges).sum(axis=-1), 0, 1)
        nearest = min(nearest, float(np.linalg.norm(away - shares[..., None] * edges, axis=-1).min()))
    return nearest


def test_sweeps_cut_short_end_where_all_sweeps_end() -> None:
    rng = np.random.default_rng(0)
    twins = Twins(0)
    for frame in range(60):  # some speed, so that velocities settle into cycles
        twins.step(act(0, 1, 0), frame)
    records = np.zeros((2, 4, 4), np.float32)
    settled = 0
    for case in range(200):
        hull, rows = random_joints(rng, calm=case % 2 == 0)
        limits = rng.choice([0, 0, 0, 1, 2], 4).astype(np.int8)
        short_hull, short_rows = hull.copy(), rows.copy()
        joints.solve_velocities(short_hull, short_rows, limits)
        for sweep in range(joints.VELOCITY_SWEEPS):
            before = hull.copy()
            joints._sweep(hull, rows, limits, records, 0)
            settled += sweep == 90 and np.array_equal(before, hull)
        assert np.array_equal(short_hull, hull)
        assert np.array_equal(short_rows, rows)
    assert settled > 20


def random_joints(rng: np.random.Generator, calm: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A hull's velocities and rows of joints with a sound mass matrix."""
    hull = rng.normal(size=3) * [30, 30, 0 if calm else 1]
    rows = np.zeros((4, joints.COLUMNS))
    for row, anchor in zip(rows, chassis.ANCHORS.astype(float), strict=True):
        x, y = anchor
        light, turn = float(chassis.LIGHT), float(chassis.HULL_TURN)
        k11, k12, k22 = light + y * y * turn, -x * y * turn, light + x * x * turn
        k13, k23 = -y * turn, x * turn
        matrix = np.array([[k11, k12, k13], [k12, k22, k23], [k13, k23, float(chassis.TURN)]])
        row[: joints.X] = [x, y, k11, k12, k22, k13, k23, 1 / (k11 * k22 - k12**2), 1 / np.linalg.det(matrix)]
        row[[joints.X, joints.Y]] = hull[:2] + rng.normal(size=2)
        row[joints.SPIN] = hull[2] + rng.normal() * (not calm)
        row[joints.SPEED] = rng.choice([0, 3, -3, rng.uniform(-3, 3)])
        row[[joints.MOTOR, joints.PUSH_X, joints.PUSH_Y]] = rng.normal(size=3) * [0.01, 1, 1]
    return hull.astype(np.float32), rows.astype(np.float32)
