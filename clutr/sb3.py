"""A curriculum in a script of one's own for Stable-Baselines3; `clutr train --student sb3-ppo` needs no script."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clutr.agents.rollout import generalised_advantages
from clutr.agents.sb3.requirement import require_sb3
from clutr.agents.student import EpisodeStatistics, Trajectories
from clutr.curricula.base import Curriculum, Outcome, Proposal

require_sb3()

from stable_baselines3 import DDPG, DQN, SAC, TD3  # noqa: E402
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm  # noqa: E402

from clutr.agents.sb3.vec_env import LevelVecEnv  # noqa: E402

OFF_POLICY = (DQN, SAC, TD3, DDPG)
STUDENTS_INSTEAD = "`clutr train PRESET --student sb3-...` can"


class CurriculumCallback(BaseCallback):
    """Closes the loop between a curriculum and `model.learn`: propose, play, observe.

    On-policy, each rollout plays a new proposal. Off-policy, a proposal plays for `steps` steps. A new proposal starts
    new episodes everywhere.

    Args:
        curriculum: chooses the levels. It needs one student that learns on whatever it plays.
        steps: off-policy, steps of each environment between two proposals.
        gae_lambda: off-policy, lambda of the generalised advantages that scores are made of.

    Raises:
        TypeError: when training starts, if the model's environment is no `LevelVecEnv`, or if the algorithm is
            off-policy and none of `OFF_POLICY`: scores need its values.
        ValueError: if the curriculum needs several students; while training, if it wants levels looked at but not
            learnt from, or changed within a rollout. Stable-Baselines3's loop can do none of these.
    """

    def __init__(self, curriculum: Curriculum, steps: int = 256, gae_lambda: float = 0.95) -> None:
        super().__init__()
        if len(curriculum.students) != 1:
            raise ValueError(
                f"this curriculum needs the students {', '.join(curriculum.students)}, and Stable-Baselines3 trains "
                + f"one model at a time; {STUDENTS_INSTEAD}"
            )
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.curriculum, self.steps, self.gae_lambda = curriculum, steps, gae_lambda
        self.observed: dict[str, float] = {}
        """Means of what the curriculum said about the last proposal."""
        self._proposal: Proposal | None = None
        self._values: list[Tensor] = []
        self._last_values: list[Tensor] = []

    def _init_callback(self) -> None:
        env = self.training_env.unwrapped
        if not isinstance(env, LevelVecEnv):
            raise TypeError(f"a curriculum chooses the levels of a LevelVecEnv, not of {type(env).__name__}")
        if not isinstance(self.model, (OnPolicyAlgorithm, *OFF_POLICY)):
            names = ", ".join(algorithm.__name__ for algorithm in OFF_POLICY)
            raise TypeError(
                f"CurriculumCallback knows no values of {type(self.model).__name__}; "
                + f"of the off-policy algorithms it works with {names}, of the others with all"
            )
        self.env = env

    def _on_rollout_start(self) -> None:
        if self._proposal is not None:
            if len(self.env.record) < self.steps:
                return
            self._observe()
        self._propose()

    def _on_step(self) -> bool:
        if not isinstance(self.model, OnPolicyAlgorithm):
            # before the step is stored, the model still holds the observation that it acted on
            self._values.append(value_of(self.model, self.model._last_obs))
            late = torch.zeros_like(self._values[-1])
            for index, info in enumerate(self.locals["infos"]):
                if info["TimeLimit.truncated"]:
                    late[index] = value_of(self.model, info["terminal_observation"])
            self._last_values.append(late)
        return True

    def _on_rollout_end(self) -> None:
        if isinstance(self.model, OnPolicyAlgorithm):
            self._observe()

    def _on_training_end(self) -> None:
        if self._proposal is not None and self._values:
            self._observe()

    def _propose(self) -> None:
        proposal = self.curriculum.propose(self.env.num_envs)
        if not bool(proposal.train[proposal.assignment[0]].all()):
            raise ValueError(
                "this curriculum looks at levels without learning from them, which Stable-Baselines3's loop cannot; "
                + STUDENTS_INSTEAD
            )
        if proposal.levels_per_rollout > 1:
            raise ValueError(
                "this curriculum changes levels within a rollout, which Stable-Baselines3's loop cannot; "
                + f"{STUDENTS_INSTEAD}, or set levels_per_rollout to 1"
            )
        self._proposal = proposal
        self.env.set_levels(proposal.levels[proposal.assignment[0]])
        self.env.start_record()
        model: Any = self.model
        model._last_obs = self.training_env.reset()
        model._last_episode_starts[:] = True
        if model._vec_normalize_env is not None:
            model._last_original_obs = model._vec_normalize_env.get_original_obs()

    def _observe(self) -> None:
        assert self._proposal is not None
        outcome = Outcome.stack(self._proposal, [self._statistics()])
        self._proposal, self._values, self._last_values = None, [], []
        observed = self.curriculum.observe(outcome)
        self.observed = {name: float(value.float().mean()) for name, value in observed.items()}
        for name, value in self.observed.items():
            self.logger.record(f"curriculum/{name}", value)

    def _statistics(self) -> EpisodeStatistics:
        rewards, terminated, truncated, solved = (
            torch.stack(column).cpu() for column in zip(*self.env.record, strict=True)
        )
        model: Any = self.model
        if isinstance(model, OnPolicyAlgorithm):
            values = torch.from_numpy(model.rollout_buffer.values)
            advantages = torch.from_numpy(model.rollout_buffer.advantages)
            next_values = values  # no score is made of them
        else:
            values = torch.stack(self._values)
            next_values = torch.cat([values[1:], value_of(model, model._last_obs).unsqueeze(0)])
            next_values = torch.where(truncated, torch.stack(self._last_values), next_values)
            next_values = next_values.masked_fill(terminated, 0.0)
            dones = terminated | truncated
            advantages = generalised_advantages(rewards, values, next_values, dones, model.gamma, self.gae_lambda)
        nothing = torch.empty(0)
        return Trajectories(
            observations={},
            actions=nothing,
            log_probs=nothing,
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            solved=solved,
            episode_starts=nothing,
            values=values,
            next_values=next_values,
            advantages=advantages,
        ).statistics()

    def state_dict(self) -> dict[str, Any]:
        """The curriculum's state, to be saved beside the model (`clutr.experiments.storage.save_state`)."""
        return self.curriculum.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.curriculum.load_state_dict(state)


@torch.no_grad()
def value_of(model: Any, observation: Any) -> Tensor:
    """V of observations under an off-policy model, `[N]`: Q of the best or the mean action, the critics' least."""
    shown, _ = model.policy.obs_to_tensor(observation)
    if hasattr(model, "q_net"):
        return model.q_net(shown).amax(1).cpu()  # type: ignore[no-any-return]
    action = model.policy._predict(shown, deterministic=True)
    return torch.cat(model.critic(shown, action), 1).amin(1).cpu()
