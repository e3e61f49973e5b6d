"""The arithmetic of proximal policy optimisation (arXiv 1707.06347), for students and teachers alike."""

from typing import NamedTuple

import torch
from torch import Tensor


class Evaluation(NamedTuple):
    """A policy's view of actions already taken; all of one shape."""

    log_probs: Tensor
    values: Tensor
    entropy: Tensor


class Losses(NamedTuple):
    """The parts of PPO's loss, each 0-d."""

    policy: Tensor
    value: Tensor
    entropy: Tensor


def normalise(advantages: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 over the whole batch."""
    return (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-5)


def clipped_losses(new: Evaluation, old: Evaluation, advantages: Tensor, returns: Tensor, clip: float) -> Losses:
    """PPO's clipped surrogate (arXiv 1707.06347, equation 7) and clipped squared value error; all of one shape."""
    ratio = (new.log_probs - old.log_probs).exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    near = old.values + (new.values - old.values).clamp(-clip, clip)
    error = torch.maximum((new.values - returns).square(), (near - returns).square())
    return Losses(-surrogate.mean(), 0.5 * error.mean(), new.entropy.mean())
