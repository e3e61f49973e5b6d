"""What worlds share that are asked for levels by numbers (`clutr.envs.domain.Domain.sample_at`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clutr.envs.domain import Parameter


def clamp_parameters(parameters: Tensor, ranges: Sequence[Parameter]) -> Tensor:
    """Parameters `[n, P]` with those out of range moved to its end, float64 on the CPU.

    Raises:
        ValueError: their shape does not fit, or one is not finite.
    """
    if parameters.ndim != 2 or parameters.shape[1] != len(ranges):
        raise ValueError(f"parameters must be [n, {len(ranges)}], got {list(parameters.shape)}")
    if not bool(parameters.isfinite().all()):
        raise ValueError("parameters must be finite")
    low, high = (torch.tensor([getattr(one, end) for one in ranges], dtype=torch.float64) for end in ("low", "high"))
    return parameters.cpu().double().clamp(low, high)
