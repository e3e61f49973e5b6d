import pytest
import torch

from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import MazeLevels, empty_levels
from clutr.envs.maze.render import (
    AGENT_COLOUR,
    FLOOR_COLOUR,
    GOAL_COLOUR,
    PATH_NEW_COLOUR,
    PATH_OLD_COLOUR,
    WALL_COLOUR,
    render_mazes,
)

TILE = 16


def centre(picture: torch.Tensor, column: int, row: int) -> tuple[int, ...]:
    """The colour in the middle of a cell; column and row count the ring."""
    return tuple(picture[row * TILE + TILE // 2, column * TILE + TILE // 2].tolist())


def example() -> MazeLevels:
    levels = empty_levels(2, 3, 4)
    levels.walls[0, 1, 2] = True
    return levels


def test_cells_show_what_they_hold() -> None:
    levels = example()
    pictures = render_mazes(levels)
    assert pictures.shape == (2, 5 * TILE, 6 * TILE, 3)
    assert pictures.dtype == torch.uint8
    first, second = pictures
    assert centre(first, 3, 2) == WALL_COLOUR
    assert centre(second, 3, 2) == FLOOR_COLOUR
    assert centre(first, 1, 1) == AGENT_COLOUR
    assert centre(first, 4, 3) == GOAL_COLOUR
    ring = [(column, row) for column in range(6) for row in range(5) if column in (0, 5) or row in (0, 4)]
    assert all(centre(first, column, row) == WALL_COLOUR for column, row in ring)


@pytest.mark.parametrize(("heading", "ahead"), [(0, (0, 1)), (1, (1, 0)), (2, (0, -1)), (3, (-1, 0))])
def test_the_agent_points_along_its_heading(heading: int, ahead: tuple[int, int]) -> None:
    picture = render_mazes(empty_levels(1, 3, 3), 32, agent=torch.tensor([4]), heading=torch.tensor([heading]))[0]
    cell = picture[64:96, 64:96].float()
    ink = (cell - torch.tensor(AGENT_COLOUR)).abs().sum(2) < 60
    y, x = ink.nonzero().float().T
    # A triangle is broad behind: its middle of mass lies behind the middle of its extent.
    lag = torch.stack([y.mean() - (y.min() + y.max()) / 2, x.mean() - (x.min() + x.max()) / 2])
    direction = torch.tensor(ahead, dtype=torch.float32)
    assert float((lag * direction).sum()) < -1
    assert abs(float((lag * direction.flip(0)).sum())) < 0.6
    assert 80 < int(ink.sum()) < 500


def test_paths_lead_from_pale_to_strong_and_touch_only_visited_cells() -> None:
    levels = empty_levels(2, 4, 4)
    paths = torch.tensor([[0, 1, 2, 6, 6, 10, -1, -1], [-1] * 8])
    there = torch.tensor([10, 0])
    plain, drawn = render_mazes(levels, agent=there), render_mazes(levels, agent=there, paths=paths)
    assert torch.equal(plain[1], drawn[1])
    changed = (plain[0] != drawn[0]).any(2).view(6, TILE, 6, TILE).any(3).any(1)
    visited = {(1, 1), (1, 2), (1, 3), (2, 3)}
    assert visited <= set(map(tuple, changed.nonzero().tolist())) <= visited | {(3, 3)}
    blue = [sum(centre(drawn[0], column, row)) for row, column in ((1, 1), (1, 2), (1, 3), (2, 3))]
    assert sum(PATH_OLD_COLOUR) > blue[0] > blue[1] > blue[2] > blue[3] > sum(PATH_NEW_COLOUR)
    # Between two cells that were left and entered runs a line, beside it there is floor.
    line = drawn[0, TILE + TILE // 2, 2 * TILE]
    assert int(line.int().sum()) < sum(PATH_OLD_COLOUR)
    assert tuple(drawn[0, TILE + 3, 2 * TILE + 3].tolist()) == FLOOR_COLOUR
    # The corner turns from east to south: an arm leads down to the next cell, none up or on to the east.
    down, up = (drawn[0, y, 3 * TILE + TILE // 2] for y in (2 * TILE - 2, TILE + 2))
    east = drawn[0, TILE + TILE // 2, 4 * TILE - 2]
    assert int(down.int().sum()) < sum(PATH_OLD_COLOUR)
    assert tuple(up.tolist()) == tuple(east.tolist()) == FLOOR_COLOUR


def test_rendering_does_not_depend_on_the_batch() -> None:
    levels = MazeDomain().sample(5, torch.Generator().manual_seed(0))
    paths = torch.arange(60).view(5, 12)
    together = render_mazes(levels, 8, paths=paths)
    alone = torch.cat([render_mazes(levels[i], 8, paths=paths[i : i + 1]) for i in range(5)])
    assert torch.equal(together, alone)
    assert torch.equal(render_mazes(levels, 8), render_mazes(levels, 8, paths=torch.zeros(5, 0, dtype=torch.int64)))


def test_tiny_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 pixels, got 3"):
        render_mazes(example(), 3)
