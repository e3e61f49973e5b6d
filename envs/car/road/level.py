"""Levels of the car domain. Whatever can say what its roads are can be played."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from clutr.envs.car.road.bezier import bezier_tracks
from clutr.envs.car.road.track import Track
from clutr.envs.domain import LevelBatch


class RoadLevels(LevelBatch, ABC):
    """Levels that are closed roads."""

    @abstractmethod
    def tracks(self) -> list[Track]:
        """The road of each level."""


@dataclass(frozen=True)
class BezierLevels(RoadLevels):
    """Roads through control points (arXiv 2110.02439): P points, of which the first `count` are used."""

    points: Tensor
    """`[B, P, 2]` float32: x and y in units, not centred; 0 where unused."""
    count: Tensor
    """`[B]` int64: at least 3, not all on one line."""

    def tracks(self) -> list[Track]:
        """The Bezier curve through the points of each level, centred, driven counter-clockwise."""
        return bezier_tracks(self.points.cpu().double().numpy(), self.count.cpu().numpy())


@dataclass(frozen=True)
class CentreLineLevels(RoadLevels):
    """Roads along closed lines, driven in the order of their points."""

    points: Tensor
    """`[B, P, 2]` float32: x and y in units; equally spaced; 0 where unused."""
    count: Tensor
    """`[B]` int64: number of points."""

    def tracks(self) -> list[Track]:
        """One tile a point."""
        lines = self.points.cpu().double().numpy()
        return [Track.from_centre_line(line[:count]) for line, count in zip(lines, self.count.tolist(), strict=True)]
