"""The processes that belong to one experiment, and what the driver does when some of them die."""

import logging
import os
import time
import weakref
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from clutr.agents.ppo import PPOOptions
from clutr.agents.rllib.config import ClusterOptions
from clutr.agents.rllib.learner import StudentLearner, learn
from clutr.agents.rllib.module import module_spec
from clutr.agents.rllib.runner import LevelEnvRunner, sample
from clutr.envs.domain import Domain, Engine

POLL = 0.05
"""Seconds between looks at the runners while some work waits for one."""
PROBE = 2.0
"""Seconds between two attempts to reach runners that died."""


def start_ray(options: ClusterOptions) -> None:
    """Join the cluster, or start one on this machine; do nothing if this process is in one already."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it would warn of what RLlib takes care of
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if options.address != "local":
        try:
            ray.init(address=options.address, **quiet)
        except (ConnectionError, RuntimeError) as error:
            raise ValueError(f"no Ray cluster answers at the address {options.address}: {error}") from error
        return
    # Ray would have workers wait for all other programs of the machine, and the driver waits for them.
    os.environ.setdefault("RAY_worker_niceness", "0")
    needed = options.runners * options.cpus_per_runner + options.learners * options.cpus_per_learner
    cpus = max(os.cpu_count() or 1, int(needed + 1))
    ray.init(
        "local", num_cpus=cpus, object_store_memory=options.object_store_mb * 2**20, include_dashboard=False, **quiet
    )


def algorithm_config(
    options: ClusterOptions, config: PPOOptions, names: tuple[str, ...], domain: Domain, engine: Engine
) -> AlgorithmConfig:
    """What RLlib needs to know. Its own seed stays unset: with one, it would seed every global generator."""
    settings: Any = AlgorithmConfig().framework("torch")  # whose types say less than it takes
    modules = module_spec(config, names, engine, options.learners)
    settings = settings.environment(env_config={"domain": domain, "modules": modules})
    settings = settings.env_runners(
        env_runner_cls=LevelEnvRunner,
        num_env_runners=options.runners,
        num_cpus_per_env_runner=options.cpus_per_runner,
        create_env_on_local_worker=False,
        validate_env_runners_after_construction=False,
        max_requests_in_flight_per_env_runner=2,
    )
    settings = settings.learners(
        num_learners=options.learners,
        num_cpus_per_learner=options.cpus_per_learner,
        num_gpus_per_learner=options.gpus_per_learner,
    )
    settings = settings.fault_tolerance(
        restart_failed_env_runners=True,
        max_num_env_runner_restarts=-1,
        delay_between_env_runner_restarts_s=0,
    )
    made: AlgorithmConfig = settings.training(learner_class=StudentLearner)
    return made


@dataclass
class Ledger:
    """What became of the levels that were handed out, each counted once for every environment that was to play it."""

    given: int = 0
    """Levels that were to be played."""
    played: int = 0
    """Levels whose trajectories were used."""
    outstanding: Counter[str] = field(default_factory=Counter)
    """How often a level, by key, was given and not played yet; below 0 if it was played more often than given."""
    lost: int = 0
    """Shards that were lost with a runner, and played again."""
    doubled: int = 0
    """Shards of which a second result came, and was thrown away."""

    @property
    def balanced(self) -> bool:
        """Whether all that was given was played, and nothing twice."""
        return self.given == self.played and not self.outstanding

    def give(self, keys: Sequence[str]) -> None:
        """Note that these levels are to be played."""
        self.given += len(keys)
        self._count(keys, 1)

    def play(self, keys: Sequence[str]) -> None:
        """Note that they were."""
        self.played += len(keys)
        self._count(keys, -1)

    def _count(self, keys: Sequence[str], change: int) -> None:
        for key in keys:
            self.outstanding[key] += change
            if self.outstanding[key] == 0:
                del self.outstanding[key]  # so that the ledger of a long run stays small


class Cluster:
    """Runners and learners of one experiment. All of its students share them.

    Args:
        options: how many there are, and of what.
        config: the students' options.
        names: the students.
        domain: what they play.
        engine: has its observation and action space.
    """

    def __init__(
        self, options: ClusterOptions, config: PPOOptions, names: Sequence[str], domain: Domain, engine: Engine
    ) -> None:
        start_ray(options)
        for name in ("ray.rllib", "ray"):  # that a runner died is expected, and handled below
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.options = options
        self.settings = algorithm_config(options, config, tuple(names), domain, engine)
        self.ledger = Ledger()
        self.runners: Any = EnvRunnerGroup(config=self.settings, local_env_runner=False)
        for runner in self.runners.healthy_env_runner_ids():  # so they are called, also those that do not exist yet
            self.runners._worker_manager.set_actor_state(runner, healthy=False)
        self.runners.probe_unhealthy_env_runners(timeout_seconds=options.sample_timeout_s)
        self._held: list[LearnerGroup] = []
        weakref.finalize(self, _shut_down, self._held)  # while Ray is there still: RLlib's own `__del__` is too late
        self._make_learners()
        self.learner_generation = 0
        """Grows when learners were replaced, and need their students' states again."""
        self.play_seconds: list[float] = []
        """Of the last rollout: how long each shard was played, all else left out."""
        self._rollouts = 0
        self._probed = 0.0

    # --- playing

    def play(self, shards: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Have each shard played once, by whichever runner is there, and return the results in order.

        A shard whose runner dies is played by another one; what a runner does follows from the shard alone, so the
        result is the same. A shard that takes far longer than the others is given to a second runner, and whatever
        comes first counts.

        Args:
            shards: the arguments of `LevelEnvRunner.sample` of each.

        Raises:
            RuntimeError: if a runner raises an error, or none answers for `timeout` seconds.
        """
        self._rollouts += 1
        tag = f"rollout {self._rollouts}"
        for shard in shards:
            self.ledger.give(shard["levels"]["keys"])
        results: dict[int, dict[str, Any]] = {}
        waiting, at_work = deque(range(len(shards))), dict[int, tuple[int, float]]()  # runner: shard and start
        longest, heard = 0.0, time.monotonic()
        self.ledger.doubled += len(self.runners.fetch_ready_async_reqs())  # late answers to earlier rollouts
        self._probe()
        while len(results) < len(shards):
            now = time.monotonic()
            for runner in self._idle(at_work):
                if not waiting:
                    break
                index = waiting.popleft()
                self.runners.foreach_env_runner_async(sample, tag, kwargs=shards[index], remote_worker_ids=[runner])
                at_work[runner] = index, now
            outcome = self.runners.fetch_ready_async_reqs(tags=[tag], timeout_seconds=POLL if waiting else PROBE)
            for runner, result in outcome:
                index, started = at_work.pop(runner)
                heard = time.monotonic()
                if "error" in result:
                    raise RuntimeError(f"a runner failed:\n{result['error']}")
                if index in results:
                    self.ledger.doubled += 1
                    continue
                longest = max(longest, heard - started)
                results[index] = result
                if result["keys"] != shards[index]["levels"]["keys"]:
                    raise RuntimeError("a runner played other levels than it was given")
                self.ledger.play(result["keys"])
            self._take_from_the_dead(waiting, at_work, results)  # before a probe may bring them back
            if results and not waiting:
                waiting.extend(self._late(at_work, results, longest))
            if time.monotonic() - heard > self.options.timeout:
                raise RuntimeError(f"no runner has answered for {self.options.timeout:g} seconds")
            self._probe()
        self.play_seconds = [results[index]["seconds"] for index in range(len(shards))]
        return [results[index] for index in range(len(shards))]

    def _idle(self, at_work: dict[int, tuple[int, float]]) -> list[int]:
        return [runner for runner in self.runners.healthy_env_runner_ids() if runner not in at_work]

    def _take_from_the_dead(
        self, waiting: deque[int], at_work: dict[int, tuple[int, float]], results: dict[int, dict[str, Any]]
    ) -> None:
        healthy = set(self.runners.healthy_env_runner_ids())
        for runner in [runner for runner in at_work if runner not in healthy]:
            index, _ = at_work.pop(runner)
            elsewhere = any(index == other for other, _ in at_work.values())
            if index not in results and index not in waiting and not elsewhere:
                self.ledger.lost += 1
                waiting.append(index)

    def _late(
        self, at_work: dict[int, tuple[int, float]], results: dict[int, dict[str, Any]], longest: float
    ) -> list[int]:
        """Shards that take suspiciously long, and that no second runner has yet."""
        counts = Counter(index for index, _ in at_work.values())
        limit = max(self.options.sample_timeout_s, 3 * longest)
        now = time.monotonic()
        return [
            index
            for index, started in at_work.values()
            if index not in results and counts[index] == 1 and now - started > limit
        ]

    def _probe(self) -> None:
        """See whether runners that died have been started again, but not all the time."""
        if self.runners.num_healthy_remote_env_runners() == self.options.runners:
            return
        none_left = self.runners.num_healthy_remote_env_runners() == 0
        if none_left or time.monotonic() - self._probed > PROBE:
            self.runners.probe_unhealthy_env_runners(timeout_seconds=PROBE if none_left else POLL)
            self._probed = time.monotonic()

    # --- learning

    @property
    def learners(self) -> LearnerGroup:
        """RLlib's group of those who learn."""
        return self._held[0]

    def _make_learners(self) -> None:
        _shut_down(self._held)
        self._held[:] = [LearnerGroup(config=self.settings, module_spec=self.settings.env_config["modules"])]

    def learn(self, name: str, payloads: list[Any]) -> list[dict[str, Any]]:
        """Have each learner make an update with its payload; results are in the order of the learners.

        Raises:
            LearnersLostError: if a learner died. They have been replaced, and know no student's state.
        """
        work: Any = learn
        outcome = self.learners.foreach_learner(work, name=name, payloads=payloads)
        results = [each.get() for each in outcome]
        for result in results:
            if isinstance(result, RayError):
                self._make_learners()
                self.learner_generation += 1
                raise LearnersLostError from result
            if isinstance(result, Exception):
                raise result
        if len(results) < max(1, self.options.learners):
            raise LearnersLostError
        return results


def _shut_down(groups: list[LearnerGroup]) -> None:
    for group in groups:
        if ray.is_initialized():
            group.shutdown()
        group._is_shut_down = True


class LearnersLostError(RuntimeError):
    """A learner died in the middle of an update."""
