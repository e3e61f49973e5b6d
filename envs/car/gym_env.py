"""Cars as Gymnasium environments, single and vectorised: what third-party code sees of them."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from clutr.envs.car.domain import CarDomain
from clutr.envs.car.road.level import RoadLevels
from clutr.envs.domain import LevelBatch, Observation
from clutr.envs.gym_env import DomainEnv, DomainVectorEnv, EngineAdapter

Level = RoadLevels | str | Path | None
"""Roads as such, text that `clutr.envs.car.road.text.parse` reads (control points, a centre line), a file of it,
or None: random Bezier roads."""


class _CarAdapter(EngineAdapter):
    """Cars on any roads; the environment shows the picture itself, as `CarRacing-v3` does."""

    level_type: ClassVar[type[LevelBatch]] = RoadLevels

    def observe(self, observation: Observation) -> NDArray[np.uint8]:
        self._shown: NDArray[np.uint8] = observation["image"].numpy()
        return self._shown

    @property
    def observation_space(self) -> Space[Any]:
        return self.engine.observation_space["image"]

    def draw(self) -> NDArray[np.uint8]:
        return self._shown


def _domain(options: dict[str, Any]) -> CarDomain:
    # As CarRacing-v3: one frame an action, and its own reward. Students are trained with 8 frames and a shaped reward.
    return CarDomain(**{"action_repeat": 1, "shaped": False, **options})


class CarEnv(DomainEnv):
    """One car: `gymnasium.make("clutr/CarRacing-v0", level=...)`.

    Observations, actions and rewards are those of `CarRacing-v3`: uint8 `[96, 96, 3]`; steering, gas and brake; -0.1 a
    frame and 1000 / tiles a tile. The camera does not zoom in at the start, and roads are Bezier curves unless given.

    Args:
        level: the road that every episode plays: `BezierLevels`, `CentreLineLevels`, or text in the formats of
            `clutr.envs.car.road.text`; None: a fresh random one in each episode, drawn from the generator that
            `reset(seed=...)` seeds. `reset(options={"level": ...})` replaces it from then on.
        render_mode: None or "rgb_array" (the picture that the agent sees).
        options: fields of `clutr.envs.car.domain.CarDomain`; by default `action_repeat=1` and `shaped=False`.

    Raises:
        LevelError: the text is no level; the message names line and reason.
        ValueError: not exactly one level, or an option is out of its range.
    """

    def __init__(self, level: Level = None, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(_CarAdapter(1, level, _domain(options)), render_mode)


class CarVectorEnv(DomainVectorEnv):
    """N cars at once: `gymnasium.make_vec("clutr/CarRacing-v0", num_envs=N, level=...)`.

    Observations, rewards (float32) and ends are as `CarEnv`'s with a leading axis N. An environment whose episode
    has ended starts its next one in the following step, whose action it ignores (Gymnasium's NEXT_STEP).

    Args:
        num_envs: N.
        level: as for `CarEnv`: one level for all, or N levels.
        render_mode: None or "rgb_array".
        options: as for `CarEnv`.
    """

    def __init__(self, num_envs: int = 1, level: Level = None, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(_CarAdapter(num_envs, level, _domain(options)), render_mode)
