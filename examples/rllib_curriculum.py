"""A curriculum in a script for RLlib: levels of medium difficulty (by success) are what RLlib's own PPO plays."""

from typing import Any

import gymnasium
import numpy as np
import ray
from gymnasium.wrappers import DtypeObservation, FlattenObservation
from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.registry import register_env

from clutr.curricula.base import Context
from clutr.curricula.plr import PLRConfig
from clutr.envs.maze.domain import MazeDomain
from clutr.rllib import CurriculumLoop, LevelEnv

SIZE: dict[str, Any] = {"height": 7, "width": 7, "max_obstacles": 10, "max_steps": 50}


def make(_: Any) -> gymnasium.Env[Any, Any]:
    """One environment, as RLlib's default networks like it."""
    return DtypeObservation(FlattenObservation(LevelEnv(gymnasium.make("clutr/Maze-v0", **SIZE))), np.float32)


def main(iterations: int = 100, runners: int = 2, batch: int = 4_000) -> CurriculumLoop:
    """Train for so many iterations."""
    register_env("maze", make)
    config = PPOConfig().environment("maze").env_runners(num_env_runners=runners, num_envs_per_env_runner=8)
    algorithm = config.training(train_batch_size_per_learner=batch).build_algo()
    curriculum = PLRConfig(capacity=500, score="learnability").build(Context(MazeDomain(**SIZE), seed=1))
    loop = CurriculumLoop(algorithm, curriculum)
    for _ in range(iterations):
        results = loop.train()
        print(results["env_runners"].get("episode_return_mean"), loop.observed)
    return loop


if __name__ == "__main__":
    ray.init()
    main()
