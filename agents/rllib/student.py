"""A student whose rollouts and updates happen elsewhere. To an experiment it is a student like any other."""

from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch
from torch import Tensor

from clutr.agents.ppo import PPOOptions, PPOStudent, explained_variance
from clutr.agents.rllib.cluster import Cluster, LearnersLostError
from clutr.agents.rllib.config import ClusterOptions
from clutr.agents.rllib.serialization import (
    pack,
    pack_levels,
    pack_trajectories,
    select,
    unpack,
    unpack_trajectories,
)
from clutr.agents.rollout import estimate
from clutr.agents.student import Student, Trajectories
from clutr.envs.domain import Domain, Engine, LevelBatch, Observation


def make_students(
    options: ClusterOptions, config: PPOOptions, names: Sequence[str], domain: Domain, engine: Engine, seed: int
) -> "dict[str, RLlibStudent]":
    """The students of one experiment, who share runners and learners."""
    cluster = Cluster(options, config, names, domain, engine)
    spaces = engine.observation_space, engine.action_space
    locals_ = {name: config.build(*spaces, seed, name) for name in names}
    return {name: RLlibStudent(name, local, cluster) for name, local in locals_.items()}


class RLlibStudent:
    """A `PPOStudent` that plays on RLlib's env runners and learns on RLlib's learners.

    The student here is always complete: after each update it has the learners' weights and optimiser, so a checkpoint
    is that of a native student, and either can go on from the other's.

    Args:
        name: of the student.
        local: the student in this process.
        cluster: the processes elsewhere.
    """

    def __init__(self, name: str, local: PPOStudent, cluster: Cluster) -> None:
        self.name, self.local, self.cluster = name, local, cluster
        self.config = local.config
        self._weights: Any = None
        self._progress = 0.0
        self._learners_know = -1
        """The generation of learners that have this student's state; -1: none has."""

    def initial_state(self, n: int) -> Tensor:
        """See `clutr.agents.student.Policy`."""
        return self.local.initial_state(n)

    def act(
        self, observation: Observation, state: Tensor, rng: torch.Generator, deterministic: bool = False
    ) -> tuple[Tensor, Tensor]:
        """See `clutr.agents.student.Policy`; in this process."""
        return self.local.act(observation, state, rng, deterministic)

    def evaluated(self) -> Student:
        """See `clutr.agents.student.Averaged`; in this process."""
        return self.local.evaluated()

    def rollout(self, engine: Engine, levels: LevelBatch) -> Trajectories:
        """Play the levels in environments of some runners; `engine` only says how many there are.

        Raises:
            ValueError: if the environments do not divide the levels evenly.
        """
        total = engine.num_envs
        if not len(levels) or len(levels) % total:
            raise ValueError(f"{len(levels)} levels cannot be shared evenly by {total} environments")
        numbers = torch.arange(len(levels)).view(-1, total)
        options, local = self.cluster.options, self.local
        if self._weights is None:
            self._weights = ray.put(pack(dict(local.network.state_dict())))
        common = {
            "student": self.name,
            "weights": self._weights,
            "total": total,
            "rng": pack(local.action_rng.get_state()),
        }
        parts = numbers.tensor_split(min(total, options.shards or options.runners), dim=1)
        shards = [
            common | {"levels": pack_levels(levels[part.flatten()]), "first": int(part[0, 0]), "envs": part.shape[1]}
            for part in parts
        ]
        results = self.cluster.play(shards)
        local.action_rng.set_state(unpack(results[0]["rng"]))
        played = unpack_trajectories([result["trajectories"] for result in results])
        if local.normaliser is not None:  # it learns from all environments at once
            estimate(played, self.config.discount, self.config.gae_lambda, local.normaliser)
        return played

    def schedule(self, progress: float) -> None:
        """See `clutr.agents.student.Scheduled`."""
        self._progress = progress

    def parameter_change(self, trajectories: Trajectories) -> Tensor:
        """See `PPOStudent.parameter_change`; in this process."""
        return self.local.parameter_change(trajectories)

    def learn(self, trajectories: Trajectories, train: Tensor | None = None) -> dict[str, float]:
        """See `PPOStudent.learn`. An update that is interrupted by a learner's death is made again by new learners."""
        trained = torch.ones(trajectories.rewards.shape[1], dtype=torch.bool) if train is None else train
        if not bool(trained.any()):
            return {}
        while True:
            try:
                results = self.cluster.learn(self.name, self._payloads(trajectories, trained))
            except LearnersLostError:
                continue
            break
        self._learners_know = self.cluster.learner_generation
        self.local.load_state_dict(results[0]["state"] | self._own_state())
        self._weights = None
        metrics: dict[str, float] = results[0]["metrics"]
        if self.cluster.options.learners > 1:
            envs = trained.nonzero().squeeze(1)
            values, returns = trajectories.values[:, envs], trajectories.returns[:, envs]
            metrics |= {"explained_variance": explained_variance(values, returns)}
        return metrics

    def _own_state(self) -> dict[str, Any]:
        """What learners do not change."""
        names = ("action_rng", "normaliser")
        return {name: value for name, value in self.local.state_dict().items() if name in names}

    def _payloads(self, trajectories: Trajectories, trained: Tensor) -> list[Any]:
        """What each learner gets: the whole rollout if there is one, else its shard of the environments."""
        known = self._learners_know == self.cluster.learner_generation
        common = {
            "state": None if known else pack(self.local.state_dict()),
            "rng": pack(self.local.batch_rng.get_state()),
            "progress": self._progress,
        }
        learners = self.cluster.options.learners
        if learners <= 1:
            payload = common | {"trajectories": pack_trajectories(trajectories), "train": pack(trained)}
            return [ray.put(payload) if learners else payload]
        payloads = []
        for envs in trained.nonzero().squeeze(1).tensor_split(learners):
            shard = pack_trajectories(select(trajectories, envs))
            payloads.append(
                ray.put(common | {"trajectories": shard, "train": pack(torch.ones(len(envs), dtype=torch.bool))})
            )
        return payloads

    def state_dict(self) -> dict[str, Any]:
        """That of the native student."""
        return self.local.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.local.load_state_dict(state)
        self._weights, self._learners_know = None, -1
