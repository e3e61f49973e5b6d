"""Products of a few rows with a large matrix that is laid out once: what a recurrent network needs at every step.

Libraries lose half their speed on so few rows. Here a block of up to `ROWS` rows and `PANEL` columns of the result
stays in registers while the inner dimension is walked through (Goto and van de Geijn, "Anatomy of high-performance
matrix multiplication", ACM TOMS 34, 2008). Each element is summed in order, whatever the number of rows and the
processor's vectors, so results do not depend on how environments are divided among cores.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clutr.agents.kernels.vectors import WIDTH, Code, accumulator, for_range, vector_function
from clutr.envs.numba_cache import njit

Floats = NDArray[np.float32]

PANEL = 16
"""Columns of the result that are computed together."""
ROWS = 6
"""Rows at most: with `PANEL` / 8 vectors each, 12 of the 16 registers of AVX2."""
DEPTH = 256
"""Inner dimension walked through at once: a piece of a panel stays in the nearest cache."""


def pack(weight: Tensor) -> Tensor:
    """A matrix `[out, in]` as `add_product` takes it, `[out / PANEL, in, PANEL]`: a copy without gradients.

    Raises:
        ValueError: if `out` is no multiple of `PANEL`.
    """
    if len(weight) % PANEL:
        raise ValueError(f"the rows of the matrix must be a multiple of {PANEL}, got {len(weight)}")
    return weight.detach().view(-1, PANEL, weight.shape[1]).transpose(1, 2).contiguous()


def _block(rows: int) -> Any:
    def block(
        code: Code,
        result: Any,
        left: Any,
        panel: Any,
        at: Any,
        stride: Any,
        left_at: Any,
        left_stride: Any,
        panel_at: Any,
        depth: Any,
    ) -> None:
        builder = code.builder
        size = at.type
        columns = [size(WIDTH * number) for number in range(PANEL // WIDTH)]
        places = [
            [builder.add(builder.add(at, builder.mul(stride, size(row))), column) for column in columns]
            for row in range(rows)
        ]
        sums = [[accumulator(code, code.load(result, place)) for place in line] for line in places]
        starts = [builder.add(left_at, builder.mul(left_stride, size(row))) for row in range(rows)]
        with for_range(code, depth) as loop:
            first = builder.add(panel_at, builder.mul(loop.index, size(PANEL)))
            weights = [code.load(panel, builder.add(first, column)) for column in columns]
            for start, line in zip(starts, sums, strict=True):
                value = code.spread(left, builder.add(start, loop.index))
                for weight, place in zip(weights, line, strict=True):
                    builder.store(code.multiply_add(value, weight, builder.load(place)), place)
        for line, line_sums in zip(places, sums, strict=True):
            for place, total in zip(line, line_sums, strict=True):
                code.store(builder.load(total), result, place)

    block.__name__ = f"block_of_{rows}"
    return vector_function(arrays=3, integers=6)(block)


_one, _two, _three, _four, _five, _six = (_block(rows) for rows in range(1, ROWS + 1))


@njit(nogil=True, error_model="numpy")
def add_product(
    result: Floats, at: int, stride: int, left: Floats, left_at: int, left_stride: int, count: int, packed: Floats
) -> None:
    """Result += left @ weight.T, for rows inside flat arrays.

    Args:
        result: flat; row r of the result is `[at + r * stride : at + r * stride + out]`.
        at: see there.
        stride: see there.
        left: flat; row r is `[left_at + r * left_stride : ... + in]`.
        left_at: see there.
        left_stride: see there.
        count: number of rows.
        packed: `pack(weight)` of a weight `[out, in]`.
    """
    panels, inner, _ = packed.shape
    flat = packed.reshape(-1)
    blocks = (count + ROWS - 1) // ROWS
    for panel in range(panels):
        for begin in range(0, inner, DEPTH):
            depth = min(DEPTH, inner - begin)
            panel_at = (panel * inner + begin) * PANEL
            for number in range(blocks):
                row = number * count // blocks  # blocks of about one size
                rows = (number + 1) * count // blocks - row
                to, source = at + row * stride + panel * PANEL, left_at + row * left_stride + begin
                if rows == 6:
                    _six(result, left, flat, to, stride, source, left_stride, panel_at, depth)
                elif rows == 5:
                    _five(result, left, flat, to, stride, source, left_stride, panel_at, depth)
                elif rows == 4:
                    _four(result, left, flat, to, stride, source, left_stride, panel_at, depth)
                elif rows == 3:
                    _three(result, left, flat, to, stride, source, left_stride, panel_at, depth)
                elif rows == 2:
                    _two(result, left, flat, to, stride, source, left_stride, panel_at, depth)
                else:
                    _one(result, left, flat, to, stride, source, left_stride, panel_at, depth)
