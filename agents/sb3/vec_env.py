"""Our batched engines as a `VecEnv`, for scripts of one's own: it owns which level plays where."""

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.agents.sb3.preprocessing import VIEWS
from clutr.agents.sb3.requirement import require_sb3
from clutr.envs.capabilities import RenderingEngine
from clutr.envs.domain import Engine, LevelBatch, Observation

require_sb3()

from stable_baselines3.common.vec_env import VecEnv  # noqa: E402


class LevelVecEnv(VecEnv):
    """N environments, each of which plays its own level again and again, until it gets another.

    Episodes restart by themselves, on the same level. `info` holds `level`, the key of the level that the step was
    played on, `TimeLimit.truncated`, and where an episode ended `terminal_observation` and `is_success`. An option or
    a seed given to a reset changes nothing: levels hold all that makes them replayable. It can be pickled, and filmed
    by `VecVideoRecorder` if the engine draws (`clutr.envs.capabilities.RenderingEngine`).

    Args:
        engine: N environments.
        levels: N levels, one an environment.
        view: how observations are shown: "plain" as `gymnasium.make` gives them, "image" as MiniGrid's
            `ImgObsWrapper`, "flat" as Gymnasium's `FlattenObservation`, "symbols" a maze's cells and heading one-hot.

    Raises:
        ValueError: the view is unknown or impossible, or there is not one level an environment.
    """

    def __init__(self, engine: Engine, levels: LevelBatch, view: str = "plain") -> None:
        if view not in VIEWS:
            raise ValueError(f"view must be {', '.join(VIEWS)}, got {view!r}")
        self.engine = engine
        self._view_name = view
        self.view = VIEWS[view](engine.observation_space)
        self._require_one_each(levels, engine.num_envs)
        self.levels = levels
        """What plays now."""
        self._keys = levels.key()
        self._next = levels
        self._actions: NDArray[Any] | None = None
        self.record: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        """Rewards, terminated, truncated and solved, `[N]` each, of every step since `start_record`."""
        self._recording = False
        self.render_mode: str | None = "rgb_array" if _draws(engine) else None
        super().__init__(engine.num_envs, self.view.space, engine.action_space)
        if _draws(engine):
            self.metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": engine.render_fps}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"view": None}  # it holds functions

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.view = VIEWS[self._view_name](self.engine.observation_space)

    @staticmethod
    def _require_one_each(levels: LevelBatch, n: int) -> None:
        if len(levels) != n:
            raise ValueError(f"expected one level for each of {n} environments, got {len(levels)}")

    def set_levels(self, levels: LevelBatch, indices: int | Sequence[int] | None = None) -> None:
        """Give environments their next levels: each plays its own from its next episode on, `reset` starts them all.

        Args:
            levels: one for each of `indices`.
            indices: environments; None: all of them.

        Raises:
            TypeError: some environments are given another kind of level than the others have.
            ValueError: there is not one level for each.
        """
        where = list(self._get_indices(indices))
        self._require_one_each(levels, len(where))
        if indices is None:
            self._next = levels
            return
        if type(levels) is not type(self._next):
            raise TypeError(f"the other environments play {type(self._next).__name__}, not {type(levels).__name__}")
        tensors = {name: value.clone() for name, value in self._next.tensors().items()}
        for name, value in levels.tensors().items():
            tensors[name][where] = value
        self._next = type(levels).from_tensors(tensors)

    def start_record(self) -> None:
        """Forget the steps recorded so far, and record from now on."""
        self.record, self._recording = [], True

    def reset(self) -> Any:
        """Start an episode everywhere, on the levels given last."""
        self.levels, self._keys = self._next, self._next.key()
        self._reset_seeds()
        self._reset_options()
        return self._shown(self.engine.reset(self.levels))

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = np.asarray(actions)

    def step_wait(self) -> Any:
        """Observations, rewards, dones, infos. Where an episode ended, the next one's first observation is shown."""
        if self._actions is None:
            raise RuntimeError("give actions with step_async before step_wait")
        actions, self._actions = torch.from_numpy(self._actions), None
        step = self.engine.step(actions.to(self.engine.device))
        dones = step.terminated | step.truncated
        truncated = step.truncated & ~step.terminated
        if self._recording:
            self.record.append((step.reward, step.terminated, truncated, self.engine.solved & dones))
        infos: list[dict[str, Any]] = [
            {"level": key, "TimeLimit.truncated": late}
            for key, late in zip(self._keys, truncated.tolist(), strict=True)
        ]
        observation = step.observation
        if bool(dones.any()):
            last, solved = self._shown(observation), self.engine.solved.tolist()
            for index in dones.nonzero().squeeze(1).tolist():
                infos[index]["terminal_observation"] = _row(last, index)
                infos[index]["is_success"] = solved[index]
            observation = self._restart(dones)
        # copies: algorithms add to the rewards that they are given
        return self._shown(observation), step.reward.cpu().numpy().copy(), dones.cpu().numpy().copy(), infos

    def _restart(self, dones: Tensor) -> Observation:
        if self._next is self.levels:
            return self.engine.reset(mask=dones)
        old, mask = self.levels.tensors(), dones.cpu()
        tensors = {
            name: torch.where(mask.view(-1, *[1] * (value.ndim - 1)), value, old[name])
            for name, value in self._next.tensors().items()
        }
        self.levels = type(self._next).from_tensors(tensors)
        self._keys = self.levels.key()
        if self._keys == self._next.key():
            self.levels = self._next
        return self.engine.reset(self.levels, dones)

    def _shown(self, observation: Observation) -> Any:
        shown = self.view.show(observation)
        if isinstance(shown, dict):
            return {name: np.array(value.cpu().numpy(), order="C") for name, value in shown.items()}
        return np.array(shown.cpu().numpy(), order="C")

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Pictures of the current states, one an environment; Nones if the engine draws none."""
        return list(self.engine.render()) if _draws(self.engine) else [None] * self.num_envs

    def close(self) -> None:
        """Nothing is held open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """`level` and `level_key` of single environments; any other attribute is the same for all of them."""
        where = list(self._get_indices(indices))
        if attr_name == "level":
            return [self.levels[index] for index in where]
        if attr_name == "level_key":
            return [self._keys[index] for index in where]
        return [getattr(self, attr_name)] * len(where)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set `level`, one level that these environments play from their next episode on; nothing else is per env.

        Raises:
            AttributeError: for another attribute.
        """
        if attr_name != "level":
            raise AttributeError(f"of single environments only `level` can be set, not {attr_name!r}")
        where = list(self._get_indices(indices))
        self.set_levels(value[torch.zeros(len(where), dtype=torch.int64)], where)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """`set_level(level)`, and `get_wrapper_attr(name)`.

        Raises:
            AttributeError: for another method: the environments are one batch, not objects with methods.
        """

        def set_level(level: LevelBatch) -> list[Any]:
            self.set_attr("level", level, indices)
            return [None] * len(list(self._get_indices(indices)))

        def get_wrapper_attr(name: str) -> list[Any]:
            return self.get_attr(name, indices)

        methods: dict[str, Callable[..., list[Any]]] = {"set_level": set_level, "get_wrapper_attr": get_wrapper_attr}
        if method_name not in methods:
            raise AttributeError(f"single environments have the methods {', '.join(methods)}, not {method_name!r}")
        return methods[method_name](*method_args, **method_kwargs)

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Any = None) -> list[bool]:  # type: ignore[type-arg]
        """Single environments are never wrapped."""
        del wrapper_class
        return [False] * len(list(self._get_indices(indices)))


def _draws(engine: Engine) -> TypeGuard[RenderingEngine]:
    # `isinstance` looks at all properties, and some have no value before the first reset
    return hasattr(engine, "render")


def _row(shown: Any, index: int) -> Any:
    if isinstance(shown, dict):
        return {name: value[index].copy() for name, value in shown.items()}
    return shown[index].copy()
