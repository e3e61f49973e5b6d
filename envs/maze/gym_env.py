"""Mazes as Gymnasium environments, single and vectorised: what third-party code sees of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from gymnasium.vector import AutoresetMode

from clutr.envs.capabilities import RenderingEngine
from clutr.envs.domain import LevelBatch
from clutr.envs.gym_env import DomainEnv, DomainVectorEnv, EngineAdapter, limit_given_to_make, steps_or
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.maze.level import MazeLevels

Level = MazeLevels | str | Path | None
"""Levels as such, as text or JSON that `clutr.envs.maze.text.parse` reads, a file of it, or None: random ones,
fresh in each episode."""


class _MazeAdapter(EngineAdapter):
    """Mazes of any size; an engine plays one size, so another size needs another engine."""

    level_type: ClassVar[type[LevelBatch]] = MazeLevels
    domain: MazeDomain

    def engine_for(self, levels: LevelBatch | None) -> RenderingEngine:
        domain = self.domain
        height, width = domain.height, domain.width
        if levels is not None:
            assert isinstance(levels, MazeLevels)
            height, width = levels.height, levels.width
        held = getattr(self, "engine", None)
        if isinstance(held, MazeEngine) and (held.height, held.width) == (height, width):
            return held
        return MazeEngine(
            self.num_envs,
            height,
            width,
            max_steps=domain.max_steps,
            see_through_walls=domain.see_through_walls,
            view=domain.view,
        )


def _adapter(num_envs: int, level: Level, options: dict[str, Any], limit: int | None) -> _MazeAdapter:
    domain = MazeDomain(**options)
    limit = steps_or(limit, domain.max_steps)
    return _MazeAdapter(num_envs, level, replace(domain, max_steps=limit), limit)


class MazeEnv(DomainEnv):
    """One maze: `gymnasium.make("clutr/Maze-v0", level=...)`.

    An observation has `image`, uint8 `[view, view, 3]` in MiniGrid's codes, and `direction` in 0..3; actions are
    MiniGrid's seven. The reward is 1 - 0.9 * steps / max_steps at the goal, otherwise 0.

    Args:
        level: the level that every episode plays, of any size; None: a fresh random one in each episode, drawn from
            the generator that `reset(seed=...)` seeds. `reset(options={"level": ...})` replaces it from then on.
        render_mode: None or "rgb_array".
        options: fields of `clutr.envs.maze.domain.MazeDomain`: size and obstacle budget of random levels, `max_steps`,
            `see_through_walls`, `view`. `max_episode_steps` of `gymnasium.make`, if given, replaces `max_steps`,
            also for the reward.

    Raises:
        LevelError: the text is no level; the message names line and reason.
        ValueError: not exactly one level, or an option is out of its range.
    """

    def __init__(self, level: Level = None, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(_adapter(1, level, options, limit_given_to_make()), render_mode)


class MazeVectorEnv(DomainVectorEnv):
    """N mazes at once: `gymnasium.make_vec("clutr/Maze-v0", num_envs=N, level=...)`.

    Observations, rewards (float32) and ends are as `MazeEnv`'s with a leading axis N.

    Args:
        num_envs: N.
        level: as for `MazeEnv`: one level for all, or N levels of one size.
        render_mode: None or "rgb_array".
        max_episode_steps: replaces `max_steps`, if given.
        autoreset_mode: Gymnasium's `AutoresetMode`: what follows an episode's end (see `DomainVectorEnv.step`).
        options: as for `MazeEnv`.
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
