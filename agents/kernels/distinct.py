"""Which rows of bytes are equal: a student of mazes sees the same again and again."""

import numpy as np
from numpy.typing import NDArray

from clutr.envs.numba_cache import njit


@njit(nogil=True, error_model="numpy")
def distinct_rows(rows: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the distinct rows of `[R, K]` in the order in which they come first.

    A table with open addressing (Knuth, The Art of Computer Programming, volume 3, section 6.4, algorithm L), keyed by
    the FNV-1a hash of a row. Rows are compared byte by byte, so equal hashes do no harm.

    Returns:
        Where each distinct row comes first, `[U]`, and the number of each row, `[R]`.
    """
    count, width = rows.shape
    size = 16
    while size < 2 * count:
        size *= 2
    table = np.full(size, -1, np.int64)
    first, number = np.empty(count, np.int64), np.empty(count, np.int64)
    found = 0
    for row in range(count):
        key = np.uint64(14695981039346656037)
        for column in range(width):
            key = (key ^ np.uint64(rows[row, column])) * np.uint64(1099511628211)
        place = np.int64((key ^ (key >> np.uint64(32))) & np.uint64(size - 1))
        while True:
            known = table[place]
            if known < 0:
                table[place] = found
                first[found] = row
                number[row] = found
                found += 1
                break
            same = True
            for column in range(width):
                if rows[first[known], column] != rows[row, column]:
                    same = False
                    break
            if same:
                number[row] = known
                break
            place = (place + 1) & (size - 1)
    return first[:found].copy(), number
