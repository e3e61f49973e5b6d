"""The process that plays: RLlib's env runner over our batched engines."""

import time
import traceback
from typing import Any

from ray.rllib.env.env_runner import EnvRunner

from clutr.agents.ppo import PPOStudent
from clutr.agents.rllib.serialization import generator, pack, pack_trajectories, unpack, unpack_levels
from clutr.agents.rllib.shards import Shard
from clutr.agents.rollout import collect
from clutr.envs.domain import Domain, Engine


class LevelEnvRunner(EnvRunner):
    """Plays levels that it is given, each in its own environment, for a student's number of steps.

    It remembers nothing between two calls but the engines that it made, so any runner can take over from any other, and
    one that was restarted goes on as if nothing had been. `config.env_config` has the `domain`, and the
    students' `modules`, a `MultiRLModuleSpec`.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.domain: Domain = self.config.env_config["domain"]
        self._engines: dict[int, Engine] = {}
        self.make_module()

    def make_env(self) -> None:
        """Engines are made when the number of levels is known."""

    def make_module(self) -> None:
        """Make the students, whose weights come with each call of `sample`."""
        self.module = self.config.env_config["modules"].build()

    def engine(self, n: int) -> Engine:
        """An engine of n environments."""
        if n not in self._engines:
            self._engines = {n: self.domain.engine(n)}
        return self._engines[n]

    def sample(self, **kwargs: Any) -> dict[str, Any]:
        """Play a shard of a rollout.

        Args:
            kwargs: `student` (a name), `weights` (of its network), `levels` (as `pack_levels` gives them), `envs`
                (environments that share them, see `collect`), `first` and `total` (which of the rollout's environments
                these are), `rng` (the state of the student's generator).

        Returns:
            `keys` of the levels that were played, `trajectories`, the generator's state `rng` after the rollout, and
            `seconds` of playing.
        """
        student: PPOStudent = self.module[kwargs["student"]].student
        student.network.load_state_dict(unpack(kwargs["weights"]))
        levels = unpack_levels(kwargs["levels"])
        rng = generator(kwargs["rng"])
        shard = Shard(student.network, kwargs["first"], kwargs["total"])
        policy = student.network if kwargs["total"] == kwargs["envs"] else shard
        options = student.config
        started = time.perf_counter()
        played = collect(
            policy,
            self.engine(kwargs["envs"]),
            levels,
            options.rollout_steps,
            rng,
            options.discount,
            options.gae_lambda,
        )
        seconds = time.perf_counter() - started
        self.num_env_steps_sampled_lifetime += played.rewards.numel()
        keys = kwargs["levels"]["keys"]  # which these levels have: it was looked at as they were unpacked
        return {
            "keys": keys,
            "trajectories": pack_trajectories(played),
            "rng": pack(rng.get_state()),
            "seconds": seconds,
        }

    def get_metrics(self) -> dict[str, int]:
        """Steps that this process has played."""
        return {"num_env_steps_sampled_lifetime": self.num_env_steps_sampled_lifetime}

    def get_spaces(self) -> dict[str, Any]:
        """Observation and action space of each student."""
        return {name: (module.observation_space, module.action_space) for name, module in self.module.items()}

    def assert_healthy(self) -> None:
        """It is, once it is made."""


def sample(runner: LevelEnvRunner, **kwargs: Any) -> dict[str, Any]:
    """`runner.sample`, with errors as a result: for any that a function raises, RLlib would end the process."""
    try:
        return runner.sample(**kwargs)
    except Exception:
        return {"error": traceback.format_exc()}
