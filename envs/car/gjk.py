"""Shapes as Box2D knows them: its convex hulls, and its test whether two of them touch.

The algorithms, their order of operations and their constants are those of Box2D 2.3 by Erin Catto (zlib licence):
`b2PolygonShape::Set` (gift wrapping) and `b2Distance` (Gilbert, Johnson, Keerthi). Everything is float32, also every
constant: numba would otherwise go on in double precision.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.car.state import Single

WHEEL_HALF_WIDTH = np.float32(14 * 0.02)
WHEEL_RADIUS = np.float32(27 * 0.02)

_ZERO = np.float32(0)
_ONE = np.float32(1)
_EPSILON = np.float32(1.1920929e-07)
_RADII = np.float32(0.01) + np.float32(0.01)  # b2_polygonRadius of either shape
_TOUCHING = np.float32(10) * _EPSILON
_SAME_PLACE = _EPSILON * _EPSILON
_MOST_STEPS = 20  # of b2Distance

# columns of a corner of the simplex: in the tile, in the wheel, their difference, and its weight
_TILE, _WHEEL, _BETWEEN, _WEIGHT = 0, 2, 4, 6


@njit(cache=True, error_model="numpy")
def tile_hull(quad: Single) -> tuple[Single, int]:
    """What Box2D keeps of a polygon: its convex hull, counter-clockwise from the rightmost, lowest corner.

    Args:
        quad: `[n, 2]` float32 corners in any order, not all on one line.

    Returns:
        `[n, 2]` float32: the corners of the hull, then zeros; and how many they are.
    """
    corners = len(quad)
    hull = np.zeros((corners, 2), np.float32)
    first = 0
    for corner in range(1, corners):
        x, y = quad[corner, 0], quad[corner, 1]
        if x > quad[first, 0] or (x == quad[first, 0] and y < quad[first, 1]):
            first = corner
    count = 0
    here = first
    while count < corners:  # on one line, rounding could keep the walk from closing
        hull[count] = quad[here]
        count += 1
        end = 0
        for corner in range(1, corners):
            if end == here:
                end = corner
                continue
            end_x, end_y = quad[end, 0] - quad[here, 0], quad[end, 1] - quad[here, 1]
            x, y = quad[corner, 0] - quad[here, 0], quad[corner, 1] - quad[here, 1]
            turn = end_x * y - end_y * x
            if turn < _ZERO or (turn == _ZERO and x * x + y * y > end_x * end_x + end_y * end_y):
                end = corner
        here = end
        if here == first:
            break
    return hull, count


@njit(cache=True, error_model="numpy")
def overlap(hull: Single, corners: int, wheel: Single, rotation: Single) -> bool:
    """Whether a tile and a wheel touch: `b2TestOverlap` with the rounded skin of its polygons.

    Args:
        hull: `[4, 2]` corners of the tile as `tile_hull` gives them.
        corners: how many of them.
        wheel: `[4, 2]` corners of the wheel in the world, in the order of `wheel_corner`.
        rotation: `[2]` sine and cosine of the wheel's angle.
    """
    simplex = np.empty((3, 7), np.float32)
    labels = np.empty((3, 2), np.int64)
    sine, cosine = rotation[0], rotation[1]
    _set_corner(simplex, labels, 0, hull, 0, wheel, 0)
    simplex[0, _WEIGHT] = _ONE
    count = 1
    for _ in range(_MOST_STEPS):
        held = count
        tile_0, wheel_0 = labels[0, 0], labels[0, 1]
        tile_1, wheel_1 = labels[1, 0], labels[1, 1]
        tile_2, wheel_2 = labels[2, 0], labels[2, 1]
        if count == 2:
            count = _nearest_on_segment(simplex, labels)
        elif count == 3:
            count = _nearest_on_triangle(simplex, labels)
            if count == 3:
                return True  # the origin is within the triangle: the shapes overlap
        toward_x, toward_y = _search_direction(simplex, count)
        if toward_x * toward_x + toward_y * toward_y < _SAME_PLACE:
            break
        tile_corner = _support(hull, corners, -toward_x, -toward_y)
        local_x = cosine * toward_x + sine * toward_y
        local_y = -sine * toward_x + cosine * toward_y
        wheel_corner_index = _wheel_support(local_x, local_y)
        known = tile_corner == tile_0 and wheel_corner_index == wheel_0
        known |= held > 1 and tile_corner == tile_1 and wheel_corner_index == wheel_1
        known |= held > 2 and tile_corner == tile_2 and wheel_corner_index == wheel_2
        if known:
            break
        _set_corner(simplex, labels, count, hull, tile_corner, wheel, wheel_corner_index)
        count += 1
    distance = _distance(simplex, count)
    return not (distance > _RADII and distance > _EPSILON) or bool(distance - _RADII < _TOUCHING)


@njit(cache=True, error_model="numpy")
def wheel_corner(corner: int) -> tuple[np.float32, np.float32]:
    """A wheel's corner in its own coordinates, in the order of its hull in Box2D."""
    x = WHEEL_HALF_WIDTH if corner < 2 else -WHEEL_HALF_WIDTH
    y = WHEEL_RADIUS if corner in (1, 2) else -WHEEL_RADIUS
    return x, y


@njit(cache=True, error_model="numpy")
def _set_corner(
    simplex: Single,
    labels: NDArray[np.int64],
    row: int,
    hull: Single,
    tile_corner: int,
    wheel: Single,
    wheel_corner: int,
) -> None:
    for axis in range(2):
        simplex[row, _TILE + axis] = hull[tile_corner, axis]
        simplex[row, _WHEEL + axis] = wheel[wheel_corner, axis]
        simplex[row, _BETWEEN + axis] = wheel[wheel_corner, axis] - hull[tile_corner, axis]
    labels[row, 0], labels[row, 1] = tile_corner, wheel_corner


@njit(cache=True, error_model="numpy")
def _support(hull: Single, corners: int, x: np.float32, y: np.float32) -> int:
    """The first of the tile's corners that lie furthest in a direction."""
    best = 0
    best_value = hull[0, 0] * x + hull[0, 1] * y
    for corner in range(1, corners):
        value = hull[corner, 0] * x + hull[corner, 1] * y
        if value > best_value:
            best, best_value = corner, value
    return best


@njit(cache=True, error_model="numpy")
def _wheel_support(x: np.float32, y: np.float32) -> int:
    """The first of the wheel's corners that lie furthest in a direction of its own coordinates."""
    best = 0
    corner_x, corner_y = wheel_corner(0)
    best_value = corner_x * x + corner_y * y
    for corner in range(1, 4):
        corner_x, corner_y = wheel_corner(corner)
        value = corner_x * x + corner_y * y
        if value > best_value:
            best, best_value = corner, value
    return best


@njit(cache=True, error_model="numpy")
def _search_direction(simplex: Single, count: int) -> tuple[np.float32, np.float32]:
    """From the simplex towards the origin."""
    x, y = simplex[0, _BETWEEN], simplex[0, _BETWEEN + 1]
    if count == 1:
        return -x, -y
    edge_x, edge_y = simplex[1, _BETWEEN] - x, simplex[1, _BETWEEN + 1] - y
    if edge_x * -y - edge_y * -x > _ZERO:
        return -edge_y, edge_x
    return edge_y, -edge_x


@njit(cache=True, error_model="numpy")
def _distance(simplex: Single, count: int) -> np.float32:
    """Between the points of the two shapes that the weights of the simplex name."""
    if count == 1:
        x, y = simplex[0, _TILE] - simplex[0, _WHEEL], simplex[0, _TILE + 1] - simplex[0, _WHEEL + 1]
    else:
        first, second = simplex[0, _WEIGHT], simplex[1, _WEIGHT]
        tile_x = first * simplex[0, _TILE] + second * simplex[1, _TILE]
        tile_y = first * simplex[0, _TILE + 1] + second * simplex[1, _TILE + 1]
        wheel_x = first * simplex[0, _WHEEL] + second * simplex[1, _WHEEL]
        wheel_y = first * simplex[0, _WHEEL + 1] + second * simplex[1, _WHEEL + 1]
        x, y = tile_x - wheel_x, tile_y - wheel_y
    distance: np.float32 = np.sqrt(x * x + y * y)
    return distance


@njit(cache=True, error_model="numpy")
def _move_corner(simplex: Single, labels: NDArray[np.int64], source: int, target: int) -> None:
    for column in range(7):
        simplex[target, column] = simplex[source, column]
    labels[target, 0], labels[target, 1] = labels[source, 0], labels[source, 1]


@njit(cache=True, error_model="numpy")
def _nearest_on_segment(simplex: Single, labels: NDArray[np.int64]) -> int:
    """Reduce two corners to those that span the point nearest to the origin; how many are left."""
    x1, y1 = simplex[0, _BETWEEN], simplex[0, _BETWEEN + 1]
    x2, y2 = simplex[1, _BETWEEN], simplex[1, _BETWEEN + 1]
    edge_x, edge_y = x2 - x1, y2 - y1
    second = -(x1 * edge_x + y1 * edge_y)
    if second <= _ZERO:
        simplex[0, _WEIGHT] = _ONE
        return 1
    first = x2 * edge_x + y2 * edge_y
    if first <= _ZERO:
        simplex[1, _WEIGHT] = _ONE
        _move_corner(simplex, labels, 1, 0)
        return 1
    _weigh(simplex, 0, first, 1, second)
    return 2


@njit(cache=True, error_model="numpy")
def _weigh(simplex: Single, one: int, first: np.float32, other: int, second: np.float32) -> None:
    share = _ONE / (first + second)
    simplex[one, _WEIGHT] = first * share
    simplex[other, _WEIGHT] = second * share


@njit(cache=True, error_model="numpy")
def _nearest_on_triangle(simplex: Single, labels: NDArray[np.int64]) -> int:  # noqa: PLR0911
    """Reduce three corners likewise; 3 means that the triangle holds the origin."""
    x1, y1 = simplex[0, _BETWEEN], simplex[0, _BETWEEN + 1]
    x2, y2 = simplex[1, _BETWEEN], simplex[1, _BETWEEN + 1]
    x3, y3 = simplex[2, _BETWEEN], simplex[2, _BETWEEN + 1]
    x12, y12 = x2 - x1, y2 - y1
    first_12, second_12 = x2 * x12 + y2 * y12, -(x1 * x12 + y1 * y12)
    x13, y13 = x3 - x1, y3 - y1
    first_13, second_13 = x3 * x13 + y3 * y13, -(x1 * x13 + y1 * y13)
    x23, y23 = x3 - x2, y3 - y2
    first_23, second_23 = x3 * x23 + y3 * y23, -(x2 * x23 + y2 * y23)
    turn = x12 * y13 - y12 * x13
    beyond_23 = turn * (x2 * y3 - y2 * x3)
    beyond_13 = turn * (x3 * y1 - y3 * x1)
    beyond_12 = turn * (x1 * y2 - y1 * x2)
    if second_12 <= _ZERO and second_13 <= _ZERO:
        simplex[0, _WEIGHT] = _ONE
        return 1
    if first_12 > _ZERO and second_12 > _ZERO and beyond_12 <= _ZERO:
        _weigh(simplex, 0, first_12, 1, second_12)
        return 2
    if first_13 > _ZERO and second_13 > _ZERO and beyond_13 <= _ZERO:
        _weigh(simplex, 0, first_13, 2, second_13)
        _move_corner(simplex, labels, 2, 1)
        return 2
    if first_12 <= _ZERO and second_23 <= _ZERO:
        simplex[1, _WEIGHT] = _ONE
        _move_corner(simplex, labels, 1, 0)
        return 1
    if first_13 <= _ZERO and first_23 <= _ZERO:
        simplex[2, _WEIGHT] = _ONE
        _move_corner(simplex, labels, 2, 0)
        return 1
    if first_23 > _ZERO and second_23 > _ZERO and beyond_23 <= _ZERO:
        _weigh(simplex, 1, first_23, 2, second_23)
        _move_corner(simplex, labels, 2, 0)
        return 2
    return 3
