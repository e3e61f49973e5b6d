import math
from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from clutr.envs.capabilities import Tokens
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.manifold.combinatorial import CombinatorialCoder, CombinatorialConfig
from clutr.manifold.sets import TaskShape, edit_distance

SMALL = MazeDomain(2, 3, 2)
"""Six cells: 6 * 5 places for goal and agent, and 1 + 4 + 6 sets of walls."""


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coder(domain: Tokens, cells_per_axis: int = 3) -> CombinatorialCoder:
    return CombinatorialConfig(cells_per_axis).build(domain, 1)


def uniform(manifold: CombinatorialCoder, n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, manifold.dim, generator=rng(seed))


def counts_of(tokens: Tensor) -> dict[tuple[int, ...], int]:
    rows, counts = tokens.unique(dim=0, return_counts=True)
    return {
        tuple(token for token in row if token): count for row, count in zip(rows.tolist(), counts.tolist(), strict=True)
    }


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (MazeDomain(), TaskShape(cells=169, fewest=0, most=50, tail=2)),
        (MazeDomain(3, 3, 0), TaskShape(cells=9, fewest=0, most=0, tail=2)),
        (CarDomain(), TaskShape(cells=100, fewest=12, most=12, tail=0)),
    ],
)
def test_the_shape_of_tasks(domain: Tokens, expected: TaskShape) -> None:
    assert TaskShape.of(domain) == expected


def test_axes_are_counted_by_hand() -> None:
    assert coder(MazeDomain()).dim == 1 + 2 + 57  # the size, goal and agent, 169 cells by three
    assert coder(CarDomain()).dim == 34
    assert coder(CarDomain(), 1).dim == 100
    assert coder(MazeDomain(2, 3, 0)).dim == 2 + 2  # no walls, no size


def test_a_point_by_hand() -> None:
    manifold = coder(SMALL)
    # axes: size, goal, agent, cells 0 to 2, cells 3 to 5
    point = torch.tensor([[0.4, 0.45, 0.45, 0.1, 0.5]])
    # size: 0.4 * 3 -> 1. goal: 0.45 * 6 -> cell 2. agent: 0.45 * 5 -> the third of 0 1 3 4 5: cell 3.
    # one of the cells 0 1 4 5 is a wall; cell 0 is with chance 1/4, and 0.1 is below that
    assert manifold.decode_tokens(point).tolist() == [[1, 3, 4, 0]]
    # 0.5: not cell 0; what is left is (0.5 - 1/4) / (3/4) = 1/3, exactly on the border of cell 1's chance 1/3
    point[0, 3] = 0.45  # 0.2667: cell 1
    assert manifold.decode_tokens(point).tolist() == [[2, 3, 4, 0]]
    point[0, 3] = 0.6  # not cell 1; of cells 4 and 5 by the next axis, from 0.5 down to cell 4's chance 1/2
    point[0, 4] = 0.49
    assert manifold.decode_tokens(point).tolist() == [[5, 3, 4, 0]]
    point[0, 4] = 0.51
    assert manifold.decode_tokens(point).tolist() == [[6, 3, 4, 0]]


def test_uniform_points_are_what_the_domain_draws() -> None:
    manifold = coder(SMALL)
    n = 60_000
    found = counts_of(manifold.decode_tokens(uniform(manifold, n)))
    expected: dict[tuple[int, ...], float] = {}
    for size in range(3):
        for goal, agent in permutations(range(1, 7), 2):
            free = [cell for cell in range(1, 7) if cell not in (goal, agent)]
            for walls in combinations(free, size):
                expected[(*walls, goal, agent)] = n / 3 / 30 / math.comb(4, size)
    assert len(expected) == 30 * (1 + 4 + 6)
    assert found.keys() == expected.keys()
    assert chisquare([found[task] for task in expected], list(expected.values())).pvalue > 1e-3


@pytest.mark.parametrize("cells_per_axis", [1, 3, 4])
def test_uniform_points_are_uniform_sets(cells_per_axis: int) -> None:
    shape = TaskShape(cells=7, fewest=3, most=3, tail=0)
    manifold = coder(CarDomain(control_points=3), cells_per_axis)
    # the same code on a grid of seven cells, whose 35 sets can all be counted
    manifold.shape = shape
    manifold.dim = math.ceil(7 / cells_per_axis)
    found = counts_of(manifold.decode_tokens(uniform(manifold, 20_000)))
    assert found.keys() == set(combinations(range(1, 8), 3))
    assert chisquare(list(found.values())).pvalue > 1e-3


@pytest.mark.parametrize("domain", [MazeDomain(), CarDomain(), SMALL, MazeDomain(1, 2, 0), CarDomain(100)])
def test_every_sampled_task_comes_back_and_none_needs_a_repair(domain: Tokens) -> None:
    manifold = coder(domain)
    levels = domain.sample(300, rng())
    codes = manifold.encode(levels)
    assert codes.dtype == torch.float32
    assert torch.equal(domain.to_tokens(manifold.decode(codes)), domain.to_tokens(levels))
    _, repairs = domain.from_tokens(manifold.decode_tokens(uniform(manifold, 300)))
    assert not any(bool(count.any()) for count in repairs.counts.values())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_maze_comes_back(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 13)), data.draw(st.integers(2, 13))
    cells = height * width
    domain = MazeDomain(height, width, data.draw(st.integers(0, cells - 2)))
    size = data.draw(st.integers(0, domain.max_obstacles))
    # the least likely tasks are those whose walls lie at one end
    order = data.draw(st.sampled_from([list(range(1, cells + 1)), list(range(cells, 0, -1))]))
    if data.draw(st.booleans()):
        order = data.draw(st.permutations(order))
    walls, goal, agent = sorted(order[:size]), order[size], order[size + 1]
    tokens = torch.tensor([[*walls, goal, agent] + [0] * (domain.max_obstacles - size)])
    levels, _ = domain.from_tokens(tokens)
    manifold = coder(domain)
    back = manifold.decode(manifold.encode(levels))
    assert domain.to_tokens(back).tolist() == tokens.tolist()
    assert back.key() == levels.key(), "a decoded maze's heading is a function of the maze"


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(1, 100), min_size=12, max_size=12), st.integers(1, 3))
def test_any_road_comes_back(cells: set[int], cells_per_axis: int) -> None:
    domain = CarDomain()
    levels, repairs = domain.from_tokens(torch.tensor([sorted(cells)]))
    manifold = coder(domain, cells_per_axis)
    expected = domain.to_tokens(levels)
    assert domain.to_tokens(manifold.decode(manifold.encode(levels))).tolist() == expected.tolist()
    if not any(bool(count.any()) for count in repairs.counts.values()):
        assert expected.tolist() == [sorted(cells)]


def test_the_least_likely_mazes_come_back() -> None:
    domain = MazeDomain()
    manifold = coder(domain)
    first, last = list(range(1, 51)), list(range(120, 170))
    tokens = torch.tensor([[*first, 168, 169], [*last, 1, 2], [167, 168, 169, 1, 2] + [0] * 47, [169, 1, 2] + [0] * 49])
    assert torch.equal(domain.to_tokens(manifold.decode(manifold.encode(domain.from_tokens(tokens)[0]))), tokens)


def test_cells_add_up_to_the_box_and_hold_their_points() -> None:
    manifold = coder(SMALL)
    tasks = [(*walls, goal, agent) for size in range(3) for goal, agent in permutations(range(1, 7), 2)
             for walls in combinations([c for c in range(1, 7) if c not in (goal, agent)], size)]  # fmt: skip
    tokens = torch.tensor([[*task, 0, 0, 0, 0][:4] for task in tasks])
    _, widths = manifold.cells(SMALL.from_tokens(tokens)[0])
    assert float(widths.prod(1).sum()) == pytest.approx(1, abs=1e-12)
    points = uniform(manifold, 500)
    levels = manifold.decode(points)
    centres, widths = manifold.cells(levels)
    assert bool(((points - centres).abs() <= widths / 2 + 1e-6).all())
    assert float(manifold.deviations(points, levels).max()) <= 3**0.5 + 1e-6
    # ln 3 sizes, ln 30 places of goal and agent, ln C(4, 2) sets
    two = SMALL.from_tokens(torch.tensor([[1, 2, 3, 4]]))[0]
    assert float(manifold.nats(two)) == pytest.approx(math.log(3) + math.log(30) + math.log(6))


def test_folding_keeps_the_other_cells_where_one_changes() -> None:
    manifold = coder(CarDomain())
    edge = 12 / 100  # below it the first cell is a point
    points = uniform(manifold, 200)
    below, above = points.clone(), points.clone()
    below[:, 0], above[:, 0] = edge - 1e-6, edge + 1e-6
    tasks, others = manifold.decode_tokens(below), manifold.decode_tokens(above)
    assert bool((tasks[:, 0] == 1).all())
    assert bool((others[:, 0] != 1).all())
    # cells 2 and 3, which share the axis, are the same on both sides
    for cell in (2, 3):
        assert torch.equal((tasks == cell).any(1), (others == cell).any(1))


def test_sets_of_other_sizes_become_the_nearest() -> None:
    domain = CarDomain(control_points=5)
    manifold = coder(domain)
    few, _ = domain.from_tokens(torch.tensor([[2, 40, 77, 0, 0]]))
    assert domain.to_tokens(few).tolist() == [[2, 40, 77, 0, 0]]
    assert domain.to_tokens(manifold.decode(manifold.encode(few))).tolist() == [[1, 2, 3, 40, 77]]


def test_faces_and_numbers_beyond_them_are_decoded() -> None:
    manifold = coder(MazeDomain())
    points = torch.tensor([0.0, 1.0, -3.0, 5.0, math.nan]).unsqueeze(1).expand(-1, manifold.dim)
    levels = manifold.decode(points)
    assert levels[0].key() == levels[2].key()
    assert levels[1].key() == levels[3].key()
    assert len(manifold.decode_tokens(points[:0])) == 0


def test_pretraining_measures_and_nothing_else() -> None:
    config = CombinatorialConfig()
    manifold = config.build(SMALL, 1)
    done: list[tuple[int, int]] = []
    training = config.pretraining(manifold, SMALL, 1)
    other = config.pretraining(config.build(SMALL, 1), SMALL, 1)
    other.load_state_dict(training.state_dict())
    training.run(lambda now, total, _: done.append((now, total)))
    other.run()
    assert done == [(1, 1)]
    assert manifold.health() == other.manifold.health()
    assert manifold.health()["recovery"]["task_exact"] == 1
    assert manifold.health()["prior_uniform"]["validity"] == 1


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="cells_per_axis must be at least 1, got 0"):
        CombinatorialConfig(0)
    with pytest.raises(ValueError, match=r"4 cells an axis can take 25.0 bits, and a latent holds 22 safely"):
        CombinatorialConfig(4).build(MazeDomain(), 1)


def test_edit_distance_by_hand() -> None:
    first = torch.tensor([[1, 2, 5, 3, 4], [1, 2, 0, 0, 0]])
    second = torch.tensor([[1, 5, 6, 4, 3], [2, 1, 0, 0, 0]])
    # walls 2 and 6 in one set alone, goal and agent both changed; both changed
    assert edit_distance(first, second, 6, 2).tolist() == [4, 2]
