"""Attention as an RNN: a learned query attends to all inputs so far, with a state of constant size.

Source: Feng et al. 2024, "Attention as an RNN" (arXiv 2405.13956). Softmax attention over a prefix is a recurrence on
its running maximum, numerator and denominator, and the pairs of neighbouring stretches merge: a prefix scan gives all
outputs. The weights are an exact saliency over time: `attention`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clutr.agents.networks import linear
from clutr.envs.validation import require_at_least
from clutr.world_model.cores.base import CORES

_NOTHING = -1e9
"""The running maximum before any input: finite, so that differences of it are."""


@CORES.register("aaren")
@dataclass(frozen=True)
class AarenConfig:
    """Attention as an RNN."""

    width: int = 256
    """Features."""
    heads: int = 8
    """Queries; each attends for itself."""
    values: int = 32
    """Numbers that each head reads."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "width", "heads", "values")

    def build(self, inputs: int, rng: torch.Generator) -> "AarenCore":
        """Make the core."""
        return AarenCore(inputs, self, rng)


def merge(first: tuple[Tensor, Tensor, Tensor], second: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Join two neighbouring stretches, each told by its maximum m, its sum u of exp(s - m), and of exp(s - m) v, w."""
    (m, u, w), (m2, u2, w2) = first, second
    top = torch.maximum(m, m2)
    left, right = (m - top).exp(), (m2 - top).exp()
    return top, u * left + u2 * right, w * left[..., None] + w2 * right[..., None]


class AarenCore(nn.Module):
    """One layer of attention over all inputs so far, and features of what was read and of the input.

    Args:
        inputs: numbers a step.
        config: the options.
        rng: draws the initial weights.
    """

    def __init__(self, inputs: int, config: AarenConfig, rng: torch.Generator) -> None:
        super().__init__()
        self.width, self.config = config.width, config
        heads, values = config.heads, config.values
        # a query that does not depend on the input and a key that does are one linear score of the input
        self.score = linear(inputs, heads, rng)
        self.value = linear(inputs, heads * values, rng)
        self.read = linear(heads * values + inputs, config.width, rng)

    def initial_state(self, n: int) -> Tensor:
        """`[n, heads * (2 + values)]`: maximum, denominator and numerator of each head, with no input yet."""
        heads, values = self.config.heads, self.config.values
        return torch.cat([torch.full((n, heads), _NOTHING), torch.zeros(n, heads * (1 + values))], 1)

    def _unpack(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads = self.config.heads
        return state[..., :heads], state[..., heads : 2 * heads], state[..., 2 * heads :].unflatten(-1, (heads, -1))

    def _pack(self, parts: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.cat([parts[0], parts[1], parts[2].flatten(-2)], -1)

    def _one(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The stretch that is a single input."""
        score = self.score(x)
        return score, torch.ones_like(score), self.value(x).unflatten(-1, (self.config.heads, -1))

    def _features(self, parts: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        read = (parts[2] / parts[1][..., None]).flatten(-2)
        return torch.tanh(self.read(torch.cat([read, x], -1)))

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """One input `[N, I]`."""
        parts = merge(self._unpack(state), self._one(x))
        return self._pack(parts), self._features(parts, x)

    def scan(self, state: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs `[T, N, I]`, in log2(T) merges."""
        parts = self._one(xs)
        for doubling in range(math.ceil(math.log2(len(xs)))):
            reach = 1 << doubling
            earlier = tuple(part[:-reach] for part in parts)
            later = tuple(part[reach:] for part in parts)
            joined = merge(earlier, later)  # type: ignore[arg-type]
            parts = tuple(torch.cat([part[:reach], both]) for part, both in zip(parts, joined, strict=True))  # type: ignore[assignment]
        before = tuple(part[None] for part in self._unpack(state))
        parts = merge(before, parts)  # type: ignore[arg-type]
        return self._pack(tuple(part[-1] for part in parts)), self._features(parts, xs)  # type: ignore[arg-type]

    def attention(self, xs: Tensor) -> Tensor:
        """How much each head reads of each input `[T, N, I]` at the end: `[T, N, heads]`, sums of 1 over T."""
        weights: Tensor = self.score(xs).softmax(0)
        return weights
