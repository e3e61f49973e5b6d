"""The real thing: `gymnasium`'s CarRacing with Box2D, for reference and for the suites that play it unmodified."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.car.engine import (
    END_BONUS,
    FRAMES_A_SECOND,
    GRASS_COST,
    GRASS_GREEN,
    IMPATIENCE,
    PATIENCE,
    PICTURE,
    action_space,
)
from clutr.envs.car.road.level import RoadLevels
from clutr.envs.car.road.sampling import PLAYFIELD
from clutr.envs.car.road.track import Track
from clutr.envs.domain import LevelBatch, LevelError, Observation, SeedLevels, Step

try:
    from gymnasium.envs.box2d.car_racing import CarRacing
except (ImportError, DependencyNotInstalled) as error:  # pragma: no cover - the development installation has it
    raise ImportError(
        'the reference engine and the gymnasium suites need Box2D: install it with `pip install "clutr[car]"`'
    ) from error


class TrackRacing(CarRacing):
    """The package's environment on a given road. Everything but the road is inherited.

    Args:
        zoom_in: whether the camera approaches during the first second.
    """

    def __init__(self, zoom_in: bool = True) -> None:
        super().__init__()
        self.zoom_in = zoom_in
        self.given: Track | None = None

    def _create_track(self) -> bool:
        track = self.given
        if track is None:
            raise RuntimeError("give the environment a track before its first reset")
        if not self.zoom_in:
            self.t = 1.0  # from here on the camera is where it stays
        self.road: list[Any] = []  # type: ignore[assignment]  # the package declares None
        quads, kerbs = track.quads(), track.kerb_quads()
        for index in range(len(track)):
            quad = [tuple(corner) for corner in quads[index].tolist()]
            self.fd_tile.shape.vertices = quad
            tile = self.world.CreateStaticBody(fixtures=self.fd_tile)
            tile.userData = tile
            tile.color = self.road_color + 0.01 * (index % 3) * 255
            tile.road_visited, tile.road_friction, tile.idx = False, 1.0, index
            tile.fixtures[0].sensor = True
            self.road_poly.append((quad, tile.color))
            self.road.append(tile)
            if track.kerbs[index]:
                kerb = [tuple(corner) for corner in kerbs[index].tolist()]
                self.road_poly.append((kerb, (255, 255, 255) if index % 2 == 0 else (255, 0, 0)))
        table = np.column_stack([np.zeros(len(track)), track.directions, track.points])
        self.track = [tuple(row) for row in table.tolist()]
        return True


class Box2DEngine:
    """N real CarRacing environments behind the `Engine` protocol, one after the other.

    Its levels are roads (`RoadLevels`, played by `TrackRacing`) or, if `package_tracks`, seeds from which the
    unmodified package draws its own. Pictures that nobody sees, those between the first and the last frame of an
    action, are not drawn.

    Args:
        num_envs: N.
        package_tracks: play the package's own tracks, so that levels are `SeedLevels`.
        domain_randomize: the package's random colours; only with `package_tracks`.
        max_frames: an episode is truncated at this many frames.
        action_repeat: frames an action.
        shaped: the published training reward, as in `CarEngine`.
        zoom_in: whether the camera approaches during the first second; the package's own tracks always have it.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        package_tracks: bool = False,
        domain_randomize: bool = False,
        max_frames: int = 1000,
        action_repeat: int = 8,
        shaped: bool = False,
        zoom_in: bool = False,
    ) -> None:
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self.observation_space = spaces.Dict({"image": spaces.Box(0, 255, PICTURE, np.uint8)})
        self.action_space: gymnasium.Space[Any] = action_space()
        self.render_fps = FRAMES_A_SECOND / action_repeat
        self._package_tracks = package_tracks
        self._cars = [
            _Car(
                CarRacing(domain_randomize=domain_randomize) if package_tracks else TrackRacing(zoom_in),
                max_frames,
                action_repeat,
                shaped,
            )
            for _ in range(num_envs)
        ]
        self._levels: Sequence[int | Track] | None = None

    @property
    def solved(self) -> Tensor:
        """`[N]` bool: whether the lap was finished."""
        return torch.tensor([car.solved for car in self._cars])

    @property
    def agent_position(self) -> Tensor:
        """`[N, 4]` float32: x and y in units, the hull's angle in radians, speed in units a second."""
        return torch.tensor([car.agent_position() for car in self._cars], dtype=torch.float32)

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        """Start episodes: see `clutr.envs.domain.Engine.reset`.

        Raises:
            TypeError: the levels are not of the engine's kind.
            LevelError: a road leaves the package's playfield.
            ValueError: their number is not the engine's.
            RuntimeError: no levels were given, now or before.
        """
        chosen = [True] * self.num_envs if mask is None else mask.tolist()
        if levels is not None:
            new = self._read(levels)
            held = self._levels or new
            self._levels = [a if c else b for a, b, c in zip(new, held, chosen, strict=True)]
        if self._levels is None:
            raise RuntimeError("the first reset needs levels")
        for car, level, take in zip(self._cars, self._levels, chosen, strict=True):
            if take:
                car.reset(level)
        return self._observation()

    def _read(self, levels: LevelBatch) -> Sequence[int | Track]:
        kind = SeedLevels if self._package_tracks else RoadLevels
        if not isinstance(levels, kind):
            raise TypeError(f"this engine plays {kind.__name__}, got {type(levels).__name__}")
        if len(levels) != self.num_envs:
            raise ValueError(f"the engine has {self.num_envs} environments, got {len(levels)} levels")
        if isinstance(levels, SeedLevels):
            seeds: list[int] = levels.seed.tolist()
            return seeds
        assert isinstance(levels, RoadLevels)
        tracks = levels.tracks()
        if not all(track.extent <= PLAYFIELD for track in tracks):
            raise LevelError(
                f"the package's playfield ends {PLAYFIELD:.0f} units from its middle, and a road leaves it; "
                + 'backend="fast" has a playfield that holds it'
            )
        return tracks

    def step(self, actions: Tensor) -> Step:
        """Advance every environment by one action: see `CarEngine.step`."""
        rewards = [car.step(action) for car, action in zip(self._cars, actions.double().numpy(), strict=True)]
        return Step(
            self._observation(),
            torch.tensor(rewards, dtype=torch.float32),
            torch.tensor([car.terminated for car in self._cars]),
            torch.tensor([car.truncated for car in self._cars]),
        )

    def render(self) -> NDArray[np.uint8]:
        """What students see now, `[N, 96, 96, 3]`."""
        return np.stack([car.picture for car in self._cars])

    def _observation(self) -> Observation:
        return {"image": torch.from_numpy(self.render())}


class _Car:
    """One environment of the package, with action repeat, time limit and, if wanted, the shaped reward."""

    def __init__(self, environment: Any, max_frames: int, action_repeat: int, shaped: bool) -> None:
        self._environment = environment
        self._max_frames, self._action_repeat, self._shaped = max_frames, action_repeat, shaped
        self._draw = environment._render
        self.picture: NDArray[np.uint8] = np.zeros(PICTURE, np.uint8)
        self.terminated = self.truncated = self.solved = False

    def reset(self, level: int | Track) -> None:
        self._environment._render = self._draw
        if isinstance(level, Track):
            self._environment.given = level
            self.picture = self._environment.reset()[0]
        else:
            self.picture = self._environment.reset(seed=level)[0]
        self.terminated = self.truncated = self.solved = False
        self._frames, self._recent = 0, np.zeros(PATIENCE)

    def step(self, action: NDArray[np.float64]) -> float:
        if self.terminated or self.truncated:
            return 0.0
        total = 0.0
        for _ in range(self._action_repeat):
            self._environment._render = self._draw if self._shaped else lambda _: None
            picture, reward, terminated, _, info = self._environment.step(action)
            self._frames += 1
            self.terminated, self.solved = bool(terminated), bool(info.get("lap_finished", False))
            self.truncated = not self.terminated and self._frames >= self._max_frames
            total += self._shape(reward, picture) if self._shaped else float(reward)
            if self.terminated or self.truncated:
                break
        self.picture = self._draw("state_pixels")
        return total

    def _shape(self, reward: float, picture: NDArray[np.uint8]) -> float:
        if self.terminated or self.truncated:
            reward += END_BONUS
        if picture[:, :, 1].mean() > GRASS_GREEN:
            reward -= GRASS_COST
        self._recent[(self._frames - 1) % PATIENCE] = reward
        if self._recent.sum() <= IMPATIENCE * PATIENCE + 1e-9 and not self.terminated:
            self.terminated, self.truncated = True, False
        return float(reward)

    def agent_position(self) -> tuple[float, float, float, float]:
        hull = self._environment.car.hull
        return hull.position[0], hull.position[1], hull.angle, float(np.hypot(*hull.linearVelocity))
