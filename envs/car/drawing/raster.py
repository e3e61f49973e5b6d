"""Filling polygons with colour numbers on a grid of samples."""

import numpy as np
from numpy.typing import NDArray

from clutr.envs.car.physics.arrays import Double
from clutr.envs.numba_cache import njit

MOST_CORNERS = 8


@njit(inline="never")
def fill(samples: NDArray[np.uint8], xs: Double, ys: Double, corners: int, colour: int) -> None:
    """Give the samples inside a polygon a colour; where it overlaps itself, those inside an odd number of times.

    Args:
        samples: `[rows, columns]`; sample (row, column) lies at (column + 0.5, row + 0.5).
        xs: `[>= corners]`, in samples.
        ys: `[>= corners]`, in samples.
        corners: how many are used, at most `MOST_CORNERS`.
        colour: to write.
    """
    rows, columns = samples.shape
    low, high = ys[0], ys[0]
    left, right = xs[0], xs[0]
    for corner in range(1, corners):
        low, high = min(low, ys[corner]), max(high, ys[corner])
        left, right = min(left, xs[corner]), max(right, xs[corner])
    if right < 0 or left > columns or high < 0 or low > rows:
        return
    first, last = max(0, int(np.ceil(low - 0.5))), min(rows - 1, int(np.floor(high - 0.5)))
    crossings = np.empty(MOST_CORNERS)
    for row in range(first, last + 1):
        y = row + 0.5
        found = 0
        before = corners - 1
        for corner in range(corners):
            y0, y1 = ys[before], ys[corner]
            if (y0 <= y) != (y1 <= y):
                x = xs[before] + (y - y0) / (y1 - y0) * (xs[corner] - xs[before])
                slot = found  # insertion sort: there are two crossings, or now and then four
                while slot > 0 and crossings[slot - 1] > x:
                    crossings[slot] = crossings[slot - 1]
                    slot -= 1
                crossings[slot] = x
                found += 1
            before = corner
        for pair in range(0, found - 1, 2):
            start = max(0, int(np.ceil(crossings[pair] - 0.5)))
            stop = min(columns, int(np.ceil(crossings[pair + 1] - 0.5)))
            if stop > start:
                samples[row, start:stop] = colour
