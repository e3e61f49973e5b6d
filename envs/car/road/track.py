"""A closed road as tiles, in the form that physics and drawing need."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from clutr.envs.car.road.crossings import crossings

Floats = NDArray[np.float64]

SCALE = 6.0
"""Divides all lengths of the package: its pixels a unit at zoom 1."""
HALF_WIDTH = 40 / SCALE
"""From the centre line to the road's edge, in units."""
KERB_WIDTH = 8 / SCALE
"""Width of the red and white kerb outside the road, in units."""
KERB_TILES = 4
"""A kerb needs as many successive turns to one side."""


@dataclass(frozen=True)
class Track:
    """One closed road of n tiles, driven in the order of its points.

    Tile i lies between point i and point i - 1, as in Gymnasium's `CarRacing.track`.
    """

    points: Floats
    """`[n, 2]`: the centre line, in units."""
    directions: Floats
    """`[n]`: beta; (cos beta, sin beta) points across the road at a point, (-sin beta, cos beta) along it."""
    turns: Floats
    """`[n]`: change of direction from the point before, positive to the left."""
    kerbs: NDArray[np.bool_]
    """`[n]`: whether a tile has a kerb on the inside of its turn."""

    @classmethod
    def from_centre_line(cls, points: Floats) -> Self:
        """A road along a closed line `[n, 2]`, driven in its order; kerbs where it turns hard for its own standards.

        A tile has a kerb if four successive changes of direction have one sign and each exceeds the track's mean
        absolute change (arXiv 2110.02439, the Bezier tracks).
        """
        points = np.asarray(points, dtype=np.float64)
        ahead = one_on(points) - back_one(points)
        # atan2 of the way along the road, less a quarter turn, is the way across it
        directions = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0])) - np.pi / 2
        turns = _turns(directions)
        return cls(points, directions, turns, _kerbs(turns, float(np.abs(turns).mean())))

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def length(self) -> float:
        """Length of the closed centre line in units."""
        return float(np.linalg.norm(self.points - back_one(self.points), axis=1).sum())

    @property
    def extent(self) -> float:
        """How far from the origin road and kerbs may reach along either axis, in units."""
        return float(np.abs(self.points).max()) + HALF_WIDTH + KERB_WIDTH

    def crossings(self) -> int:
        """How often the closed centre line crosses itself."""
        return int(crossings(self.points))

    @property
    def start(self) -> tuple[float, float, float]:
        """Direction, x and y of the car's start."""
        return self.start_at(0)

    def start_at(self, tile: int) -> tuple[float, float, float]:
        """Direction, x and y of a car that stands at a tile's point."""
        return float(self.directions[tile]), float(self.points[tile, 0]), float(self.points[tile, 1])

    def quads(self) -> Floats:
        """`[n, 4, 2]`: corners of the tiles, in the package's order: left and right at i, right and left at i - 1."""
        return self._strip(np.full(len(self), -HALF_WIDTH), np.full(len(self), HALF_WIDTH))

    def kerb_quads(self) -> Floats:
        """`[n, 4, 2]`: corners of the kerbs, also where there is none."""
        side = -np.sign(self.turns)
        return self._strip(side * HALF_WIDTH, side * (HALF_WIDTH + KERB_WIDTH))

    def _strip(self, near: Floats, far: Floats) -> Floats:
        """Quadrilaterals between two distances `[n]` from the centre line, each over one tile."""
        across = np.empty_like(self.points)
        across[:, 0], across[:, 1] = np.cos(self.directions), np.sin(self.directions)
        before, before_across = back_one(self.points), back_one(across)
        corners = np.empty((len(self), 4, 2))
        corners[:, 0] = self.points + near[:, None] * across
        corners[:, 1] = self.points + far[:, None] * across
        corners[:, 2] = before + far[:, None] * before_across
        corners[:, 3] = before + near[:, None] * before_across
        return corners


def back_one(values: Floats) -> Floats:
    """What is one point back along a closed road: `np.roll(values, 1, axis=0)`, which takes several times as long."""
    return np.concatenate([values[-1:], values[:-1]])


def one_on(values: Floats) -> Floats:
    """What is one point on along a closed road: `np.roll(values, -1, axis=0)`, likewise."""
    return np.concatenate([values[1:], values[:1]])


def _turns(directions: Floats) -> Floats:
    """Change of direction at each point of a closed road, in (-pi, pi]."""
    changes = directions - back_one(directions)
    turns: Floats = np.pi - (np.pi - changes) % (2 * np.pi)
    return turns


def _kerbs(changes: Floats, threshold: float) -> NDArray[np.bool_]:
    """Which tiles have a kerb: those of `KERB_TILES` successive changes of one sign, each above the threshold."""
    behind = np.where(np.abs(changes) > threshold, np.sign(changes), 0.0)
    successive = behind.copy()
    for _ in range(KERB_TILES - 1):
        behind = back_one(behind)
        successive += behind
    kerbs: list[bool] = (np.abs(successive) == KERB_TILES).tolist()
    for tile in range(len(kerbs)):  # in place and going up, as the package does: around the start it spreads further
        if kerbs[tile]:
            for back in range(KERB_TILES):
                kerbs[tile - back] = True
    return np.array(kerbs, np.bool_)
