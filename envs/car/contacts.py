"""Which wheels touch which tiles, in the very frame in which Gymnasium's CarRacing finds it."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.car.gjk import WHEEL_HALF_WIDTH, WHEEL_RADIUS, overlap, wheel_corner
from envs.car.state import BLOCK, WHEELS, Cars, Roads, Single

_ZERO = np.float32(0)
_FAR = np.float32(np.inf)
_MARGIN = np.float32(0.05)  # more than the skins of the shapes and all rounding
_REACH = np.float32(0.7)  # more than a wheel's half diagonal and that margin


@njit(cache=True, error_model="numpy")
def touch(cars: Cars, roads: Roads, i: int) -> tuple[int, int]:
    """Look which wheels of car i touch the road where they are now: sets `cars.on_road[i]`, `roads.visited[i]`.

    The package notes a tile when a contact begins; as a tile once reached stays so, this is whenever there is one.

    Returns:
        How many tiles were reached for the first time; and which of them the first tile was, counted from 1, or -1 if
        it was not among them. Within one frame tiles count in their order; Box2D's own depends on the history of its
        broad phase, and makes no difference, as the car starts on the first tile.
    """
    # rows, not tuples of arrays: numba counts references to every array of a tuple that it hands on
    return _touch(
        cars.origin[i], cars.rotation[i], cars.on_road[i],
        roads.count[i], roads.blocks[i], roads.hulls[i], roads.corners[i], roads.visited[i],
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _touch(
    origins: Single,
    rotations: Single,
    on_road: NDArray[np.bool_],
    tiles: int,
    blocks: Single,
    hulls: Single,
    corners: NDArray[np.int8],
    visited: NDArray[np.bool_],
) -> tuple[int, int]:
    wheels = np.empty((WHEELS, 4, 2), np.float32)
    boxes = np.empty((WHEELS + 1, 4), np.float32)
    _place_wheels(origins, rotations, wheels, boxes)
    on_road[:] = False
    new_tiles, first_tile = 0, -1
    for block in range((tiles + BLOCK - 1) // BLOCK):
        if _are_apart(boxes, WHEELS, blocks[block, 0], blocks[block, 1], blocks[block, 2], blocks[block, 3]):
            continue
        for tile in range(block * BLOCK, min((block + 1) * BLOCK, tiles)):
            left, bottom, right, top = _bounds(hulls, tile, corners[tile])
            if _are_apart(boxes, WHEELS, left, bottom, right, top):
                continue
            for wheel in range(WHEELS):
                # a wheel that touches some tile teaches nothing more about one that has been reached
                if (on_road[wheel] and visited[tile]) or _are_apart(boxes, wheel, left, bottom, right, top):
                    continue
                guess = _guess(hulls, tile, corners[tile], origins[wheel + 1, 0], origins[wheel + 1, 1])
                if guess == 0:
                    touching = overlap(hulls[tile], corners[tile], wheels[wheel], rotations[wheel + 1])
                else:
                    touching = guess > 0
                if not touching:
                    continue
                on_road[wheel] = True
                if not visited[tile]:
                    visited[tile] = True
                    new_tiles += 1
                    if tile == 0:
                        first_tile = new_tiles
    return new_tiles, first_tile


@njit(cache=True, error_model="numpy")
def _are_apart(
    boxes: Single, row: int, left: np.float32, bottom: np.float32, right: np.float32, top: np.float32
) -> bool:
    apart: bool = left > boxes[row, 2] or right < boxes[row, 0] or bottom > boxes[row, 3] or top < boxes[row, 1]
    return apart


@njit(cache=True, error_model="numpy")
def _guess(hulls: Single, tile: int, corners: int, x: np.float32, y: np.float32) -> int:
    """What a wheel's middle tells: 1 if it lies in the tile, -1 if it is too far for the wheel to touch, 0 otherwise.

    Both are far from the border of what `overlap` finds, compared to its rounding.
    """
    inside = 1
    for corner in range(corners):
        to = corner + 1 if corner + 1 < corners else 0
        edge_x, edge_y = hulls[tile, to, 0] - hulls[tile, corner, 0], hulls[tile, to, 1] - hulls[tile, corner, 1]
        side = edge_x * (y - hulls[tile, corner, 1]) - edge_y * (x - hulls[tile, corner, 0])
        if side <= _ZERO:
            if side * side > _REACH * _REACH * (edge_x * edge_x + edge_y * edge_y):
                return -1
            inside = 0
    return inside


@njit(cache=True, error_model="numpy")
def _place_wheels(origins: Single, rotations: Single, wheels: Single, boxes: Single) -> None:
    """The corners of the wheels in the world, boxes that hold whatever might touch them, and a box for them all."""
    left, bottom, right, top = _FAR, _FAR, -_FAR, -_FAR
    for wheel in range(WHEELS):
        sine, cosine = rotations[wheel + 1, 0], rotations[wheel + 1, 1]
        at_x, at_y = origins[wheel + 1, 0], origins[wheel + 1, 1]
        for corner in range(4):
            x, y = wheel_corner(corner)
            wheels[wheel, corner, 0] = (cosine * x - sine * y) + at_x
            wheels[wheel, corner, 1] = (sine * x + cosine * y) + at_y
        reach_x = abs(cosine) * WHEEL_HALF_WIDTH + abs(sine) * WHEEL_RADIUS + _MARGIN
        reach_y = abs(sine) * WHEEL_HALF_WIDTH + abs(cosine) * WHEEL_RADIUS + _MARGIN
        boxes[wheel, 0], boxes[wheel, 1] = at_x - reach_x, at_y - reach_y
        boxes[wheel, 2], boxes[wheel, 3] = at_x + reach_x, at_y + reach_y
        left, bottom = min(left, boxes[wheel, 0]), min(bottom, boxes[wheel, 1])
        right, top = max(right, boxes[wheel, 2]), max(top, boxes[wheel, 3])
    boxes[WHEELS, 0], boxes[WHEELS, 1], boxes[WHEELS, 2], boxes[WHEELS, 3] = left, bottom, right, top


@njit(cache=True, error_model="numpy")
def _bounds(shapes: Single, row: int, count: int) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    left, bottom = shapes[row, 0, 0], shapes[row, 0, 1]
    right, top = left, bottom
    for corner in range(1, count):
        left, right = min(left, shapes[row, corner, 0]), max(right, shapes[row, corner, 0])
        bottom, top = min(bottom, shapes[row, corner, 1]), max(top, shapes[row, corner, 1])
    return left, bottom, right, top
