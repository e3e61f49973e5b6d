"""An LSTM through time, forwards and backwards, as one compiled function each.

Gates stand in torch's order i, f, g, o. All arrays are float32 and contiguous; T steps, N environments, width H. What
is known of an input is its projection, W_ih x + b, one row for each distinct input; `index` says which row a step
takes. The functions release the interpreter, so that cores can work on environments of their own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clutr.agents.kernels.products import Floats, add_product
from clutr.agents.kernels.vectors import WIDTH, Code, vector_function
from clutr.envs.numba_cache import njit

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@vector_function(arrays=4, integers=4)
def _cell_forward(
    code: Code, gates: Any, cells: Any, next_cells: Any, hiddens: Any, at: Any, size: Any, cell_at: Any, next_at: Any
) -> None:
    """Units' next c = f c + i g and h = o tanh(c); the gates are replaced by what they are after squashing."""
    add = code.builder.add
    places = [at]
    for _ in range(3):
        places.append(add(places[-1], size))
    squash = (code.sigmoid, code.sigmoid, code.tanh, code.sigmoid)
    into, forget, candidate, output = (
        function(code.load(gates, place)) for function, place in zip(squash, places, strict=True)
    )
    for gate, place in zip((into, forget, candidate, output), places, strict=True):
        code.store(gate, gates, place)
    cell = code.multiply_add(forget, code.load(cells, cell_at), code.multiply(into, candidate))
    code.store(cell, next_cells, next_at)
    code.store(code.multiply(output, code.tanh(cell)), hiddens, next_at)


@vector_function(arrays=6, integers=4)
def _cell_backward(
    code: Code,
    gates: Any,
    cells: Any,
    above: Any,
    hidden_grad: Any,
    cell_grad: Any,
    old_cells: Any,
    at: Any,
    size: Any,
    cell_at: Any,
    old_at: Any,
) -> None:
    """Units' gates are replaced by the gradients before squashing; the gradients carried to earlier steps change."""
    add, multiply = code.builder.add, code.multiply
    places = [at]
    for _ in range(3):
        places.append(add(places[-1], size))
    into, forget, candidate, output = (code.load(gates, place) for place in places)
    squashed = code.tanh(code.load(cells, cell_at))
    hidden = code.add(code.load(hidden_grad, old_at), code.load(above, cell_at))
    slope = code.subtract(1, multiply(squashed, squashed))
    cell = code.multiply_add(multiply(hidden, output), slope, code.load(cell_grad, old_at))
    bend = [multiply(gate, code.subtract(1, gate)) for gate in (into, forget, output)]
    code.store(multiply(multiply(cell, candidate), bend[0]), gates, places[0])
    code.store(multiply(multiply(cell, code.load(old_cells, old_at)), bend[1]), gates, places[1])
    code.store(multiply(multiply(cell, into), code.subtract(1, multiply(candidate, candidate))), gates, places[2])
    code.store(multiply(multiply(hidden, squashed), bend[2]), gates, places[3])
    code.store(multiply(cell, forget), cell_grad, old_at)


@vector_function(arrays=2, integers=2)
def _copy(code: Code, source: Any, target: Any, source_at: Any, target_at: Any) -> None:
    code.store(code.load(source, source_at), target, target_at)


@vector_function(arrays=1, integers=1)
def _clear(code: Code, target: Any, at: Any) -> None:
    code.store(code.constant(0), target, at)


@vector_function(arrays=2, integers=2)
def _add(code: Code, source: Any, target: Any, source_at: Any, target_at: Any) -> None:
    code.store(code.add(code.load(source, source_at), code.load(target, target_at)), target, target_at)


@njit(nogil=True, error_model="numpy")
def begin_step(hiddens: Floats, cells: Floats, starts: Flags, hidden: Floats, cell: Floats) -> None:
    """Copy the state `[N, H]` before a step, with zeros where an episode starts."""
    count, size = hidden.shape
    from_hidden, from_cell, to_hidden, to_cell = (
        hiddens.reshape(-1),
        cells.reshape(-1),
        hidden.reshape(-1),
        cell.reshape(-1),
    )
    for row in range(count):
        for place in range(row * size, (row + 1) * size, WIDTH):
            if starts[row]:
                _clear(to_hidden, place)
                _clear(to_cell, place)
            else:
                _copy(from_hidden, to_hidden, place, place)
                _copy(from_cell, to_cell, place, place)


@njit(nogil=True, error_model="numpy")
def step_forward(
    projected: Floats,
    index: Integers,
    packed: Floats,
    hidden: Floats,
    cell: Floats,
    gates: Floats,
    next_hidden: Floats,
    next_cell: Floats,
) -> None:
    """One step: `projected` `[U, 4H]`, `index` `[N]`, `packed` W_hh, states `[N, H]`; fills `gates` `[N, 4H]`."""
    count, size = hidden.shape
    width = 4 * size
    flat, source = gates.reshape(-1), projected.reshape(-1)
    for row in range(count):
        first = index[row] * width
        for place in range(0, width, WIDTH):
            _copy(source, flat, first + place, row * width + place)
    add_product(flat, 0, width, hidden.reshape(-1), 0, size, count, packed)
    cells, cells_after, hiddens_after = cell.reshape(-1), next_cell.reshape(-1), next_hidden.reshape(-1)
    for row in range(count):
        for unit in range(0, size, WIDTH):
            place = row * size + unit
            _cell_forward(flat, cells, cells_after, hiddens_after, row * width + unit, size, place, place)


@njit(nogil=True, error_model="numpy")
def forward(
    projected: Floats, index: Integers, packed: Floats, starts: Flags, hiddens: Floats, cells: Floats, gates: Floats
) -> None:
    """A sequence from the state in slot 0 on.

    Args:
        projected: `[U, 4H]`, W_ih x + b of each distinct input.
        index: `[T, N]`, which of them each step takes.
        packed: `pack(W_hh)`.
        starts: `[T, N]`; the state is zero before these steps.
        hiddens: `[T + 1, N, H]`; slot 0 is given, the others are filled.
        cells: as `hiddens`.
        gates: `[T, N, 4H]`, filled with the gates after squashing.
    """
    steps, count = index.shape
    size = hiddens.shape[2]
    hidden, cell = np.empty((count, size), np.float32), np.empty((count, size), np.float32)
    for t in range(steps):
        begin_step(hiddens[t], cells[t], starts[t], hidden, cell)
        step_forward(projected, index[t], packed, hidden, cell, gates[t], hiddens[t + 1], cells[t + 1])


@njit(nogil=True, error_model="numpy")
def backward(above: Floats, packed: Floats, starts: Flags, cells: Floats, gates: Floats) -> None:
    """Backpropagation through time; the state in slot 0 is a constant.

    Args:
        above: `[T, N, H]`, gradients with respect to the hidden states.
        packed: `pack(W_hh.T)`.
        starts: as in `forward`.
        cells: as `forward` left them.
        gates: as `forward` left them; replaced by the gradients with respect to the gates before squashing.
    """
    steps, count, width = gates.shape
    size = width // 4
    hidden_grad, cell_grad = np.zeros((count, size), np.float32), np.zeros((count, size), np.float32)
    old_cell = np.empty((count, size), np.float32)
    hidden_flat, cell_flat, old_flat = hidden_grad.reshape(-1), cell_grad.reshape(-1), old_cell.reshape(-1)
    for t in range(steps - 1, -1, -1):
        gate_flat, cells_flat = gates[t].reshape(-1), cells[t + 1].reshape(-1)
        above_flat, before = above[t].reshape(-1), cells[t].reshape(-1)
        for row in range(count):
            for unit in range(0, size, WIDTH):
                place = row * size + unit
                if starts[t, row]:
                    _clear(old_flat, place)
                else:
                    _copy(before, old_flat, place, place)
                _cell_backward(
                    gate_flat,
                    cells_flat,
                    above_flat,
                    hidden_flat,
                    cell_flat,
                    old_flat,
                    row * width + unit,
                    size,
                    place,
                    place,
                )
        for place in range(0, count * size, WIDTH):
            _clear(hidden_flat, place)
        add_product(hidden_flat, 0, size, gate_flat, 0, width, count, packed)
        for row in range(count):
            if starts[t, row]:
                for place in range(row * size, (row + 1) * size, WIDTH):
                    _clear(hidden_flat, place)
                    _clear(cell_flat, place)


@njit(nogil=True, error_model="numpy")
def sum_rows(rows: Floats, index: Integers, sums: Floats) -> None:
    """Add each row `[R, K]` to the row of `sums` `[U, K]` that `index` `[R]` names, in order."""
    width = rows.shape[1]
    source, target = rows.reshape(-1), sums.reshape(-1)
    for row in range(len(rows)):
        first = index[row] * width
        for place in range(0, width, WIDTH):
            _add(source, target, row * width + place, first + place)
