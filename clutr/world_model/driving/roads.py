"""The roads of the unmodified `CarRacing-v3`, for our engine: a seed's road is the one that the package would draw."""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clutr.envs.car.road.level import RoadLevels
from clutr.envs.car.road.track import Track


@dataclass(frozen=True)
class PackageRoads(RoadLevels):
    """Roads of the package, each named by the seed of `CarRacing-v3`'s reset. Needs Box2D (the extra `car`)."""

    seed: Tensor
    """`[B]` int64, not negative."""

    def tracks(self) -> list[Track]:
        """The road of each seed, tile by tile as in the package."""
        return [_track(seed) for seed in self.seed.tolist()]


@cache
def _package() -> Any:
    """One environment of the package that draws roads and nothing else."""
    from clutr.envs.car import box2d_env  # noqa: PLC0415  # Box2D is an optional dependency; this says so if it lacks

    environment: Any = box2d_env.CarRacing()  # type: ignore[attr-defined]
    environment._render = lambda _: None
    return environment


@lru_cache(maxsize=1024)
def _track(seed: int) -> Track:
    environment = _package()
    environment.reset(seed=seed)
    table = np.asarray(environment.track, dtype=np.float64)
    turns = table[:, 1] - np.roll(table[:, 1], 1)  # as the package: not reduced to half a turn at the start
    kerbs, tile = np.zeros(len(table), np.bool_), -1
    for _, colour in environment.road_poly:  # a tile's kerb follows it, and alone has a plain tuple as its colour
        if isinstance(colour, tuple):
            kerbs[tile] = True
        else:
            tile += 1
    return Track(table[:, 2:], table[:, 1], turns, kerbs)


def draw_roads(n: int, rng: torch.Generator) -> PackageRoads:
    """N random roads of the package."""
    return PackageRoads(torch.randint(0, 2**31, (n,), generator=rng))
