"""A curriculum in a script of one's own for RLlib."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from ray_cluster import Machine
from ray_environments import needs_ray

from clutr.agents.rllib.serialization import pack_levels
from clutr.curricula.base import Context
from clutr.curricula.paired import PAIREDConfig
from clutr.curricula.plr import PLRConfig, RobustPLRConfig
from clutr.envs.maze.domain import MazeDomain
from clutr.rllib import CurriculumLoop, LevelEnv, statistics_of

pytestmark = needs_ray

SIZE: dict[str, Any] = {"height": 5, "width": 5, "max_obstacles": 6, "max_steps": 10}
MAZES = MazeDomain(**SIZE)
EXAMPLE = Path(__file__).parents[3] / "examples" / "rllib_curriculum.py"


def test_an_environment_plays_the_level_it_was_given() -> None:
    """From the next episode on; each episode is told under the key of the level that it was played on."""
    levels = MAZES.sample(2, torch.Generator().manual_seed(0))
    env = LevelEnv(gymnasium.make("clutr/Maze-v0", **SIZE))
    env.reset(seed=1)
    for _ in range(10):  # turning on the spot until the time limit
        env.step(0)
    assert env.episodes == []  # a level that nobody gave
    env.give(pack_levels(levels[0]))
    first, _ = env.reset()
    env.give(pack_levels(levels[1]))
    for _ in range(10):
        env.step(0)
    second, _ = env.reset()
    for _ in range(10):
        env.step(0)
    assert env.episodes == [(key, 0.0, 10, False) for key in levels.key()]
    for seen, level in ((first, levels[0]), (second, levels[1])):
        expected = MAZES.engine(1).reset(level)
        assert np.array_equal(seen["image"], expected["image"][0].numpy())


def test_statistics_of_episodes() -> None:
    """Of level a: returns 0.5 and 0; b was not finished; c is of another proposal; environments 0 and 2 share a."""
    episodes = [("a", 0.5, 4, True), ("c", 1.0, 1, True), ("a", 0.0, 10, False)]
    found = statistics_of(["a", "b", "a"], episodes)
    assert found.mean_return.tolist() == [0.25, 0, 0.25]
    assert found.best_return.tolist() == [0.5, 0, 0.5]
    assert found.square_return.tolist() == [0.125, 0, 0.125]
    assert found.solved.tolist() == [0.5, 0, 0.5]
    assert found.length.tolist() == [7, 0, 7]
    assert found.episodes.tolist() == [2, 0, 0]


def algorithm(env: Any = None, mode: Any = "sync") -> Any:
    """One that does not train, with an environment that nobody plays."""
    env = env or LevelEnv(gymnasium.make("clutr/Maze-v0", **SIZE))
    runner = SimpleNamespace(env=SimpleNamespace(unwrapped=SimpleNamespace(envs=[env])), worker_index=1)

    def each(work: Any, local_env_runner: bool) -> list[Any]:
        return [work(runner)]

    group = SimpleNamespace(foreach_env_runner=each)
    config = SimpleNamespace(num_env_runners=1, num_envs_per_env_runner=1, gym_env_vectorize_mode=mode)
    return SimpleNamespace(config=config, env_runner_group=group, train=dict)


def test_curricula_that_cannot_be_used_say_why() -> None:
    context = Context(MAZES, seed=1)
    with pytest.raises(ValueError, match=r"needs the students protagonist, antagonist.*--backend rllib` can"):
        CurriculumLoop(algorithm(), PAIREDConfig(filters=2, recurrent=8).build(context))
    with pytest.raises(ValueError, match="looks at levels without learning from them"):
        CurriculumLoop(algorithm(), RobustPLRConfig(capacity=4, score="learnability").build(context)).train()
    with pytest.raises(ValueError, match="which RLlib does not tell; choose another score"):
        CurriculumLoop(algorithm(), PLRConfig(capacity=4, score="value_l1").build(context)).train()
    with pytest.raises(ValueError, match="do not change within an iteration of RLlib's loop: set levels_per_rollout"):
        CurriculumLoop(algorithm(), replaying(context)).train()


def replaying(context: Context) -> Any:
    """A curriculum that changes levels with the episode, and has some to replay."""
    options: dict[str, Any] = {"capacity": 1, "replay_probability": 1.0, "score": "learnability"}
    curriculum = PLRConfig(levels_per_rollout=2, **options).build(context)
    levels = MAZES.sample(1, torch.Generator().manual_seed(1))
    curriculum.buffer.insert(levels, torch.ones(1), best_return=torch.ones(1))
    return curriculum


def test_environments_that_no_level_can_be_given_to_are_refused() -> None:
    curriculum = PLRConfig(capacity=4, score="learnability").build(Context(MAZES, seed=1))
    CurriculumLoop(algorithm(mode=gymnasium.VectorizeMode.SYNC), curriculum)
    for mode in ("async", gymnasium.VectorizeMode.VECTOR_ENTRY_POINT):
        with pytest.raises(ValueError, match=r"in the runner itself: gym_env_vectorize_mode must be 'sync', got .*"):
            CurriculumLoop(algorithm(mode=mode), curriculum)
    with pytest.raises(TypeError, match=r"levels of LevelEnvs; wrap MazeEnv in clutr\.rllib\.LevelEnv"):
        CurriculumLoop(algorithm(gymnasium.make("clutr/Maze-v0", **SIZE)), curriculum)


def test_the_example_runs(head: Machine) -> None:
    spec = importlib.util.spec_from_file_location("rllib_curriculum", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    loop = example.main(iterations=2, runners=0, batch=400)
    assert loop.observed
    loop.algorithm.stop()
