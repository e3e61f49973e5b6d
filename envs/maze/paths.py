"""Reachability and shortest paths of many mazes at once.

Where turns do not count, a breadth-first search as a wavefront. Sixty-four mazes share one int64 word a cell, one bit
each, so that a step of the wavefront costs a few bitwise operations for all of them. Distances are kept as bit planes:
a cell that is reached in step t gets its bit set in plane k for each bit k of t.
"""

import torch
from torch import Tensor

from clutr.envs.maze.level import MazeLevels
from clutr.envs.maze.search import fewest_actions

_WORD = 64
_CHECK_EVERY = 8
"""Steps between two looks at whether the wavefront still moves (each look waits for the device)."""


def _pack(bits: Tensor) -> Tensor:
    """Bool `[B, ...]` to int64 words `[ceil(B / 64), ...]`, level b in bit `b % 64` of word `b // 64`."""
    words = -(-bits.shape[0] // _WORD)
    packed = torch.zeros((words, *bits.shape[1:]), dtype=torch.int64, device=bits.device)
    for bit in range(min(_WORD, bits.shape[0])):
        part = bits[bit::_WORD]
        packed[: part.shape[0]] |= part.long() << bit
    return packed


def _free_cells(levels: MazeLevels) -> Tensor:
    """`[B, height + 2, width + 2]` bool: cells without a wall, the ring included."""
    return torch.nn.functional.pad(~levels.walls, (1, 1, 1, 1))


def _one_cell(levels: MazeLevels, cells: Tensor) -> Tensor:
    """`[B, height + 2, width + 2]` bool, set at one cell of each level."""
    marks = torch.zeros_like(levels.walls).flatten(1).scatter_(1, cells[:, None], True).view_as(levels.walls)
    return torch.nn.functional.pad(marks, (1, 1, 1, 1))


def _wavefront(frontier: Tensor, unreached: Tensor, limit: int) -> Tensor:
    """Run the search.

    Args:
        frontier: packed words of the starts.
        unreached: packed words of all states that may be reached, the starts not among them. Changed in place.
        limit: no state is further away than this.

    Returns:
        Bit planes `[K, ...]` of the distances of all states (0 where not reached).
    """
    planes = torch.zeros((limit.bit_length(), *frontier.shape), dtype=torch.int64, device=frontier.device)
    following = torch.zeros_like(frontier)
    for step in range(1, limit + 1):
        following.zero_()
        _spread(frontier, following)
        following &= unreached
        unreached ^= following
        for plane in range(step.bit_length()):
            if step >> plane & 1:
                planes[plane] |= following
        frontier, following = following, frontier
        if step % _CHECK_EVERY == 0 and not bool(frontier.any()):
            break
    return planes


def _spread(frontier: Tensor, out: Tensor) -> None:
    """Write the neighbours of the frontier to `out`, which arrives zeroed; both `[W, height + 2, width + 2]`."""
    inside = out[:, 1:-1, 1:-1]
    inside |= frontier[:, 1:-1, :-2]
    inside |= frontier[:, 1:-1, 2:]
    inside |= frontier[:, :-2, 1:-1]
    inside |= frontier[:, 2:, 1:-1]


def shortest_paths(levels: MazeLevels) -> Tensor:
    """Fewest forward moves from agent to goal: `[B]` int64, -1 where no way leads."""
    goal = _one_cell(levels, levels.goal)
    limit = max(1, levels.height * levels.width - 1)
    planes = _wavefront(_pack(goal), _pack(_free_cells(levels) & ~goal), limit)
    total = _read(planes[:, :, 1:-1, 1:-1].flatten(2), levels.agent)
    return torch.where((total > 0) | (levels.agent == levels.goal), total, -1)


def actions_to_goal(levels: MazeLevels) -> Tensor:
    """Fewest actions from start to goal, each quarter turn and each move one: `[B]` int64, -1 where no way leads.

    Searched on the CPU by compiled code, maze by maze (`clutr.envs.maze.search`): there are four times as many poses as
    cells, and the wavefront costs the same for one maze as for sixty-four.

    Raises:
        ValueError: an agent or a goal is not inside its maze, or a heading is none.
    """
    limits = {"agent": levels.height * levels.width, "heading": 4, "goal": levels.height * levels.width}
    starts = {name: getattr(levels, name).cpu() for name in limits}
    for name, limit in limits.items():
        if bool(((starts[name] < 0) | (starts[name] >= limit)).any()):  # the compiled code would read past its arrays
            raise ValueError(f"{name} must be in 0..{limit - 1}, got {starts[name].tolist()}")
    agent, heading, goal = (start.contiguous().numpy() for start in starts.values())
    actions = torch.empty(len(levels), dtype=torch.int64)
    fewest_actions(levels.walls.cpu().contiguous().numpy(), agent, heading, goal, actions.numpy())
    return actions.to(levels.walls.device)


def solvable(levels: MazeLevels) -> Tensor:
    """Whether a way leads from agent to goal: `[B]` bool."""
    return shortest_paths(levels) >= 0


def _read(planes: Tensor, cells: Tensor) -> Tensor:
    """The numbers `[B]` that bit planes `[K, W, cells]` hold at one cell of each level."""
    level = torch.arange(cells.shape[0], device=cells.device)
    bits = (planes[:, level // _WORD, cells] >> (level % _WORD)) & 1
    return (bits << torch.arange(planes.shape[0], device=cells.device)[:, None]).sum(0)
