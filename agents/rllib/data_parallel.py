"""PPO's update shared by several learners."""

import math
from dataclasses import replace

import torch
import torch.distributed
from torch import Tensor, nn

from clutr.agents.ppo import METRICS, Batch, PPOStudent
from clutr.agents.student import Trajectories


class DataParallelStudent(PPOStudent):
    """A student that each process of torch.distributed's default group has a copy of, with a shard of the environments.

    A gradient step is on all learners' samples of a minibatch: advantages are normalised over all of them, and
    gradients are summed over learners once they are complete. So several learners do as one does where a rollout is
    one minibatch. Shards are even: the learners' numbers of samples differ by one environment's at most.
    """

    def learn(self, trajectories: Trajectories, train: Tensor | None = None) -> dict[str, float]:
        """See `PPOStudent`; nothing is learnt only if no learner has a sample."""
        batch = Batch.of(self.network, trajectories, train)
        samples = _count(batch)
        if samples == 0:
            return {}
        return self.optimise(batch, min(self.config.minibatches, math.ceil(samples / _learners())))

    def gradient_step(self, batch: Batch) -> Tensor:
        """See `PPOStudent`; this learner has some of the minibatch's samples, all, or none."""
        batch = replace(batch, advantages=_normalise(batch.advantages))
        samples = _count(batch)
        if len(batch):
            metrics = self.backward(batch, samples)
        else:
            metrics = batch.advantages.new_zeros(len(METRICS) - 1)
            for parameter in self.network.parameters():
                parameter.grad = torch.zeros_like(parameter)
        for parameter in self.network.parameters():
            assert parameter.grad is not None
            parameter.grad = _sum(parameter.grad)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        self.optimiser.step()
        return torch.cat([_sum(metrics), norm.unsqueeze(0)])


def _learners() -> int:
    return torch.distributed.get_world_size()


def _sum(values: Tensor) -> Tensor:
    """The sum of all learners' `values`, which have one shape."""
    values = values.clone()
    torch.distributed.all_reduce(values)
    return values


def _count(batch: Batch) -> int:
    """The number of all learners' samples."""
    return int(_sum(torch.tensor(len(batch))))


def _normalise(advantages: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 over those of all learners.

    Sums of squares are taken in double precision, about zero.
    """
    values = advantages.double()
    sums = torch.stack([torch.tensor(float(values.numel())).to(values), values.sum(), values.square().sum()])
    number, total, square = _sum(sums).unbind()
    mean = total / number
    deviation = (square / number - mean.square()).clamp(min=0).sqrt()
    return ((values - mean) / (deviation + 1e-5)).to(advantages.dtype)
