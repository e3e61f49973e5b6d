"""The recurrent student."""

from typing import Any

import numpy as np
import torch
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer
from torch import Tensor

from clutr.agents.sb3.students import OnPolicyStudent
from clutr.envs.domain import Observation


class WholeSequences(RecurrentRolloutBuffer):
    """A rollout buffer whose sequences the LSTM takes in one go.

    The package cuts sequences where episodes start, and then resets states step by step in a loop. Here the states that
    sequences start from are zero already where an episode starts, so no step has anything to reset.
    """

    def _get_samples(self, *args: Any, **options: Any) -> Any:
        samples = super()._get_samples(*args, **options)
        return samples._replace(episode_starts=torch.zeros_like(samples.episode_starts))


class RecurrentStudent(OnPolicyStudent):
    """RecurrentPPO."""

    buffer_type = WholeSequences

    def _empty_buffer(self, steps: int, num_envs: int, *shape: tuple[int, ...]) -> Any:
        _, _, layers, width = self.player.initial_state(num_envs).shape
        return super()._empty_buffer(steps, num_envs, (steps, layers, num_envs, width), *shape)

    @torch.no_grad()
    def _memories(self, observations: Observation, episode_starts: Tensor) -> dict[str, np.ndarray]:
        """Computed again: the weights are still those of the rollout."""
        self.model.policy.set_training_mode(False)
        state = self.player.initial_state(episode_starts.shape[1])
        before = []
        for t, started in enumerate(episode_starts):
            state = state.masked_fill(started.view(-1, 1, 1, 1), 0)
            before.append(state.permute(1, 2, 0, 3))
            _, _, state = self.player.step({name: value[t] for name, value in observations.items()}, state)
        parts = torch.stack(before, 1).cpu().numpy()  # [4, T, layers, n, width]
        names = ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf")
        return dict(zip(names, parts, strict=True))
