"""LSTM and GRU: the cores of the reference world model (Ha & Schmidhuber 2018) and of most others."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clutr.envs.validation import require_at_least
from clutr.world_model.cores.base import CORES


def _steady() -> AbstractContextManager[None]:
    """Torch's own initialisation takes nothing of the global generator. The device `meta` would import for a second."""
    return torch.random.fork_rng(devices=[])


def _fill(module: nn.Module, rng: torch.Generator, width: int) -> None:
    """Weights uniform in +-1/sqrt(width), as torch's own, but from our generator."""
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator=rng)


@CORES.register("lstm")
@dataclass(frozen=True)
class LSTMConfig:
    """A long short-term memory."""

    width: int = 256
    """Cells."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "width")

    def build(self, inputs: int, rng: torch.Generator) -> "LSTMCore":
        """Make the core."""
        return LSTMCore(inputs, self.width, rng)


class LSTMCore(nn.Module):
    """`nn.LSTM` with one layer; the state is its output h and its cells c, side by side.

    Args:
        inputs: numbers a step.
        width: cells.
        rng: draws the initial weights.
    """

    def __init__(self, inputs: int, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.width = width
        with _steady():
            self.lstm = nn.LSTM(inputs, width)
        _fill(self.lstm, rng, width)

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, 2 W]`."""
        return torch.zeros(n, 2 * self.width)

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """One input `[N, I]`."""
        weights = list(self.lstm.parameters())  # of input and state, and both biases
        h, c = torch.lstm_cell(x, state.chunk(2, 1), *weights)
        return torch.cat([h, c], 1), h

    def scan(self, state: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs `[T, N, I]`."""
        h, c = (part.contiguous()[None] for part in state.chunk(2, 1))
        features, (h, c) = self.lstm(xs, (h, c))
        return torch.cat([h[0], c[0]], 1), features


@CORES.register("gru")
@dataclass(frozen=True)
class GRUConfig:
    """A gated recurrent unit."""

    width: int = 256
    """Units."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "width")

    def build(self, inputs: int, rng: torch.Generator) -> "GRUCore":
        """Make the core."""
        return GRUCore(inputs, self.width, rng)


class GRUCore(nn.Module):
    """`nn.GRU` with one layer; the state is its output.

    Args:
        inputs: numbers a step.
        width: units.
        rng: draws the initial weights.
    """

    def __init__(self, inputs: int, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.width = width
        with _steady():
            self.gru = nn.GRU(inputs, width)
        _fill(self.gru, rng, width)

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, W]`."""
        return torch.zeros(n, self.width)

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """One input `[N, I]`."""
        h = torch.gru_cell(x, state, *self.gru.parameters())
        return h, h

    def scan(self, state: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs `[T, N, I]`."""
        features, h = self.gru(xs, state.contiguous()[None])
        return h[0], features
