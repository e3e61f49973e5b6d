"""The true state of running cars: where they are on their roads, what lies ahead, and what each pixel shows."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.capabilities import SIDE
from clutr.envs.car.engine import CarEngine
from clutr.envs.car.physics.arrays import Double
from clutr.envs.numba_cache import njit

OBJECTS = ("grass", "road", "kerb", "car", "indicators", "outside")
AHEAD = 20.0
"""Units of road over which curvature ahead is told."""
LOST = 20.0
"""Units from the centre line at which a picture hardly shows the road any more: an offset counts as no larger."""
QUANTITIES = {
    "x": "units",
    "y": "units",
    "forward_speed": "units/s",
    "side_speed": "units/s",
    "yaw_rate": "rad/s",
    "lateral_offset": "units",
    "heading_error": "rad",
    "curvature_ahead": "rad/unit",
    "wheels_on_road": "",
    "progress": "",
}

_BAR_ROW = round(0.875 * SIDE)
"""From here down a picture shows the indicators."""
_CAR_POSITION, _CAR_REACH = (0.75, 0.5), 0.075
"""Where the car always is (row and column as shares of the picture), and how far its black wheels reach from there."""
_CLASSES = np.array([5, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4], np.uint8)
"""Object of each of the drawing's colour numbers; black is outside, unless it is a wheel or the bar."""


def shrink(pictures: Tensor) -> Tensor:
    """Pictures `[N, 96, 96, 3]` uint8 as `[N, 64, 64, 3]` uint8, by averaging areas.

    Three pixels become two, each of a whole one and half of the middle one. So sums are whole ninths, which never lie
    halfway between two values.
    """
    n = len(pictures)
    first, middle, last = pictures.to(torch.int16).view(n, 32, 3, 288).unbind(2)
    rows = torch.stack([2 * first + middle, middle + 2 * last], 2).view(n, 64, 32, 3, 3)
    first, middle, last = rows.unbind(3)
    sums = torch.stack([2 * first + middle, middle + 2 * last], 3).view(n, 64, 64, 3)
    return sums.float().mul_(1 / 9).round_().to(torch.uint8)


@njit()
def _majority(samples: NDArray[np.uint8], masks: NDArray[np.uint8], classes: NDArray[np.uint8], objects: int) -> None:
    """For each pixel the object of most of its samples; those of kerbs and cars, which are thin, count double."""
    fine = samples.shape[1] // SIDE
    for i in range(len(samples)):
        for row in range(SIDE):
            for column in range(SIDE):
                counts = np.zeros(objects, np.int64)
                near = (
                    abs(row + 0.5 - _CAR_POSITION[0] * SIDE) < _CAR_REACH * SIDE
                    and abs(column + 0.5 - _CAR_POSITION[1] * SIDE) < _CAR_REACH * SIDE
                )
                for down in range(0, fine, 2):  # every second sample along either side tells enough
                    for across in range(0, fine, 2):
                        colour = samples[i, row * fine + down, column * fine + across]
                        found = classes[colour]
                        if row >= _BAR_ROW:
                            found = 4
                        elif colour == 0 and near:
                            found = 3
                        counts[found] += 2 if 2 <= found <= 3 else 1
                masks[i, row, column] = np.argmax(counts)


class CarObserver:
    """Looks at the cars of an engine. See `clutr.envs.capabilities.PrivilegedObserver`.

    `lateral_offset` is positive to the left of the centre line and ends at `LOST`, `heading_error` where the car looks
    left of the road, `curvature_ahead` where the road turns left over the next `AHEAD` units, and `wheels_on_road`
    counts 0 to 4.

    Args:
        engine: whose cars.
    """

    objects: tuple[str, ...] = OBJECTS
    quantities: dict[str, str] = QUANTITIES

    def __init__(self, engine: CarEngine) -> None:
        self._engine = engine

    def reset(self, mask: Tensor | None = None) -> None:
        """Nothing is remembered of earlier frames."""

    def expert_action(self, aggressiveness: Tensor) -> Tensor:
        """Follow the centre line, at 15 to 60 units a second on straights and slower where the road turns. `[N, 3]`."""
        now = self._state()
        turn = now["curvature_ahead"]
        wanted = (15 + 45 * aggressiveness) / (1 + 25 * turn.abs())
        error = now["heading_error"] + 0.06 * now["lateral_offset"] - 12 * turn
        steer = (1.2 * error + 0.1 * now["yaw_rate"]).clamp(-1, 1)
        lack = wanted - now["forward_speed"]
        return torch.stack([steer, (0.1 * lack).clamp(0, 1), (-0.03 * lack).clamp(0, 0.8)], 1)

    def pictures(self) -> Tensor:
        """`[N, 64, 64, 3]` uint8."""
        return shrink(self._engine.observation["image"].cpu())

    def masks(self) -> Tensor:
        """`[N, 64, 64]` uint8: numbers of `OBJECTS`."""
        masks = np.zeros((self._engine.num_envs, SIDE, SIDE), np.uint8)
        _majority(self._engine.samples, masks, _CLASSES, len(OBJECTS))
        return torch.from_numpy(masks)

    def privileged_state(self) -> dict[str, Tensor]:
        """`[N]` float32 for each of `QUANTITIES`."""
        found = self._state()
        return found | {"lateral_offset": found["lateral_offset"].clamp(-LOST, LOST)}

    def _state(self) -> dict[str, Tensor]:
        cars = self._engine.cars
        position, velocity = cars.origin[:, 0].astype(np.float64), cars.velocity[:, 0].astype(np.float64)
        angle = cars.angle[:, 0].astype(np.float64)
        forward = np.stack([-np.sin(angle), np.cos(angle)], 1)
        left = np.stack([-np.cos(angle), -np.sin(angle)], 1)
        offset, error, curvature = (np.zeros(len(angle)) for _ in range(3))
        for i, track in enumerate(self._engine.tracks):
            offset[i], error[i], curvature[i] = _on_road(
                position[i], angle[i], track.points, track.directions, track.turns, track.length / len(track)
            )
        found = {
            "x": position[:, 0],
            "y": position[:, 1],
            "forward_speed": (velocity * forward).sum(1),
            "side_speed": (velocity * left).sum(1),
            "yaw_rate": cars.spin[:, 0],
            "lateral_offset": offset,
            "heading_error": error,
            "curvature_ahead": curvature,
            "wheels_on_road": cars.on_road.sum(1),
            "progress": self._engine.progress.cpu().numpy(),
        }
        return {name: torch.from_numpy(np.asarray(values, np.float32).copy()) for name, values in found.items()}


def _on_road(
    position: Double, angle: float, points: Double, directions: Double, turns: Double, spacing: float
) -> tuple[float, float, float]:
    """Offset from the centre line, angle to the road, and the mean turn a unit over what lies ahead."""
    nearest = int(((points - position) ** 2).sum(1).argmin())
    across = np.array([np.cos(directions[nearest]), np.sin(directions[nearest])])  # to the right of the road
    offset = -float((position - points[nearest]) @ across)
    error = float((angle - directions[nearest] + np.pi) % (2 * np.pi) - np.pi)
    ahead = max(1, round(AHEAD / spacing))
    turn = float(turns[(nearest + 1 + np.arange(ahead)) % len(points)].sum())
    return offset, error, turn / (ahead * spacing)
