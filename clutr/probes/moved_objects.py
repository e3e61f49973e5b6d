"""Objects moved in the simulator: what a picture would show if a curve, a kerb, a wall or the goal were elsewhere.

The simulator stands at the moment, its level is changed near whoever looks, and the picture is drawn again. Nothing
else changes: not the viewer, not the past. What a model's prediction does then is the truth of attribution.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.capabilities import PrivilegedState
from clutr.envs.car.engine import CarEngine
from clutr.envs.car.road.track import Track
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.maze.level import MazeLevels
from clutr.probes.interventions import Interventions

AHEAD = (4.0, 10.0, 16.0, 24.0)
"""Units of road ahead of a car at which something is moved."""
BEND, ASIDE = 8.0, 6.0
"""Units of road to either side of such a place that move with it, and by how many the place moves aside."""
KERB_REACH = 5.0
"""Units of road to either side of a place whose kerb is put there or taken away."""
GOALS = 4
"""Cells to which a goal is moved."""
VISIBLE = 3.0
"""Change of a colour, of 255, from which on a pixel counts as changed."""


def moved_objects(
    domain: PrivilegedState, engine: Any, rng: torch.Generator, objects: Sequence[str] = ()
) -> tuple[list[str], Interventions]:
    """Move one object after the other in each of N running environments.

    Args:
        domain: of the environment.
        engine: N environments, which stay as they are.
        rng: draws where a goal goes.
        objects: kinds of objects to move ("curve", "kerb", "wall", "goal"); all by default.

    Returns:
        K names, and what would be seen.

    Raises:
        TypeError: for an environment whose objects are not known.
    """
    if isinstance(engine, CarEngine):
        changes = [each for each in _road_changes() if not objects or each[0].split()[0] in objects]
        names, pictures = [], []
        before = domain.observer(engine).pictures()
        for name, change in changes:
            looked = _on_roads(engine, [change(*each) for each in zip(engine.tracks, _nearest(engine), strict=True)])
            names.append(name)
            pictures.append(domain.observer(looked).pictures())
    elif isinstance(engine, MazeEngine):
        before = domain.observer(engine).pictures()
        names, pictures = _moved_in_mazes(domain, engine, rng, objects)
    else:
        raise TypeError(f"nothing is known of the objects of a {type(engine).__name__}")
    shown = torch.stack(pictures).float()
    changed = (shown - before.float()).abs().amax(-1) >= VISIBLE
    return names, Interventions(shown, changed)


# --- roads


def _road_changes() -> list[tuple[str, Any]]:
    """Names, and what takes a track and the tile nearest to the car to another track."""
    found: list[tuple[str, Any]] = []
    for ahead in AHEAD:
        for side, aside in (("left", ASIDE), ("right", -ASIDE)):
            name = f"curve {ahead:g} ahead to the {side}"
            found.append((name, lambda track, tile, ahead=ahead, aside=aside: move_curve(track, tile, ahead, aside)))
        found.append((f"kerb {ahead:g} ahead", lambda track, tile, ahead=ahead: change_kerb(track, tile, ahead)))
    return found


def _from_place(track: Track, tile: int, ahead: float) -> NDArray[np.float64]:
    """Units of road `[n]` of each point from the place so far ahead of a tile."""
    spacing = track.length / len(track)
    place = tile + ahead / spacing
    tiles = (np.arange(len(track)) - place + len(track) / 2) % len(track) - len(track) / 2
    return np.asarray(tiles * spacing, np.float64)


def move_curve(track: Track, tile: int, ahead: float, aside: float) -> Track:
    """A road that runs `aside` units further left (right if negative) so far ahead of a tile, and smoothly there.

    Kerbs follow the new turns there, and stay what they are elsewhere.
    """
    away = _from_place(track, tile, ahead)
    share = np.where(np.abs(away) < BEND, np.cos(np.pi / 2 * away / BEND) ** 2, 0.0)
    left = -np.stack([np.cos(track.directions), np.sin(track.directions)], 1)
    moved = Track.from_centre_line(track.points + aside * share[:, None] * left)
    return replace(moved, kerbs=np.where(np.abs(away) < BEND, moved.kerbs, track.kerbs))


def change_kerb(track: Track, tile: int, ahead: float) -> Track:
    """A road whose kerb so far ahead of a tile is taken away, or put there if there is none."""
    near = np.abs(_from_place(track, tile, ahead)) < KERB_REACH
    return replace(track, kerbs=np.where(near, not track.kerbs[near].any(), track.kerbs))


def _nearest(engine: CarEngine) -> list[int]:
    """The tile nearest to each car."""
    places = engine.agent_position[:, :2].double().numpy()
    return [
        int(((track.points - place) ** 2).sum(1).argmin()) for track, place in zip(engine.tracks, places, strict=True)
    ]


def _on_roads(engine: CarEngine, tracks: Sequence[Track]) -> CarEngine:
    """A copy of an engine with other roads under its cars, drawn anew: an action of no frames draws, and moves nothing.

    Tiles that were reached keep their colour where the number of tiles is the same.
    """
    copied = deepcopy(engine)
    reached = [getattr(copied._roads.arrays, name).copy() for name in ("visited", "touched")]
    copied._roads.load(range(len(tracks)), tracks)
    for row, (old, new) in enumerate(zip(engine.tracks, tracks, strict=True)):
        if len(old) == len(new):
            for name, before in zip(("visited", "touched"), reached, strict=True):
                getattr(copied._roads.arrays, name)[row, : len(old)] = before[row, : len(old)]
    copied.tracks = list(tracks)
    copied._rules = copied._rules._replace(action_repeat=0)
    copied.step(torch.zeros(len(tracks), 3))
    return copied


# --- mazes


def _moved_in_mazes(
    domain: PrivilegedState, engine: MazeEngine, rng: torch.Generator, objects: Sequence[str]
) -> tuple[list[str], list[Tensor]]:
    """Walls of the cells about each agent put up or torn down, and the goal moved to other cells in view."""
    n, height, width = engine.num_envs, engine.height, engine.width
    cell, heading, goal, walls = (each.cpu() for each in (engine.cell, engine.heading, engine.goal, engine.walls))
    present = MazeLevels(walls, cell, heading, goal)
    ahead, right = torch.meshgrid(
        torch.arange(engine.view), torch.arange(engine.view) - engine.view // 2, indexing="ij"
    )
    places = torch.stack([ahead.flatten(), right.flatten()], 1)
    places = places[(places != 0).any(1)]
    steps = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])  # row and column of one step, by heading
    forward, aside = steps[heading], steps[(heading + 1) % 4]
    row, column = cell // width, cell % width

    def cells(place: Tensor) -> tuple[Tensor, Tensor]:
        """The cell `[N]` at a place, and whether it is inside the maze and is not the agent's."""
        there = torch.stack([row, column], 1) + place[0] * forward + place[1] * aside
        inside = ((there >= 0) & (there < torch.tensor([height, width]))).all(1)
        return (there[:, 0] * width + there[:, 1]).clamp(0, height * width - 1), inside

    other = domain.engine(n)

    def seen(levels: MazeLevels) -> Tensor:
        other.reset(levels)
        return domain.observer(other).pictures()

    names, pictures = [], []
    if not objects or "wall" in objects:
        for place in places:
            target, inside = cells(place)
            inside = inside & (target != goal)
            flat = walls.flatten(1).clone()
            flat[torch.arange(n), target] ^= inside
            names.append(f"wall {int(place[0])} ahead, {int(place[1])} right")
            pictures.append(seen(replace(present, walls=flat.view_as(walls))))
    if not objects or "goal" in objects:
        for number in range(GOALS):
            target, inside = cells(places[int(torch.randint(len(places), (1,), generator=rng))])
            inside = inside & ~walls.flatten(1)[torch.arange(n), target]
            names.append(f"goal moved, {number + 1}")
            pictures.append(seen(replace(present, goal=torch.where(inside, target, goal))))
    return names, pictures
