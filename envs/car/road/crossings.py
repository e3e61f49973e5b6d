"""How often a closed line crosses itself."""

import numpy as np

from clutr.envs.car.physics.arrays import Double
from clutr.envs.numba_cache import njit


@njit()
def crossings(points: Double) -> int:
    """Proper crossings of the segments of a closed line `[n, 2]`; touching ends of neighbours are none."""
    n = len(points)
    found = 0
    low_x, low_y, high_x, high_y = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        following = (i + 1) % n
        low_x[i] = min(points[i, 0], points[following, 0])
        high_x[i] = max(points[i, 0], points[following, 0])
        low_y[i] = min(points[i, 1], points[following, 1])
        high_y[i] = max(points[i, 1], points[following, 1])
    for i in range(n):
        for j in range(i + 2, n):
            if (i == 0 and j == n - 1) or low_x[i] > high_x[j] or low_x[j] > high_x[i]:
                continue
            if low_y[i] > high_y[j] or low_y[j] > high_y[i]:
                continue
            if _cross(points, i, (i + 1) % n, j, (j + 1) % n):
                found += 1
    return found


@njit()
def _cross(points: Double, a: int, b: int, c: int, d: int) -> bool:
    """Whether the ends of either segment lie on different sides of the other."""
    one = _side(points, a, b, c) * _side(points, a, b, d)
    other = _side(points, c, d, a) * _side(points, c, d, b)
    return one < 0 and other < 0


@njit()
def _side(points: Double, a: int, b: int, c: int) -> float:
    """On which side of the line from a to b point c lies: -1, 0 or 1."""
    across = (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1])
    along = (points[b, 1] - points[a, 1]) * (points[c, 0] - points[a, 0])
    return float(np.sign(across - along))
