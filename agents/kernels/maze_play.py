"""A rollout of the recurrent student in mazes as one compiled function.

Every line has its counterpart in `clutr.agents.networks` and `clutr.agents.rollout`, which play every other network and
environment; tests hold one to the other. Nothing here depends on how environments are divided among threads.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clutr.agents.kernels.lstm import Flags, Integers, begin_step, step_forward
from clutr.agents.kernels.products import Floats, add_product
from clutr.agents.kernels.vectors import WIDTH, Code, vector_function
from clutr.envs.maze.kernel import Mazes, act, look, reward
from clutr.envs.numba_cache import njit

Bytes = NDArray[np.uint8]


class Weights(NamedTuple):
    """A recurrent actor-critic's weights; matrices `[out, in]` as `pack` lays them out unless said otherwise."""

    convolutional: bool
    """Which torso: `ConvTorso`, else `SymbolTorso`."""
    symbols: Integers
    """`ConvTorso.symbols`; unused by the other."""
    torso: Floats
    """Of the convolution, packed; or of the linear layer, transposed, `[1, in, out]`."""
    torso_bias: Floats
    heading: Floats
    """Transposed, `[4, out]`; unused by the torso of symbols."""
    heading_bias: Floats
    input: Floats
    input_bias: Floats
    """Both biases of the LSTM, summed."""
    recurrent: Floats
    heads: Floats
    """The hidden layers of actor and critic, one above the other."""
    heads_bias: Floats
    actor: Floats
    """Not packed, `[A, head]`."""
    actor_bias: Floats
    critic: Floats
    """Not packed, `[head]`."""
    critic_bias: float


class Played(NamedTuple):
    """What `play` fills, `[T, N, ...]`; names as in `Trajectories`."""

    image: Bytes
    """`[T, N, view * view, 3]`."""
    direction: Integers
    actions: Integers
    log_probs: Floats
    rewards: Floats
    terminated: Flags
    truncated: Flags
    episode_starts: Flags
    values: Floats
    last_values: Floats
    """Of an episode's last observation, where a time limit ended it."""
    following: Floats
    """`[N]`, values of what is seen after the last step."""


KINDS = 11
"""Columns of `SymbolTorso` for each cell."""


@vector_function(arrays=1, integers=1)
def _tanh(code: Code, values: Any, at: Any) -> None:
    code.store(code.tanh(code.load(values, at)), values, at)


@njit(nogil=True, error_model="numpy")
def _convolve(weights: Weights, image: Bytes, direction: int, windows: Floats, features: Floats) -> None:
    """`ConvTorso` for one observation; `windows` `[W, 27]` is room to work in."""
    flat = windows.reshape(-1)
    bytes_seen = image.reshape(-1)
    for place in range(len(flat)):
        flat[place] = np.float32(bytes_seen[weights.symbols[place]]) / np.float32(10)
    count, inner = windows.shape
    filters = len(weights.torso_bias)
    for window in range(count):
        for channel in range(filters):
            features[window * filters + channel] = weights.torso_bias[channel]
    add_product(features, 0, filters, flat, 0, inner, count, weights.torso)
    for place in range(count * filters):
        features[place] = max(features[place], np.float32(0))
    for unit in range(len(weights.heading_bias)):
        features[count * filters + unit] = weights.heading_bias[unit] + weights.heading[direction, unit]


@njit(nogil=True, error_model="numpy")
def _sum_symbols(weights: Weights, image: Bytes, direction: int, features: Floats) -> None:
    """`SymbolTorso` for one observation: the sum of the columns of what is there."""
    table = weights.torso[0]
    cells = len(image)
    for unit in range(len(features)):
        features[unit] = weights.torso_bias[unit]
    for cell in range(cells + 1):
        column = cell * KINDS + (np.int64(image[cell, 0]) if cell < cells else direction)
        for unit in range(len(features)):
            features[unit] += table[column, unit]
    for unit in range(len(features)):
        features[unit] = max(features[unit], np.float32(0))


@njit(nogil=True, error_model="numpy")
def _see(
    weights: Weights, image: Bytes, direction: Integers, windows: Floats, features: Floats, projected: Floats
) -> None:
    """Projections `[n, 4H]` of what the LSTM gets to see, of n observations."""
    count, width = projected.shape
    for row in range(count):
        if weights.convolutional:
            _convolve(weights, image[row], direction[row], windows, features[row])
        else:
            _sum_symbols(weights, image[row], direction[row], features[row])
        for unit in range(width):
            projected[row, unit] = weights.input_bias[unit]
    size = features.shape[1]
    add_product(projected.reshape(-1), 0, width, features.reshape(-1), 0, size, count, weights.input)


@njit(nogil=True, error_model="numpy")
def _judge(weights: Weights, hidden: Floats, heads: Floats, logits: Floats, values: Floats) -> None:
    """Logits `[n, A]` and values `[n]` of hidden states `[n, H]`; `heads` `[n, 2 * head]` is room to work in."""
    count, size = hidden.shape
    width = heads.shape[1]
    half = width // 2
    for row in range(count):
        for unit in range(width):
            heads[row, unit] = weights.heads_bias[unit]
    flat = heads.reshape(-1)
    add_product(flat, 0, width, hidden.reshape(-1), 0, size, count, weights.heads)
    for place in range(0, count * width, WIDTH):
        _tanh(flat, place)
    for row in range(count):
        for action in range(logits.shape[1]):
            total = np.float32(0)
            for unit in range(half):
                total += heads[row, unit] * weights.actor[action, unit]
            logits[row, action] = total + weights.actor_bias[action]
        total = np.float32(0)
        for unit in range(half):
            total += heads[row, half + unit] * weights.critic[unit]
        values[row] = total + np.float32(weights.critic_bias)


@njit(nogil=True, error_model="numpy")
def _draw(logits: Floats, noise: float) -> tuple[int, np.float32]:
    """An action by inverse transform, as `sample_actions`, and its log-probability."""
    highest, total = logits[0], np.float32(0)
    for logit in logits:
        highest = max(highest, logit)
    for logit in logits:
        total += np.exp(logit - highest)
    constant = highest + np.log(total)
    cumulative = np.float32(0)
    for action in range(len(logits)):
        cumulative += np.exp(logits[action] - constant)
        if cumulative > noise or action == len(logits) - 1:
            return action, logits[action] - constant
    return 0, np.float32(0)  # never reached


@njit(nogil=True, error_model="numpy")
def play(mazes: Mazes, weights: Weights, noise: Floats, first: int, beyond: int, played: Played) -> None:
    """Let environments `first` to `beyond` play their mazes; see `clutr.agents.rollout.collect`.

    Args:
        mazes: K N mazes: environment i plays maze i for an episode, then i + N, and the last of its own from then on.
        weights: of the student.
        noise: `[T, N]` uniform on [0, 1), which decide on the actions.
        first: the first environment.
        beyond: the one after the last.
        played: receives what happened to these environments.
    """
    steps, count = len(noise), beyond - first
    width, size, heads_width = 4 * weights.recurrent.shape[1], weights.recurrent.shape[1], len(weights.heads_bias)
    windows = np.empty((len(weights.symbols) // 27, 27), np.float32)
    features = np.empty((count, weights.input.shape[1]), np.float32)
    projected, gates = np.empty((count, width), np.float32), np.empty((count, width), np.float32)
    hidden, cell = np.zeros((count, size), np.float32), np.zeros((count, size), np.float32)
    next_hidden, next_cell = np.zeros((count, size), np.float32), np.zeros((count, size), np.float32)
    heads = np.empty((count, heads_width), np.float32)
    logits = np.empty((count, len(weights.actor)), np.float32)
    values, each = np.empty(count, np.float32), np.arange(count)
    image = np.empty((count, played.image.shape[2], 3), np.uint8)
    place, heading, clock = (
        mazes.start[first:beyond].copy(),
        mazes.start_heading[first:beyond].copy(),
        np.zeros(count, np.int64),
    )
    starts, playing = np.ones(count, np.bool_), np.arange(first, beyond)
    for t in range(steps + 1):
        for row in range(count):
            look(mazes, playing[row], place[row], heading[row], image[row])
        begin_step(next_hidden, next_cell, starts, hidden, cell)
        _see(weights, image, heading, windows, features, projected)
        step_forward(projected, each, weights.recurrent, hidden, cell, gates, next_hidden, next_cell)
        _judge(weights, next_hidden, heads, logits, values)
        if t == steps:
            for row in range(count):
                played.following[first + row] = values[row]
            break
        for row in range(count):
            env = first + row
            for seen in range(image.shape[1]):
                for byte in range(3):
                    played.image[t, env, seen, byte] = image[row, seen, byte]
            played.direction[t, env] = heading[row]
            played.episode_starts[t, env] = starts[row]
            played.values[t, env] = values[row]
            action, log_prob = _draw(logits[row], noise[t, env])
            played.actions[t, env] = action
            played.log_probs[t, env] = log_prob
            place[row], heading[row], reached = act(mazes, playing[row], place[row], heading[row], action)
            clock[row] += 1
            out_of_time = clock[row] >= mazes.max_steps and not reached
            played.rewards[t, env] = reward(mazes, clock[row]) if reached else 0.0
            played.terminated[t, env] = reached
            played.truncated[t, env] = out_of_time
            played.last_values[t, env] = 0
            starts[row] = reached or out_of_time
            if out_of_time:  # the value of the episode's last observation, with the memory that led there
                _value_after(
                    mazes, playing[row], place[row], heading[row], weights, windows, image[row : row + 1],
                    next_hidden[row : row + 1], next_cell[row : row + 1], played.last_values[t, env : env + 1],
                )  # fmt: skip
            if starts[row]:
                if playing[row] + noise.shape[1] < len(mazes.grid):
                    playing[row] += noise.shape[1]
                place[row], heading[row] = mazes.start[playing[row]], mazes.start_heading[playing[row]]
                clock[row] = 0


@njit(nogil=True, error_model="numpy")
def _value_after(
    mazes: Mazes,
    env: int,
    place: int,
    heading: int,
    weights: Weights,
    windows: Floats,
    image: Bytes,
    hidden: Floats,
    cell: Floats,
    value: Floats,
) -> None:
    """The value `[1]` of what one agent sees after the step that left it in state `[1, H]`."""
    width, size = 4 * hidden.shape[1], hidden.shape[1]
    features, projected = np.empty((1, weights.input.shape[1]), np.float32), np.empty((1, width), np.float32)
    gates, heads = np.empty((1, width), np.float32), np.empty((1, len(weights.heads_bias)), np.float32)
    next_hidden, next_cell = np.empty((1, size), np.float32), np.empty((1, size), np.float32)
    look(mazes, env, place, heading, image[0])
    _see(weights, image, np.full(1, heading), windows, features, projected)
    step_forward(projected, np.zeros(1, np.int64), weights.recurrent, hidden, cell, gates, next_hidden, next_cell)
    _judge(weights, next_hidden, heads, np.empty((1, len(weights.actor)), np.float32), value)
