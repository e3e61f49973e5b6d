"""Motion and warping against real pictures: what stood in view is found again where the motion says."""

import math

import pytest
import torch
from torch import Tensor

from clutr.envs.capabilities import PrivilegedState
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.world_model.policies import NoisyExpert, RandomWalk
from clutr.world_model.recorder import Recorder
from clutr.world_model.views import Carried, CarView, Geometry, MazeView, carry, compose, inverse, trajectory, view_of

QUARTER = math.pi / 2


def test_poses_by_hand() -> None:
    """Two ahead and a quarter turn to the left; from there one ahead is one to the left."""
    first, second = torch.tensor([0.0, 2.0, QUARTER]), torch.tensor([0.0, 1.0, 0.0])
    torch.testing.assert_close(compose(first, second), torch.tensor([-1.0, 2.0, QUARTER]))
    pose = torch.tensor([0.3, -1.2, 0.7])
    torch.testing.assert_close(compose(pose, inverse(pose)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(compose(inverse(pose), pose), torch.zeros(3), atol=1e-6, rtol=0)
    path = trajectory(torch.stack([first, second]))
    torch.testing.assert_close(path, torch.stack([torch.zeros(3), first, compose(first, second)]))


def test_a_picture_is_warped_by_whole_pixels_and_quarter_turns() -> None:
    geometry = Geometry(row=2.5, column=2.5, right_scale=1.0, ahead_scale=1.0, rows=5, columns=5)
    picture = torch.arange(25.0).view(1, 5, 5, 1)
    ahead, inside = geometry.warp(picture, torch.tensor([[0.0, 1.0, 0.0]]))
    torch.testing.assert_close(ahead[0, 1:], picture[0, :4], msg="what was above is a row lower")
    assert not inside[0, 0].any()
    assert inside[0, 1:].all()
    assert (ahead[0, 0] == 0).all()
    right, _ = geometry.warp(picture, torch.tensor([[1.0, 0.0, 0.0]]), extend=True)
    torch.testing.assert_close(right[0, :, :4], picture[0, :, 1:])
    torch.testing.assert_close(right[0, :, 4], picture[0, :, 4], msg="the edge goes on")
    turned, inside = geometry.warp(picture, torch.tensor([[0.0, 0.0, QUARTER]]))
    assert inside.all()
    # who turned left sees above what was on the left
    torch.testing.assert_close(turned[0, :, :, 0], torch.rot90(picture[0, :, :, 0], -1), atol=1e-4, rtol=0)


def record(domain: PrivilegedState, steps: int) -> tuple[Tensor, ...]:
    """Frames, masks and states `[T, N, ...]` of four expert's episodes, and the names of objects and quantities."""
    policies = [(NoisyExpert, 3), (RandomWalk, 1)]
    recorder = Recorder(domain, 4, steps, lambda e: [(kind(e.action_space, 4), n) for kind, n in policies], seed=3)
    found = recorder.round(0)
    whole = [n for n, rows in enumerate(found.rows) if rows == steps + 1]
    rows = [(found.part.episodes == n).nonzero().flatten() for n in whole]
    columns = (found.part.frames, found.part.masks, found.part.privileged_state)
    return tuple(torch.stack([column[each] for each in rows], 1) for column in columns)


def look_ahead(domain: PrivilegedState, frames: Tensor, masks: Tensor, states: Tensor, context: int) -> Carried:
    observer = domain.observer(domain.engine(1))
    view = view_of(domain, list(observer.quantities))
    assert view is not None
    poses = trajectory(view.motion(states, list(observer.quantities)))
    return carry(view, frames[:context], masks[:context], observer.objects, poses[:context], poses[context:])


def test_carried_roads_are_where_the_simulator_draws_them() -> None:
    domain = CarDomain(shaped=False, action_repeat=2)
    frames, masks, states = record(domain, 40)
    found = look_ahead(domain, frames, masks, states, context=21)
    real, seen = frames[21:].float(), found.seen
    world = torch.isin(masks[21:], torch.tensor([0, 1], dtype=torch.uint8))
    wrong = (found.pictures.float() - real).abs().mean(-1)
    copied = (frames[20].float() - real).abs().mean(-1)
    for step in (0, 9, 19):
        where = seen[step] & world[step]
        assert float(wrong[step][where].mean()) < 4.0, "of 255; edges are blurred"
        assert float(copied[step][where].mean()) > float(wrong[step][where].mean())
    assert float(wrong[19][seen[19] & world[19]].mean()) < 0.3 * float(copied[19][seen[19] & world[19]].mean())
    shares = seen.float().mean((1, 2, 3))
    assert shares[0] > 0.95
    assert shares[19] < shares[0], "ever more comes into view"
    assert seen[:, :, 60].all(), "the indicators were in view, though nobody knows what they will show"


def test_carried_mazes_are_exact_where_they_were_seen() -> None:
    domain = MazeDomain(height=9, width=9, max_obstacles=20, view=5)
    frames, masks, states = record(domain, 6)
    view = view_of(domain, list(domain.observer(domain.engine(1)).quantities))
    assert isinstance(view, MazeView)
    assert view.geometry.columns == 60 + 2, "five cells of twelve pixels, centred"
    found = look_ahead(domain, frames, masks, states, context=5)
    hidden, agent = 0, 4
    known = found.seen & (masks[5:] != hidden) & (masks[5:] != agent)
    assert float(known.float().mean()) > 0.1
    assert torch.equal(found.pictures[known], frames[5:][known])


def test_car_motion_by_hand() -> None:
    """Straight on at 10 units a second for a step of two frames, then a turn on the spot by 1 rad/s."""
    names = ("forward_speed", "side_speed", "yaw_rate")
    view = CarView(action_repeat=2)
    straight = view.motion(torch.tensor([[10.0, 0.0, 0.0], [10.0, 0.0, 0.0]]), names)
    torch.testing.assert_close(straight, torch.tensor([[0.0, 0.4, 0.0]]))
    turning = view.motion(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), names)
    torch.testing.assert_close(turning, torch.tensor([[0.0, 0.0, 0.04]]))
    sliding = view.motion(torch.tensor([[0.0, 0.0, 0.0], [0.0, 4.0, 0.0]]), names)
    torch.testing.assert_close(sliding, torch.tensor([[-0.12, 0.0, 0.0]]), msg="the later speed weighs three quarters")


def test_other_environments_have_no_known_view() -> None:
    assert view_of(object(), ["row"]) is None
    assert view_of(CarDomain(), ["yaw_rate"]) is None, "a recording of one's own may not tell the speed"


@pytest.mark.parametrize(("cells", "row", "columns"), [(5, 56.0, 62), (7, 58.5, 63)])
def test_the_agent_s_cell_is_in_the_middle_of_the_nearest_row(cells: int, row: float, columns: int) -> None:
    geometry = MazeView(cells).geometry
    assert (geometry.row, geometry.columns, geometry.column) == (row, columns, 31.5 if cells == 7 else 32.0)
