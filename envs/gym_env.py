"""Domains as Gymnasium environments: what every single and every vector environment share."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from clutr.envs.capabilities import Text
from clutr.envs.domain import Engine, LevelBatch, Observation
from clutr.envs.level_files import read_levels
from clutr.envs.randomness import named_generator


class EngineAdapter(ABC):
    """An engine and its levels, in Gymnasium's terms.

    Args:
        num_envs: N.
        level: levels as such, text that `parse` reads, a file that holds such text, or None: random ones, fresh in each
            episode.
        domain: reads levels, draws the random ones and makes the engine.
    """

    level_type: ClassVar[type[LevelBatch]]
    """What can be played."""
    engine: Engine

    def __init__(self, num_envs: int, level: Any, domain: Text) -> None:
        self.num_envs = num_envs
        self.domain = domain
        self.fixed = self._read(level)
        self.levels: LevelBatch | None = None
        self.rng: torch.Generator | None = None
        self.engine = self.engine_for(self.fixed)

    def engine_for(self, levels: LevelBatch | None) -> Engine:  # noqa: ARG002 (one engine plays them all)
        """An engine that can play these levels, or random ones; the present one if it can."""
        return getattr(self, "engine", None) or self.domain.engine(self.num_envs)

    def render(self) -> NDArray[np.uint8]:
        """Pictures of the current states, `[N, rows, columns, 3]`. Raises `RuntimeError` before the first reset."""
        if self.levels is None:
            raise RuntimeError("reset the environment before rendering")
        return self.draw()

    @abstractmethod
    def draw(self) -> NDArray[np.uint8]:
        """Pictures of the current states, `[N, rows, columns, 3]`."""

    def observe(self, observation: Observation) -> Any:
        """What the environment shows of an engine's observation: arrays with a leading axis N."""
        return {name: np.ascontiguousarray(value.numpy()) for name, value in observation.items()}

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """Space of one environment's observation."""
        return self.engine.observation_space

    def _read(self, level: LevelBatch | str | Path | None) -> LevelBatch | None:
        """One level for each environment, or None for random ones."""
        if isinstance(level, str | Path):
            level = read_levels(level, self.domain)
        if level is None:
            return None
        if not isinstance(level, self.level_type):
            raise TypeError(
                f"a level must be {self.level_type.__name__}, text, a file or None, got {type(level).__name__}"
            )
        if len(level) == 1 < self.num_envs:
            level = level[torch.zeros(self.num_envs, dtype=torch.int64)]
        if len(level) != self.num_envs:
            raise ValueError(f"expected one level or one for each of {self.num_envs} environments, got {len(level)}")
        return level

    def start(self, options: dict[str, Any] | None) -> Any:
        """Begin an episode in every environment, on the level of `options` if there is one."""
        if options is not None:
            unknown = set(options) - {"level"}
            if unknown:
                raise ValueError(f"unknown reset options: {', '.join(sorted(unknown))}; the only one is 'level'")
            if "level" in options:
                self.fixed = self._read(options["level"])
        levels = self._sample(self.num_envs) if self.fixed is None else self.fixed
        self.engine = self.engine_for(levels)
        observation = self.engine.reset(levels)
        self.levels = levels
        return self.observe(observation)

    def restart(self, mask: torch.Tensor) -> Any:
        """Begin the next episode in the environments of `mask`: on a fresh level if levels are random."""
        if self.fixed is not None or self.levels is None:
            return self.observe(self.engine.reset(mask=mask))
        fresh = self._sample(int(mask.sum())).tensors()
        tensors = {
            name: value.masked_scatter(_spread(mask, value), fresh[name])
            for name, value in self.levels.tensors().items()
        }
        self.levels = type(self.levels).from_tensors(tensors)
        return self.observe(self.engine.reset(self.levels, mask))

    def seed(self, seed: int | None, drawn: int) -> None:
        """Draw random levels from a new generator if a seed was given or there is none yet."""
        if seed is not None or self.rng is None:
            self.rng = named_generator(drawn, "levels")

    def _sample(self, n: int) -> LevelBatch:
        assert self.rng is not None, "the environment seeds before it starts"
        return self.domain.sample(n, self.rng)


def _spread(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`mask` `[N]` with as many axes as `like` `[N, ...]`."""
    return mask.view(-1, *[1] * (like.dim() - 1))


def _check_render_mode(render_mode: str | None) -> str | None:
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    return render_mode


class DomainEnv(gymnasium.Env[Any, Any]):
    """One environment; a domain's own class says how its `EngineAdapter` is made."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # Gymnasium declares its type

    def __init__(self, adapter: EngineAdapter, render_mode: str | None) -> None:
        self.render_mode = _check_render_mode(render_mode)
        self._adapter = adapter
        self.observation_space = adapter.observation_space
        self.action_space = adapter.engine.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode. `options["level"]`, if given, is played from now on (None: random levels)."""
        super().reset(seed=seed)
        self._adapter.seed(seed, self.np_random_seed)
        return _first(self._adapter.start(options)), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one action."""
        step = self._adapter.engine.step(torch.as_tensor(np.asarray(action)[None]))
        observation = _first(self._adapter.observe(step.observation))
        return observation, float(step.reward), bool(step.terminated), bool(step.truncated), {}

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]  # Gymnasium's type is an unbound variable
        """A picture of the current state, `[rows, columns, 3]`; None without a render mode."""
        return None if self.render_mode is None else self._adapter.render()[0]


def _first(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {name: array[0] for name, array in observation.items()}
    return observation[0]


class DomainVectorEnv(VectorEnv[Any, NDArray[Any], NDArray[Any]]):
    """N environments; a domain's own class says how its `EngineAdapter` is made."""

    metadata = {  # noqa: RUF012  # Gymnasium declares its type
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(self, adapter: EngineAdapter, render_mode: str | None) -> None:
        self.num_envs = adapter.num_envs
        self.render_mode = _check_render_mode(render_mode)
        self._adapter = adapter
        self._ended = torch.zeros(self.num_envs, dtype=torch.bool)
        self.single_observation_space = adapter.observation_space
        self.single_action_space = adapter.engine.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode everywhere. `options["level"]`, if given, is played from now on (None: random levels)."""
        super().reset(seed=seed)
        assert self.np_random_seed is not None, "Gymnasium draws a seed where there is none"
        self._adapter.seed(seed, self.np_random_seed)
        self._ended = torch.zeros(self.num_envs, dtype=torch.bool)
        return self._adapter.start(options), {}

    def step(self, actions: NDArray[Any]) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Advance every environment by one action; those that ended in the step before start anew instead."""
        step = self._adapter.engine.step(torch.as_tensor(np.asarray(actions)))
        going = ~self._ended
        restart = not bool(going.all())
        observation = self._adapter.restart(self._ended) if restart else self._adapter.observe(step.observation)
        terminated, truncated = step.terminated & going, step.truncated & going
        self._ended = terminated | truncated
        return observation, (step.reward * going).numpy(), terminated.numpy(), truncated.numpy(), {}

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:  # type: ignore[override]  # as in `DomainEnv`
        """Pictures of the current states, one an environment; None without a render mode."""
        return None if self.render_mode is None else tuple(self._adapter.render())
