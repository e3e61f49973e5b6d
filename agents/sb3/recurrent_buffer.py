"""The rollout buffer of RecurrentPPO."""

from typing import Any

import torch
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer


class WholeSequences(RecurrentRolloutBuffer):
    """A rollout buffer whose sequences the LSTM takes in one go.

    The package cuts sequences where episodes start, and then resets states step by step in a loop. Here the states that
    sequences start from are zero already where an episode starts, so no step has anything to reset.
    """

    def _get_samples(self, *args: Any, **options: Any) -> Any:
        samples = super()._get_samples(*args, **options)
        return samples._replace(episode_starts=torch.zeros_like(samples.episode_starts))
