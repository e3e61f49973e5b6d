"""Shapes as Box2D knows them: its convex hulls, and its test whether two of them touch.

The algorithms, their order of operations and their constants are those of Box2D 2.3 by Erin Catto (zlib licence):
`b2PolygonShape::Set` (gift wrapping) and `b2Distance` (Gilbert, Johnson, Keerthi). Everything is float32, also every
constant: numba would otherwise go on in double precision.
"""

import numpy as np
from numpy.typing import NDArray

from clutr.envs.car.physics.arrays import Single
from clutr.envs.numba_cache import njit

_ZERO = np.float32(0)
_ONE = np.float32(1)
_EPSILON = np.float32(1.1920929e-07)
_RADII = np.float32(0.01) + np.float32(0.01)  # b2_polygonRadius of either shape
_TOUCHING = np.float32(10) * _EPSILON
_SAME_PLACE = _EPSILON * _EPSILON
_MOST_STEPS = 20  # of b2Distance

# columns of a corner of the simplex: in the tile, in the part, their difference, and its weight
_TILE, _PART, _BETWEEN, _WEIGHT = 0, 2, 4, 6


@njit(error_model="numpy")
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


@njit(error_model="numpy")
def overlap(hull: Single, corners: int, part: Single, local: Single, rotation: Single) -> bool:
    """Whether a tile and a part of the car touch: `b2TestOverlap` with the rounded skin of its polygons.

    Args:
        hull: `[4, 2]` corners of the tile as `tile_hull` gives them.
        corners: how many of them.
        part: `[n, 2]` corners of the part, in units.
        local: `[n, 2]` the same in the coordinates of its body.
        rotation: `[2]` sine and cosine of the body's angle.
    """
    simplex = np.empty((3, 7), np.float32)
    labels = np.empty((3, 2), np.int64)
    sine, cosine = rotation[0], rotation[1]
    _set_corner(simplex, labels, 0, hull, 0, part, 0)
    simplex[0, _WEIGHT] = _ONE
    count = 1
    for _ in range(_MOST_STEPS):
        held = count
        tile_0, part_0 = labels[0, 0], labels[0, 1]
        tile_1, part_1 = labels[1, 0], labels[1, 1]
        tile_2, part_2 = labels[2, 0], labels[2, 1]
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
        part_corner = _support(local, len(local), local_x, local_y)
        known = tile_corner == tile_0 and part_corner == part_0
        known |= held > 1 and tile_corner == tile_1 and part_corner == part_1
        known |= held > 2 and tile_corner == tile_2 and part_corner == part_2
        if known:
            break
        _set_corner(simplex, labels, count, hull, tile_corner, part, part_corner)
        count += 1
    distance = _distance(simplex, count)
    return not (distance > _RADII and distance > _EPSILON) or bool(distance - _RADII < _TOUCHING)


@njit(error_model="numpy")
def _set_corner(
    simplex: Single,
    labels: NDArray[np.int64],
    row: int,
    hull: Single,
    tile_corner: int,
    part: Single,
    part_corner: int,
) -> None:
    for axis in range(2):
        simplex[row, _TILE + axis] = hull[tile_corner, axis]
        simplex[row, _PART + axis] = part[part_corner, axis]
        simplex[row, _BETWEEN + axis] = part[part_corner, axis] - hull[tile_corner, axis]
    labels[row, 0], labels[row, 1] = tile_corner, part_corner


@njit(error_model="numpy")
def _support(shape: Single, corners: int, x: np.float32, y: np.float32) -> int:
    """The first of the corners that lie furthest in a direction."""
    best = 0
    best_value = shape[0, 0] * x + shape[0, 1] * y
    for corner in range(1, corners):
        value = shape[corner, 0] * x + shape[corner, 1] * y
        if value > best_value:
            best, best_value = corner, value
    return best


@njit(error_model="numpy")
def _search_direction(simplex: Single, count: int) -> tuple[np.float32, np.float32]:
    """From the simplex towards the origin."""
    x, y = simplex[0, _BETWEEN], simplex[0, _BETWEEN + 1]
    if count == 1:
        return -x, -y
    edge_x, edge_y = simplex[1, _BETWEEN] - x, simplex[1, _BETWEEN + 1] - y
    if edge_x * -y - edge_y * -x > _ZERO:
        return -edge_y, edge_x
    return edge_y, -edge_x


@njit(error_model="numpy")
def _distance(simplex: Single, count: int) -> np.float32:
    """Between the points of the two shapes that the weights of the simplex name."""
    if count == 1:
        x, y = simplex[0, _TILE] - simplex[0, _PART], simplex[0, _TILE + 1] - simplex[0, _PART + 1]
    else:
        first, second = simplex[0, _WEIGHT], simplex[1, _WEIGHT]
        tile_x = first * simplex[0, _TILE] + second * simplex[1, _TILE]
        tile_y = first * simplex[0, _TILE + 1] + second * simplex[1, _TILE + 1]
        part_x = first * simplex[0, _PART] + second * simplex[1, _PART]
        part_y = first * simplex[0, _PART + 1] + second * simplex[1, _PART + 1]
        x, y = tile_x - part_x, tile_y - part_y
    distance: np.float32 = np.sqrt(x * x + y * y)
    return distance


@njit(error_model="numpy")
def _move_corner(simplex: Single, labels: NDArray[np.int64], source: int, target: int) -> None:
    for column in range(7):
        simplex[target, column] = simplex[source, column]
    labels[target, 0], labels[target, 1] = labels[source, 0], labels[source, 1]


@njit(error_model="numpy")
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


@njit(error_model="numpy")
def _weigh(simplex: Single, one: int, first: np.float32, other: int, second: np.float32) -> None:
    share = _ONE / (first + second)
    simplex[one, _WEIGHT] = first * share
    simplex[other, _WEIGHT] = second * share


@njit(error_model="numpy")
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
