"""A convolutional GRU over latents that lie in a grid: every place has the same small memory and sees its neighbours.

Source: Ballas et al. 2016, "Delving Deeper into Convolutional Networks for Learning Video Representations" (arXiv
1511.06432); Shi et al. 2015 (arXiv 1506.04214) for the idea with an LSTM. Latents that are no part of the grid, and
actions, are told to every place. The next grid is proposed as a change of the present one, by a convolution, so that
the number of weights does not grow with the grid.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from clutr.agents.networks import initialised, linear
from clutr.envs.validation import require_at_least
from clutr.world_model.cores.base import CORES, Parts, loop

GLANCE = 64
"""Numbers by which the heads are told what the grid remembers."""


@CORES.register("conv-gru")
@dataclass(frozen=True)
class ConvGRUConfig:
    """A convolutional gated recurrent unit, for latents that lie in a grid."""

    width: int = 24
    """Units of each place."""
    rows: int = 8
    """Of the grid, as in the backbone."""
    columns: int = 8
    """Of the grid, as in the backbone."""
    channels: int = 4
    """Latents of each place, as in the backbone."""
    kernel: int = 5
    """Side of the convolutions, odd: how far a place sees in a step."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "width", "rows", "columns", "channels", "kernel")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")

    def build(self, inputs: int, rng: torch.Generator) -> "ConvGRUCore":
        """Make the core. Raises `ValueError` if there are fewer inputs than the grid has latents."""
        return ConvGRUCore(inputs, self, rng)


class ConvGRUCore(nn.Module):
    """The state is the units of all places, `width * rows * columns`, channel by channel.

    Args:
        inputs: numbers a step: latents, those of the grid first, then the action.
        config: the options.
        rng: draws the initial weights.
    """

    def __init__(self, inputs: int, config: ConvGRUConfig, rng: torch.Generator) -> None:
        super().__init__()
        self.config, self.inputs = config, inputs
        self.grid = (config.channels, config.rows, config.columns)
        self.cells, self.places = math.prod(self.grid), config.rows * config.columns
        if inputs <= self.cells:
            raise ValueError(
                f"conv-gru has {config.rows}x{config.columns} places of {config.channels} latents: it needs more than "
                + f"{self.cells} inputs, got {inputs}. The backbones `cells` and `spatial-vae` give such latents"
            )
        self.outside, side = inputs - self.cells, config.kernel
        shown = config.channels + self.outside + 2  # and where a place is
        self.gates = _convolution(shown + config.width, 2 * config.width, side, rng)
        self.candidate = _convolution(shown + config.width, config.width, side, rng)
        self.change = _convolution(config.width + shown, config.channels, side, rng, gain=0.1)
        self.glance = linear(config.width * self.places, GLANCE, rng)
        self.rest = linear(GLANCE + self.outside, self.outside, rng, gain=0.1)
        self.head_width = GLANCE + self.outside
        self.width = self.head_width + inputs
        lines = (torch.linspace(-1, 1, count) if count > 1 else torch.zeros(1) for count in self.grid[1:])
        self.register_buffer("place", torch.stack(torch.meshgrid(*lines, indexing="ij")), persistent=False)
        self.place: Tensor

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, width * rows * columns]`."""
        return torch.zeros(n, self.config.width * self.places)

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """One input `[N, I]`."""
        count, outside = len(x), x[:, self.cells :]
        units = state.view(count, self.config.width, *self.grid[1:])
        told = outside[:, :, None, None].expand(-1, -1, *self.grid[1:])
        cells = x[:, : self.cells].view(count, *self.grid)
        shown = torch.cat([cells, told, self.place.expand(count, -1, -1, -1)], 1)
        update, reset = self.gates(torch.cat([shown, units], 1)).sigmoid().chunk(2, 1)
        fresh = torch.tanh(self.candidate(torch.cat([shown, reset * units], 1)))
        units = (1 - update) * units + update * fresh
        glance = torch.cat([torch.tanh(self.glance(units.flatten(1))), outside], 1)
        proposal = cells + self.change(torch.cat([units, shown], 1))
        rest = outside + self.rest(glance)
        return units.flatten(1), torch.cat([glance, proposal.flatten(1), rest], 1)

    def scan(self, state: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs `[T, N, I]`, one after the other."""
        return loop(self, state, xs)

    def parts(self, features: Tensor, latents: int) -> Parts:
        """What features `[..., width]` mean, for so many latents."""
        head, proposal = features.split([self.head_width, self.inputs], -1)
        return Parts(head, proposal[..., :latents], None)


def _convolution(inputs: int, outputs: int, side: int, rng: torch.Generator, gain: float = 1.0) -> nn.Conv2d:
    draw = partial(nn.init.orthogonal_, gain=gain, generator=rng)
    return initialised(nn.Conv2d, draw, inputs, outputs, kernel_size=side, padding=side // 2)
