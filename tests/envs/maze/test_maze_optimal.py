"""The best possible return of mazes: by hand, against a plain search, and against what the engine pays."""

from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import EAST, NORTH, SOUTH, WEST, MazeLevels
from clutr.envs.maze.paths import actions_to_goal, shortest_paths

STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Offsets (x, y) of the headings east, south, west, north."""
LEFT, RIGHT, FORWARD = range(3)


def draw(*rows: str, heading: int = EAST) -> MazeLevels:
    """A maze from a drawing: # wall, A agent, G goal."""
    text = "".join(rows)
    return MazeLevels(
        walls=torch.tensor([[cell == "#" for cell in row] for row in rows])[None],
        agent=torch.tensor([text.index("A")]),
        heading=torch.tensor([heading]),
        goal=torch.tensor([text.index("G")]),
    )


def domain_of(levels: MazeLevels, max_steps: int = 250) -> MazeDomain:
    return MazeDomain(height=levels.height, width=levels.width, max_obstacles=0, max_steps=max_steps)


def plan(level: MazeLevels) -> list[int] | None:
    """The fewest actions to the goal, found by a plain breadth-first search over cell and heading."""
    walls, width, height = level.walls[0].tolist(), level.width, level.height
    start = (int(level.agent) % width, int(level.agent) // width, int(level.heading))
    before: dict[tuple[int, int, int], tuple[tuple[int, int, int], int] | None] = {start: None}
    queue = deque([start])
    while queue:
        pose = queue.popleft()
        x, y, heading = pose
        if y * width + x == int(level.goal):
            actions: list[int] = []
            while (last := before[pose]) is not None:
                pose, action = last
                actions.append(action)
            return actions[::-1]
        ahead = (x + STEPS[heading][0], y + STEPS[heading][1], heading)
        for following, action in (
            ((x, y, (heading - 1) % 4), LEFT),
            ((x, y, (heading + 1) % 4), RIGHT),
            (ahead, FORWARD),
        ):
            inside = 0 <= following[0] < width and 0 <= following[1] < height
            if inside and not walls[following[1]][following[0]] and following not in before:
                before[following] = (pose, action)
                queue.append(following)
    return None


@pytest.mark.parametrize(
    ("rows", "heading", "steps"),
    [
        (("A..G",), EAST, 3),
        (("A..G",), SOUTH, 4),
        (("A..G",), NORTH, 4),
        (("A..G",), WEST, 5),
        (("A.", ".G"), EAST, 3),  # forward, right, forward
        (("A.", ".G"), SOUTH, 3),  # forward, left, forward
        (("A.", ".G"), WEST, 4),  # left: south; then as above
        (("A.", ".G"), NORTH, 4),
        (("A#G", "..."), EAST, 7),  # right, forward, left, two forward, left, forward
        (("A#G", "..."), SOUTH, 6),
        # ten moves either way; down first there is but one turn
        (("A.....", ".####.", ".####.", ".####.", ".####.", ".....G"), SOUTH, 11),
        # six moves with four turns against eight with two: equal
        (("....", ".##.", "A##G"), NORTH, 2 + 1 + 3 + 1 + 2),
    ],
)
def test_by_hand(rows: tuple[str, ...], heading: int, steps: int) -> None:
    level = draw(*rows, heading=heading)
    assert actions_to_goal(level).tolist() == [steps]
    best = domain_of(level).optimal_return(level)
    assert best.tolist() == [pytest.approx(1 - 0.9 * steps / 250)]
    assert best.dtype == torch.float32


def test_turns_count_so_that_fewest_moves_are_not_always_best() -> None:
    level = draw("......", "A.###.", "#..##.", "##..#.", "###...", "####.G")
    # down the stairs nine moves and at least seven turns; over the top eleven moves and three turns
    assert shortest_paths(level).tolist() == [9]
    assert domain_of(level).optimal_return(level).tolist() == [pytest.approx(1 - 0.9 * 14 / 250)]
    assert domain_of(level).optimal_return(level, 0.9).tolist() == [pytest.approx(0.9**13 * (1 - 0.9 * 14 / 250))]


def test_the_step_limit_is_inclusive() -> None:
    level = draw("A..G", heading=WEST)
    assert domain_of(level, max_steps=5).optimal_return(level).tolist() == [pytest.approx(0.1)]
    assert domain_of(level, max_steps=4).optimal_return(level).tolist() == [0.0]


def test_what_cannot_be_solved_returns_nothing() -> None:
    level = draw("A#G", ".#.")
    assert domain_of(level).optimal_return(level).tolist() == [0.0]


def test_mazes_that_are_none_are_refused() -> None:
    level = draw("A.G")
    for wrong, message in (
        ({"agent": torch.tensor([3])}, r"agent must be in 0..2, got \[3\]"),
        ({"goal": torch.tensor([-1])}, r"goal must be in 0..2, got \[-1\]"),
        ({"heading": torch.tensor([4])}, r"heading must be in 0..3, got \[4\]"),
    ):
        with pytest.raises(ValueError, match=message):
            domain_of(level).optimal_return(MazeLevels(**level.tensors() | wrong))
    with pytest.raises(ValueError, match="the domain's mazes have 13x13 cells, these 1x3"):
        MazeDomain().optimal_return(level)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.floats(0, 1), st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_agrees_with_a_plain_search(height: int, width: int, share: float, seed: int, max_steps: int) -> None:
    if height * width < 2:
        return
    domain = MazeDomain(
        height=height, width=width, max_obstacles=int(share * (height * width - 2)), max_steps=max_steps
    )
    levels = domain.sample(4, torch.Generator().manual_seed(seed))
    plans = [plan(levels[i]) for i in range(4)]
    expected = [0.0 if p is None or len(p) > max_steps else 1 - 0.9 * len(p) / max_steps for p in plans]
    assert domain.optimal_return(levels).tolist() == pytest.approx(expected, abs=1e-6)


def test_following_the_plan_in_the_engine_attains_it_exactly() -> None:
    domain = MazeDomain(height=7, width=7, max_obstacles=20, max_steps=37)
    levels = domain.sample(120, torch.Generator().manual_seed(0))
    plans = [plan(levels[i]) or [] for i in range(120)]
    engine, total = domain.engine(120), torch.zeros(120)
    engine.reset(levels)
    playing = torch.ones(120, dtype=torch.bool)
    for step in range(37):
        actions = torch.tensor([p[step] if step < len(p) else 6 for p in plans])
        _, reward, terminated, _ = engine.step(actions)
        total += torch.where(playing, reward, 0.0)
        playing &= ~terminated
    assert torch.equal(total, domain.optimal_return(levels))
    assert 0 < int((total == 0).sum()) < 60


def test_no_random_player_exceeds_it() -> None:
    domain = MazeDomain(height=3, width=4, max_obstacles=4, max_steps=12)
    rng = torch.Generator().manual_seed(0)
    levels = domain.sample(2000, rng)
    best = domain.optimal_return(levels)
    engine = domain.engine(2000)
    highest = torch.zeros(2000)
    for _ in range(30):
        engine.reset(levels)
        playing = torch.ones(2000, dtype=torch.bool)
        for _ in range(12):
            _, reward, terminated, _ = engine.step(torch.randint(0, 3, (2000,), generator=rng))
            highest = torch.where(playing, highest.maximum(reward), highest)
            playing &= ~terminated
    assert bool((highest <= best).all())
    assert int((highest == best).sum()) > 1000, "in so small mazes luck is enough"
