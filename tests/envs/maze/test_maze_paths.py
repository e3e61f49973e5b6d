from collections import deque
from dataclasses import replace

import pytest
import torch

from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.generators import perfect_mazes
from clutr.envs.maze.layouts import BENCHMARK, SMALL, fixed_levels
from clutr.envs.maze.level import MazeLevels, empty_levels
from clutr.envs.maze.paths import actions_to_goal, shortest_paths, solvable

STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Row and column offsets of the headings east, south, west, north."""

# Interior walls, shortest path and fewest actions for each goal.
FACTS: dict[str, tuple[int, list[int], list[int]]] = {
    "SixteenRooms": (46, [20], [26]),
    "SixteenRoomsFewerDoors": (53, [22], [28]),
    "Labyrinth": (72, [96], [113]),
    "Labyrinth2": (72, [96], [113]),
    "Maze": (73, [40], [54]),
    "Maze2": (72, [56], [73]),
    "Maze3": (71, [39], [54]),
    "SmallCorridor": (71, [13, 15, 17, 19, 21] * 2, [16, 18, 20, 22, 24] * 2),
    "LargeCorridor": (161, [19, 21, 23, 25, 27, 29, 31, 33] * 2, [22, 24, 26, 28, 30, 32, 34, 36] * 2),
}


def distances(levels: MazeLevels) -> torch.Tensor:
    """Fewest moves from each cell to the goal, `[B, height, width]`."""
    cells = torch.arange(levels.height * levels.width)
    each = levels[torch.arange(len(levels)).repeat_interleave(len(cells))]
    return shortest_paths(replace(each, agent=cells.repeat(len(levels)))).view(levels.walls.shape)


def plain_distances(walls: list[list[bool]], goal: int) -> list[list[int]]:
    height, width = len(walls), len(walls[0])
    found = [[-1] * width for _ in range(height)]
    found[goal // width][goal % width] = 0
    queue = deque([divmod(goal, width)])
    while queue:
        y, x = queue.popleft()
        for dy, dx in STEPS:
            if 0 <= y + dy < height and 0 <= x + dx < width and not walls[y + dy][x + dx] and found[y + dy][x + dx] < 0:
                found[y + dy][x + dx] = found[y][x] + 1
                queue.append((y + dy, x + dx))
    return found


def plain_actions(walls: list[list[bool]], agent: int, heading: int, goal: int) -> int:
    height, width = len(walls), len(walls[0])
    start = (agent // width, agent % width, heading)
    found = {start: 0}
    queue = deque([start])
    while queue:
        y, x, facing = queue.popleft()
        if y * width + x == goal:
            return found[y, x, facing]
        ahead = (y + STEPS[facing][0], x + STEPS[facing][1], facing)
        moves = [(y, x, (facing + 1) % 4), (y, x, (facing - 1) % 4)]
        if 0 <= ahead[0] < height and 0 <= ahead[1] < width and not walls[ahead[0]][ahead[1]]:
            moves.append(ahead)
        for pose in moves:
            if pose not in found:
                found[pose] = found[y, x, facing] + 1
                queue.append(pose)
    return -1


def samples() -> list[MazeLevels]:
    rng = torch.Generator().manual_seed(0)
    sizes = [(13, 13, 50), (13, 13, 120), (6, 9, 40), (1, 12, 4), (7, 1, 2), (2, 2, 2)]
    return [MazeDomain(height=h, width=w, max_obstacles=k).sample(150, rng) for h, w, k in sizes]


@pytest.mark.parametrize("levels", samples(), ids=lambda levels: f"{levels.height}x{levels.width}")
def test_agrees_with_a_plain_search(levels: MazeLevels) -> None:
    found = distances(levels)
    expected = torch.tensor(
        [plain_distances(w, g) for w, g in zip(levels.walls.tolist(), levels.goal.tolist(), strict=True)]
    )
    assert torch.equal(found, expected)
    paths = expected.flatten(1).gather(1, levels.agent[:, None])[:, 0]
    assert torch.equal(shortest_paths(levels), paths)
    assert torch.equal(solvable(levels), paths >= 0)
    columns = (levels.walls, levels.agent, levels.heading, levels.goal)
    actions = [plain_actions(*level) for level in zip(*(column.tolist() for column in columns), strict=True)]
    assert actions_to_goal(levels).tolist() == actions


@pytest.mark.parametrize("batch", [1, 63, 64, 65, 129])
def test_levels_do_not_disturb_each_other(batch: int) -> None:
    levels = MazeDomain(height=5, width=5, max_obstacles=15).sample(batch, torch.Generator().manual_seed(batch))
    alone = torch.cat([shortest_paths(levels[i]) for i in range(batch)])
    assert torch.equal(shortest_paths(levels), alone)
    assert torch.equal(distances(levels), torch.cat([distances(levels[i]) for i in range(batch)]))
    assert torch.equal(actions_to_goal(levels), torch.cat([actions_to_goal(levels[i]) for i in range(batch)]))


@pytest.mark.parametrize("name", BENCHMARK)
def test_published_mazes_have_their_facts(name: str) -> None:
    levels = fixed_levels(BENCHMARK[name])
    walls, paths, actions = FACTS[name]
    levels.check()
    assert levels.walls.flatten(1).sum(1).tolist() == [walls] * len(paths)
    assert shortest_paths(levels).tolist() == paths
    assert actions_to_goal(levels).tolist() == actions
    assert levels.heading.tolist() == [0] * len(paths)


@pytest.mark.parametrize("name", SMALL)
def test_small_mazes_need_navigation(name: str) -> None:
    levels = fixed_levels(SMALL[name])
    levels.check()
    assert bool(solvable(levels).all())
    assert max(levels.height, levels.width) <= 9
    turns = actions_to_goal(levels) - shortest_paths(levels)
    assert int(turns.min()) >= 3


def test_the_longest_way_through_a_maze_is_found() -> None:
    # A snake of 7 x 50 cells: every cell of the odd rows is on the way.
    levels = empty_levels(1, 13, 50)
    for row in range(1, 13, 2):
        levels.walls[0, row] = True
        levels.walls[0, row, -1 if row % 4 == 1 else 0] = False
    assert shortest_paths(levels[:1]).tolist() == [7 * 49 + 12 - 0]


def test_large_mazes() -> None:
    levels = perfect_mazes(2, 101, torch.Generator().manual_seed(0))
    expected = plain_distances(levels.walls[0].tolist(), int(levels.goal[0]))
    cells = torch.randint(levels.height * levels.width, (200,), generator=torch.Generator().manual_seed(0))
    found = shortest_paths(replace(levels[torch.zeros(200, dtype=torch.int64)], agent=cells))
    assert torch.equal(found, torch.tensor(expected).flatten()[cells])


def test_an_agent_on_the_goal_is_there() -> None:
    levels = empty_levels(1, 3, 3)
    there = MazeLevels(levels.walls, levels.goal, levels.heading, levels.goal)
    assert shortest_paths(there).tolist() == [0]
    assert actions_to_goal(there).tolist() == [0]


def test_an_empty_batch_has_no_paths() -> None:
    nothing = empty_levels(0, 3, 3)
    assert shortest_paths(nothing).shape == (0,)
    assert distances(nothing).shape == (0, 3, 3)
