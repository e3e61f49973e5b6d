"""Off-policy students: DQN and SAC."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from stable_baselines3.common.utils import polyak_update
from torch import Tensor

from clutr.agents.sb3.configs import SB3DQNConfig, SB3SACConfig
from clutr.agents.sb3.policies import QPlayer, SACPlayer
from clutr.agents.sb3.randomness import OwnRandomness
from clutr.agents.sb3.replay import Replay, Transitions, WithNextObservations
from clutr.agents.sb3.students import SB3Student, chosen_environments
from clutr.agents.student import Trajectories
from clutr.envs.domain import Engine, LevelBatch


class OffPolicyStudent(SB3Student, ABC):
    """Gradient steps follow the transitions that are kept, so a rollout of which nothing is kept changes no weight."""

    config: SB3DQNConfig | SB3SACConfig
    player: QPlayer | SACPlayer

    def __init__(
        self,
        config: SB3DQNConfig | SB3SACConfig,
        model: Any,
        player: QPlayer | SACPlayer,
        randomness: OwnRandomness,
    ) -> None:
        super().__init__(config, model, player, randomness)
        self.replay = Replay(model.replay_buffer)
        self.steps = 0
        """Environment steps played in rollouts."""
        self.owed = 0
        """Kept transitions that no gradient step has followed yet."""

    def rollout(self, engine: Engine, levels: LevelBatch) -> Transitions:
        """Play each level in its own environment for `rollout_steps` steps."""
        self._explore()
        recorder = WithNextObservations(engine, self.player.view)
        trajectories = self._collect(recorder, levels)
        self.steps += trajectories.rewards.numel()
        return Transitions(**vars(trajectories), next_shown=torch.stack(recorder.seen))

    def learn(self, trajectories: Trajectories, train: Tensor | None = None) -> dict[str, float]:
        """Keep the transitions of the environments in `train` `[N]` bool (None: all), and learn from all that are kept.

        Returns:
            What Stable-Baselines3 reports of its last gradient steps, and `kept`, the transitions in the buffer.

        Raises:
            TypeError: if the trajectories are not this student's own, and so do not say what each step led to.
        """
        if not isinstance(trajectories, Transitions):
            raise TypeError("an off-policy student learns from the transitions that its own rollout gives")
        chosen = chosen_environments(trajectories, train)
        shown = self.player.view.show(trajectories.observations)
        new = self.replay.store(trajectories, shown, chosen)
        self.owed += new
        if len(self.replay) < self.config.learning_starts:
            self.owed = 0
        gradient_steps, self.owed = divmod(self.owed, self.config.steps_per_gradient)
        metrics = {"kept": float(len(self.replay))}
        if gradient_steps == 0:
            return metrics
        with self._training():
            self._train(gradient_steps)
        return metrics | self._metrics()

    @abstractmethod
    def _explore(self) -> None:
        """Set how the next rollout explores."""

    def _train(self, gradient_steps: int) -> None:
        self.model.train(gradient_steps, self.config.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """As any student's, and the kept transitions."""
        counters = {"steps": self.steps, "owed": self.owed}
        return {**super().state_dict(), "replay": self.replay.state_dict(), "counters": counters}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        self.replay.load_state_dict(state["replay"])
        self.steps, self.owed = state["counters"]["steps"], state["counters"]["owed"]


class DQNStudent(OffPolicyStudent):
    """DQN: explores with a share of random actions that falls with the steps played."""

    config: SB3DQNConfig
    player: QPlayer

    def _explore(self) -> None:
        config = self.config
        done = min(self.steps / config.exploration_steps, 1.0)
        share = config.exploration_initial + done * (config.exploration_final - config.exploration_initial)
        self.player.exploration = share

    def act(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """As any student; whoever samples explores with the final share."""
        self.player.exploration = self.config.exploration_final
        return super().act(*args, **options)

    def _train(self, gradient_steps: int) -> None:
        interval = self.config.target_interval
        while gradient_steps:
            part = min(gradient_steps, interval - self.model._n_updates % interval)
            super()._train(part)
            gradient_steps -= part
            if self.model._n_updates % interval == 0:
                polyak_update(self.model.q_net.parameters(), self.model.q_net_target.parameters(), self.config.tau)


class SACStudent(OffPolicyStudent):
    """SAC: acts at random until it starts to learn."""

    config: SB3SACConfig
    player: SACPlayer

    def _explore(self) -> None:
        self.player.warming_up = len(self.replay) < self.config.learning_starts

    def act(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """As any student; it never acts at random here."""
        self.player.warming_up = False
        return super().act(*args, **options)
