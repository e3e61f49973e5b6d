"""The peer of `clutr bench scale`: RLlib's own PPO on mazes as Gymnasium environments, one object an environment."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from minigrid.wrappers import ImgObsWrapper

from clutr.agents.ppo import PPOConfig
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.gym_env import MazeEnv
from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.maze_engine import RealMaze

ITERATIONS = 3
"""The first, in which everything starts, does not count; the best of the others does."""


def our_maze(domain: MazeDomain) -> Callable[[Any], Any]:
    """Makes `clutr/Maze-v0`."""
    options = dataclasses.asdict(domain)

    def make(_: Any) -> Any:
        return _as_vector(gymnasium.wrappers.FlattenObservation(MazeEnv(**options)))

    return make


def minigrids_maze(domain: MazeDomain) -> Callable[[Any], Any]:
    """Makes the same mazes out of the `minigrid` package: its picture alone, one level an environment."""
    options = {"max_steps": domain.max_steps, "see_through_walls": domain.see_through_walls}

    def make(context: Any) -> Any:
        level = domain.sample(1, named_generator(context.vector_index, "bench", "minigrid"))
        return _as_vector(gymnasium.wrappers.FlattenObservation(ImgObsWrapper(RealMaze(level, **options))))

    return make


def _as_vector(environment: Any) -> Any:
    return gymnasium.wrappers.DtypeObservation(environment, np.float32)


def plain_rllib(
    make: Callable[[Any], Any], config: PPOConfig, envs: int, epochs: int, recurrent: bool = False
) -> tuple[float, float]:
    """Environment steps per second of RLlib's own PPO with one runner: of sampling alone, and of whole iterations.

    The network is RLlib's default for vectors, without memory; or, if `recurrent`, RLlib's LSTM with the torso, width
    and heads of `config`'s network. Needs Ray to be running.
    """
    from ray.rllib.algorithms.ppo import PPOConfig as PlainConfig  # noqa: PLC0415 (Ray is an extra)
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig  # noqa: PLC0415
    from ray.tune.registry import register_env  # noqa: PLC0415

    register_env("plain-maze", make)
    batch = envs * config.rollout_steps
    settings = PlainConfig().environment("plain-maze").framework("torch")
    settings = settings.env_runners(
        num_env_runners=1, num_envs_per_env_runner=envs, rollout_fragment_length=config.rollout_steps
    )
    settings = settings.training(
        train_batch_size_per_learner=batch, minibatch_size=batch // config.minibatches, num_epochs=epochs
    )
    if recurrent:
        network = DefaultModelConfig(
            fcnet_hiddens=[config.torso_width],
            fcnet_activation="relu",
            use_lstm=True,
            lstm_cell_size=config.hidden,
            max_seq_len=config.rollout_steps,
            head_fcnet_hiddens=[config.head],
            head_fcnet_activation="tanh",
            vf_share_layers=True,
        )
        settings = settings.rl_module(model_config=network)
    algorithm: Any = settings.build_algo()
    try:
        runners = algorithm.env_runner_group  # the timers among RLlib's results are means that hardly leave the first
        training = _best(algorithm.train)
        sampling = _best(lambda: runners.foreach_env_runner(lambda runner: runner.sample(), local_env_runner=False))
    finally:
        algorithm.stop()
    return batch / sampling, batch / training


def _best(act: Callable[[], Any]) -> float:
    """Seconds of the fastest of `ITERATIONS`, without the first."""
    found = []
    for _ in range(ITERATIONS):
        started = time.perf_counter()
        act()
        found.append(time.perf_counter() - started)
    return min(found[1:])
