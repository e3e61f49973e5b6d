"""Which parts of a car touch which tiles, in the very frame in which Gymnasium's CarRacing finds it."""

import numpy as np
from numpy.typing import NDArray

from clutr.envs.car.physics.arrays import BLOCK, WHEELS, Cars, RoadArrays, Single
from clutr.envs.car.physics.chassis import PART_BODIES, PART_CENTRES, PART_CORNERS, PART_COUNTS, PART_RADII, PARTS
from clutr.envs.car.physics.gjk import overlap
from clutr.envs.numba_cache import njit

_ZERO = np.float32(0)
_FAR = np.float32(np.inf)
_MARGIN = np.float32(0.05)  # more than the skins of the shapes and all rounding


@njit(error_model="numpy", inline="always")
def touch(cars: Cars, roads: RoadArrays, i: int) -> tuple[int, int]:
    """Look which parts of car i touch the road where they are now.

    Sets `cars.on_road[i]`, which wheels touch any tile; and marks in `roads.visited[i]` the tiles that a wheel has
    reached and in `roads.touched[i]` those that any part has, as the package does when a contact begins.

    Returns:
        How many tiles were visited for the first time; and which of them the first tile was, counted from 1, or -1 if
        it was not among them. Within one frame tiles count in their order; Box2D's own depends on the history of its
        broad phase, and makes no difference, as the car starts on the first tile.
    """
    # rows, not tuples of arrays: numba counts references to every array of a tuple that it hands on
    return _touch(
        cars.origin[i], cars.rotation[i], cars.on_road[i], roads.tiles[i], roads.blocks[i], roads.hulls[i],
        roads.corners[i], roads.visited[i], roads.touched[i],
    )  # fmt: skip


@njit(error_model="numpy")
def _touch(
    origins: Single,
    rotations: Single,
    on_road: NDArray[np.bool_],
    tiles: int,
    blocks: Single,
    hulls: Single,
    corners: NDArray[np.int8],
    visited: NDArray[np.bool_],
    touched: NDArray[np.bool_],
) -> tuple[int, int]:
    parts = np.empty((PARTS, PART_CORNERS.shape[1], 2), np.float32)
    boxes = np.empty((PARTS + 1, 4), np.float32)
    centres = np.empty((PARTS, 2), np.float32)
    _place_parts(origins, rotations, parts, boxes, centres)
    on_road[:] = False
    new_tiles, first_tile = 0, -1
    for block in range((tiles + BLOCK - 1) // BLOCK):
        if _are_apart(boxes, PARTS, blocks[block, 0], blocks[block, 1], blocks[block, 2], blocks[block, 3]):
            continue
        for tile in range(block * BLOCK, min((block + 1) * BLOCK, tiles)):
            left, bottom, right, top = _bounds(hulls, tile, corners[tile])
            if _are_apart(boxes, PARTS, left, bottom, right, top):
                continue
            for part in range(PARTS):
                # nothing to learn about what is known
                known = on_road[part] and visited[tile] if part < WHEELS else touched[tile]
                if known or _are_apart(boxes, part, left, bottom, right, top):
                    continue
                guess = _guess(hulls, tile, corners[tile], centres[part, 0], centres[part, 1], PART_RADII[part])
                if guess == 0:
                    count = PART_COUNTS[part]
                    local, rotation = PART_CORNERS[part, :count], rotations[PART_BODIES[part]]
                    touching = overlap(hulls[tile], corners[tile], parts[part, :count], local, rotation)
                else:
                    touching = guess > 0
                if not touching:
                    continue
                touched[tile] = True
                if part >= WHEELS:
                    continue
                on_road[part] = True
                if not visited[tile]:
                    visited[tile] = True
                    new_tiles += 1
                    if tile == 0:
                        first_tile = new_tiles
    return new_tiles, first_tile


@njit(error_model="numpy")
def _are_apart(
    boxes: Single, row: int, left: np.float32, bottom: np.float32, right: np.float32, top: np.float32
) -> bool:
    apart: bool = left > boxes[row, 2] or right < boxes[row, 0] or bottom > boxes[row, 3] or top < boxes[row, 1]
    return apart


@njit(error_model="numpy")
def _guess(hulls: Single, tile: int, corners: int, x: np.float32, y: np.float32, radius: np.float32) -> int:
    """What a part's middle tells: 1 if it lies in the tile, -1 if it is too far for the part to touch, 0 otherwise.

    Both are far from the border of what `overlap` finds, compared to its rounding.
    """
    reach = radius + _MARGIN
    inside = 1
    for corner in range(corners):
        to = corner + 1 if corner + 1 < corners else 0
        edge_x, edge_y = hulls[tile, to, 0] - hulls[tile, corner, 0], hulls[tile, to, 1] - hulls[tile, corner, 1]
        side = edge_x * (y - hulls[tile, corner, 1]) - edge_y * (x - hulls[tile, corner, 0])
        if side <= _ZERO:
            if side * side > reach * reach * (edge_x * edge_x + edge_y * edge_y):
                return -1
            inside = 0
    return inside


@njit(error_model="numpy")
def _place_parts(origins: Single, rotations: Single, parts: Single, boxes: Single, centres: Single) -> None:
    """Corners and middles of the parts, in units, boxes of all that might touch them, and one for all parts."""
    least_x, least_y, most_x, most_y = _FAR, _FAR, -_FAR, -_FAR
    for part in range(PARTS):
        body = PART_BODIES[part]
        sine, cosine = rotations[body, 0], rotations[body, 1]
        at_x, at_y = origins[body, 0], origins[body, 1]
        x, y = PART_CENTRES[part, 0], PART_CENTRES[part, 1]
        centres[part, 0] = (cosine * x - sine * y) + at_x
        centres[part, 1] = (sine * x + cosine * y) + at_y
        for corner in range(PART_COUNTS[part]):
            x, y = PART_CORNERS[part, corner, 0], PART_CORNERS[part, corner, 1]
            parts[part, corner, 0] = (cosine * x - sine * y) + at_x
            parts[part, corner, 1] = (sine * x + cosine * y) + at_y
        left, bottom, right, top = _bounds(parts, part, PART_COUNTS[part])
        left, bottom, right, top = left - _MARGIN, bottom - _MARGIN, right + _MARGIN, top + _MARGIN
        boxes[part, 0], boxes[part, 1], boxes[part, 2], boxes[part, 3] = left, bottom, right, top
        least_x, least_y = min(least_x, left), min(least_y, bottom)
        most_x, most_y = max(most_x, right), max(most_y, top)
    boxes[PARTS, 0], boxes[PARTS, 1], boxes[PARTS, 2], boxes[PARTS, 3] = least_x, least_y, most_x, most_y


@njit(error_model="numpy")
def _bounds(shapes: Single, row: int, count: int) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    left, bottom = shapes[row, 0, 0], shapes[row, 0, 1]
    right, top = left, bottom
    for corner in range(1, count):
        left, right = min(left, shapes[row, corner, 0]), max(right, shapes[row, corner, 0])
        bottom, top = min(bottom, shapes[row, corner, 1]), max(top, shapes[row, corner, 1])
    return left, bottom, right, top
