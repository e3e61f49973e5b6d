"""The arithmetic of proximal policy optimisation (arXiv 1707.06347), for students and teachers alike."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class ActionEvaluation(NamedTuple):
    """A policy's view of actions already taken; all of one shape."""

    log_probs: Tensor
    values: Tensor
    entropy: Tensor


class Losses(NamedTuple):
    """The parts of PPO's loss, each 0-d."""

    policy: Tensor
    value: Tensor
    entropy: Tensor


ValueLoss = Literal["clipped", "smooth-l1"]
"""How far values are from returns: "clipped" is half the squared error, or that of a value which moved only as far as
`clip`, whichever is greater; "smooth-l1" is the Huber loss with threshold 1, without clipping."""


def _clipped_square(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    near = old + (values - old).clamp(-clip, clip)
    error = torch.maximum((values - returns).square(), (near - returns).square())
    return 0.5 * error.mean()


def _smooth_l1(values: Tensor, _old: Tensor, returns: Tensor, _clip: float) -> Tensor:
    return F.smooth_l1_loss(values, returns)


VALUE_LOSSES: dict[ValueLoss, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "clipped": _clipped_square,
    "smooth-l1": _smooth_l1,
}
"""By name: values, old values and returns of one shape, and the clip range; 0-d."""


def normalise(advantages: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 over the whole batch."""
    return (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-5)


def clipped_losses(
    new: ActionEvaluation,
    old: ActionEvaluation,
    advantages: Tensor,
    returns: Tensor,
    clip: float,
    value_loss: ValueLoss = "clipped",
) -> Losses:
    """PPO's clipped surrogate (arXiv 1707.06347, equation 7) and value error; all of one shape."""
    ratio = (new.log_probs - old.log_probs).exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    error = VALUE_LOSSES[value_loss](new.values, old.values, returns, clip)
    return Losses(-surrogate.mean(), error, new.entropy.mean())


class PolicyChange(NamedTuple):
    """How far a policy has moved from the one that acted, each 0-d."""

    approx_kl: Tensor
    """Mean of r - 1 - log r for ratios r: an estimate of the Kullback-Leibler divergence from the acting policy that is
    never negative, and less noisy than -log r."""
    clip_fraction: Tensor
    """The fraction of ratios outside the clip range."""


def policy_change(new: Tensor, old: Tensor, clip: float) -> PolicyChange:
    """Compare the log-probabilities of the same actions under two policies, tensors of one shape; no gradients."""
    change = (new - old).detach()
    ratio = change.exp()
    return PolicyChange((ratio - 1 - change).mean(), ((ratio - 1).abs() > clip).float().mean())
