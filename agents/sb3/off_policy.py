"""Off-policy students: gradient steps on a replay buffer that holds transitions of trained levels."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.agents.sb3.base import SB3Options, SB3Student, chosen_environments
from clutr.agents.sb3.policies import SB3Policy
from clutr.agents.sb3.randomness import OwnRandomness
from clutr.agents.sb3.replay import Replay, Transitions, WithNextObservations
from clutr.agents.student import Trajectories
from clutr.envs.domain import Engine, LevelBatch
from clutr.envs.validation import require_at_least, require_within


@dataclass(frozen=True)
class OffPolicyOptions(SB3Options):
    """Options of DQN and SAC."""

    buffer_size: int = 100_000
    """Transitions kept, of levels that were trained on. They are part of each checkpoint."""
    learning_starts: int = 2_000
    """Transitions kept before the first gradient step."""
    batch_size: int = 64
    """Transitions of a gradient step."""
    steps_per_gradient: int = 4
    """New transitions for each gradient step."""
    tau: float = 1.0
    """Polyak coefficient: how much of the weights goes into the target network at a time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "buffer_size", "learning_starts", "batch_size", "steps_per_gradient")
        require_within(self, 0, 1, "tau")

    def algorithm_options(self) -> dict[str, Any]:
        """What Stable-Baselines3's algorithm takes."""
        return {"buffer_size": self.buffer_size, "batch_size": self.batch_size}


class OffPolicyStudent(SB3Student, ABC):
    """Gradient steps follow the transitions that are kept, so a rollout of which nothing is kept changes no weight."""

    config: OffPolicyOptions
    saved = (*SB3Student.saved, "replay", "steps", "owed")

    def __init__(self, config: OffPolicyOptions, model: Any, policy: SB3Policy, randomness: OwnRandomness) -> None:
        super().__init__(config, model, policy, randomness)
        self.replay = Replay(model.replay_buffer)
        self.steps = 0
        """Environment steps played in rollouts."""
        self.owed = 0
        """Kept transitions that no gradient step has followed yet."""

    def rollout(self, engine: Engine, levels: LevelBatch) -> Transitions:
        """Play each level in its own environment for `rollout_steps` steps."""
        self._explore()
        recorder = WithNextObservations(engine, self.policy.view)
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
        shown = self.policy.view.show(trajectories.observations)
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
