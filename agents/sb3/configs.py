"""Stable-Baselines3's algorithms as students: what can be set. Names are those of our own students where both mean one.

Values differ from Stable-Baselines3's own defaults where those are made for single steps of few environments.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium
import torch

from clutr.agents.sb3.requirement import require_sb3
from clutr.agents.student import STUDENTS, Student


@dataclass(frozen=True)
class SB3Options:
    """What all of them share."""

    rollout_steps: int = 256
    """Steps T of each environment between two updates."""
    learning_rate: float = 3e-4
    """The optimiser's step size, constant."""
    discount: float = 0.99
    """Gamma."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation; off-policy, of the curriculum's scores alone."""
    hidden: int = 128
    """Width of both hidden layers of actor and critic."""
    features: int = 256
    """Features of a picture: width of the convolutions' last layer. Mazes have none."""
    shrink: int = 2
    """Pictures are averaged over squares of this many pixels a side."""

    def __post_init__(self) -> None:
        counts = ("rollout_steps", "hidden", "features", "shrink", *self._counts())
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", *self._positive()):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("discount", "gae_lambda", *self._shares()):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    def _counts(self) -> tuple[str, ...]:
        return ()

    def _positive(self) -> tuple[str, ...]:
        return ()

    def _shares(self) -> tuple[str, ...]:
        return ()

    def build(
        self,
        observation_space: gymnasium.spaces.Dict,
        action_space: gymnasium.Space[Any],
        seed: int,
        name: str,
        device: torch.device | str = "cpu",
    ) -> Student:
        """Make the student called `name`.

        Raises:
            ImportError: if Stable-Baselines3 is not installed.
            ValueError: if the student cannot play in these spaces.
        """
        require_sb3()
        from clutr.agents.sb3.builders import Making, make  # noqa: PLC0415 (it imports Stable-Baselines3)

        return make(Making(self, observation_space, action_space, seed, name, torch.device(device)))


@dataclass(frozen=True)
class OnPolicyOptions(SB3Options):
    """What PPO, A2C and RecurrentPPO share."""

    value_coefficient: float = 0.5
    """Weight of the value loss."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    normalise_returns: bool = False
    """Divide rewards by the running standard deviation of the discounted return, for the student's own use."""

    def _positive(self) -> tuple[str, ...]:
        return ("max_gradient_norm",)


@STUDENTS.register("sb3-a2c")
@dataclass(frozen=True)
class SB3A2CConfig(OnPolicyOptions):
    """A2C of Stable-Baselines3: one gradient step a rollout."""

    learning_rate: float = 7e-4


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

    def _counts(self) -> tuple[str, ...]:
        return ("epochs", "minibatches")

    def _positive(self) -> tuple[str, ...]:
        return (*super()._positive(), "clip")


@STUDENTS.register("sb3-recurrent-ppo")
@dataclass(frozen=True)
class SB3RecurrentPPOConfig(SB3PPOConfig):
    """RecurrentPPO of sb3-contrib: actor and critic have an LSTM each."""

    memory: int = 128
    """Width of each LSTM."""

    def _counts(self) -> tuple[str, ...]:
        return (*super()._counts(), "memory")


@dataclass(frozen=True)
class OffPolicyOptions(SB3Options):
    """What DQN and SAC share."""

    buffer_size: int = 100_000
    """Transitions kept, of levels that were trained on. They are part of each checkpoint."""
    learning_starts: int = 2_000
    """Transitions kept before the first gradient step."""
    batch_size: int = 64
    """Transitions of a gradient step."""
    steps_per_gradient: int = 4
    """New transitions for each gradient step."""
    tau: float = 1.0
    """Share of the weights that goes into the target network at a time."""

    def _counts(self) -> tuple[str, ...]:
        return ("buffer_size", "learning_starts", "batch_size", "steps_per_gradient")

    def _shares(self) -> tuple[str, ...]:
        return ("tau",)


@STUDENTS.register("sb3-dqn")
@dataclass(frozen=True)
class SB3DQNConfig(OffPolicyOptions):
    """DQN of Stable-Baselines3, off-policy, for discrete actions."""

    discount: float = 0.9
    """Gamma. The nearer to 1, the less a step that leads nowhere costs: with 0.99, mazes are not learnt."""
    target_interval: int = 500
    """Gradient steps between two updates of the target network."""
    exploration_steps: int = 200_000
    """Environment steps over which the share of random actions falls linearly."""
    exploration_initial: float = 1.0
    """That share at the start."""
    exploration_final: float = 0.05
    """That share in the end, and in evaluations that sample."""
    max_gradient_norm: float = 10.0
    """Gradients are scaled down to this norm."""

    def _counts(self) -> tuple[str, ...]:
        return (*super()._counts(), "target_interval", "exploration_steps")

    def _positive(self) -> tuple[str, ...]:
        return ("max_gradient_norm",)

    def _shares(self) -> tuple[str, ...]:
        return (*super()._shares(), "exploration_initial", "exploration_final")


@STUDENTS.register("sb3-sac")
@dataclass(frozen=True)
class SB3SACConfig(OffPolicyOptions):
    """SAC of Stable-Baselines3, off-policy, for continuous actions."""

    rollout_steps: int = 125
    buffer_size: int = 20_000
    steps_per_gradient: int = 8
    tau: float = 0.005
