import pytest
import torch

from clutr.envs.domain import SeedLevels, Suite, Task
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.maze.generators import perfect_mazes
from clutr.envs.maze.level import MazeLevels
from clutr.envs.maze.minigrid_env import MinigridEngine, levels_from_minigrid, make_minigrid
from clutr.envs.maze.paths import solvable
from clutr.envs.maze.suites import solvable_levels

DOMAIN = MazeDomain()
SUITES = DOMAIN.suites()
TASKS = [(suite, task) for suite in SUITES.values() for task in suite.tasks]
MAZE_TASKS = [(suite, task) for suite, task in TASKS if suite.name != "minigrid"]

# Outer size, step limit and visibility of walls' far side.
RULES = {
    **dict.fromkeys(("SixteenRooms", "SixteenRoomsFewerDoors", "Labyrinth", "Labyrinth2"), (15, 450, True)),
    **dict.fromkeys(("Maze", "Maze2", "Maze3", "SmallCorridor"), (15, 450, True)),
    "LargeCorridor": (21, 882, True),
    "PerfectMazeSmall": (11, 242, True),
    "PerfectMazeMedium": (21, 882, True),
    "PerfectMazeLarge": (51, 5202, True),
    "PerfectMazeXL": (101, 20402, True),
    "FourRooms": (19, 100, False),
    **dict.fromkeys(("SimpleCrossingS9N1", "SimpleCrossingS9N2", "SimpleCrossingS9N3"), (9, 324, False)),
    "SimpleCrossingS11N5": (11, 484, False),
    **dict.fromkeys(("FourRooms9", "Spiral9", "Corridor9", "Zigzag9"), (9, 162, True)),
    **dict.fromkeys(("FourRooms11", "Labyrinth11"), (11, 242, True)),
    "RandomSolvable": (15, 250, True),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def name_of(value: Suite | Task) -> str:
    return value.name


@pytest.mark.parametrize(("suite", "task"), TASKS, ids=name_of)
def test_every_task_of_every_suite_can_be_played(suite: Suite, task: Task) -> None:
    engine = task.engine(3)
    levels = task.draw(3, generator())
    assert len(levels) == 3
    observation = engine.reset(levels)
    actions = torch.tensor([0, 1, 2])
    for _ in range(3):
        assert observation["image"].shape == (3, 5, 5, 3)
        assert observation["image"].dtype == torch.uint8
        assert observation["direction"].dtype == torch.int64
        observation, reward, terminated, truncated = engine.step(actions)
        assert reward.shape == terminated.shape == truncated.shape == (3,)
    assert suite[task.name] is task


@pytest.mark.parametrize(("suite", "task"), MAZE_TASKS, ids=name_of)
def test_mazes_have_the_published_rules_and_can_be_solved(suite: Suite, task: Task) -> None:
    levels = task.draw(8, generator())
    assert isinstance(levels, MazeLevels)
    levels.check()
    assert bool(solvable(levels).all())
    engine = task.engine(1)
    assert isinstance(engine, MazeEngine)
    outer = (levels.height + 2, engine.max_steps, engine.see_through_walls)
    assert levels.height == levels.width
    assert outer == RULES[task.name]


def test_suites_hold_the_published_names() -> None:
    assert set(SUITES) == {"accel12", "dcd7", "perfect", "minigrid", "random", "small"}
    assert all(name == suite.name and suite.about for name, suite in SUITES.items())
    names = {name: [task.name for task in suite.tasks] for name, suite in SUITES.items()}
    assert len(names["accel12"]) == len(set(names["accel12"])) == 12
    assert len(names["dcd7"]) == 7
    assert set(names["dcd7"]) < set(names["accel12"])


def test_corridor_goals_are_gone_through_in_turn() -> None:
    levels = SUITES["accel12"]["SmallCorridor"].draw(20, generator())
    assert isinstance(levels, MazeLevels)
    # Columns 3, 5, .., 11 of rows 6 and 8 with the ring are 2, 4, .., 10 of rows 5 and 7 without.
    goals = [13 * row + column for row in (5, 7) for column in (2, 4, 6, 8, 10)]
    assert levels.goal.tolist() == goals * 2


def test_drawn_tasks_change_from_draw_to_draw_and_follow_their_generator() -> None:
    for name in ("FourRooms", "SimpleCrossingS11N5", "PerfectMazeMedium"):
        task = SUITES["accel12"][name]
        assert len(set(task.draw(10, generator()).key())) == 10
        assert task.draw(3, generator(1)).key() == task.draw(3, generator(1)).key()


def test_students_with_a_wider_view_get_it_in_every_suite() -> None:
    for suite in MazeDomain(view=7).suites().values():
        assert suite.tasks[0].engine(1).observation_space["image"].shape == (7, 7, 3)


@pytest.mark.parametrize("size", [5, 11, 21, 51])
def test_perfect_mazes_are_trees(size: int) -> None:
    levels = perfect_mazes(20, size, generator())
    levels.check()
    free = ~levels.walls
    rooms = ((size - 1) // 2) ** 2
    assert bool(free[:, ::2, ::2].all())
    assert not bool(free[:, 1::2, 1::2].any())
    # A connected graph with one edge fewer than nodes is a tree; each open cell between rooms is an edge.
    assert free.flatten(1).sum(1).tolist() == [2 * rooms - 1] * 20
    for level in free.tolist():
        cells = {(y, x) for y, row in enumerate(level) for x, is_free in enumerate(row) if is_free}
        reached, border = {(0, 0)}, [(0, 0)]
        while border:
            y, x = border.pop()
            for cell in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if cell in cells and cell not in reached:
                    reached.add(cell)
                    border.append(cell)
        assert reached == cells


def test_perfect_mazes_start_and_end_in_different_corners() -> None:
    levels = perfect_mazes(2400, 5, generator())
    pairs = torch.stack([levels.agent, levels.goal], 1)
    kinds, counts = pairs.unique(dim=0, return_counts=True)
    assert set(kinds.flatten().tolist()) == {0, 2, 6, 8}
    assert len(kinds) == 12
    assert int((counts - 200).abs().max()) < 85
    assert not bool(levels.heading.any())


def test_perfect_mazes_vary_as_kruskal_says() -> None:
    # Four rooms in a ring: each of the four trees leaves out one edge, equally often.
    levels = perfect_mazes(4000, 5, generator())
    _, counts = levels.walls.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 4
    assert int((counts - 1000).abs().max()) < 170


@pytest.mark.parametrize("size", [4, 10, 3, 103])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"an odd size from 5 to 101, got {size}"):
        perfect_mazes(1, size, generator())


def test_random_levels_are_the_solvable_ones_of_the_domain() -> None:
    domain = MazeDomain(height=3, width=3, max_obstacles=7)
    levels = solvable_levels(domain, 300, generator())
    assert len(levels) == 300
    levels.check()
    assert bool(solvable(levels).all())
    assert len(solvable_levels(domain, 0, generator())) == 0


def test_drawn_mazes_are_those_of_minigrid() -> None:
    seeds = torch.tensor([3, 11])
    levels = levels_from_minigrid("MiniGrid-FourRooms-v0", seeds)
    for row, seed in enumerate(seeds.tolist()):
        real = make_minigrid("MiniGrid-FourRooms-v0", 5)
        real.reset(seed=seed)
        for y in range(1, 18):
            for x in range(1, 18):
                thing = real.grid.get(x, y)
                kind = None if thing is None else thing.type
                cell = (y - 1) * 17 + x - 1
                assert (kind == "wall") == bool(levels.walls[row, y - 1, x - 1])
                assert (kind == "goal") == (cell == int(levels.goal[row]))
        x, y = real.agent_pos
        assert int(levels.agent[row]) == (y - 1) * 17 + x - 1
        assert int(levels.heading[row]) == real.agent_dir


def test_mazes_with_doors_are_not_read_as_plain_mazes() -> None:
    with pytest.raises(ValueError, match=r"MiniGrid-MultiRoom-N2-S4-v0 with seed 1 is no plain maze: it holds door"):
        levels_from_minigrid("MiniGrid-MultiRoom-N2-S4-v0", torch.tensor([1]))


def play(engine: MazeEngine | MinigridEngine, actions: torch.Tensor) -> list[torch.Tensor]:
    seen = []
    for action in actions:
        observation, reward, terminated, truncated = engine.step(action)
        seen += [observation["image"], observation["direction"], reward, terminated, truncated]
    return seen


def test_drawn_and_real_environments_play_alike() -> None:
    seeds = torch.arange(6)
    real = MinigridEngine("MiniGrid-SimpleCrossingS9N2-v0", 6)
    ours = SUITES["small"]["SimpleCrossingS9N2"].engine(6)
    assert isinstance(ours, MazeEngine)
    first = real.reset(SeedLevels(seeds))
    second = ours.reset(levels_from_minigrid("MiniGrid-SimpleCrossingS9N2-v0", seeds))
    assert torch.equal(first["image"], second["image"])
    actions = torch.randint(0, 7, (330, 6), generator=generator())
    for one, other in zip(play(real, actions), play(ours, actions), strict=True):
        assert torch.equal(one, other)


def test_a_minigrid_engine_starts_the_same_levels_again() -> None:
    engine = MinigridEngine("MiniGrid-MultiRoom-N4-S5-v1", 3)
    levels = SeedLevels.draw(3, generator())
    start = engine.reset(levels)
    actions = torch.randint(0, 7, (20, 3), generator=generator())
    first = play(engine, actions)
    again = engine.reset()
    assert torch.equal(start["image"], again["image"])
    assert all(torch.equal(one, other) for one, other in zip(first, play(engine, actions), strict=True))


def test_a_minigrid_engine_resets_only_the_masked_environments() -> None:
    engine = MinigridEngine("MiniGrid-Empty-8x8-v0", 2)
    engine.reset(SeedLevels(torch.tensor([1, 2])))
    turned = engine.step(torch.tensor([1, 1])).observation["direction"]
    assert turned.tolist() == [1, 1]
    mask = torch.tensor([True, False])
    assert engine.reset(SeedLevels(torch.tensor([3, 4])), mask)["direction"].tolist() == [0, 1]
    assert turned.tolist() == [1, 1]  # what was returned is not written to again
    assert engine.reset(None, ~mask)["direction"].tolist() == [0, 0]


def test_a_minigrid_engine_keeps_the_levels_of_unmasked_environments() -> None:
    engine = MinigridEngine("MiniGrid-FourRooms-v0", 2)
    engine.reset(SeedLevels(torch.tensor([1, 2])))
    engine.reset(SeedLevels(torch.tensor([3, 4])), torch.tensor([True, False]))
    positions = [(environment.agent_pos, environment.agent_dir) for environment in engine.environments]
    engine.reset()
    assert [(environment.agent_pos, environment.agent_dir) for environment in engine.environments] == positions
    engine.reset(SeedLevels(torch.tensor([3, 2])))
    assert [(environment.agent_pos, environment.agent_dir) for environment in engine.environments] == positions


def test_a_minigrid_engine_names_wrong_levels() -> None:
    engine = MinigridEngine("MiniGrid-Empty-8x8-v0", 2)
    with pytest.raises(ValueError, match="the first reset needs levels"):
        engine.reset()
    with pytest.raises(ValueError, match="2 environments need as many levels, got 1"):
        engine.reset(SeedLevels(torch.tensor([1])))
    with pytest.raises(TypeError, match="plays SeedLevels, got MazeLevels"):
        engine.reset(MazeDomain().sample(2, generator()))
