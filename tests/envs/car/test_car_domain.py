"""Cars as a domain, by hand; the contract tests cover what all domains share."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.envs.car.box2d_env import Box2DEngine
from clutr.envs.car.domain import CORNERS, SPACING, CarDomain
from clutr.envs.car.engine import CarEngine
from clutr.envs.car.road.level import BezierLevels, CentreLineLevels
from clutr.envs.car.road.sampling import PLAYFIELD, SPREAD


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decode(*tokens: int, **options: Any) -> tuple[list[int], dict[str, int]]:
    """The canonical tokens of what one sequence decodes to, and the repairs that were needed."""
    domain = CarDomain(**options)
    levels, repairs = domain.from_tokens(torch.tensor([tokens], dtype=torch.int64).view(1, -1))
    kept = [token for token in domain.to_tokens(levels)[0].tolist() if token]
    return kept, {name: int(count) for name, count in repairs.counts.items() if int(count)}


def road(*points: tuple[float, float]) -> BezierLevels:
    return BezierLevels(torch.tensor([points]), torch.tensor([len(points)]))


def test_a_token_is_a_cell_of_the_grid() -> None:
    levels, _ = CarDomain().from_tokens(torch.tensor([[1, 10, 91, 56]]))
    expected = torch.tensor([[1, 1], [10, 1], [6, 6], [1, 10]]) * SPACING
    assert torch.allclose(levels.points[0, :4], expected.float())
    assert not levels.points[0, 4:].any()
    assert levels.count.tolist() == [4]
    assert pytest.approx(100 / 3) == SPACING


def test_tokens_are_sorted_and_points_go_to_the_nearest_cell() -> None:
    level = road((330.0, 330.0), (20.0, 40.0), (40.0, 180.0))
    assert CarDomain().to_tokens(level)[0, :4].tolist() == [1, 41, 100, 0]
    assert decode(100, 1, 41)[0] == [1, 41, 100]


@pytest.mark.parametrize(
    ("tokens", "kept", "repairs"),
    [
        ((5, 5, 5, 99, 40), [5, 40, 99], {"repeated_point": 2}),
        ((), [1, 10, 91], {"points_on_a_line": 3}),
        ((0, -3, 101, 2**62), [1, 10, 91], {"points_on_a_line": 3}),
        ((1, 2, 3), [1, 2, 3, 10, 91], {"points_on_a_line": 2}),
        ((1, 12, 23), [1, 10, 12, 23], {"points_on_a_line": 1}),
        ((45, 46), [1, 45, 46], {"points_on_a_line": 1}),
        ((1, 1, 10), [1, 10, 91], {"repeated_point": 1, "points_on_a_line": 1}),
        (tuple(range(14, 0, -1)), [*range(1, 13)], {"too_many_points": 2}),
    ],
)
def test_repairs(tokens: tuple[int, ...], kept: list[int], repairs: dict[str, int]) -> None:
    assert decode(*tokens) == (kept, repairs)


def test_a_full_line_makes_room_for_a_corner() -> None:
    kept, repairs = decode(1, 2, 3, control_points=3)
    assert kept == [1, 2, 91]
    assert repairs["points_on_a_line"] >= 1
    assert CORNERS == (1, 10, 91, 100)


def test_too_many_points_for_a_sequence_is_said() -> None:
    level = road(*((float(i * 10), float(i * i)) for i in range(13)))
    with pytest.raises(ValueError, match="level 0 has 13 control points, a token sequence holds at most 12"):
        CarDomain().to_tokens(level)
    with pytest.raises(TypeError, match="the car domain works on BezierLevels, got CentreLineLevels"):
        CarDomain().to_tokens(CentreLineLevels(level.points, level.count))


def cells(levels: BezierLevels) -> list[set[int]]:
    return [{t for t in row if t} for row in CarDomain().to_tokens(levels).tolist()]


def test_an_edit_moves_one_point_to_a_free_cell() -> None:
    levels = CarDomain().sample(100, generator())
    edited = CarDomain().mutate(levels, 1, generator(1))
    for before, after in zip(cells(levels), cells(edited), strict=True):
        assert len(after) == len(before) == 12
        assert len(before - after) == 1, "it moved, and to where no other point is"
    twice = CarDomain().mutate(levels, 5, generator(1))
    changes = [len(before - after) for before, after in zip(cells(levels), cells(twice), strict=True)]
    assert 3 < sum(changes) / 100 <= 5


def test_an_edit_leaves_the_other_points_and_the_original_alone() -> None:
    levels = CarDomain(sampler="continuous").sample(50, generator())
    key = levels.key()
    edited = CarDomain().mutate(levels, 1, generator(1))
    assert levels.key() == key
    moved = (edited.points != levels.points).any(2)
    assert moved.sum(1).tolist() == [1] * 50
    cell = edited.points[moved] / SPACING
    assert torch.allclose(cell, cell.round(), atol=1e-5), "the one that moved lies on the grid now"
    assert CarDomain().mutate(levels, 1, generator(1)).key() == edited.key()
    assert CarDomain().mutate(levels, 1, generator(2)).key() != edited.key()
    assert CarDomain().mutate(levels, 0, generator(1)).key() == key


def test_padding_is_never_edited() -> None:
    small = road((0.0, 0.0), (300.0, 0.0), (0.0, 300.0))
    points = torch.nn.functional.pad(small.points, (0, 0, 0, 9)).expand(200, -1, -1)
    edited = CarDomain().mutate(BezierLevels(points, torch.full((200,), 3)), 1, generator())
    kept = edited.count == 3
    assert int(kept.sum()) > 150, "few come to lie on a line"
    assert not edited.points[kept, 3:].any()


def test_on_a_full_grid_nothing_moves() -> None:
    domain = CarDomain(control_points=100)
    levels = domain.sample(3, generator())
    assert domain.to_tokens(levels).tolist() == [list(range(1, 101))] * 3
    assert domain.mutate(levels, 4, generator()).key() == levels.key()


def test_an_edit_never_leaves_points_on_a_line() -> None:
    triangle = road((SPACING, SPACING), (2 * SPACING, SPACING), (SPACING, 2 * SPACING))
    levels = BezierLevels.concatenate([triangle] * 300)
    edited = CarDomain().mutate(levels, 2, generator())
    again, repairs = CarDomain().from_tokens(CarDomain().to_tokens(edited))
    assert not any(bool(count.any()) for count in repairs.counts.values())
    assert len(again) == 300


def test_samples_are_uniform_over_cells_and_points_keep_their_distance() -> None:
    tokens = CarDomain().to_tokens(CarDomain().sample(5000, generator()))
    counts = torch.bincount(tokens.flatten(), minlength=101)[1:].double()
    expected = 5000 * 12 / 100
    # chi-square with 99 degrees of freedom; its 0.999 quantile is 148
    assert float(((counts - expected) ** 2 / expected).sum()) < 148

    continuous = CarDomain(sampler="continuous").sample(50, generator())
    away = continuous.points - continuous.points.mean(1, keepdim=True)
    order = torch.atan2(away[..., 1], away[..., 0]).argsort(1)
    ordered = continuous.points.gather(1, order[..., None].expand(-1, -1, 2))
    gaps: Tensor = (ordered - ordered.roll(-1, 1)).norm(dim=2)
    assert float(gaps.min()) >= SPREAD * PLAYFIELD - 1e-3
    assert float(continuous.points.min()) >= 0
    assert float(continuous.points.max()) <= PLAYFIELD


def test_descriptions_by_hand() -> None:
    square = road((0.0, 0.0), (300.0, 0.0), (300.0, 300.0), (0.0, 300.0))
    facts = {name: float(value) for name, value in CarDomain().describe(square).items()}
    assert facts["points"] == 4
    assert facts["crossings"] == 0
    assert facts["solvable"] == 1
    assert 1000 < facts["length"] < 1300
    assert 1 <= facts["bends"] < 2.2, "a lap turns through a whole circle, and through what bends the other way"

    angles = torch.arange(60) * (2 * torch.pi / 60)
    ring = BezierLevels(100 * torch.stack([angles.cos(), angles.sin()], 1)[None], torch.tensor([60]))
    facts = {name: float(value) for name, value in CarDomain().describe(ring).items()}
    assert facts["length"] == pytest.approx(2 * torch.pi * 100, rel=2e-3)
    assert 1 <= facts["bends"] < 1.3
    assert (facts["points"], facts["crossings"]) == (60, 0)


def test_crossings_are_told() -> None:
    tokens = torch.tensor([[10, 14, 19, 32, 37, 51, 64, 71, 80, 84, 87, 93], [1, 10, 91, *[0] * 9]])
    levels, _ = CarDomain().from_tokens(tokens)
    crossings = CarDomain().describe(levels)["crossings"]
    assert crossings.tolist() == [2.0, 0.0] == [track.crossings() for track in levels.tracks()]
    assert crossings.dtype == torch.float32


@pytest.mark.parametrize("points", [3, 4])
def test_samples_never_lie_on_a_line(points: int) -> None:
    domain = CarDomain(control_points=points)
    levels = domain.sample(1000, generator())
    assert levels.count.tolist() == [points] * 1000
    _, repairs = domain.from_tokens(domain.to_tokens(levels))
    assert not any(bool(count.any()) for count in repairs.counts.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"control_points": 2}, "control_points must be in 3..100, got 2"),
        ({"max_frames": 0}, "max_frames must be at least 1, got 0"),
        ({"action_repeat": 0}, "action_repeat must be at least 1, got 0"),
        ({"max_frames": 20.5}, "max_frames must be a whole number, got 20.5"),
        ({"max_frames": 10**30}, "max_frames must be at most 1,000,000,000, got 1000"),
        ({"shaped": "no"}, "shaped must be true or false, got 'no'"),
        ({"sampler": "polar"}, "sampler must be grid or continuous, got 'polar'"),
        ({"backend": "envpool"}, "backend must be fast or box2d, got 'envpool'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CarDomain(**options)


def test_options_reach_the_engine() -> None:
    domain = CarDomain(max_frames=9, action_repeat=3, shaped=False)
    engine = domain.engine(2)
    assert isinstance(engine, CarEngine)
    engine.reset(domain.sample(2, generator()))
    truncated = [engine.step(torch.zeros(2, 3)).truncated.tolist() for _ in range(3)]
    assert truncated == [[False] * 2, [False] * 2, [True] * 2]


def test_the_reference_engine_plays_the_same_levels_by_the_same_options() -> None:
    domain = CarDomain(max_frames=6, action_repeat=3, shaped=False, backend="box2d")
    real, fast = domain.engine(1), replace(domain, backend="fast").engine(1)
    assert isinstance(real, Box2DEngine)
    levels = domain.sample(1, generator())
    assert real.reset(levels)["image"].shape == fast.reset(levels)["image"].shape == (1, 96, 96, 3)
    actions = torch.tensor([[0.2, 1.0, 0.0]])
    for end in (False, True):
        one, other = real.step(actions), fast.step(actions)
        assert torch.equal(one.reward, other.reward)
        assert one.truncated.tolist() == other.truncated.tolist() == [end]
