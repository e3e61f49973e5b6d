"""Tracks packed into `RoadArrays`, and kept there until others replace them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clutr.envs.car.physics.arrays import BLOCK, Double, RoadArrays
from clutr.envs.car.physics.gjk import tile_hull
from clutr.envs.car.road.track import Track
from clutr.envs.numba_cache import njit


class PackedRoads:
    """The roads of N environments; room for longer ones is made when they come.

    Args:
        num_envs: N.
    """

    def __init__(self, num_envs: int) -> None:
        self.arrays = _empty(num_envs, BLOCK)

    def load(self, rows: Sequence[int], tracks: Sequence[Track]) -> None:
        """Put tracks into rows; all their tiles are unvisited."""
        longest = max((len(track) for track in tracks), default=0)
        if longest > self.arrays.visited.shape[1]:
            self._grow(longest)
        for row, track in zip(rows, tracks, strict=True):
            self.arrays.visited[row] = False
            self.arrays.touched[row] = False
            _pack(self.arrays, row, track.quads(), track.kerb_quads(), track.kerbs)

    def _grow(self, tiles: int) -> None:
        held = self.arrays
        self.arrays = _empty(len(held.tiles), -(-tiles // BLOCK) * BLOCK)
        self.arrays.tiles[:] = held.tiles
        for name in RoadArrays._fields[1:]:
            old = getattr(held, name)
            getattr(self.arrays, name)[:, : old.shape[1]] = old


def _empty(num_envs: int, tiles: int) -> RoadArrays:
    return RoadArrays(
        tiles=np.zeros(num_envs, np.int64),
        blocks=np.zeros((num_envs, tiles // BLOCK, 4), np.float32),
        quads=np.zeros((num_envs, tiles, 4, 2), np.float32),
        kerb=np.zeros((num_envs, tiles), np.bool_),
        kerb_quads=np.zeros((num_envs, tiles, 4, 2), np.float32),
        hulls=np.zeros((num_envs, tiles, 4, 2), np.float32),
        corners=np.zeros((num_envs, tiles), np.int8),
        visited=np.zeros((num_envs, tiles), np.bool_),
        touched=np.zeros((num_envs, tiles), np.bool_),
    )


@njit()
def _pack(roads: RoadArrays, row: int, quads: Double, kerb_quads: Double, kerbs: NDArray[np.bool_]) -> None:
    """Fill one row: corners for drawing and for contacts, and the bounding boxes of blocks of tiles."""
    tiles = len(quads)
    roads.tiles[row] = tiles
    roads.kerb[row, :tiles] = kerbs
    roads.kerb[row, tiles:] = False
    for tile in range(tiles):
        roads.quads[row, tile] = quads[tile].astype(np.float32)
        roads.kerb_quads[row, tile] = kerb_quads[tile].astype(np.float32)
        hull, corners = tile_hull(roads.quads[row, tile])
        roads.hulls[row, tile] = hull
        roads.corners[row, tile] = corners
    for block in range(roads.blocks.shape[1]):
        box = roads.blocks[row, block]
        box[:2] = np.inf
        box[2:] = -np.inf
        for tile in range(block * BLOCK, min((block + 1) * BLOCK, tiles)):
            for corner in range(4):
                for axis in range(2):
                    for coordinate in (
                        roads.quads[row, tile, corner, axis],
                        roads.hulls[row, tile, min(corner, roads.corners[row, tile] - 1), axis],
                        roads.kerb_quads[row, tile, corner, axis],
                    ):
                        box[axis] = min(box[axis], coordinate)
                        box[axis + 2] = max(box[axis + 2], coordinate)
