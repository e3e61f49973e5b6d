"""What is explained: a number that a memory says of what comes next, given a stretch of the past.

Three kinds: the expected change of a latent, the reward, and a quantity that a linear probe reads from the memory's
features, such as the lateral offset in ten moments.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from clutr.probes.linear_probes import Probe
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import Memory, Scale


class Past(NamedTuple):
    """N stretches of T moments, as the memory's core takes them."""

    inputs: Tensor
    """`[N, T, I]`: normalised latents, then actions; the last moment is the present."""
    state: Tensor
    """`[N, S]`: the memory's before the first of them."""
    baseline: Tensor
    """`[I]`: what stands for "nothing known": the mean latent, which is 0, and the mean action."""
    places: list[tuple[int, int]]
    """Of each stretch its episode and its last moment there."""


@torch.no_grad()
def cut_pasts(
    episodes: "list[LatentEpisode]", memory: Memory, scale: Scale, length: int, most: int, rng: torch.Generator
) -> Past:
    """One stretch of each episode that is long enough, ending at a random moment.

    Args:
        episodes: to cut from.
        memory: what has watched each episode up to its stretch.
        scale: of its latents.
        length: T.
        most: N, at most.
        rng: chooses episodes and moments.

    Raises:
        ValueError: if no episode has T actions.
    """
    fitting = [number for number, episode in enumerate(episodes) if len(episode) >= length]
    if not fitting:
        longest = max((len(episode) for episode in episodes), default=0)
        raise ValueError(f"no episode has {length} moments to explain; most have {longest}")
    order = torch.randperm(len(fitting), generator=rng)[:most].tolist()
    rows, states, places = [], [], []
    for number in (fitting[place] for place in order):
        episode = episodes[number]
        first = int(torch.randint(len(episode) - length + 1, (1,), generator=rng))
        inputs = torch.cat([scale.normalise(episode.mean[:-1]), episode.actions], 1)
        state = memory.initial_state(1)
        if first:
            state, _ = memory.core.scan(state, inputs[:first, None])
        rows.append(inputs[first : first + length])
        states.append(state[0])
        places.append((number, first + length - 1))
    actions = torch.cat([episode.actions for episode in episodes])
    baseline = torch.cat([torch.zeros(memory.latents), actions.mean(0)])
    return Past(torch.stack(rows), torch.stack(states), baseline, places)


@dataclass(frozen=True)
class Target:
    """A number that is read from the memory's features."""

    name: str
    """In words."""
    latent: int | None = None
    """The latent whose expected change it is; None with a probe, or for the reward."""
    probe: Probe | None = None
    """What reads it from the features, in units of the quantity."""
    column: int = 0
    """Which of the probe's quantities."""

    def read(self, memory: Memory, features: Tensor) -> tuple[Tensor, Tensor]:
        """Weights `[N, W]` and constants `[N]` by which the number is read from features `[N, W]`.

        A latent's expected change is the mean of a mixture, whose weights depend on the features: as gates do, they
        stay what they are, and the means are read.
        """
        if self.probe is not None:
            weights, constant = self.probe.weights[:, self.column], self.probe.constant[self.column]
        elif self.latent is None:
            weights, constant = memory.outcome.weight[0], memory.outcome.bias[0]
        else:
            count = memory.config.gaussians
            first = 3 * count * self.latent
            rows, biases = memory.mixture.weight[first:], memory.mixture.bias[first:]
            shares = (features @ rows[:count].T + biases[:count]).softmax(-1)
            return shares @ rows[count : 2 * count], shares @ biases[count : 2 * count]
        return weights.expand_as(features), constant.expand(len(features))

    def value(self, memory: Memory, features: Tensor) -> Tensor:
        """The number `[N]` for features `[N, W]`, differentiable."""
        weights, constant = self.read(memory, features)
        return (features * weights).sum(-1) + constant

    def shuffled(self, rng: torch.Generator) -> "Target":
        """The same with the probe's weights in random order, for the check that weights matter."""
        if self.probe is None:
            return self
        weights = self.probe.weights
        return replace(self, probe=self.probe._replace(weights=weights[torch.randperm(len(weights), generator=rng)]))


def answer(memory: Memory, target: Target, inputs: Tensor, state: Tensor) -> Tensor:
    """What the memory says of the target `[N]` after inputs `[N, T, I]` from a state `[N, S]`, differentiable."""
    _, features = memory.core.scan(state, inputs.transpose(0, 1))
    return target.value(memory, features[-1])
