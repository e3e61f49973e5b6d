"""An expert that races: it knows the whole road and its true state, and drives a smooth line as fast as tyres allow.

The line is the road's middle moved sideways so that it bends least, as far as every tile is still touched; the speed is
what the bends ahead allow with brakes that are there. Pure pursuit (Coulter 1992) steers along it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clutr.envs.car.engine import CarEngine
from clutr.envs.car.physics.chassis import SIZE, WHEEL_PLACES
from clutr.envs.car.road.track import Floats, Track

WHEELBASE = (WHEEL_PLACES[0][1] - WHEEL_PLACES[2][1]) * SIZE
"""Between front and rear axle, in units."""
FULL_LOCK = 0.4
"""The front wheels turn no further, in radians, whatever is asked."""
_SMOOTHING = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
_BEHIND, _AHEAD = 8, 16
"""Tiles around the last known one among which the nearest is looked for: another part of the road may lie closer."""


@dataclass(frozen=True)
class RacingStyle:
    """How the expert drives. Lengths are in units, of which a road is 13 wide; speeds in units a second."""

    cut: float = 2.0
    """How far from the middle the line may lie."""
    side_acceleration: float = 150.0
    """In bends; tyres hold about 220."""
    deceleration: float = 100.0
    """Before bends."""
    top_speed: float = 95.0
    """On straights."""
    look_ahead: tuple[float, float] = (4.0, 0.12)
    """Of pure pursuit: a length, and seconds at the present speed."""
    steering: float = 1.5
    """Gain of the steering angle; more than 1 makes up for tyres that slip."""
    gas: float = 0.1
    """For each unit a second that the car is too slow."""
    most_gas: float = 0.7
    """Wheels spin with more."""
    brake: float = 0.05
    """For each unit a second that it is too fast."""
    most_brake: float = 0.8
    """Wheels block with more."""
    anticipation: float = 0.06
    """Seconds by which the wanted speed is read ahead."""


def racing_line(track: Track, cut: float, stiffness: float = 1e-4) -> Floats:
    """The closed line `[n, 2]` through a road's tiles that bends least, no further than `cut` from the middle.

    Args:
        track: the road.
        cut: most distance, in units.
        stiffness: pull towards the middle, where bending decides nothing.
    """
    from scipy.optimize import minimize  # noqa: PLC0415  # takes half a second

    across = np.stack([np.cos(track.directions), np.sin(track.directions)], axis=1)

    def bending(offset: Floats) -> tuple[float, Floats]:
        line = track.points + offset[:, None] * across
        bend = np.roll(line, 1, 0) - 2 * line + np.roll(line, -1, 0)
        pull = np.roll(bend, 1, 0) - 2 * bend + np.roll(bend, -1, 0)
        value = float((bend**2).sum() + stiffness * (offset**2).sum())
        return value, 2 * (pull * across).sum(1) + 2 * stiffness * offset

    start = np.zeros(len(track))
    found = minimize(bending, start, jac=True, method="L-BFGS-B", bounds=[(-cut, cut)] * len(track))
    line: Floats = track.points + found.x[:, None] * across
    return line


def speed_profile(line: Floats, style: RacingStyle) -> Floats:
    """The speed `[n]` at each point of a closed line: what its bends allow, and brakes before them."""
    way = np.roll(line, -1, axis=0) - line
    length = np.linalg.norm(way, axis=1)
    direction = np.arctan2(way[:, 1], way[:, 0])
    turn = np.abs((np.roll(direction, -1) - direction + np.pi) % (2 * np.pi) - np.pi)
    half = len(_SMOOTHING) // 2
    turn = np.convolve(np.concatenate([turn[-half:], turn, turn[:half]]), _SMOOTHING, "valid")
    speed: Floats = np.minimum(style.top_speed, np.sqrt(style.side_acceleration * length / np.maximum(turn, 1e-9)))
    for point in [*range(len(speed) - 1, -1, -1)] * 2:  # twice around: the last bend may lie behind the start
        after = speed[(point + 1) % len(speed)]
        speed[point] = min(speed[point], np.sqrt(after**2 + 2 * style.deceleration * length[point]))
    return speed


class RacingExpert:
    """Drives the cars of an engine.

    Args:
        engine: whose cars; it has been reset, and all its cars stand at the first tile.
        style: how.
    """

    def __init__(self, engine: CarEngine, style: RacingStyle | None = None) -> None:
        self.style = style or RacingStyle()
        self._engine = engine
        self._counts = np.array([len(track) for track in engine.tracks])
        most = int(self._counts.max())
        self._lines = np.zeros((engine.num_envs, most, 2))
        self._speeds = np.zeros((engine.num_envs, most))
        for row, track in enumerate(engine.tracks):
            line = racing_line(track, self.style.cut)
            self._lines[row, : len(track)] = line
            self._speeds[row, : len(track)] = speed_profile(line, self.style)
        self._spacing = np.array([track.length for track in engine.tracks]) / self._counts
        self._place = np.zeros(engine.num_envs, np.int64)

    def act(self) -> Tensor:
        """Steering, gas and brake of each car now, `[N, 3]`."""
        style, cars, rows = self.style, self._engine.cars, np.arange(self._engine.num_envs)
        position, angle = cars.origin[:, 0].astype(np.float64), cars.angle[:, 0].astype(np.float64)
        speed = np.linalg.norm(cars.velocity[:, 0].astype(np.float64), axis=1)
        near = (self._place[:, None] + np.arange(-_BEHIND, _AHEAD)) % self._counts[:, None]
        distance = ((self._lines[rows[:, None], near] - position[:, None]) ** 2).sum(-1)
        self._place = near[rows, distance.argmin(1)]

        tiles = (style.look_ahead[0] + style.look_ahead[1] * speed) / self._spacing
        whole = tiles.astype(np.int64)
        part = (tiles - whole)[:, None]
        target = (1 - part) * self._line_at(whole) + part * self._line_at(whole + 1)
        way = target - position
        off = np.arctan2(way[:, 1], way[:, 0]) - angle - np.pi / 2
        wheels = np.arctan(2 * WHEELBASE * np.sin(off) / np.maximum(np.linalg.norm(way, axis=1), 1.0))
        steer = np.clip(-style.steering * wheels, -FULL_LOCK, FULL_LOCK)

        soon = (self._place + np.round(style.anticipation * speed / self._spacing).astype(np.int64)) % self._counts
        lack = self._speeds[rows, soon] - speed
        # tyres that push do not hold: half the gas at full lock
        gas = np.clip(style.gas * lack, 0, style.most_gas) * (1 - 0.5 * np.abs(steer) / FULL_LOCK)
        brake = np.clip(-style.brake * lack, 0, style.most_brake)
        return torch.from_numpy(np.stack([steer, gas, brake], axis=1)).float()

    def _line_at(self, ahead: np.ndarray) -> Floats:
        found: Floats = self._lines[np.arange(len(ahead)), (self._place + ahead) % self._counts]
        return found
