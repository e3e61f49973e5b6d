"""The geometric core carries what it saw to where it must be, keeps what it invented, and knows which is which."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.world_model.cores.geometric import GeometricConfig, GeometricCore, _shifted
from clutr.world_model.dream import Dreamer
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import MemoryConfig
from clutr.world_model.training import MemoryTraining, MemoryTrainingOptions

MAZE: dict[str, Any] = {
    "view": "maze",
    "rows": 5,
    "columns": 5,
    "channels": 1,
    "map_cell": 1.0,
    "width": 6,
    "painter": 4,
}
AHEAD, LEFT, STILL = (0.0, 1.0, 0.0), (0.0, 0.0, math.pi / 2), (0.0, 0.0, 0.0)


def build(motion: tuple[float, float, float], **options: Any) -> GeometricCore:
    """A core of 5x5 cells and one action that always moves in the same way."""
    core = GeometricConfig(**(MAZE | options)).build(26, torch.Generator().manual_seed(1))
    move(core, motion)
    return core


def move(core: GeometricCore, motion: tuple[float, float, float]) -> None:
    with torch.no_grad():
        core.turn.weight.zero_()
        core.turn.bias.copy_(torch.tensor(motion))


def sight(values: Tensor) -> Tensor:
    """Inputs `[1, 26]` that show cells `[5, 5]`."""
    return torch.cat([values.flatten(), torch.zeros(1)])[None]


NUMBERS = torch.arange(25.0).view(5, 5)


def look(core: GeometricCore, state: Tensor) -> tuple[Tensor, Tensor]:
    """Values and known cells `[5, 5]` of the present view."""
    area, pose, _, _ = core._unpack(state)
    values, known, _ = core._look(area, pose)[0]
    return values, known


@torch.no_grad()
def proposal(core: GeometricCore, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The state after a step, and the proposed cells `[5, 5]`."""
    state, features = core.step(state, x)
    return state, core.parts(features, 25).proposal[0].view(5, 5)


def test_maps_are_shifted_by_whole_cells() -> None:
    area = torch.arange(9.0).view(1, 1, 3, 3)
    found = _shifted(area, torch.tensor([[1, 0]]))[0, 0]
    assert found.tolist() == [[1, 2, 0], [4, 5, 0], [7, 8, 0]], "who went right sees the world go left"
    assert _shifted(area, torch.tensor([[0, 1]]))[0, 0].tolist() == [[0, 0, 0], [0, 1, 2], [3, 4, 5]]
    both = _shifted(area.repeat(2, 1, 1, 1), torch.tensor([[0, 0], [0, -2]]))
    assert torch.equal(both[0, 0], area[0, 0])
    assert both[1, 0].tolist() == [[6, 7, 8], [0, 0, 0], [0, 0, 0]]


def test_who_stands_still_sees_the_same() -> None:
    core = build(STILL)
    state, cells = proposal(core, core.initial_state(1), sight(NUMBERS))
    torch.testing.assert_close(cells, NUMBERS, atol=1e-4, rtol=0)
    known = look(core, state)[1]
    assert known.sum() == 24
    assert known[4, 2] == 0, "the ground below the viewer was never seen"


def test_a_step_ahead_brings_a_row_that_nobody_saw() -> None:
    core = build(AHEAD)
    state, cells = proposal(core, core.initial_state(1), sight(NUMBERS))
    values, known = look(core, state)
    torch.testing.assert_close(values[1:], NUMBERS[:4], atol=1e-4, rtol=0)
    torch.testing.assert_close(cells[1:4], NUMBERS[:3], atol=1e-4, rtol=0)
    assert known[1:].all()
    assert not known[0].any()
    torch.testing.assert_close(core.seen(state)[0], known)


def test_four_quarter_turns_are_none() -> None:
    core = build(LEFT)
    state, _ = proposal(core, core.initial_state(1), sight(NUMBERS))
    values, known = look(core, state)
    # who turned left has on the right what was ahead: cells up to two ahead in the middle column
    torch.testing.assert_close(values[4, 3:], NUMBERS[[3, 2], 2], atol=1e-4, rtol=0)
    assert not known[0].any(), "what was behind the left edge was never seen"
    state = core.dreaming(state, True)
    for _ in range(3):
        state, _ = proposal(core, state, sight(torch.zeros(5, 5)))
    values, known = look(core, state)
    torch.testing.assert_close(values[:4], NUMBERS[:4], atol=1e-3, rtol=0)
    assert known[:4].all()


def test_in_a_dream_latents_are_not_put_down_and_inventions_stay() -> None:
    core = build(AHEAD)
    state, _ = proposal(core, core.initial_state(1), sight(NUMBERS))
    state = core.dreaming(state, True)
    state, first = proposal(core, state, sight(torch.full((5, 5), 99.0)))
    assert first[:4].max() < 99, "what it was fed with is no sight"
    seen = core.seen(state)[0]
    assert (seen[:2] < 1e-3).all(), "two rows are invented"
    assert (seen[2:4] > 0.99).all()
    move(core, STILL)
    state, second = proposal(core, state, sight(torch.full((5, 5), 99.0)))
    torch.testing.assert_close(second[:4], first[:4], atol=1e-3, rtol=1e-3)
    move(core, AHEAD)
    state, third = proposal(core, state, sight(torch.full((5, 5), 99.0)))
    torch.testing.assert_close(third[1:3], first[:2], atol=1e-3, rtol=1e-3)
    assert (core.seen(state)[0, :3] < 1e-3).all()
    awake, _ = proposal(core, core.dreaming(state, False), sight(NUMBERS))
    assert core.seen(awake)[0, 1:4].all(), "awake it sees again"


def test_a_car_s_map_is_resampled_twice_however_far_it_went() -> None:
    """A smooth scene, ten steps of half a unit ahead and a little to the left, against the scene at the new pose."""
    options = {"view": "car", "rows": 14, "columns": 16, "map_cell": 2.0, "width": 6, "painter": 4, "channels": 1}
    core = GeometricConfig(**options).build(14 * 16 + 1, torch.Generator().manual_seed(1))  # type: ignore[arg-type]

    def scene(pose: Tensor) -> Tensor:
        cosine, sine = pose[2].cos(), pose[2].sin()
        right, ahead = core.places.unbind(-1)
        x, y = pose[0] + cosine * right - sine * ahead, pose[1] + sine * right + cosine * ahead
        return torch.sin(x / 12) + torch.cos(y / 15)

    step = (0.0, 0.5, 0.02)
    move(core, step)
    x = torch.cat([scene(torch.zeros(3)).flatten(), torch.zeros(1)])[None]
    with torch.no_grad():
        state, _ = core.step(core.initial_state(1), x)
        state = core.dreaming(state, True)
        for _ in range(9):
            state, _ = core.step(state, x)
    angles = 0.02 * torch.arange(10)
    true = torch.stack([-(0.5 * angles.sin()).sum(), (0.5 * angles.cos()).sum(), torch.tensor(0.2)])
    area, pose, _, _ = core._unpack(state)
    found = core._look(area, pose)[0]
    seen = found[-1] > 0.99
    assert 0.6 < float(seen.float().mean()) < 0.98
    assert float((found[0] - scene(true))[seen].abs().max()) < 0.08, "of values between -2 and 2"


def episode(seed: int, length: int = 40) -> LatentEpisode:
    """Walks through an endless pattern; the action says how far ahead."""
    rng = torch.Generator().manual_seed(seed)
    actions = torch.randint(0, 2, (length, 1), generator=rng).float()
    place = torch.cat([torch.zeros(1), actions[:, 0].cumsum(0)])
    ahead, right = torch.meshgrid(torch.arange(4.0, -1, -1), torch.arange(-2.0, 3), indexing="ij")
    cells = torch.sin(0.9 * (place[:, None, None] + ahead) + seed) + 0.5 * right
    motion = torch.stack([torch.zeros(length), actions[:, 0], torch.zeros(length)], 1)
    mean = cells.flatten(1)
    return LatentEpisode(mean, torch.full_like(mean, -9.0), actions, torch.zeros(length), torch.zeros(length), motion)


def test_it_learns_its_motion_and_then_dreams_the_pattern_on() -> None:
    memory = MemoryConfig(core=GeometricConfig(**MAZE), gaussians=1).build(25, 1, seed=1)
    train, valid = [episode(seed) for seed in range(12)], [episode(100 + seed) for seed in range(4)]
    options = MemoryTrainingOptions(
        epochs=4, streams=4, length=10, learning_rate=2e-2, imagination_steps=5, sample=False, random_offsets=True
    )
    run = MemoryTraining(memory, options, train, valid, seed=1)
    with torch.no_grad():
        before = run._pass(valid, learn=False)
    run.run()
    assert run.history[-1]["valid_motion"] < 0.05 < before[0, 3]
    assert run.history[-1]["valid_dream_mse"] < 0.5 * before[1, 0]
    dreamer = Dreamer(memory, run.scale)
    start, _ = dreamer.observe(valid[0].mean[:6, None], valid[0].actions[:5, None])
    dream = dreamer.dream(start, torch.ones(3, 1, 1), 3, keep_states=False)
    assert dream.states.shape[0] == 0
    assert dream.seen is not None
    assert dream.seen.shape == (3, 1, 5, 5)
    assert [int(row[0, :, 0].sum()) for row in dream.seen] == [4, 3, 2], "a row a step is invented"


def test_messages() -> None:
    with pytest.raises(ValueError, match="moves 5x5 cells of 1 channels: it needs more than 25 inputs, got 25"):
        GeometricConfig(**MAZE).build(25, torch.Generator())
    with pytest.raises(ValueError, match="map_cell must be above 0, got 0"):
        GeometricConfig(map_cell=0.0)
    with pytest.raises(ValueError, match="view must be car or maze, got 'boat'"):
        GeometricConfig(view="boat")  # type: ignore[arg-type]
    memory = MemoryConfig(core=GeometricConfig(**MAZE)).build(25, 1, seed=1)
    blind = [LatentEpisode(e.mean, e.log_variance, e.actions, e.rewards, e.terminated) for e in (episode(1),)]
    with pytest.raises(ValueError, match="learns from true motion, which is known of cars and mazes only"):
        MemoryTraining(memory, MemoryTrainingOptions(), blind, blind, seed=1)


def test_in_mazes_a_wall_ahead_stops_it() -> None:
    """The action says ahead; whether a step comes of it, only the cell ahead tells."""

    def walk(seed: int) -> LatentEpisode:
        cells = torch.randn(31, 5, 5, generator=torch.Generator().manual_seed(seed))
        cells[:, 3, 2] = (cells[:, 3, 2] > 0).float()
        free = 1 - cells[:-1, 3, 2]
        mean, nothing = cells.flatten(1), torch.zeros(30)
        motion = torch.stack([nothing, free, nothing], 1)
        return LatentEpisode(mean, torch.full_like(mean, -9.0), torch.ones(30, 1), nothing, nothing, motion)

    memory = MemoryConfig(core=GeometricConfig(**MAZE), gaussians=1).build(25, 1, seed=1)
    options = MemoryTrainingOptions(
        epochs=4, streams=4, length=10, learning_rate=2e-2, imagination_steps=0, sample=False
    )
    run = MemoryTraining(memory, options, [walk(seed) for seed in range(12)], [walk(99)], seed=1)
    with torch.no_grad():
        before = float(run._pass([walk(99)], learn=False)[0, 3])
    run.run()
    assert run.history[-1]["valid_motion"] < 0.1 * before


def test_displacement_counts_how_far_the_view_is_moved() -> None:
    """Worked numbers: a turn counts by the usual distance of cells, and errors of unseen steps add up."""
    core = build(STILL)
    core.use_motion(torch.tensor([[0.0, 0, 0], [2, 4, 0.2]]))  # deviations: the square roots of 2, 8 and .02
    distances = [x * x + y * y for x in range(-2, 3) for y in range(5)]
    lever = math.sqrt(sum(distances) / 25)
    usual = 2 + 8 + 0.02 * lever**2
    true = core.in_deviations(torch.zeros(3, 1, 3))
    ahead, turned = (core.in_deviations(torch.tensor(each).expand(3, 1, 3)) for each in ((0.0, 1, 0), (0.0, 0, 0.1)))
    one = core.displacement(ahead, true, False)[:, 0]
    torch.testing.assert_close(one, torch.full((3,), 1 / usual))
    torch.testing.assert_close(
        core.displacement(turned, true, False)[:, 0], torch.full((3,), (0.1 * lever) ** 2 / usual)
    )
    # after k steps the view is k ahead: k^2 / k of one step's square, beside that of the step itself
    torch.testing.assert_close(core.displacement(ahead, true, True)[:, 0], one * (1 + torch.tensor([1.0, 2.0, 3.0])))
    there_and_back = ahead.clone()
    there_and_back[1] = core.in_deviations(torch.tensor([[0.0, -1, 0]]))
    expected = one * (1 + torch.tensor([1.0, 0.0, 1 / 3]))
    torch.testing.assert_close(core.displacement(there_and_back, true, True)[:, 0], expected)


def test_a_car_is_told_of_the_ground_around_it_and_of_no_other() -> None:
    core = GeometricConfig(width=6, painter=4).build(2 * 14 * 16 + 3, torch.Generator().manual_seed(1))
    # the car is at 48 of 64 pixels from above and in the middle: between four cells
    places = [(number // 16, number % 16) for number in core.near]
    assert places == [(row, column) for row in (10, 11, 12, 13) for column in (6, 7, 8, 9)]
    x = torch.zeros(1, 2 * 14 * 16 + 3)
    for row, column, matters in ((10, 6, True), (13, 9, True), (9, 7, False), (12, 5, False)):
        changed = x.clone()
        changed[0, 14 * 16 + row * 16 + column] = 1.0  # of the second channel
        differs = not torch.equal(core.step(core.initial_state(1), changed)[1][0, -3:], moved(core, x))
        assert differs == matters, (row, column)


@torch.no_grad()
def test_in_a_dream_motion_is_told_of_no_indicators() -> None:
    core = GeometricConfig(width=6, painter=4).build(2 * 14 * 16 + 3, torch.Generator().manual_seed(1))
    core.use_scale(torch.zeros(2 * 14 * 16 + 2), torch.ones(2 * 14 * 16 + 2))  # the third number is the action
    x = torch.randn(1, 2 * 14 * 16 + 3, generator=torch.Generator().manual_seed(2))
    for number, dreamt, matters in (
        (-3, False, True),
        (-2, False, True),
        (-3, True, False),
        (-2, True, False),
        (-1, True, True),
    ):
        changed = x.clone()
        changed[0, number] += 1.0
        state = core.dreaming(core.initial_state(1), dreamt)
        (_, before), (_, after) = core.step(state, x), core.step(state, changed)
        assert (not torch.equal(before[0, -3:], after[0, -3:])) == matters, (number, dreamt)
        rest, other = (core.parts(each, 2 * 14 * 16 + 2).proposal[0, -2:] for each in (before, after))
        if dreamt and number != -1:
            expected = rest + (torch.arange(2) == number + 3)
            torch.testing.assert_close(other, expected, msg="an indicator goes on from where it was guessed to be")


def moved(core: GeometricCore, x: Tensor) -> Tensor:
    """The motion of a first step."""
    motion: Tensor = core.step(core.initial_state(1), x)[1][0, -3:]
    return motion
