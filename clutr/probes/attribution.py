"""Attribution of predictions to past inputs: the relevance of each latent and action of each step.

Gradient x input and integrated gradients (Sundararajan et al. 2017), occlusion, layer-wise relevance for LSTMs, and the
attention of Aaren. All use the same baseline, the mean latent and the mean action. Captum computes what it offers; it
does not offer relevance propagation through an LSTM.

A target is a number that a memory predicts: the expected change of a latent, the reward, or a quantity that a linear
probe reads from the memory's features, such as the lateral offset in ten steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from clutr.probes.open_lstm import OpenLSTM, lrp_slopes
from clutr.world_model.cores.aaren import AarenCore
from clutr.world_model.cores.lstm_gru import LSTMCore
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe
from clutr.world_model.memory import Memory, Scale

STEPS = 32
"""Points of the path of integrated gradients."""
ABLATED = 256
"""Sequences that occlusion looks at side by side."""


class Past(NamedTuple):
    """N sequences of T past steps, as the memory's core takes them."""

    inputs: Tensor
    """`[N, T, I]`: normalised latents, then actions; the last step is the present."""
    state: Tensor
    """`[N, S]`: the memory's before the first of them."""
    baseline: Tensor
    """`[I]`: the mean latent, which is 0, and the mean action."""
    origins: list[tuple[int, int]]
    """Of each sequence its episode and its last step there."""

    def first(self, count: int) -> "Past":
        """The first `count` sequences, or all."""
        return Past(self.inputs[:count], self.state[:count], self.baseline, self.origins[:count])


@torch.no_grad()
def cut_pasts(
    episodes: "list[LatentEpisode]", memory: Memory, scale: Scale, length: int, most: int, rng: torch.Generator
) -> Past:
    """One sequence of each episode that is long enough, ending at a random step.

    Args:
        episodes: to cut from.
        memory: observes each episode up to its sequence.
        scale: of its latents.
        length: T.
        most: N, at most.
        rng: chooses episodes and steps.

    Raises:
        ValueError: if no episode has T actions.
    """
    fitting = [number for number, episode in enumerate(episodes) if len(episode) >= length]
    if not fitting:
        longest = max((len(episode) for episode in episodes), default=0)
        raise ValueError(f"no episode has {length} steps to explain; the longest has {longest}")
    order = torch.randperm(len(fitting), generator=rng)[:most].tolist()
    rows, states, origins = [], [], []
    for number in (fitting[row] for row in order):
        episode = episodes[number]
        first = int(torch.randint(len(episode) - length + 1, (1,), generator=rng))
        inputs = torch.cat([scale.normalise(episode.mean[:-1]), episode.actions], 1)
        state = memory.initial_state(1)
        if first:
            state, _ = memory.core.scan(state, inputs[:first, None])
        rows.append(inputs[first : first + length])
        states.append(state[0])
        origins.append((number, first + length - 1))
    actions = torch.cat([episode.actions for episode in episodes])
    baseline = torch.cat([torch.zeros(memory.latents), actions.mean(0)])
    return Past(torch.stack(rows), torch.stack(states), baseline, origins)


@dataclass(frozen=True)
class Target:
    """A number that is predicted from the memory's features."""

    name: str
    """In words."""
    latent: int | None = None
    """The latent whose expected change it is; None with a probe, or for the reward."""
    probe: LinearProbe | None = None
    """Reads it from the features, in units of the quantity."""
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
        """The number `[N]` for features `[N, W]`, differentiable; a core that proposes latents is asked for those."""
        if self.probe is None and memory.proposing is not None:
            parts = memory.proposing.parts(features, memory.latents)
            return parts.proposal[:, self.latent] if self.latent is not None else memory.outcome(parts.features)[:, 0]
        weights, constant = self.read(memory, features)
        return (features * weights).sum(-1) + constant

    def shuffled(self, rng: torch.Generator) -> "Target":
        """The same with the probe's weights in random order, for the check that weights matter."""
        if self.probe is None:
            return self
        weights = self.probe.weights
        return replace(self, probe=self.probe._replace(weights=weights[torch.randperm(len(weights), generator=rng)]))


def predict(memory: Memory, target: Target, inputs: Tensor, state: Tensor) -> Tensor:
    """The prediction of the target `[N]` after inputs `[N, T, I]` from a state `[N, S]`, differentiable."""
    _, features = memory.core.scan(state, inputs.transpose(0, 1))
    return target.value(memory, features[-1])


@dataclass(frozen=True)
class AttributionInput:
    """What is explained: a memory's prediction of a target from past inputs."""

    memory: Memory
    target: Target
    past: Past

    def __call__(self, inputs: Tensor) -> Tensor:
        """The prediction `[N]` for inputs `[N, T, I]` in place of the past's."""
        return predict(self.memory, self.target, inputs, self.past.state)

    def predict_from(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The same from states of their own; captum repeats both."""
        return predict(self.memory, self.target, inputs, state)

    def over(self, inputs: Tensor) -> "AttributionInput":
        """The same for other inputs."""
        return AttributionInput(self.memory, self.target, self.past._replace(inputs=inputs))


Explain = Callable[[AttributionInput], Tensor]
"""Relevance `[N, T, I]` of the inputs."""


def gradient_times_input(explained: AttributionInput) -> Tensor:
    """Gradient of the prediction times the difference from the baseline."""
    past = explained.past
    inputs = past.inputs.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(explained(inputs).sum(), inputs)
    return slope * (past.inputs - past.baseline)


def integrated_gradients(explained: AttributionInput) -> Tensor:
    """Gradients along the straight path from the baseline; they add up to the difference that the past makes."""
    from captum.attr import IntegratedGradients  # noqa: PLC0415  # takes two seconds

    past = explained.past
    baseline = past.baseline.expand_as(past.inputs).contiguous()
    found: Tensor = IntegratedGradients(explained.predict_from).attribute(
        past.inputs, baselines=baseline, additional_forward_args=(past.state,), n_steps=STEPS
    )
    return found.detach()


@torch.no_grad()
def occlusion(explained: AttributionInput) -> Tensor:
    """By how much the prediction falls if one input of one step is replaced by the baseline."""
    from captum.attr import FeatureAblation  # noqa: PLC0415

    past = explained.past
    baseline = past.baseline.expand_as(past.inputs).contiguous()
    found: Tensor = FeatureAblation(explained.predict_from).attribute(
        past.inputs,
        baselines=baseline,
        additional_forward_args=(past.state,),
        perturbations_per_eval=max(1, ABLATED // len(past.inputs)),
    )
    return found.detach()


def layerwise_relevance(explained: AttributionInput) -> Tensor:
    """Layer-wise relevance through an LSTM: what passes through gates counts, what sets them does not.

    Raises:
        TypeError: for another core.
    """
    return layerwise_slopes(explained) * (explained.past.inputs - explained.past.baseline)


def layerwise_slopes(explained: AttributionInput) -> Tensor:
    """Layer-wise relevance of each input for one unit of its difference from the baseline, `[N, T, I]`.

    Raises:
        TypeError: for another core.
    """
    memory, target, past = explained.memory, explained.target, explained.past
    if not isinstance(memory.core, LSTMCore):
        raise TypeError(f"layer-wise relevance is for LSTMs, not for {type(memory.core).__name__}")
    opened = OpenLSTM.of(memory.core.lstm)
    h, c = past.state.chunk(2, 1)
    xs = past.inputs.transpose(0, 1)
    with torch.no_grad():
        read, constant = target.read(memory, opened.run(xs, h, c).h[-1])
    return lrp_slopes(opened, xs, read, constant, start=(h, c)).transpose(0, 1)


def attention(explained: AttributionInput) -> Tensor:
    """Aaren's attention to each step, `[N, T]`, mean over heads; the rest goes to what came before.

    Raises:
        TypeError: for another core.
    """
    core, past = explained.memory.core, explained.past
    if not isinstance(core, AarenCore):
        raise TypeError(f"attention is Aaren's, not of {type(core).__name__}")
    with torch.no_grad():
        scores = core.score(past.inputs)  # [N, T, heads]
        heads = core.config.heads
        top, denominator = past.state[:, :heads], past.state[:, heads : 2 * heads]
        # the past before the window counts as one more input: its summed weight
        earlier = top + denominator.clamp(min=1e-30).log()
        return torch.cat([earlier[:, None], scores], 1).softmax(1)[:, 1:].mean(-1)


def random_relevance(explained: AttributionInput, rng: torch.Generator) -> Tensor:
    """Random relevance, the control of all other methods."""
    return torch.randn(explained.past.inputs.shape, generator=rng)


METHODS: dict[str, Explain] = {
    "gradient x input": gradient_times_input,
    "integrated gradients": integrated_gradients,
    "occlusion": occlusion,
    "layer-wise relevance": layerwise_relevance,
}
"""Explanations by name."""


def methods_for(memory: Memory) -> dict[str, Explain]:
    """Those that apply to the memory's core."""
    return {
        name: explain
        for name, explain in METHODS.items()
        if explain is not layerwise_relevance or isinstance(memory.core, LSTMCore)
    }


def by_lag(relevance: Tensor) -> Tensor:
    """Share of absolute relevance `[N, T, I]` at 0, 1, ... steps before the present: `[T]`."""
    sizes = relevance.abs().sum(-1) if relevance.ndim == 3 else relevance.abs()
    shares = sizes / sizes.sum(1, keepdim=True).clamp(min=1e-30)
    return shares.mean(0).flip(0)


def completeness(explained: AttributionInput, relevance: Tensor) -> float:
    """Share of the difference between prediction and baseline that the relevance leaves out.

    0 for integrated gradients with enough steps, whose relevance adds up.
    """
    with torch.no_grad():
        past = explained.past
        made = explained(past.inputs) - explained(past.baseline.expand_as(past.inputs))
    missing = relevance.flatten(1).sum(1) - made
    return float(missing.abs().mean() / made.abs().mean().clamp(min=1e-12))
