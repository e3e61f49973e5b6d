"""Pictures of mazes, drawn for whole batches."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from clutr.envs.maze.level import EAST, NORTH, SOUTH, WEST, MazeLevels

FLOOR_COLOUR = (246, 244, 238)
GRID_COLOUR = (228, 224, 214)
WALL_COLOUR = (62, 74, 92)
WALL_EDGE_COLOUR = (78, 91, 111)
GOAL_COLOUR = (74, 178, 115)
AGENT_COLOUR = (232, 93, 47)
PATH_OLD_COLOUR = (190, 205, 236)
PATH_NEW_COLOUR = (66, 102, 201)

_FLOOR, _WALL, _GOAL = range(3)
_SUPERSAMPLE = 4


def render_mazes(
    levels: MazeLevels,
    tile: int = 16,
    agent: Tensor | None = None,
    heading: Tensor | None = None,
    paths: Tensor | None = None,
) -> Tensor:
    """Draw mazes with their outer ring of walls.

    Args:
        levels: B mazes.
        tile: side of a cell in pixels, at least 4.
        agent: `[B]` int64, where the agent stands; None: at its start.
        heading: `[B]` int64, where it looks; None: its start heading.
        paths: `[B, L]` int64, the cells visited so far in order, -1 for padding. Drawn as a line from pale (first) to
            strong (last).

    Returns:
        `[B, (height + 2) * tile, (width + 2) * tile, 3]` uint8, on the levels' device.

    Raises:
        ValueError: `tile` is smaller than 4.
    """
    if tile < 4:
        raise ValueError(f"tile must be at least 4 pixels, got {tile}")
    batch, height, width = levels.walls.shape
    device = levels.walls.device
    agent = levels.agent if agent is None else agent.to(device)
    heading = levels.heading if heading is None else heading.to(device)

    code = torch.where(levels.walls, _WALL, _FLOOR).flatten(1)
    code = code.scatter(1, levels.goal[:, None], _GOAL).view(batch, height, width)
    code = F.pad(code, (1, 1, 1, 1), value=_WALL)
    picture = _tiles(tile).to(device)[code]  # [B, rows, columns, tile, tile, 3]

    if paths is not None:
        _draw_paths(picture, paths.to(device), width)
    rows = torch.arange(batch, device=device)
    y, x = agent // width + 1, agent % width + 1
    picture[rows, y, x] = _blend(picture[rows, y, x], _arrows(tile).to(device)[heading], AGENT_COLOUR)
    return picture.permute(0, 1, 3, 2, 4, 5).reshape(batch, (height + 2) * tile, (width + 2) * tile, 3)


def _draw_paths(picture: Tensor, paths: Tensor, width: int) -> None:
    """Draw visited cells `[B, L]` onto a picture `[B, rows, columns, tile, tile, 3]`, in place."""
    batch, length = paths.shape
    if length == 0:
        return
    columns, tile = picture.shape[2], picture.shape[3]
    visited = paths >= 0
    number = visited.cumsum(1)
    age = number / number[:, -1:].clamp(min=1)  # the last visit has age 1
    cell = (paths // width + 1) * columns + paths % width + 1
    step = cell[:, 1:] - cell[:, :-1]
    moved = visited[:, 1:] & visited[:, :-1]

    # What each cell shows: a dot (part 4) and arms towards the four neighbours (parts 0..3), each as young as its
    # last use; 0 is never used.
    parts = torch.zeros(batch, 5 * picture.shape[1] * columns, device=paths.device)

    def use(part: int, cells: Tensor, ages: Tensor, where: Tensor) -> None:
        parts.scatter_reduce_(1, torch.where(where, 5 * cells + part, 0), torch.where(where, ages, 0.0), "amax")

    use(4, cell, age, visited)
    for direction, offset in ((EAST, 1), (SOUTH, columns), (WEST, -1), (NORTH, -columns)):
        along = moved & (step == offset)
        use(direction, cell[:, :-1], age[:, 1:], along)
        use((direction + 2) % 4, cell[:, 1:], age[:, 1:], along)

    strength = parts.view(batch, -1, 5)
    flat = picture.view(batch, -1, tile, tile, 3)
    level, cell = (strength.amax(2) > 0).nonzero(as_tuple=True)
    colours = strength[level, cell]
    patch = flat[level, cell]
    old, new = (torch.tensor(colour, device=paths.device).float() for colour in (PATH_OLD_COLOUR, PATH_NEW_COLOUR))
    for part, mask in enumerate(_path_masks(tile).to(paths.device)):
        amount = colours[:, part, None, None, None]
        patch = _blend(patch, mask * (amount[..., 0] > 0), old + amount * (new - old))
    flat[level, cell] = patch


def _blend(patch: Tensor, mask: Tensor, colour: Tensor | tuple[int, int, int]) -> Tensor:
    """Lay `colour` over uint8 patches `[K, tile, tile, 3]` where `mask` `[K, tile, tile]` in 0..1 says so."""
    ink = torch.as_tensor(colour, dtype=torch.float32, device=patch.device)
    return torch.lerp(patch.float(), ink.expand(patch.shape), mask[..., None].float()).round().to(torch.uint8)


def _coordinates(tile: int) -> tuple[Tensor, Tensor]:
    """Sample points of a cell, x and y from -0.5 to 0.5, finer than its pixels."""
    line = (torch.arange(tile * _SUPERSAMPLE) + 0.5) / (tile * _SUPERSAMPLE) - 0.5
    return line[None, :].expand(len(line), -1), line[:, None].expand(-1, len(line))


def _smooth(shape: Tensor) -> Tensor:
    """The share of each pixel that a shape covers: `[tile, tile]` from finer samples."""
    return F.avg_pool2d(shape.float()[None, None], _SUPERSAMPLE)[0, 0]


@lru_cache
def _tiles(tile: int) -> Tensor:
    """Pictures of floor, wall and goal, `[3, tile, tile, 3]` uint8."""
    tiles = torch.empty(3, tile, tile, 3, dtype=torch.uint8)
    for code, inner, edge in ((_FLOOR, FLOOR_COLOUR, GRID_COLOUR), (_WALL, WALL_COLOUR, WALL_EDGE_COLOUR)):
        tiles[code] = torch.tensor(inner)
        tiles[code, 0, :] = tiles[code, :, 0] = torch.tensor(edge)
    x, y = _coordinates(tile)
    rounded = (x.abs() - 0.26).clamp(min=0) ** 2 + (y.abs() - 0.26).clamp(min=0) ** 2 <= 0.12**2
    tiles[_GOAL] = _blend(tiles[_FLOOR][None], _smooth(rounded)[None], GOAL_COLOUR)[0]
    return tiles


@lru_cache
def _arrows(tile: int) -> Tensor:
    """Masks of the agent, a triangle, for the four headings: `[4, tile, tile]` in 0..1."""
    x, y = _coordinates(tile)
    east = _smooth((x >= -0.28) & (y.abs() <= (0.38 - x) * 0.5))
    return torch.stack([torch.rot90(east, -heading) for heading in range(4)])


@lru_cache
def _path_masks(tile: int) -> Tensor:
    """Masks of the four arms (east, south, west, north) and the dot of a path: `[5, tile, tile]` in 0..1."""
    x, y = _coordinates(tile)
    east = _smooth((x >= 0) & (y.abs() <= 0.08))
    dot = _smooth(x**2 + y**2 <= 0.15**2)
    return torch.stack([*(torch.rot90(east, -direction) for direction in range(4)), dot])
