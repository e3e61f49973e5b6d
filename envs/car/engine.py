"""Many cars at once: Gymnasium's CarRacing, compiled, with the picture drawn only where somebody sees it.

The rules are those of `CarRacing-v3` (gymnasium 1.2.2): 50 frames a second, -0.1 a frame, 1000 / tiles for each tile
reached, the end when all tiles are reached, -100 and the end beyond the playfield. Tests hold positions, tiles, rewards
and ends to the package frame by frame, and the pictures to its `state_pixels`.
"""

import logging
from functools import cache
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.car.drawing.render import PALETTE, digit_pictures, draw_observation, mean_green, new_scratch
from clutr.envs.car.physics.arrays import Cars, Double, RoadArrays
from clutr.envs.car.physics.car_dynamics import drive, new_cars, place_car
from clutr.envs.car.road.level import RoadLevels
from clutr.envs.car.road.packing import PackedRoads
from clutr.envs.car.road.sampling import PLAYFIELD
from clutr.envs.car.road.track import Track
from clutr.envs.domain import LevelBatch, LevelError, Observation, Step
from clutr.envs.numba_cache import njit, will_compile
from clutr.envs.validation import require_above, require_at_least
from clutr.envs.workers import run_parts, worker_count

_LOGGER = logging.getLogger(__name__)

PICTURE = (96, 96, 3)
FRAMES_A_SECOND = 50
CARS_A_THREAD = 8
"""So many cars are worth another thread."""

SPARE = 1.25
"""A playfield's size over that of the road, where the usual playfield does not hold it (arXiv 2110.02439)."""
FARTHEST = 25_000.0
"""Units from the middle to the edge of any road."""

FRAME_COST = 0.1
LAP_REWARD = 1000.0
OFF_PLAYFIELD = -100.0

# The published shaping of training rewards (arXiv 2110.02439, appendix on CarRacing), frame by frame.
END_BONUS = 100.0
GRASS_COST = 0.05
GRASS_GREEN = 185.0
PATIENCE = 100
"""Frames over which the mean reward is taken that stops an episode early."""
IMPATIENCE = -0.1
"""At this mean reward a frame or below, an episode is stopped."""

_ROUNDING = 1e-9
_REST, _BEGIN, _GO = 0, 1, 2
"""What an environment can be told."""


class _Episodes(NamedTuple):
    """Counters of N running episodes."""

    frames: NDArray[np.int64]  # [N] since the start
    tiles: NDArray[np.int64]  # [N] reached
    score: Double  # [N] the package's `reward`: what the picture shows
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    solved: NDArray[np.bool_]
    recent: Double  # [N, PATIENCE] the last rewards, a ring


class _Rules(NamedTuple):
    playfield: Double  # [N] half the side of the square in which an episode goes on
    max_frames: int
    action_repeat: int
    shaped: bool
    zoom_in: bool


class CarEngine:
    """N cars on N roads, played in lockstep.

    Actions are float `[N, 3]`: steering in [-1, 1] (left to right), gas and brake in [0, 1]; each is repeated for
    `action_repeat` frames or until the episode ends. Observations are `image`, uint8 `[N, 96, 96, 3]`, of the last of
    these frames. The engine never looks again at a tensor that it has returned: it may be stored without a copy, and
    written to. An environment whose episode has ended stands still until it is reset: same picture, reward 0, same
    flags.

    Args:
        num_envs: N, at least 1.
        playfield: half the side of the square in which an episode goes on, in units. A road that lies outside gets a
            square that holds it with a quarter to spare, as the published one of the circuits has.
        max_frames: an episode is truncated at this many frames.
        action_repeat: frames an action.
        shaped: the published training reward: +100 at any end, -0.05 a frame that is mostly grass, and an early end
            (terminated) after a stretch of `PATIENCE` frames without progress.
        zoom_in: whether the camera approaches during the first second, as in the package.
        device: where observations and rewards go; the cars themselves are on the CPU.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        playfield: float = PLAYFIELD,
        max_frames: int = 1000,
        action_repeat: int = 8,
        shaped: bool = False,
        zoom_in: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.observation_space = spaces.Dict({"image": spaces.Box(0, 255, PICTURE, np.uint8)})
        self.action_space: gymnasium.Space[Any] = action_space()
        self.playfield = float(playfield)
        require_at_least(self, 1, "num_envs")
        require_above(self, 0, "playfield")
        squares = np.full(num_envs, self.playfield)
        self._rules = _Rules(squares, int(max_frames), int(action_repeat), bool(shaped), bool(zoom_in))
        require_at_least(self._rules, 1, "max_frames", "action_repeat")
        self.render_fps = FRAMES_A_SECOND / action_repeat
        _announce_compilation()
        self._roads = PackedRoads(num_envs)
        self.tracks: list[Track] = []
        """The N roads."""
        self._starts = np.zeros((num_envs, 3))
        self._loaded = False
        self._cars = new_cars(num_envs)
        self._episodes = _new_episodes(num_envs)
        self._scratch = new_scratch(num_envs)
        self._digits = digit_pictures()
        self._pictures = np.zeros((num_envs, *PICTURE), np.uint8)

    @property
    def solved(self) -> Tensor:
        """`[N]` bool: whether the lap was finished."""
        return self._tensor(self._episodes.solved.copy())

    @property
    def agent_position(self) -> Tensor:
        """`[N, 4]` float32: x and y in units, the hull's angle in radians, speed in units a second."""
        cars = self._cars
        speed = np.linalg.norm(cars.velocity[:, 0], axis=1)
        return self._tensor(np.column_stack([cars.origin[:, 0], cars.angle[:, 0], speed]).astype(np.float32))

    @property
    def cars(self) -> Cars:
        """The cars as they are now, not to be written to."""
        return self._cars

    @property
    def samples(self) -> NDArray[np.uint8]:
        """`[N, 384, 384]`: the colour numbers of which the last pictures were made, not to be written to."""
        return self._scratch

    def start_at(self, shares: Tensor) -> None:
        """From the next reset on, let cars start at these shares `[N]` in [0, 1) of their roads' tiles.

        The levels of a later `reset` start at tile 0 again.

        Raises:
            RuntimeError: no levels were given yet.
            ValueError: a share is out of its range.
        """
        if not self._loaded:
            raise RuntimeError("the first reset needs levels")
        if shares.shape != (self.num_envs,) or not bool(((shares >= 0) & (shares < 1)).all()):
            raise ValueError(f"shares must be {self.num_envs} numbers in [0, 1)")
        for row, (track, share) in enumerate(zip(self.tracks, shares.tolist(), strict=True)):
            self._starts[row] = track.start_at(int(share * len(track)))

    @property
    def progress(self) -> Tensor:
        """`[N]` float32: share of the tiles that were reached."""
        return self._tensor((self._episodes.tiles / np.maximum(self._roads.arrays.tiles, 1)).astype(np.float32))

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        """Start episodes: see `clutr.envs.domain.Engine.reset`.

        Raises:
            TypeError: the levels are no roads.
            LevelError: a road has points that are not finite, or lies too far out for any playfield.
            ValueError: their number is not the engine's.
            RuntimeError: no levels were given, now or before.
        """
        chosen = np.ones(self.num_envs, np.bool_) if mask is None else mask.cpu().numpy()
        rows = np.flatnonzero(chosen)
        if levels is not None:
            self._load(levels, rows)
        elif not self._loaded:
            raise RuntimeError("the first reset needs levels")
        self._play(np.where(chosen, _BEGIN, _REST), np.zeros((self.num_envs, 3)))
        return self._observation()

    def _load(self, levels: LevelBatch, rows: NDArray[np.int64]) -> None:
        if not isinstance(levels, RoadLevels):
            raise TypeError(f"a car engine plays roads, got {type(levels).__name__}")
        if len(levels) != self.num_envs:
            raise ValueError(f"the engine has {self.num_envs} environments, got {len(levels)} levels")
        if len(rows) < self.num_envs and not self._loaded:
            raise RuntimeError("the first reset must be of all environments")
        tracks = levels[torch.from_numpy(rows)].tracks()
        self._rules.playfield[rows] = [
            _playfield(track, row, self.playfield) for row, track in zip(rows, tracks, strict=True)
        ]
        self._roads.load(rows.tolist(), tracks)
        self.tracks = self.tracks or tracks.copy()
        for row, track in zip(rows.tolist(), tracks, strict=True):
            self.tracks[row] = track
            self._starts[row] = track.start_at(0)
        self._loaded = True

    def step(self, actions: Tensor) -> Step:
        """Advance every environment by one action: see `clutr.envs.domain.Engine.step`."""
        if not self._loaded:
            raise RuntimeError("reset the engine before stepping")
        chosen = actions.detach().cpu().double().numpy()
        if chosen.shape != (self.num_envs, 3):
            raise ValueError(f"actions must be [{self.num_envs}, 3], got {list(chosen.shape)}")
        rewards = self._play(np.full(self.num_envs, _GO), chosen)
        episodes = self._episodes
        ends = self._tensor(episodes.terminated.copy()), self._tensor(episodes.truncated.copy())
        return Step(self._observation(), self._tensor(rewards), *ends)

    def _play(self, orders: NDArray[np.int64], actions: Double) -> NDArray[np.float32]:
        """Carry out the orders; the rewards."""
        rewards = np.zeros(self.num_envs, np.float32)
        threads = min(max(self.num_envs // CARS_A_THREAD, 1), worker_count())
        rest: tuple[Any, ...] = (
            threads, orders, self._starts, actions, rewards, self._cars, self._roads.arrays, self._episodes,
            self._rules, self._pictures, self._scratch, PALETTE, self._digits,
        )  # fmt: skip
        run_parts(lambda first: _play(first, *rest), range(threads))
        return rewards

    def render(self) -> NDArray[np.uint8]:
        """What students see now, `[N, 96, 96, 3]`. Raises `RuntimeError` before a reset."""
        if not self._loaded:
            raise RuntimeError("reset the engine before rendering")
        return self._pictures.copy()

    @property
    def observation(self) -> Observation:
        """What students see now."""
        return self._observation()

    def _observation(self) -> Observation:
        return {"image": self._tensor(self._pictures.copy())}

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def _playfield(track: Track, row: int, least: float) -> float:
    """Half the side of a square that holds a road: `least` if that does. Raises `LevelError`."""
    extent = track.extent
    if not extent <= FARTHEST:  # nor is NaN
        reached = f"reaches {extent:.3g} units from the middle" if np.isfinite(extent) else "is not finite everywhere"
        raise LevelError(f"level {row}: its road {reached}; a road may reach {FARTHEST:,.0f} units")
    return least if extent <= least else SPARE * extent


@cache
def _announce_compilation() -> None:
    """Say why the first reset takes so long where it does."""
    why = will_compile(_play)
    if why is not None:
        _LOGGER.warning("compiling the car engine, for about half a minute, %s", why)


def action_space() -> spaces.Box:
    """Steering, gas and brake."""
    return spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))


def _new_episodes(n: int) -> _Episodes:
    return _Episodes(
        frames=np.zeros(n, np.int64),
        tiles=np.zeros(n, np.int64),
        score=np.zeros(n),
        terminated=np.zeros(n, np.bool_),
        truncated=np.zeros(n, np.bool_),
        solved=np.zeros(n, np.bool_),
        recent=np.zeros((n, PATIENCE)),
    )


# One kernel for starts and actions, and threads outside of it: numba compiles a function anew for every caller, and
# takes as long for its own parallel loop as for half of the rest.
@njit(nogil=True)
def _play(
    first: int,
    stride: int,
    orders: NDArray[np.int64],
    starts: Double,
    actions: Double,
    rewards: NDArray[np.float32],
    cars: Cars,
    roads: RoadArrays,
    episodes: _Episodes,
    rules: _Rules,
    pictures: NDArray[np.uint8],
    scratch: NDArray[np.uint8],
    palette: Double,
    digits: NDArray[np.uint8],
) -> None:
    """Let cars first, first + stride ... begin, go on or rest, and draw what those see that did not rest."""
    for i in range(first, len(orders), stride):
        if orders[i] == _BEGIN:
            _begin(i, starts[i], cars, roads, episodes)
        elif orders[i] == _GO and not (episodes.terminated[i] or episodes.truncated[i]):
            rewards[i] = _advance(i, actions[i], cars, roads, episodes, rules, palette)
        else:
            continue
        seconds = (episodes.frames[i] + 1) / FRAMES_A_SECOND
        draw_observation(
            pictures[i], scratch[i], cars, roads, i, episodes.score[i], seconds, palette, rules.playfield[i],
            rules.zoom_in, digits,
        )  # fmt: skip


@njit()
def _begin(i: int, start: Double, cars: Cars, roads: RoadArrays, episodes: _Episodes) -> None:
    """One car's start. A function of its own: inside the parallel loop, numba loses assignments to whole rows."""
    roads.visited[i, :] = False
    roads.touched[i, :] = False
    place_car(cars, i, start[0], start[1], start[2])
    episodes.frames[i] = 0
    episodes.terminated[i] = False
    episodes.truncated[i] = False
    episodes.solved[i] = False
    episodes.recent[i, :] = 0
    episodes.tiles[i] = 0
    episodes.score[i] = 0.0
    # the package lets a frame pass without setting any control: at rest, all of them are 0
    _move(i, 0.0, 0.0, 0.0, cars, roads, episodes)


@njit()
def _move(i: int, steer: float, gas: float, brake: float, cars: Cars, roads: RoadArrays, episodes: _Episodes) -> None:
    """Let a frame pass, and count the tiles that are reached."""
    new_tiles, _ = drive(cars, roads, i, steer, gas, brake)
    episodes.tiles[i] += new_tiles
    for _ in range(new_tiles):
        episodes.score[i] += LAP_REWARD / roads.tiles[i]


@njit()
def _advance(
    i: int, action: Double, cars: Cars, roads: RoadArrays, episodes: _Episodes, rules: _Rules, palette: Double
) -> float:
    """Repeat an action until the episode ends; the sum of the rewards."""
    total = 0.0
    for _ in range(rules.action_repeat):
        total += _frame(i, action[0], action[1], action[2], cars, roads, episodes, rules, palette)
        if episodes.terminated[i] or episodes.truncated[i]:
            break
    return total


@njit()
def _frame(
    i: int,
    steer: float,
    gas: float,
    brake: float,
    cars: Cars,
    roads: RoadArrays,
    episodes: _Episodes,
    rules: _Rules,
    palette: Double,
) -> float:
    """One frame of environment i; its reward."""
    before = episodes.score[i]
    _move(i, steer, gas, brake, cars, roads, episodes)
    episodes.score[i] -= FRAME_COST
    # the package counts what the first, uncontrolled frame reached as a reward of the first action
    reward = episodes.score[i] - (before if episodes.frames[i] else 0.0)
    episodes.frames[i] += 1
    if episodes.tiles[i] == roads.tiles[i]:
        episodes.terminated[i] = True
        episodes.solved[i] = True
    x, y = cars.origin[i, 0, 0], cars.origin[i, 0, 1]
    if abs(x) > rules.playfield[i] or abs(y) > rules.playfield[i]:
        episodes.terminated[i] = True
        episodes.solved[i] = False
        reward = OFF_PLAYFIELD
    episodes.truncated[i] = not episodes.terminated[i] and episodes.frames[i] >= rules.max_frames
    return _shape(i, reward, cars, roads, episodes, rules, palette) if rules.shaped else reward


@njit()
def _shape(
    i: int, reward: float, cars: Cars, roads: RoadArrays, episodes: _Episodes, rules: _Rules, palette: Double
) -> float:
    """The published training reward of a frame, and the early stop."""
    if episodes.terminated[i] or episodes.truncated[i]:
        reward += END_BONUS
    if mean_green(cars, roads, i, palette, rules.playfield[i]) > GRASS_GREEN:
        reward -= GRASS_COST
    episodes.recent[i, (episodes.frames[i] - 1) % PATIENCE] = reward
    stalled = episodes.recent[i].sum() <= IMPATIENCE * PATIENCE + _ROUNDING
    if stalled and not episodes.terminated[i]:
        episodes.terminated[i] = True
        episodes.truncated[i] = False
    return reward
