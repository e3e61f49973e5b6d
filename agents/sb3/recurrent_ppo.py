"""RecurrentPPO of sb3-contrib."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clutr.agents.distributions import Distribution
from clutr.agents.sb3.base import Setup
from clutr.agents.sb3.policies import ActorCriticPolicy
from clutr.agents.sb3.ppo import SB3PPOConfig, SB3PPOStudent
from clutr.agents.student import STUDENTS
from clutr.envs.domain import Observation
from clutr.envs.validation import require_at_least


@STUDENTS.register("sb3-recurrent-ppo")
@dataclass(frozen=True)
class SB3RecurrentPPOConfig(SB3PPOConfig):
    """RecurrentPPO of sb3-contrib: actor and critic have an LSTM each."""

    memory: int = 128
    """Width of each LSTM."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "memory")

    def student(self, setup: Setup) -> "SB3RecurrentPPOStudent":
        """See `SB3Options`."""
        from sb3_contrib import RecurrentPPO  # noqa: PLC0415 (only when a student is made)

        options = self.algorithm_options() | {"policy_kwargs": {"lstm_hidden_size": self.memory}}
        model = self.model(RecurrentPPO, setup, "{}LstmPolicy", **options)
        return SB3RecurrentPPOStudent(self, model, RecurrentPolicy(model.policy, setup.view), setup.randomness)


class RecurrentPolicy(ActorCriticPolicy):
    """The policy of RecurrentPPO. Its state `[n, 4, layers, width]` is hidden and cell state of actor and critic."""

    def initial_state(self, n: int) -> Tensor:
        """Zeros."""
        core = self.policy.lstm_actor
        return torch.zeros(n, 4, core.num_layers, core.hidden_size, device=self.policy.device)

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """See `RolloutPolicy`. The caller zeroes the state where an episode starts."""
        policy = self.policy
        features = policy.extract_features(self.view.show(observation))
        parts = [part.transpose(0, 1).contiguous() for part in state.unbind(1)]
        no_starts = torch.zeros(len(state), device=state.device)
        actor, after = policy._process_sequence(features, (parts[0], parts[1]), no_starts, policy.lstm_actor)
        critic, after_critic = policy._process_sequence(features, (parts[2], parts[3]), no_starts, policy.lstm_critic)
        values = policy.value_net(policy.mlp_extractor.forward_critic(critic)).squeeze(-1)
        state = torch.stack([*after, *after_critic]).permute(2, 0, 1, 3)
        return self._act(policy.mlp_extractor.forward_actor(actor)), values, state


class SB3RecurrentPPOStudent(SB3PPOStudent):
    """RecurrentPPO."""

    def _empty_buffer(self, steps: int, num_envs: int) -> Any:
        from clutr.agents.sb3.recurrent_buffer import WholeSequences  # noqa: PLC0415 (only when a student is made)

        _, _, layers, width = self.initial_state(num_envs).shape
        return self._make_buffer(WholeSequences, steps, num_envs, (steps, layers, num_envs, width))

    @torch.no_grad()
    def _recurrent_states(self, observations: Observation, episode_starts: Tensor) -> dict[str, np.ndarray]:
        """Computed anew: the weights are still those of the rollout."""
        self.model.policy.set_training_mode(False)
        state = self.policy.initial_state(episode_starts.shape[1])
        before = []
        for t, started in enumerate(episode_starts):
            state = state.masked_fill(started.view(-1, 1, 1, 1), 0)
            before.append(state.permute(1, 2, 0, 3))
            _, _, state = self.policy.step({name: value[t] for name, value in observations.items()}, state)
        parts = torch.stack(before, 1).cpu().numpy()  # [4, T, layers, n, width]
        names = ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf")
        return dict(zip(names, parts, strict=True))
