"""Rewards in units of what returns usually vary by."""

import torch
from torch import Tensor

from clutr.envs.state import Stateful


class ReturnNormaliser(Stateful):
    """Divides rewards by the running standard deviation of the discounted return; the mean is not subtracted.

    As in the released code of arXiv 2110.02439 (CarRacing): after each step, the discounted sums of the rewards so far
    of all N running episodes join the statistics, and the step's rewards are divided by what they then say.

    Args:
        discount: gamma of the discounted return.
        limit: normalised rewards are clipped to +- this.
        device: where rewards lie.
    """

    saved = ("moments",)
    LEAST_VARIANCE = 1e-8

    def __init__(self, discount: float, limit: float = 10.0, device: torch.device | str = "cpu") -> None:
        self.discount = discount
        self.limit = limit
        # As if 1e-4 returns with mean 0 and variance 1 had been seen, so that the first rewards can be divided.
        self.moments = torch.tensor([1e-4, 0.0, 1e-4], dtype=torch.float64, device=device)
        """Number, sum, and sum of squares of the discounted returns seen: `[3]` float64."""

    def __call__(self, rewards: Tensor, dones: Tensor) -> Tensor:
        """Normalise a rollout in the order of its steps, and learn from it.

        Args:
            rewards: `[T, N]`; the discounted returns start from zero with the first.
            dones: `[T, N]` bool; the discounted return starts again after these steps.

        Returns:
            Normalised rewards `[T, N]`.
        """
        keep = self.discount * (~dones).to(torch.float64)
        returns = torch.empty_like(keep)
        carried = torch.zeros_like(keep[0])
        for t, reward in enumerate(rewards):
            torch.add(carried, reward, out=returns[t])
            carried = returns[t] * keep[t]
        number = torch.full_like(returns[:, 0], returns.shape[1])
        seen = torch.stack([number, returns.sum(1), returns.square().sum(1)], 1).cumsum(0) + self.moments
        self.moments = seen[-1].clone()
        mean, square = (seen[:, 1:] / seen[:, :1]).unbind(1)
        deviation = (square - mean.square()).clamp(min=self.LEAST_VARIANCE).sqrt()
        return (rewards / deviation.to(rewards.dtype).unsqueeze(1)).clamp(-self.limit, self.limit)
