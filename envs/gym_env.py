"""Domains as Gymnasium environments: what every single and every vector environment share."""

import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from clutr.envs.capabilities import RenderingEngine, Text
from clutr.envs.domain import LevelBatch, Observation
from clutr.envs.level_files import read_levels
from clutr.envs.randomness import named_generator

Seed = int | Sequence[int | None] | None
"""One seed, or one for each environment (None: it goes on with the generator that it has)."""


class EngineAdapter:
    """An engine and its levels, in Gymnasium's terms. What it returns is the caller's own: no engine looks at it again.

    Args:
        num_envs: N.
        level: levels as such, text that `parse` reads, a file that holds such text, or None: random ones, fresh in each
            episode.
        domain: reads levels, draws the random ones and makes the engine.
        max_episode_steps: steps after which the domain's engine truncates an episode.
    """

    level_type: ClassVar[type[LevelBatch]]
    """What can be played."""
    end_info: ClassVar[str | None] = None
    """What `info` calls success where an episode terminates; None: it says nothing."""
    engine: RenderingEngine

    def __init__(self, num_envs: int, level: Any, domain: Text, max_episode_steps: int) -> None:
        self.num_envs = num_envs
        self.domain = domain
        self.max_episode_steps = max_episode_steps
        self.fixed = self._read(level)
        self.levels: LevelBatch | None = None
        self.rng: torch.Generator | list[torch.Generator] | None = None
        """One for all environments, or one for each."""
        self.engine = self.engine_for(self.fixed)

    def engine_for(self, levels: LevelBatch | None) -> RenderingEngine:  # noqa: ARG002 (one engine plays them all)
        """An engine that can play these levels, or random ones; the present one if it can."""
        engine: Any = getattr(self, "engine", None) or self.domain.engine(self.num_envs)
        return engine  # type: ignore[no-any-return]

    def render(self) -> NDArray[np.uint8]:
        """Pictures of the current states, `[N, rows, columns, 3]`. Raises `RuntimeError` before the first reset."""
        if self.levels is None:
            raise RuntimeError("reset the environment before rendering")
        return self.engine.render()

    def observe(self, observation: Observation) -> Any:
        """What the environment shows of an engine's observation: arrays with a leading axis N, copied."""
        return {name: np.array(value.numpy(), order="C") for name, value in observation.items()}

    def end(self, index: int) -> dict[str, Any]:
        """What `info` holds where the episode of an environment has just terminated."""
        return {} if self.end_info is None else {self.end_info: bool(self.engine.solved[index])}

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
        levels = self._sample(list(range(self.num_envs))) if self.fixed is None else self.fixed
        self.engine = self.engine_for(levels)
        observation = self.engine.reset(levels)
        self.levels = levels
        return self.observe(observation)

    def restart(self, mask: torch.Tensor) -> Any:
        """Begin the next episode in the environments of `mask`: on a fresh level if levels are random."""
        if self.fixed is not None or self.levels is None:
            return self.observe(self.engine.reset(mask=mask))
        fresh = self._sample(mask.nonzero().flatten().tolist()).tensors()
        tensors = {
            name: value.masked_scatter(_spread(mask, value), fresh[name])
            for name, value in self.levels.tensors().items()
        }
        self.levels = type(self.levels).from_tensors(tensors)
        return self.observe(self.engine.reset(self.levels, mask))

    def seed(self, seed: Seed, drawn: int) -> None:
        """Draw random levels from a new generator if a seed was given or there is none yet (then from `drawn`).

        With one seed for each environment, each draws what it would draw alone.
        """
        if isinstance(seed, Sequence):
            held = self.rng if isinstance(self.rng, list) else None
            self.rng = [
                held[index]
                if one is None and held is not None
                else named_generator(seeding.np_random(one)[1], "levels")
                for index, one in enumerate(seed)
            ]
        elif seed is not None or self.rng is None:
            self.rng = named_generator(drawn, "levels")

    def _sample(self, where: list[int]) -> LevelBatch:
        assert self.rng is not None, "the environment seeds before it starts"
        if not isinstance(self.rng, list):
            return self.domain.sample(len(where), self.rng)
        levels = [self.domain.sample(1, self.rng[index]) for index in where]
        return levels[0].concatenate(levels)


def _spread(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`mask` `[N]` with as many axes as `like` `[N, ...]`."""
    return mask.view(-1, *[1] * (like.dim() - 1))


def require_actions(space: gymnasium.Space[Any], actions: NDArray[Any]) -> torch.Tensor:
    """Actions `[N, ...]` as an engine takes them. What a number outside of a box's bounds does is the engine's choice.

    Raises:
        ValueError: an action is none: no whole number in its range, or no finite number.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        most = int(space.n) - 1
        if not (np.issubdtype(actions.dtype, np.integer) and ((actions >= 0) & (actions <= most)).all()):
            raise ValueError(f"an action must be a whole number in 0..{most}, got {actions.tolist()}")
    elif not (np.issubdtype(actions.dtype, np.number) and np.isfinite(actions).all()):
        raise ValueError(f"an action must be {space.shape} finite numbers, got {actions.tolist()}")
    return torch.as_tensor(actions)


def _check_render_mode(render_mode: str | None) -> str | None:
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    return render_mode


def steps_or(asked: int | None, usual: int) -> int:
    """`max_episode_steps`, or the usual limit where nobody asks for one. Raises `ValueError` for less than a step."""
    if asked is not None and not (isinstance(asked, int) and asked >= 1):
        raise ValueError(f"max_episode_steps must be a whole number of at least 1, got {asked!r}")
    return usual if asked is None else asked


def limit_given_to_make() -> int | None:
    """`max_episode_steps` of the `gymnasium.make` that is making one of our environments now; None: there is none.

    `make` tells only a `TimeLimit` around the environment, which makes episodes shorter but never longer, and which the
    reward of a maze does not know of. So it is looked up in the call itself.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not gymnasium.make.__code__:
        frame = frame.f_back
    spec = frame.f_locals.get("env_spec") if frame is not None else None
    if frame is None or spec is None or not spec.id.startswith("clutr/"):
        return None
    asked = frame.f_locals.get("max_episode_steps")
    asked = spec.max_episode_steps if asked is None else asked
    return None if asked == -1 else asked  # -1 is Gymnasium's word for no `TimeLimit`


class _Limited:
    """An environment whose `spec` tells its time limit, as wrappers such as `TimeAwareObservation` expect."""

    _adapter: EngineAdapter
    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """How Gymnasium made the environment; None if it did not."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = copy.copy(spec)
        if self._spec is not None:
            self._spec.max_episode_steps = self._adapter.max_episode_steps


class DomainEnv(_Limited, gymnasium.Env[Any, Any]):
    """One environment; a domain's own class says how its `EngineAdapter` is made."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # Gymnasium declares its type

    def __init__(self, adapter: EngineAdapter, render_mode: str | None) -> None:
        self.metadata = self.metadata | {"render_fps": adapter.engine.render_fps}
        self.render_mode = _check_render_mode(render_mode)
        self._adapter = adapter
        self.observation_space = adapter.observation_space
        self.action_space = adapter.engine.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode. `options["level"]`, if given, is played from now on (None: random levels)."""
        super().reset(seed=seed)
        self._adapter.seed(seed, self.np_random_seed)
        return _row(self._adapter.start(options), 0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one action."""
        step = self._adapter.engine.step(require_actions(self.action_space, np.asarray(action)[None]))
        observation = _row(self._adapter.observe(step.observation), 0)
        terminated = bool(step.terminated)
        info = self._adapter.end(0) if terminated else {}
        return observation, float(step.reward), terminated, bool(step.truncated), info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]  # Gymnasium's type is an unbound variable
        """A picture of the current state, `[rows, columns, 3]`; None without a render mode."""
        return None if self.render_mode is None else self._adapter.render()[0]


def _row(observation: Any, index: int) -> Any:
    if isinstance(observation, dict):
        return {name: array[index] for name, array in observation.items()}
    return observation[index]


class DomainVectorEnv(_Limited, VectorEnv[Any, NDArray[Any], NDArray[Any]]):
    """N environments; a domain's own class says how its `EngineAdapter` is made."""

    metadata = {  # noqa: RUF012  # Gymnasium declares its type
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(self, adapter: EngineAdapter, render_mode: str | None, autoreset_mode: AutoresetMode | str) -> None:
        try:
            self._mode = AutoresetMode(autoreset_mode)
        except ValueError:
            known = ", ".join(repr(mode.value) for mode in AutoresetMode)
            raise ValueError(f"autoreset_mode must be {known}, got {autoreset_mode!r}") from None
        self.metadata = self.metadata | {"render_fps": adapter.engine.render_fps, "autoreset_mode": self._mode}
        self.num_envs = adapter.num_envs
        self.render_mode = _check_render_mode(render_mode)
        self._adapter = adapter
        self._ended = torch.zeros(self.num_envs, dtype=torch.bool)
        self.single_observation_space = adapter.observation_space
        self.single_action_space = adapter.engine.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed: Seed = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes.

        Args:
            seed: one seed, or a list of one for each environment, which then draws the levels that it would draw alone.
            options: `level`, played from now on everywhere (None: random levels); `reset_mask`, `[N]` bool: only these
                environments begin anew, on the next level if levels are random.

        Raises:
            LevelError: the level cannot be read.
            ValueError: seeds or mask do not fit, or there are other options.
            RuntimeError: not all environments are reset, and this is the first time.
        """
        options = dict(options or {})
        mask = self._reset_mask(options)
        if seed is not None and not isinstance(seed, int | np.integer):
            seed = [one if take else None for one, take in zip(self._seeds(seed), mask.tolist(), strict=True)]
        super().reset(seed=None if isinstance(seed, list) else seed)
        assert self.np_random_seed is not None, "Gymnasium draws a seed where there is none"
        self._adapter.seed(seed, self.np_random_seed)
        self._ended = self._ended & ~mask
        return self._adapter.start(options) if bool(mask.all()) else self._adapter.restart(mask), {}

    def _seeds(self, seeds: Any) -> list[int | None]:
        listed = list(seeds)
        if len(listed) != self.num_envs:
            raise ValueError(f"expected one seed for each of {self.num_envs} environments, got {len(listed)}")
        return listed

    def _reset_mask(self, options: dict[str, Any]) -> torch.Tensor:
        if "reset_mask" not in options:
            return torch.ones(self.num_envs, dtype=torch.bool)
        mask = np.asarray(options.pop("reset_mask"))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise ValueError(
                f"reset_mask must be {self.num_envs} booleans, some of them true, got {mask.dtype} {list(mask.shape)}"
            )
        if not mask.all() and options:
            raise ValueError("options: reset_mask cannot be combined with a level, which all environments play")
        if not mask.all() and self._adapter.levels is None:
            raise RuntimeError("the first reset must be of all environments, without reset_mask")
        return torch.from_numpy(mask.copy())

    def step(self, actions: NDArray[Any]) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Advance every environment by one action.

        What follows an episode's end is `autoreset_mode`'s choice: the next episode begins in the step after, whose
        action is ignored (NEXT_STEP); at once, and `info` holds `final_obs` and `final_info` (SAME_STEP); or with
        `reset(options={"reset_mask": ...})` (DISABLED), before which `step` raises `RuntimeError`.
        """
        adapter, over = self._adapter, self._ended
        if self._mode == AutoresetMode.DISABLED and bool(over.any()):
            which = ", ".join(map(str, over.nonzero().flatten().tolist()))
            raise RuntimeError(f"episodes have ended in environments {which}: reset them (options['reset_mask']) first")
        step = adapter.engine.step(require_actions(self.single_action_space, np.asarray(actions)))
        terminated, truncated = step.terminated & ~over, step.truncated & ~over
        ends = terminated | truncated
        found: dict[int, dict[str, Any]] = {
            index: adapter.end(index) if terminated[index] else {} for index in ends.nonzero().flatten().tolist()
        }
        restart = ends if self._mode == AutoresetMode.SAME_STEP else over
        self._ended = ends & ~restart
        infos: dict[str, Any] = {}
        if bool(restart.any()):
            if self._mode == AutoresetMode.SAME_STEP:
                final = adapter.observe(step.observation)
                found = {i: {"final_obs": _row(final, i), "final_info": info} for i, info in found.items()}
            observation = adapter.restart(restart)
        else:
            observation = adapter.observe(step.observation)
        for index, info in found.items():
            infos = self._add_info(infos, info, index)
        return observation, (step.reward * ~over).numpy(), terminated.numpy(), truncated.numpy(), infos

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:  # type: ignore[override]  # as in `DomainEnv`
        """Pictures of the current states, one an environment; None without a render mode."""
        return None if self.render_mode is None else tuple(self._adapter.render())
