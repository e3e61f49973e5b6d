"""A2C of Stable-Baselines3."""

from dataclasses import dataclass

from clutr.agents.sb3.base import Setup
from clutr.agents.sb3.on_policy import OnPolicyOptions, OnPolicyStudent
from clutr.agents.sb3.policies import ActorCriticPolicy
from clutr.agents.student import STUDENTS


@STUDENTS.register("sb3-a2c")
@dataclass(frozen=True)
class SB3A2CConfig(OnPolicyOptions):
    """A2C of Stable-Baselines3: one gradient step a rollout."""

    learning_rate: float = 7e-4

    def student(self, setup: Setup) -> OnPolicyStudent:
        """See `SB3Options`."""
        from stable_baselines3 import A2C  # noqa: PLC0415 (only when a student is made)

        model = self.model(A2C, setup, **self.algorithm_options())
        return OnPolicyStudent(self, model, ActorCriticPolicy(model.policy, setup.view), setup.randomness)
