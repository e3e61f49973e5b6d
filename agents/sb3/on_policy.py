"""On-policy students: an update on a rollout buffer that holds the trained levels alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from clutr.agents.normaliser import ReturnNormaliser
from clutr.agents.sb3.base import SB3Options, SB3Student, chosen_environments
from clutr.agents.sb3.policies import SB3Policy
from clutr.agents.sb3.randomness import OwnRandomness
from clutr.agents.student import Trajectories
from clutr.envs.domain import Engine, LevelBatch, Observation
from clutr.envs.validation import require_above


@dataclass(frozen=True)
class OnPolicyOptions(SB3Options):
    """Options of PPO, A2C and RecurrentPPO."""

    value_coefficient: float = 0.5
    """Weight of the value loss."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    normalise_returns: bool = False
    """Divide rewards by the running standard deviation of the discounted return, for the student's own use."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_above(self, 0, "max_gradient_norm")

    def algorithm_options(self) -> dict[str, Any]:
        """What Stable-Baselines3's algorithm takes."""
        return {
            "n_steps": self.rollout_steps,
            "gae_lambda": self.gae_lambda,
            "ent_coef": self.entropy_coefficient,
            "vf_coef": self.value_coefficient,
            "max_grad_norm": self.max_gradient_norm,
        }


class OnPolicyStudent(SB3Student):
    """PPO, A2C and RecurrentPPO."""

    config: OnPolicyOptions
    saved = (*SB3Student.saved, "normaliser")

    def __init__(self, config: OnPolicyOptions, model: Any, policy: SB3Policy, randomness: OwnRandomness) -> None:
        super().__init__(config, model, policy, randomness)
        normalise, device = config.normalise_returns, model.device
        self.normaliser = ReturnNormaliser(config.discount, device=device) if normalise else None
        del model.rollout_buffer  # each update makes one of the levels that it trains on

    def rollout(self, engine: Engine, levels: LevelBatch) -> Trajectories:
        """Play each level in its own environment for `rollout_steps` steps."""
        return self._collect(engine, levels, self.normaliser)

    def learn(self, trajectories: Trajectories, train: Tensor | None = None) -> dict[str, float]:
        """Update from the environments in `train` `[N]` bool (None: all); none of them leaves the weights as they are.

        Returns:
            What Stable-Baselines3 reports of its update.
        """
        chosen = chosen_environments(trajectories, train)
        if len(chosen) == 0:
            return {}
        self.model.rollout_buffer = self._buffer(trajectories, chosen)
        with self._training():
            self._train()
        del self.model.rollout_buffer
        return self._metrics()

    def _train(self) -> None:
        """Stable-Baselines3's update on the rollout buffer."""
        self.model.train()

    def _buffer(self, trajectories: Trajectories, chosen: Tensor) -> Any:
        """A full rollout buffer of the chosen environments."""
        columns = {
            name: getattr(trajectories, name)[:, chosen].cpu().numpy()
            for name in ("actions", "log_probs", "rewards", "values", "advantages", "returns")
        }
        steps, num_envs = columns["rewards"].shape
        columns["actions"] = columns["actions"].reshape(steps, num_envs, -1)
        columns["episode_starts"] = trajectories.episode_starts[:, chosen].cpu().numpy().astype(np.float32)
        observations = {name: value[:, chosen] for name, value in trajectories.observations.items()}
        columns["observations"] = self.policy.view.show(observations).cpu().numpy()
        buffer = self._empty_buffer(steps, num_envs)
        vars(buffer).update(columns, **self._recurrent_states(observations, trajectories.episode_starts[:, chosen]))
        buffer.pos, buffer.full = steps, True
        return buffer

    def _empty_buffer(self, steps: int, num_envs: int) -> Any:
        from stable_baselines3.common.buffers import RolloutBuffer  # noqa: PLC0415 (only when a student is made)

        return self._make_buffer(RolloutBuffer, steps, num_envs)

    def _make_buffer(self, buffer_type: Any, steps: int, num_envs: int, *shape: tuple[int, ...]) -> Any:
        model, config = self.model, self.config
        options = {"gamma": config.discount, "gae_lambda": config.gae_lambda, "n_envs": num_envs, "device": self.device}
        return buffer_type(steps, model.observation_space, model.action_space, *shape, **options)

    def _recurrent_states(self, observations: Observation, episode_starts: Tensor) -> dict[str, np.ndarray]:  # noqa: ARG002
        """The policy's recurrent state before each step, as the rollout buffer names it: none."""
        return {}
