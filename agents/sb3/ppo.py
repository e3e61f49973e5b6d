"""PPO of Stable-Baselines3."""

from dataclasses import dataclass
from typing import Any

from clutr.agents.sb3.base import Setup
from clutr.agents.sb3.on_policy import OnPolicyOptions, OnPolicyStudent
from clutr.agents.sb3.policies import ActorCriticPolicy
from clutr.agents.student import STUDENTS
from clutr.envs.validation import require_above, require_at_least


@STUDENTS.register("sb3-ppo")
@dataclass(frozen=True)
class SB3PPOConfig(OnPolicyOptions):
    """PPO of Stable-Baselines3, without memory."""

    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 8
    """Parts, of single steps, into which a pass is split."""
    clip: float = 0.2
    """How far the probability ratio may move in one update."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "epochs", "minibatches")
        require_above(self, 0, "clip")

    def algorithm_options(self) -> dict[str, Any]:
        """See `OnPolicyOptions`."""
        return super().algorithm_options() | {"n_epochs": self.epochs, "clip_range": self.clip}

    def student(self, setup: Setup) -> "SB3PPOStudent":
        """See `SB3Options`."""
        from stable_baselines3 import PPO  # noqa: PLC0415 (only when a student is made)

        model = self.model(PPO, setup, **self.algorithm_options())
        return SB3PPOStudent(self, model, ActorCriticPolicy(model.policy, setup.view), setup.randomness)


class SB3PPOStudent(OnPolicyStudent):
    """PPO: epochs over minibatches of a rollout."""

    config: SB3PPOConfig

    def _train(self) -> None:
        buffer = self.model.rollout_buffer
        self.model.batch_size = batch_size(buffer.buffer_size * buffer.n_envs, self.config.minibatches)
        super()._train()


def batch_size(samples: int, parts: int) -> int:
    """Size of minibatches, at most `parts` of them, none of a single sample: its advantage cannot be normalised."""
    size = max(-(-samples // parts), 2)
    while samples % size == 1 and size < samples:
        size += 1
    return size
