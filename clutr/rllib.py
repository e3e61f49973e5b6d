"""A curriculum in an RLlib script of one's own; `clutr train PRESET --backend rllib` needs no script.

RLlib resets environments by itself and cannot tell them which level comes next, so a level is handed to the environment
beforehand, and every episode is identified by the key of the level that it was played on.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium
import torch

from clutr.agents.rllib import require_ray
from clutr.agents.rllib.serialization import pack_levels, unpack_levels
from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import Curriculum, Outcome

Episode = tuple[str, float, int, bool]
"""The level's key, the undiscounted return, the length, and whether the environment terminated with a reward."""


class LevelEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Plays the level that it was last given, again and again, and remembers how its episodes went.

    Args:
        env: one of ours, such as `clutr/Maze-v0`; its `reset` takes `options={"level": ...}`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._given: Any = None
        self._key: str | None = None
        self._total, self._length = 0.0, 0
        self.episodes: list[Episode] = []

    def give(self, payload: dict[str, Any]) -> None:
        """Play this level from the next episode on, as `clutr.agents.rllib.serialization.pack_levels` gives it."""
        self._given = payload

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode on the level that was given; before the first, on a random one."""
        if self._given is not None:
            options = (options or {}) | {"level": unpack_levels(self._given)}
            self._key = self._given["keys"][0]
        self._total, self._length = 0.0, 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Advance by one action."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._total, self._length = self._total + float(reward), self._length + 1
        if (terminated or truncated) and self._key is not None:
            self.episodes.append((self._key, self._total, self._length, bool(terminated and float(reward) > 0)))
        return observation, reward, terminated, truncated, info


class CurriculumLoop:
    """Trains an RLlib algorithm on the levels that a curriculum chooses: propose, train, observe.

    An iteration's levels are begun as the episodes before them end. Statistics are those of returns and success; RLlib
    does not say what values its networks gave, so curricula that score levels by them cannot be used.

    Args:
        algorithm: built from a config whose environments are `LevelEnv`s, also inside other wrappers.
        curriculum: needs one student, and a score of returns, such as `learnability` or `return_variance`.

    Raises:
        ImportError: if Ray is not installed.
        TypeError: if an environment is no `LevelEnv`.
        ValueError: if the curriculum needs several students, or the environments are not vectorised in the runner
            itself (`gym_env_vectorize_mode="sync"`, RLlib's default).
    """

    def __init__(self, algorithm: Any, curriculum: Curriculum) -> None:
        require_ray()
        if len(curriculum.students) != 1:
            raise ValueError(
                f"this curriculum needs the students {', '.join(curriculum.students)}, and an algorithm of RLlib "
                + "trains one; `clutr train PRESET --backend rllib` can"
            )
        mode = algorithm.config.gym_env_vectorize_mode
        if getattr(mode, "value", mode) != "sync":
            raise ValueError(
                "levels are handed to environments in the runner itself: "
                + f"gym_env_vectorize_mode must be 'sync', got {mode!r}"
            )
        self.algorithm, self.curriculum = algorithm, curriculum
        self.runners, self.envs = algorithm.config.num_env_runners, algorithm.config.num_envs_per_env_runner
        self.observed: dict[str, float] = {}
        """Means of what the curriculum said about the last proposal."""
        others = sorted({name for names in self._each(_other_envs, None) for name in names})
        if others:
            raise TypeError(
                f"a curriculum chooses the levels of LevelEnvs; wrap {', '.join(others)} in clutr.rllib.LevelEnv"
            )

    def train(self) -> dict[str, Any]:
        """One iteration of the algorithm on a new proposal. Returns RLlib's results.

        Raises:
            ValueError: if the curriculum wants levels looked at but not learnt from, or changed within an iteration, or
                asks for statistics of values.
        """
        proposal = self.curriculum.propose(max(1, self.runners) * self.envs)
        if not bool(proposal.train.all()):
            raise ValueError("this curriculum looks at levels without learning from them, which RLlib's loop cannot do")
        if proposal.levels_per_rollout > 1:
            raise ValueError("levels do not change within an iteration of RLlib's loop: set levels_per_rollout to 1")
        levels = proposal.levels[proposal.assignment[0]]
        self._each(_give, [pack_levels(levels[i]) for i in range(len(levels))])
        results: dict[str, Any] = self.algorithm.train()
        episodes = [episode for found in self._each(_take, None) for episode in found]
        outcome = Outcome.stack(proposal, [statistics_of(levels.key(), episodes)])
        try:
            observed = self.curriculum.observe(outcome)
        except KeyError as error:
            raise ValueError(
                f"this curriculum asks for {error}, which RLlib does not tell; choose another score"
            ) from error
        self.observed = {name: float(value.float().mean()) for name, value in observed.items()}
        return results

    def _each(self, work: Any, payloads: Any) -> list[Any]:
        local = self.runners == 0
        group = self.algorithm.env_runner_group
        results: list[Any] = group.foreach_env_runner(partial(work, payloads=payloads), local_env_runner=local)
        return results


def _level_env(env: Any) -> LevelEnv | None:
    while not isinstance(env, LevelEnv):
        if not isinstance(env, gymnasium.Wrapper):
            return None
        env = env.env
    return env


def _level_envs(runner: Any) -> list[LevelEnv]:
    return [found for env in runner.env.unwrapped.envs if (found := _level_env(env)) is not None]


def _other_envs(runner: Any, payloads: None) -> list[str]:  # noqa: ARG001
    """The classes of environments that no level can be given to."""
    return [type(env.unwrapped).__name__ for env in runner.env.unwrapped.envs if _level_env(env) is None]


def _give(runner: Any, payloads: Sequence[dict[str, Any]]) -> None:
    envs = _level_envs(runner)
    first = max(0, runner.worker_index - 1) * len(envs)
    for env, payload in zip(envs, payloads[first:], strict=False):
        env.give(payload)


def _take(runner: Any, payloads: None) -> list[Episode]:  # noqa: ARG001
    taken: list[Episode] = []
    for env in _level_envs(runner):
        taken += env.episodes
        env.episodes.clear()
    return taken


def statistics_of(keys: Sequence[str], episodes: Sequence[Episode]) -> EpisodeStatistics:
    """Summarise episodes by level; those of other levels, such as the last proposal's, do not count.

    Here every finished episode counts, since environments of RLlib's runners are not told apart: where a batch cuts
    long episodes, quick ones weigh more.
    A level that several environments share has the same statistics in each, and its episodes counted in the first.
    """
    rows = []
    for index, key in enumerate(keys):
        mine = [episode for episode in episodes if episode[0] == key]
        returns = torch.tensor([total for _, total, _, _ in mine] or [0.0])
        lengths = torch.tensor([float(length) for _, _, length, _ in mine] or [0.0])
        solved = torch.tensor([float(success) for _, _, _, success in mine] or [0.0])
        first = key not in keys[:index]
        rows.append(
            [returns.mean(), returns.max(), returns.square().mean(), solved.mean(), len(mine) * first, lengths.mean()]
        )
    columns = torch.tensor(rows, dtype=torch.float32).unbind(1)
    names = ("mean_return", "best_return", "square_return", "solved", "episodes", "length")
    return EpisodeStatistics(**dict(zip(names, columns, strict=True)), scores={})
