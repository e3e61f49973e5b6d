from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import MazeLevels, empty_levels


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def obstacle_cells(levels: MazeLevels, row: int = 0) -> list[int]:
    return levels.walls[row].flatten().nonzero().flatten().tolist()


def test_sample_draws_every_count_and_heading_equally_often() -> None:
    domain = MazeDomain()
    levels = domain.sample(20_000, generator())
    levels.check()
    counts = levels.walls.flatten(1).sum(1).bincount(minlength=51)
    assert len(counts) == 51
    # 51 counts at 392 each: six standard deviations are 118.
    assert 274 < int(counts.min()) <= int(counts.max()) < 510
    assert int((levels.heading.bincount(minlength=4) - 5000).abs().max()) < 400
    cells = torch.cat([levels.goal, levels.agent]).bincount(minlength=169)
    assert 140 < int(cells.min()) <= int(cells.max()) < 335  # 237 each


def test_sample_depends_on_its_generator_alone() -> None:
    domain = MazeDomain(height=5, width=7, max_obstacles=10)
    torch.manual_seed(1)
    first = domain.sample(20, generator(3)).key()
    torch.manual_seed(2)
    assert domain.sample(20, generator(3)).key() == first
    assert domain.sample(20, generator(4)).key() != first


def test_sample_fills_a_maze_to_the_last_cell() -> None:
    domain = MazeDomain(height=2, width=2, max_obstacles=2)
    levels = domain.sample(200, generator())
    levels.check()
    assert set(levels.walls.flatten(1).sum(1).tolist()) == {0, 1, 2}


def test_tokens_worked_by_hand() -> None:
    domain = MazeDomain(height=2, width=3, max_obstacles=3)
    levels = MazeLevels(
        walls=torch.tensor([[[True, False, False], [False, False, True]], [[False] * 3] * 2]),
        agent=torch.tensor([1, 5]),
        heading=torch.tensor([2, 3]),
        goal=torch.tensor([4, 0]),
    )
    assert domain.to_tokens(levels).tolist() == [[1, 6, 5, 2, 0], [1, 6, 0, 0, 0]]


@pytest.mark.parametrize("size", [(2, 2, 2), (4, 3, 5), (13, 13, 50), (1, 9, 7)])
def test_tokens_round_trip(size: tuple[int, int, int]) -> None:
    domain = MazeDomain(height=size[0], width=size[1], max_obstacles=size[2])
    levels = domain.sample(500, generator())
    tokens = domain.to_tokens(levels)
    back, repairs = domain.from_tokens(tokens)
    assert torch.equal(back.walls, levels.walls)
    assert torch.equal(back.agent, levels.agent)
    assert torch.equal(back.goal, levels.goal)
    assert torch.equal(domain.to_tokens(back), tokens)
    assert all(int(count.sum()) == 0 for count in repairs.counts.values())


@pytest.mark.parametrize(
    ("tokens", "walls", "goal", "agent", "repairs"),
    [
        ([3, 3, 5, 1, 2], [2, 4], 0, 1, {"repeated_obstacle": 1}),
        ([1, 2, 7, 1, 2], [6], 0, 1, {"obstacle_under_goal_or_agent": 2}),
        ([1, 4, 4, 9, 9], [0, 3], 8, 1, {"repeated_obstacle": 1, "agent_on_goal": 1}),
        ([1, 1], [], 0, 1, {"agent_on_goal": 1}),
        ([0, 0, 5, 0], [], 0, 4, {"missing_goal_or_agent": 1}),
        ([1], [], 1, 0, {"missing_goal_or_agent": 1}),
        ([10, -3, 0], [], 0, 1, {"missing_goal_or_agent": 2}),
        ([], [], 0, 1, {"missing_goal_or_agent": 2}),
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], [2, 3, 4, 5], 1, 0, {"too_many_obstacles": 3}),
        ([5, 99, 2, 0, 1, -7], [4], 1, 0, {}),
    ],
)
def test_repairs_worked_by_hand(
    tokens: list[int], walls: list[int], goal: int, agent: int, repairs: dict[str, int]
) -> None:
    domain = MazeDomain(height=3, width=3, max_obstacles=4)
    levels, counted = domain.from_tokens(torch.tensor([tokens], dtype=torch.int64))
    assert obstacle_cells(levels) == walls
    assert (levels.goal.item(), levels.agent.item()) == (goal, agent)
    assert {name: int(count) for name, count in counted.counts.items() if int(count)} == repairs


@given(st.lists(st.lists(st.integers(-3, 15), min_size=9, max_size=9), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_from_tokens_agrees_with_a_plain_reading(rows: list[list[int]]) -> None:
    domain = MazeDomain(height=3, width=4, max_obstacles=5)
    levels, _ = domain.from_tokens(torch.tensor(rows))
    levels.check()
    for row, tokens in enumerate(rows):
        content = [token - 1 for token in tokens if 1 <= token <= 12]
        goal, agent = ([None, None, *content])[-2:]
        walls = sorted(set(content[:-2]) - {goal, agent})[:5]
        if goal is None:
            goal = next(cell for cell in range(12) if cell != agent)
        if agent is None or agent == goal:
            agent = next(cell for cell in range(12) if cell not in walls and cell != goal)
        assert (obstacle_cells(levels, row), levels.goal[row].item(), levels.agent[row].item()) == (walls, goal, agent)


def test_decoded_headings_are_a_function_of_the_maze_and_vary() -> None:
    domain = MazeDomain()
    tokens = domain.to_tokens(domain.sample(4000, generator()))
    one, _ = domain.from_tokens(tokens)
    # Another order, a repetition and more padding describe the same maze.
    shuffled = torch.cat([torch.zeros_like(tokens), tokens[:, :1], tokens], dim=1)
    single = (tokens > 0).sum(1) > 2
    other, _ = domain.from_tokens(shuffled)
    assert torch.equal(one.heading[single], other.heading[single])
    assert int((one.heading.bincount(minlength=4) - 1000).abs().max()) < 170


def test_heading_hash_is_pinned_so_that_stored_latents_keep_their_levels() -> None:
    levels, _ = MazeDomain(height=3, width=3, max_obstacles=4).from_tokens(
        torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [9, 3, 1, 2], [1, 9, 0, 0]])
    )
    assert levels.heading.tolist() == [1, 3, 1, 1]


def test_to_tokens_names_a_level_with_too_many_walls() -> None:
    domain = MazeDomain(height=3, width=3, max_obstacles=2)
    levels = empty_levels(2, 3, 3)
    levels.walls[1, 1] = True
    with pytest.raises(ValueError, match="level 1 has 3 walls, a token sequence holds at most 2"):
        domain.to_tokens(levels)


def test_mutate_makes_valid_levels_that_differ_in_few_cells() -> None:
    domain = MazeDomain()
    levels = domain.sample(2000, generator())
    edited = domain.mutate(levels, 5, generator(1))
    edited.check()
    changed = (edited.walls != levels.walls).flatten(1).sum(1)
    assert int(changed.max()) <= 5
    assert 1.3 < float(changed.float().mean()) < 2.2  # about 5 cells x 1/3 wall on mostly free cells, and some removed
    assert torch.equal(edited.heading, levels.heading)
    # The goal moves unless none of five choices is "goal" (and none hits it): 1 - (2/3)^5 = 0.87.
    assert 0.83 < float((edited.goal != levels.goal).float().mean()) < 0.91
    assert float((edited.agent != levels.agent).float().mean()) < 0.06


def test_mutate_leaves_its_input_and_zero_edits_change_nothing() -> None:
    domain = MazeDomain()
    levels = domain.sample(50, generator())
    before = levels.key()
    assert domain.mutate(levels, 0, generator(1)).key() == before
    domain.mutate(levels, 20, generator(1))
    assert levels.key() == before


def test_mutate_moves_overwritten_goal_and_agent_even_where_all_is_wall() -> None:
    domain = MazeDomain(height=2, width=2, max_obstacles=0)
    levels = MazeLevels(
        walls=torch.tensor([[[False, False], [True, True]]]).repeat(500, 1, 1),
        agent=torch.zeros(500, dtype=torch.int64),
        heading=torch.zeros(500, dtype=torch.int64),
        goal=torch.ones(500, dtype=torch.int64),
    )
    edited = domain.mutate(levels, 30, generator())
    edited.check()
    assert len(set(edited.key())) > 10


def test_repeated_cells_of_one_mutation_are_merged() -> None:
    # On a maze with one free cell beside goal and agent, thirty edits that were applied in turn would rarely leave
    # the choice of the first; here the first choice for each cell is the one that counts.
    domain = MazeDomain(height=1, width=3, max_obstacles=1)
    levels = empty_levels(3000, 1, 3)
    edited = domain.mutate(levels, 2, generator())
    seed = generator()
    cells = torch.randint(0, 3, (2, 3000), generator=seed)
    choices = torch.randint(0, 3, (2, 3000), generator=seed)
    same = (cells[0] == cells[1]) & (cells[0] == 1) & (choices[0] == 0)
    assert int(same.sum()) > 50
    assert bool(edited.walls[same][:, 0, 1].all())


def test_a_goal_or_agent_under_a_new_wall_moves_to_a_free_cell() -> None:
    domain = MazeDomain(height=4, width=4, max_obstacles=8)
    levels = domain.sample(4000, generator(7))
    edited = domain.mutate(levels, 1, generator())
    seed = generator()
    cell = torch.randint(0, 16, (1, 4000), generator=seed)[0]
    built = torch.randint(0, 3, (1, 4000), generator=seed)[0] == 0
    for name in ("goal", "agent"):
        hit = built & (cell == levels.tensors()[name])
        assert int(hit.sum()) > 40
        expected = levels.walls[hit].flatten(1).scatter(1, cell[hit][:, None], True)
        assert torch.equal(edited.walls[hit].flatten(1), expected)
        assert not bool((edited.tensors()[name][hit] == cell[hit]).any())


def test_describe() -> None:
    domain = MazeDomain(height=3, width=3, max_obstacles=4)
    levels = MazeLevels.concatenate([empty_levels(1, 3, 3), empty_levels(1, 3, 3)])
    levels.walls[1, 1] = True
    facts = domain.describe(levels)
    assert facts["wall_count"].tolist() == [0.0, 3.0]
    assert facts["path_length"].tolist() == [4.0, 10.0]
    assert facts["solvable"].tolist() == [1.0, 0.0]
    assert all(fact.dtype == torch.float32 for fact in facts.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 2, "width": 2, "max_obstacles": 3}, "3 obstacles, a goal and an agent do not fit into 2x2 cells"),
        ({"height": 0}, "height must be at least 1, got 0"),
        ({"width": 10_000_000}, "width must be at most 1,000, got 10000000"),
        ({"max_obstacles": -1}, "max_obstacles must be at least 0, got -1"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"view": 4}, "view must be odd"),
        ({"see_through_walls": "no"}, "see_through_walls must be true or false, got 'no'"),
        ({"see_through_walls": 1}, "see_through_walls must be true or false, got 1"),
        ({"height": "9"}, "height must be a whole number, got '9'"),
        ({"max_obstacles": 3.5}, "max_obstacles must be a whole number, got 3.5"),
        ({"max_steps": True}, "max_steps must be a whole number, got True"),
        ({"max_steps": 10**30}, "max_steps must be at most 1,000,000,000, got 1000"),
    ],
)
def test_impossible_domains_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MazeDomain(**options)


def test_whole_numbers_may_be_numpys() -> None:
    assert MazeDomain(height=np.int64(7)).vocabulary == 91  # type: ignore[arg-type]


def test_levels_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="the domain's mazes have 13x13 cells, these 3x3"):
        MazeDomain().to_tokens(empty_levels(1, 3, 3))


def test_engine_has_the_domains_options() -> None:
    domain = MazeDomain(height=4, width=6, max_obstacles=3, max_steps=3, view=7)
    engine = domain.engine(2)
    observation = engine.reset(domain.sample(2, generator()))
    assert observation["image"].shape == (2, 7, 7, 3)
    still = torch.full((2,), 6)
    assert [engine.step(still).truncated.tolist() for _ in range(3)] == [[False] * 2, [False] * 2, [True] * 2]
