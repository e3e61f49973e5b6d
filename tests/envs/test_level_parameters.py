"""Levels drawn at the domain's own parameters: what was asked for is what is there, and the rest is uniform."""

from itertools import product

import pytest
import torch
from torch import Tensor

from clutr.envs.car.domain import SPACING, CarDomain
from clutr.envs.car.road.level import BezierLevels
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import MazeLevels


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def repeated(n: int, *values: float) -> Tensor:
    return torch.tensor([values]).expand(n, -1)


def chi_square(counts: Tensor) -> float:
    """Of counts that should all be the same."""
    expected = counts.double().mean()
    return float(((counts - expected) ** 2 / expected).sum())


def distance(levels: MazeLevels) -> Tensor:
    down = levels.agent // levels.width - levels.goal // levels.width
    return down.abs() + (levels.agent % levels.width - levels.goal % levels.width).abs()


def test_ranges_follow_the_options() -> None:
    ranges = [(p.name, p.low, p.high) for p in MazeDomain(height=5, width=9, max_obstacles=7).parameters]
    assert ranges == [("obstacles", 0, 7), ("distance", 1, 12)]
    ranges = [(p.name, p.low, p.high) for p in CarDomain(control_points=30).parameters]
    assert ranges == [("control_points", 3, 30), ("spread", 4, 10)]


def test_mazes_have_the_obstacles_and_the_distance_that_were_asked_for() -> None:
    domain = MazeDomain(height=6, width=9, max_obstacles=52)
    wanted = torch.tensor(list(product(range(53), range(1, 14))), dtype=torch.float32)
    levels = domain.sample_at(wanted, generator())
    levels.check()
    assert torch.equal(levels.walls.flatten(1).sum(1).float(), wanted[:, 0])
    assert torch.equal(distance(levels).float(), wanted[:, 1])


def test_maze_parameters_are_rounded_to_the_nearest() -> None:
    wanted = torch.tensor([[0.4, 1.4], [0.6, 1.6], [6.7, 3.2], [-3.0, 99.0], [1e30, -1e30]])
    levels = MazeDomain(height=4, width=4, max_obstacles=7).sample_at(wanted, generator())
    assert levels.walls.flatten(1).sum(1).tolist() == [0, 1, 7, 0, 7]
    assert distance(levels).tolist() == [1, 2, 3, 6, 1]


def test_a_maze_is_uniform_among_those_that_fit() -> None:
    # 2x3 cells: 4 ordered pairs are 2 apart along a row, 8 across the corner of a square
    domain = MazeDomain(height=2, width=3, max_obstacles=4)
    levels = domain.sample_at(repeated(40_000, 2, 2), generator())
    pairs = {(a, g) for a in range(6) for g in range(6) if abs(a // 3 - g // 3) + abs(a % 3 - g % 3) == 2}
    assert len(pairs) == 12
    code = (levels.walls.flatten(1) * 2 ** torch.arange(6)).sum(1) * 36 + levels.agent * 6 + levels.goal
    kinds, counts = code.unique(return_counts=True)
    # times six ways to put two walls on the four cells that are left; chi-square with 71 degrees of freedom
    assert len(kinds) == 12 * 6
    assert chi_square(counts) < 112  # its 0.999 quantile
    assert chi_square(levels.heading.bincount()) < 16.3


def test_the_smallest_mazes_have_ranges_without_extent() -> None:
    domain = MazeDomain(height=1, width=2, max_obstacles=0)
    assert [(p.low, p.high) for p in domain.parameters] == [(0, 0), (1, 1)]
    levels = domain.sample_at(repeated(50, 0, 1), generator())
    levels.check()
    assert set(levels.agent.tolist()) == {0, 1}


def sides(levels: BezierLevels) -> Tensor:
    """Sides in cells `[B, 2]` of the boxes around the control points."""
    used = torch.arange(levels.points.shape[1]) < levels.count[:, None]
    cells = (levels.points / SPACING).round().long() - 1
    high = torch.where(used[..., None], cells, -1).amax(1)
    low = torch.where(used[..., None], cells, 99).amin(1)
    assert int(low.min()) >= 0
    assert int(high.max()) <= 9
    return high - low + 1


def test_roads_have_the_points_and_the_spread_that_were_asked_for() -> None:
    domain = CarDomain()
    wanted = torch.tensor(list(product(range(3, 13), range(4, 11))) * 20, dtype=torch.float32)
    levels = domain.sample_at(wanted, generator())
    assert torch.equal(levels.count.float(), wanted[:, 0])
    extent = sides(levels).amax(1)
    assert bool((extent <= wanted[:, 1]).all())
    widest = [int(extent[(wanted[:, 1] == spread) & (wanted[:, 0] > 8)].max()) for spread in range(4, 11)]
    assert widest == list(range(4, 11)), "and the squares are used to their edges"
    tokens = domain.to_tokens(levels)
    assert torch.equal((tokens > 0).sum(1), levels.count), "all cells of a road are different"


def test_many_points_enlarge_the_square() -> None:
    domain = CarDomain(control_points=100)
    levels = domain.sample_at(
        torch.tensor([[16.0, 4.0], [17.0, 4.0], [25.0, 4.0], [36.0, 4.0], [100.0, 4.0]]), generator()
    )
    assert levels.count.tolist() == [16, 17, 25, 36, 100]
    assert sides(levels).tolist() == [[4, 4], [5, 5], [5, 5], [6, 6], [10, 10]]


def test_squares_and_cells_are_uniform() -> None:
    domain = CarDomain(control_points=16)
    full = domain.sample_at(repeated(4900, 16, 4), generator())
    corner = (full.points / SPACING).round().long().amin(1) - 1
    # 7x7 positions; chi-square with 48 degrees of freedom
    assert chi_square((corner[:, 1] * 7 + corner[:, 0]).bincount(minlength=49)) < 84

    tokens = domain.to_tokens(domain.sample_at(repeated(4000, 8, 10), generator()))
    assert chi_square(tokens[:, :8].flatten().bincount(minlength=101)[1:]) < 148  # 99 degrees of freedom


def test_three_points_never_lie_on_a_line() -> None:
    domain = CarDomain()
    levels = domain.sample_at(repeated(1000, 3, 4), generator())
    assert levels.count.tolist() == [3] * 1000
    assert int(sides(levels).max()) <= 4
    _, repairs = domain.from_tokens(domain.to_tokens(levels))
    assert not any(bool(count.any()) for count in repairs.counts.values())


@pytest.mark.parametrize("seed", [1, 2])
def test_the_continuous_sampler_has_parameters_too(seed: int) -> None:
    wanted = torch.tensor([[12.0, 10.0], [5.0, 4.0]])
    levels = CarDomain(sampler="continuous").sample_at(wanted, generator(seed))
    assert levels.key() == CarDomain().sample_at(wanted, generator(seed)).key()
