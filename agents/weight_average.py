"""An exponential moving average of a network's weights: steadier than the newest weights, and behind them.

Sources: Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging"; for policies Nikishin et al.
2018, "Improving Stability in Deep Reinforcement Learning with Weight Averaging".
"""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

from clutr.envs.state import Stateful

YOUNG = 9
"""An average of k updates forgets no slower than k / (k + 9): the first weights, drawn at random, do not stay in it."""

Followed = TypeVar("Followed", bound=nn.Module)


class WeightAverage(Stateful, Generic[Followed]):
    """Follows a network, update by update.

    Args:
        network: that is followed; it is copied.
        decay: share of the average that an update leaves, from 0 to 1.
    """

    saved = ("network", "updates")

    def __init__(self, network: Followed, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def follow(self, network: Followed) -> None:
        """Take an update of the network into the average; what is no floating-point number is taken as it is."""
        decay = min(self.decay, self.updates / (self.updates + YOUNG))
        for mine, newest in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(newest, 1 - decay)
            else:
                mine.copy_(newest)
        self.updates += 1
