"""Mazes as Gymnasium environments, single and vectorised: what third-party code sees of this world."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.domain import Observation
from envs.maze.domain import MazeDomain
from envs.maze.engine import MazeEngine
from envs.maze.level import MazeLevels
from envs.maze.render import render_mazes
from envs.maze.text import parse
from envs.randomness import named_generator

Arrays = dict[str, NDArray[Any]]
Level = MazeLevels | str | None
"""Levels as such, as text or JSON that `envs.maze.text.parse` reads, or None: random ones, fresh in each episode."""


class _Game:
    """An engine with the levels in it: what the single and the vector environment share."""

    def __init__(self, num_envs: int, level: Level, options: dict[str, Any]) -> None:
        self.num_envs = num_envs
        self.domain = MazeDomain(**options)
        self.fixed = self._read(level)
        self.levels: MazeLevels | None = None
        self.rng: torch.Generator | None = None
        self.engine = self._make_engine(self.domain.height, self.domain.width)

    def _read(self, level: Level) -> MazeLevels | None:
        """One level for each environment, or None for random ones."""
        if isinstance(level, str):
            level = parse(level)
        if level is None:
            return None
        if not isinstance(level, MazeLevels):
            raise TypeError(f"a level must be MazeLevels, text or None, got {type(level).__name__}")
        if len(level) == 1 < self.num_envs:
            level = level[torch.zeros(self.num_envs, dtype=torch.int64)]
        if len(level) != self.num_envs:
            raise ValueError(f"expected one level or one for each of {self.num_envs} environments, got {len(level)}")
        return level

    def _make_engine(self, height: int, width: int) -> MazeEngine:
        domain = self.domain
        return MazeEngine(
            self.num_envs,
            height,
            width,
            max_steps=domain.max_steps,
            see_through_walls=domain.see_through_walls,
            view=domain.view,
        )

    def start(self, options: dict[str, Any] | None) -> Observation:
        """Begin an episode in every environment, on the level of `options` if there is one."""
        if options is not None:
            unknown = set(options) - {"level"}
            if unknown:
                raise ValueError(f"unknown reset options: {', '.join(sorted(unknown))}; the only one is 'level'")
            if "level" in options:
                self.fixed = self._read(options["level"])
        levels = self._sample(self.num_envs) if self.fixed is None else self.fixed
        if (levels.height, levels.width) != (self.engine.height, self.engine.width):
            self.engine = self._make_engine(levels.height, levels.width)
        observation = self.engine.reset(levels)
        self.levels = levels
        return observation

    def restart(self, mask: torch.Tensor) -> Observation:
        """Begin the next episode in the environments of `mask`: on a fresh level if levels are random."""
        if self.fixed is not None or self.levels is None:
            return self.engine.reset(mask=mask)
        fresh = self._sample(int(mask.sum())).tensors()
        tensors = {
            name: value.masked_scatter(_spread(mask, value), fresh[name])
            for name, value in self.levels.tensors().items()
        }
        self.levels = replace(self.levels, **tensors)
        return self.engine.reset(self.levels, mask)

    def _sample(self, n: int) -> MazeLevels:
        assert self.rng is not None, "the environment seeds before it starts"
        return self.domain.sample(n, self.rng)

    def draw(self) -> NDArray[np.uint8]:
        """Pictures of the current states, `[N, rows, columns, 3]`."""
        if self.levels is None:
            raise RuntimeError("reset the environment before rendering")
        pictures = render_mazes(self.levels, agent=self.engine.cell, heading=self.engine.heading)
        return np.asarray(pictures.numpy())


def _spread(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`mask` `[N]` with as many axes as `like` `[N, ...]`."""
    return mask.view(-1, *[1] * (like.dim() - 1))


def _numpy(observation: Observation) -> Arrays:
    return {name: np.ascontiguousarray(value.numpy()) for name, value in observation.items()}


def _check_render_mode(render_mode: str | None) -> str | None:
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    return render_mode


class MazeEnv(gymnasium.Env[Arrays, np.int64]):
    """One maze: `gymnasium.make("clutr/Maze-v0", level=...)`.

    An observation has `image`, uint8 `[view, view, 3]` in MiniGrid's codes, and `direction` in 0..3; actions are
    MiniGrid's seven. The reward is 1 - 0.9 * steps / max_steps at the goal, otherwise 0.

    Args:
        level: the level that every episode plays, of any size; None: a fresh random one in each episode, drawn from
            the generator that `reset(seed=...)` seeds. `reset(options={"level": ...})` replaces it from then on.
        render_mode: None or "rgb_array".
        options: fields of `envs.maze.domain.MazeDomain`: size and obstacle budget of random levels, `max_steps`,
            `see_through_walls`, `view`.

    Raises:
        LevelError: the text is no level; the message names line and reason.
        ValueError: not exactly one level, or an option is out of its range.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # Gymnasium declares its type

    def __init__(self, level: Level = None, render_mode: str | None = None, **options: Any) -> None:
        self.render_mode = _check_render_mode(render_mode)
        self._game = _Game(1, level, options)
        self.observation_space = self._game.engine.observation_space
        self.action_space = self._game.engine.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Start an episode. `options["level"]`, if given, is played from now on (None: random levels)."""
        super().reset(seed=seed)
        if seed is not None or self._game.rng is None:
            self._game.rng = named_generator(self.np_random_seed, "levels")
        return self._first(self._game.start(options)), {}

    def step(self, action: np.int64) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        """Advance by one action."""
        step = self._game.engine.step(torch.tensor([int(action)]))
        observation = self._first(step.observation)
        return observation, float(step.reward), bool(step.terminated), bool(step.truncated), {}

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]  # Gymnasium's type is an unbound variable
        """A picture of the current state, `[(height + 2) * 16, (width + 2) * 16, 3]`; None without a render mode."""
        return None if self.render_mode is None else self._game.draw()[0]

    def _first(self, observation: Observation) -> Arrays:
        arrays = _numpy(observation)
        return {"image": arrays["image"][0], "direction": arrays["direction"][0]}


class MazeVectorEnv(VectorEnv[Arrays, NDArray[np.int64], NDArray[Any]]):
    """N mazes at once: `gymnasium.make_vec("clutr/Maze-v0", num_envs=N, level=...)`.

    Observations, rewards (float32) and ends are as `MazeEnv`'s with a leading axis N. An environment whose episode
    has ended starts its next one in the following step, whose action it ignores (Gymnasium's NEXT_STEP).

    Args:
        num_envs: N.
        level: as for `MazeEnv`: one level for all, or N levels of one size.
        render_mode: None or "rgb_array".
        options: as for `MazeEnv`.
    """

    metadata = {  # noqa: RUF012  # Gymnasium declares its type
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(self, num_envs: int = 1, level: Level = None, render_mode: str | None = None, **options: Any) -> None:
        self.num_envs = num_envs
        self.render_mode = _check_render_mode(render_mode)
        self._game = _Game(num_envs, level, options)
        self._ended = torch.zeros(num_envs, dtype=torch.bool)
        self.single_observation_space = self._game.engine.observation_space
        self.single_action_space = self._game.engine.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Start an episode everywhere. `options["level"]`, if given, is played from now on (None: random levels)."""
        super().reset(seed=seed)
        if seed is not None or self._game.rng is None:
            assert self.np_random_seed is not None, "Gymnasium draws a seed where there is none"
            self._game.rng = named_generator(self.np_random_seed, "levels")
        self._ended = torch.zeros(self.num_envs, dtype=torch.bool)
        return _numpy(self._game.start(options)), {}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Arrays, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Advance every environment by one action; those that ended in the step before start anew instead."""
        step = self._game.engine.step(torch.as_tensor(np.asarray(actions, dtype=np.int64)))
        observation = step.observation
        going = ~self._ended
        if not bool(going.all()):
            observation = self._game.restart(self._ended)
        terminated, truncated = step.terminated & going, step.truncated & going
        self._ended = terminated | truncated
        return _numpy(observation), (step.reward * going).numpy(), terminated.numpy(), truncated.numpy(), {}

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:  # type: ignore[override]  # as in `MazeEnv`
        """Pictures of the current states, one an environment; None without a render mode."""
        return None if self.render_mode is None else tuple(self._game.draw())
