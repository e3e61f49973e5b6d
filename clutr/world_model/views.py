"""How pictures change when whoever sees them moves: the geometry of each environment's view, and true motion.

A pose is right and ahead, in units, and a turn to the left in radians: where one view lies, seen from another. Pictures
are warped by them, exactly where the world stands still. That gives what any world model could know (`carry`), apart
from what nobody could have seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from clutr.envs.capabilities import SIDE
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain

CAR_FRAME_SECONDS = 1 / 50
"""Between two of the simulator's frames."""


def compose(first: Tensor, second: Tensor) -> Tensor:
    """The pose `[..., 3]` that is `second` seen from `first`, seen from where `first` is seen."""
    turn = first[..., 2]
    cosine, sine = turn.cos(), turn.sin()
    right, ahead = second[..., 0], second[..., 1]
    place = torch.stack([cosine * right - sine * ahead, sine * right + cosine * ahead], -1) + first[..., :2]
    return torch.cat([place, (turn + second[..., 2])[..., None]], -1)


def inverse(pose: Tensor) -> Tensor:
    """Where the viewer of a pose `[..., 3]` sees the place from which the pose is seen."""
    cosine, sine = pose[..., 2].cos(), pose[..., 2].sin()
    right, ahead = pose[..., 0], pose[..., 1]
    return torch.stack([-cosine * right - sine * ahead, sine * right - cosine * ahead, -pose[..., 2]], -1)


@dataclass(frozen=True)
class Geometry:
    """Which part of a picture shows the world, and at which scale."""

    row: float
    """Of the viewer, in pixels from the picture's upper edge."""
    column: float
    right_scale: float
    """Pixels a unit to the right."""
    ahead_scale: float
    """Pixels a unit ahead."""
    rows: int
    """Pixels that show the world, counted from the upper edge."""
    columns: int
    """The same from the left edge."""

    def warp(self, pictures: Tensor, poses: Tensor, *, extend: bool = False) -> tuple[Tensor, Tensor]:
        """What pictures `[N, H, W, C]` float look like from `poses` `[N, 3]`, seen from their viewers.

        Args:
            pictures: to look at, bilinearly.
            poses: of the new viewers.
            extend: whether the pictures' edges go on for ever; else what was not in view is 0.

        Returns:
            Pictures of the same shape, and `[N, H, W]` bool: what was in view.
        """
        height, width = pictures.shape[1:3]
        rows = torch.arange(height, device=pictures.device) + 0.5
        columns = torch.arange(width, device=pictures.device) + 0.5
        right = ((columns - self.column) / self.right_scale).expand(height, width)
        ahead = ((self.row - rows) / self.ahead_scale)[:, None].expand(height, width)
        cosine, sine = (f(poses[:, 2])[:, None, None] for f in (torch.cos, torch.sin))
        x = self.column + self.right_scale * (poses[:, 0, None, None] + cosine * right - sine * ahead)
        y = self.row - self.ahead_scale * (poses[:, 1, None, None] + sine * right + cosine * ahead)
        slack = 1e-3  # of a pixel: what lies on the edge is in view, whatever the rounding
        inside = (x > -slack) & (x < self.columns + slack) & (y > -slack) & (y < self.rows + slack)
        if extend:
            x, y = x.clamp(0.5, self.columns - 0.5), y.clamp(0.5, self.rows - 0.5)
        grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)
        planes = pictures.permute(0, 3, 1, 2)
        warped = F.grid_sample(planes, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)
        return (warped if extend else warped * inside[..., None]), inside


class View(Protocol):
    """The view of one environment."""

    geometry: Geometry
    moving: tuple[str, ...]
    """Objects that belong to the viewer, or are drawn over the world."""
    hidden: tuple[str, ...]
    """Objects that stand for what is not seen."""
    surfaces: dict[str, tuple[str, ...]]
    """What of the world is to be predicted, by name: of which objects it consists. The first one matters most."""
    every: int
    """Of the frames that were seen, one in so many is carried along."""
    needs: dict[str, str]
    """Quantities of the true state that can be seen only where an object is in view: which one."""

    def motion(self, states: Tensor, quantities: Sequence[str]) -> Tensor:
        """Poses `[T, ..., 3]` of each view seen from the one before, of true states `[T + 1, ..., Q]`."""
        ...


class CarView:
    """A car's view from above, itself at three quarters of the height.

    Args:
        action_repeat: frames of the simulator between two pictures.
    """

    # the package paints 1000x800 pixels at 16.2 a unit and shrinks either side to the picture's
    geometry = Geometry(0.75 * SIDE, 0.5 * SIDE, 16.2 * SIDE / 1000, 16.2 * SIDE / 800, round(0.875 * SIDE), SIDE)
    moving: tuple[str, ...] = ("car", "indicators")
    hidden: tuple[str, ...] = ()
    surfaces: dict[str, tuple[str, ...]] = {"road": ("road", "kerb")}  # noqa: RUF012
    every = 4
    needs = dict.fromkeys(("lateral_offset", "heading_error", "curvature_ahead"), "road")

    def __init__(self, action_repeat: int) -> None:
        self.action_repeat = action_repeat

    def motion(self, states: Tensor, quantities: Sequence[str]) -> Tensor:
        """Speeds and yaw rate, integrated: after a hundred steps the place is wrong by a fifth of a unit.

        The simulator moves a car by the speed after each of its frames, so the later state weighs more.
        """
        ahead, left, turning = (states[..., quantities.index(n)] for n in ("forward_speed", "side_speed", "yaw_rate"))
        seconds, late = self.action_repeat * CAR_FRAME_SECONDS, 0.5 + 0.5 / self.action_repeat
        turn = seconds * ((1 - late) * turning[:-1] + late * turning[1:])
        speed, none = torch.stack([-left, ahead, torch.zeros_like(left)], -1), torch.zeros_like(turn)
        turned = compose(torch.stack([none, none, turn], -1), speed[1:])  # as the view before sees it
        place = seconds * ((1 - late) * speed[:-1] + late * turned)
        return torch.cat([place[..., :2], turn[..., None]], -1)


class MazeView:
    """The square of cells before an agent, itself in the middle of the nearest row.

    Args:
        cells: along either side.
    """

    moving: tuple[str, ...] = ("agent",)
    hidden: tuple[str, ...] = ("unseen",)
    surfaces: dict[str, tuple[str, ...]] = {"wall": ("wall",), "floor": ("floor",), "goal": ("goal",)}  # noqa: RUF012
    every = 1
    needs = dict.fromkeys(("goal_ahead", "goal_right"), "goal")

    def __init__(self, cells: int) -> None:
        tile = SIDE // cells
        first = (SIDE - tile * cells) // 2
        behind = first + tile * cells
        self.geometry = Geometry(behind - tile / 2, first + tile * cells / 2, tile, tile, behind, behind)

    def motion(self, states: Tensor, quantities: Sequence[str]) -> Tensor:
        """Exact: a step ahead or a quarter turn."""
        row, column, sine, cosine = (
            states[..., quantities.index(n)] for n in ("row", "column", "heading_sine", "heading_cosine")
        )
        heading = torch.atan2(sine, cosine)  # clockwise from the right, since rows count downwards
        down, right = row[1:] - row[:-1], column[1:] - column[:-1]
        ahead = right * cosine[:-1] + down * sine[:-1]
        aside = down * cosine[:-1] - right * sine[:-1]
        turn = (heading[:-1] - heading[1:] + math.pi) % (2 * math.pi) - math.pi
        return torch.stack([aside, ahead, turn], -1)


def view_of(domain: object, quantities: Sequence[str]) -> View | None:
    """The view of an environment; None where its geometry is not known, or recorded `quantities` tell no motion."""
    if isinstance(domain, CarDomain) and {"forward_speed", "side_speed", "yaw_rate"} <= set(quantities):
        return CarView(domain.action_repeat)
    if isinstance(domain, MazeDomain) and {"row", "column", "heading_sine", "heading_cosine"} <= set(quantities):
        return MazeView(domain.view)
    return None


@dataclass(frozen=True)
class Carried:
    """What was seen before, as it looks later."""

    pictures: Tensor
    """`[K, P, H, W, 3]` uint8: the newest sight of every place, edges extended where there was none."""
    seen: Tensor
    """`[K, P, H, W]` bool: where there was one."""


def carry(view: View, frames: Tensor, masks: Tensor, objects: Sequence[str], poses: Tensor, later: Tensor) -> Carried:
    """Carry what was seen along with the true motion: the most that can be known of later pictures.

    Args:
        view: the geometry.
        frames: `[T, P, H, W, 3]` uint8 that were seen.
        masks: `[T, P, H, W]` uint8: their objects.
        objects: the masks' names.
        poses: `[T, P, 3]` of their viewers, seen from anywhere.
        later: `[K, P, 3]` of later viewers, seen from the same place.
    """
    count, pictured = later.shape[:2]

    def among(names: Sequence[str], masks: Tensor) -> Tensor:
        numbers = torch.tensor([objects.index(name) for name in names if name in objects], dtype=torch.uint8)
        return torch.isin(masks, numbers)

    def from_later(time: int) -> Tensor:
        return compose(inverse(poses[time]).expand(count, -1, -1), later).flatten(0, 1)

    last = frames[-1].float()
    world = view.geometry.warp(last.repeat(count, 1, 1, 1), from_later(-1), extend=True)[0]
    known = torch.zeros(world.shape[:3], dtype=torch.bool)
    for time in range(len(frames) - 1, -1, -view.every):
        sight = ~among((*view.moving, *view.hidden), masks[time])
        both = torch.cat([frames[time].float(), sight[..., None].float()], -1).repeat(count, 1, 1, 1)
        warped, inside = view.geometry.warp(both, from_later(time))
        new = inside & (warped[..., 3] > 0.99) & ~known
        world = torch.where(new[..., None], warped[..., :3], world)
        known |= new
    # the viewer, and what is drawn over the world, stay where they were
    outside = torch.ones(masks.shape[2:], dtype=torch.bool)
    outside[: view.geometry.rows, : view.geometry.columns] = False
    kept = (among(view.moving, masks[-1]) | outside).repeat(count, 1, 1)
    world = torch.where(kept[..., None], last.repeat(count, 1, 1, 1), world)
    shape = (count, pictured, *masks.shape[2:])
    return Carried(world.round().to(torch.uint8).view(*shape, 3), (known | kept).view(shape))


def trajectory(motion: Tensor) -> Tensor:
    """Poses `[T + 1, ..., 3]` seen from the first view, of the motion `[T, ..., 3]` from each view to the next."""
    poses = [torch.zeros_like(motion[0])]
    for each in motion:
        poses.append(compose(poses[-1], each))
    return torch.stack(poses)
