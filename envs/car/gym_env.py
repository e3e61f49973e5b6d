"""Cars as Gymnasium environments, single and vectorised: what third-party code sees of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from clutr.envs.car.domain import CarDomain
from clutr.envs.car.road.level import RoadLevels
from clutr.envs.domain import LevelBatch, Observation
from clutr.envs.gym_env import DomainEnv, DomainVectorEnv, EngineAdapter, limit_given_to_make, steps_or

Level = RoadLevels | str | Path | None
"""Roads as such, text that `clutr.envs.car.road.text.parse` reads (control points, a centre line), a file of it,
or None: random Bezier roads."""


class _CarAdapter(EngineAdapter):
    """Cars on any roads; the environment shows the picture itself, as `CarRacing-v3` does."""

    level_type: ClassVar[type[LevelBatch]] = RoadLevels
    end_info: ClassVar[str | None] = "lap_finished"

    def observe(self, observation: Observation) -> NDArray[np.uint8]:
        return np.array(observation["image"].numpy())

    @property
    def observation_space(self) -> Space[Any]:
        return self.engine.observation_space["image"]


def _adapter(num_envs: int, level: Level, options: dict[str, Any], limit: int | None) -> _CarAdapter:
    # As CarRacing-v3: one frame an action, and its own reward. Students are trained with 8 frames and a shaped reward.
    domain = CarDomain(**{"action_repeat": 1, "shaped": False, **options})
    steps = steps_or(limit, -(-domain.max_frames // domain.action_repeat))
    if limit is not None:
        domain = replace(domain, max_frames=steps * domain.action_repeat)
    return _CarAdapter(num_envs, level, domain, steps)


class CarEnv(DomainEnv):
    """One car: `gymnasium.make("clutr/CarRacing-v0", level=...)`.

    Observations, actions and rewards are those of `CarRacing-v3`: uint8 `[96, 96, 3]`; steering, gas and brake; -0.1 a
    frame and 1000 / tiles a tile. Where an episode terminates, `info["lap_finished"]` says how. The camera does not
    zoom in at the start, and roads are Bezier curves unless given.

    Args:
        level: the road that every episode plays: `BezierLevels`, `CentreLineLevels`, or text in the formats of
            `clutr.envs.car.road.text`; None: a fresh random one in each episode, drawn from the generator that
            `reset(seed=...)` seeds. `reset(options={"level": ...})` replaces it from then on.
        render_mode: None or "rgb_array" (the picture that the agent sees).
        options: fields of `clutr.envs.car.domain.CarDomain`; by default `action_repeat=1` and `shaped=False`.
            `gymnasium.make`'s own `max_episode_steps` counts steps of `action_repeat` frames and, if given, replaces
            `max_frames`.

    Raises:
        LevelError: the text is no level; the message names line and reason.
        ValueError: not exactly one level, or an option is out of its range.
    """

    def __init__(self, level: Level = None, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(_adapter(1, level, options, limit_given_to_make()), render_mode)


class CarVectorEnv(DomainVectorEnv):
    """N cars at once: `gymnasium.make_vec("clutr/CarRacing-v0", num_envs=N, level=...)`.

    Observations, rewards (float32) and ends are as `CarEnv`'s with a leading axis N.

    Args:
        num_envs: N.
        level: as for `CarEnv`: one level for all, or N levels.
        render_mode: None or "rgb_array".
        max_episode_steps: in steps of `action_repeat` frames; replaces `max_frames`, if given.
        autoreset_mode: Gymnasium's `AutoresetMode`: what follows an episode's end (see `DomainVectorEnv.step`).
        options: as for `CarEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        level: Level = None,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **options: Any,
    ) -> None:
        super().__init__(_adapter(num_envs, level, options, max_episode_steps), render_mode, autoreset_mode)
