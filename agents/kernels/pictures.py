"""Pictures for a network, byte by byte: what would take tensor operations several copies of all of them."""

import numpy as np
from numpy.typing import NDArray

from clutr.agents.kernels.products import Floats
from clutr.envs.numba_cache import njit

Bytes = NDArray[np.uint8]


@njit(nogil=True, error_model="numpy")
def average_squares(pictures: Bytes, side: int, result: Bytes) -> None:
    """Fill `result` `[P, height // side, width // side, C]` with rounded averages over squares of `side` pixels.

    Args:
        pictures: `[P, height, width, C]`; what is beyond the last whole square is left out.
        side: of a square.
        result: see there.
    """
    count, rows, columns, channels = result.shape
    area = side * side
    rounded = np.empty(255 * area + 1, np.uint8)  # of every sum: a division for each pixel would take longer
    for total in range(len(rounded)):
        rounded[total] = (total + area // 2) // area
    for picture in range(count):
        for row in range(rows):
            for column in range(columns):
                for channel in range(channels):
                    total = 0
                    for y in range(row * side, (row + 1) * side):
                        for x in range(column * side, (column + 1) * side):
                            total += pictures[picture, y, x, channel]
                    result[picture, row, column, channel] = rounded[total]


@njit(nogil=True, error_model="numpy")
def stack_frames(
    frames: Bytes, index: NDArray[np.int64], known: NDArray[np.bool_], first: int, beyond: int, result: Floats
) -> None:
    """Fill samples `first` to `beyond` of `result` `[B, height, width, K * C]` with stacks of K frames.

    Args:
        frames: `[F, height, width, C]`.
        index: `[B, K]`, which frame is at each position of a stack.
        known: `[B, K]`, False where zeros stand for the frame.
        first: the first sample.
        beyond: the one after the last.
        result: see there.
    """
    positions, channels = index.shape[1], frames.shape[3]
    for sample in range(first, beyond):
        for row in range(result.shape[1]):
            for column in range(result.shape[2]):
                for position in range(positions):
                    frame, shown = index[sample, position], known[sample, position]
                    for channel in range(channels):
                        value = np.float32(frames[frame, row, column, channel]) if shown else np.float32(0)
                        result[sample, row, column, position * channels + channel] = value
