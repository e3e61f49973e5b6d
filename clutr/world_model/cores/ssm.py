"""Linear cores with a diagonal transition: a state-space layer (S4D), and a Koopman-linear one.

Sources: Gu et al. 2021, "Combining Recurrent, Convolutional, and Continuous-time Models with Linear State-Space Layers"
(arXiv 2110.13985), diagonal as in S4D (arXiv 2206.11893). Each complex eigenvalue is a frequency and a time scale that
can be read.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.agents.networks import linear
from clutr.envs.validation import require_at_least
from clutr.world_model.cores.base import CORES, convolve


class DiagonalSSM(nn.Module):
    """H complex numbers that turn and fade: s_t = lambda * s_{t-1} + u_t, one eigenvalue lambda each, |lambda| < 1.

    Args:
        modes: H.
        slowest: longest time scale at the start, in steps.
        rng: draws the frequencies.
    """

    def __init__(self, modes: int, slowest: float, rng: torch.Generator) -> None:
        super().__init__()
        # time scales spread evenly on a logarithmic scale, from one step to the slowest
        times = torch.logspace(0, math.log10(slowest), modes)
        self.log_rate = nn.Parameter(-times.log())
        self.frequency = nn.Parameter(math.pi * torch.rand(modes, generator=rng) ** 2)

    def eigenvalues(self) -> Tensor:
        """`[H]` complex."""
        return torch.exp(torch.complex(-self.log_rate.exp(), self.frequency))

    def step(self, state: Tensor, u: Tensor) -> Tensor:
        """State and input `[N, H]` complex: the next state."""
        return self.eigenvalues() * state + u

    def scan(self, state: Tensor, us: Tensor) -> Tensor:
        """All states `[T, N, H]` for inputs `[T, N, H]`, by convolution."""
        log_eigenvalues = torch.complex(-self.log_rate.exp(), self.frequency)
        times = torch.arange(len(us), dtype=torch.float32, device=us.device)
        kernel = torch.exp(times[:, None] * log_eigenvalues)
        return convolve(kernel[:, None], us) + (kernel * self.eigenvalues())[:, None] * state


def _complex(numbers: Tensor) -> Tensor:
    """`[..., 2 H]` real as `[..., H]` complex."""
    return torch.complex(*numbers.chunk(2, -1))


def _real(numbers: Tensor) -> Tensor:
    """The inverse of `_complex`."""
    return torch.cat([numbers.real, numbers.imag], -1)


@dataclass(frozen=True)
class _DiagonalOptions:
    width: int = 256
    """Features."""
    modes: int = 128
    """Eigenvalues."""
    slowest: float = 100.0
    """Longest time scale at the start, in steps."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "width", "modes")
        require_at_least(self, 1, "slowest")


@CORES.register("ssm")
@dataclass(frozen=True)
class StateSpaceConfig(_DiagonalOptions):
    """A diagonal state-space layer with a nonlinear read-out."""

    def build(self, inputs: int, rng: torch.Generator) -> "SSMCore":
        """Make the core."""
        return SSMCore(inputs, self, nonlinear=True, rng=rng)


@CORES.register("koopman")
@dataclass(frozen=True)
class KoopmanConfig(_DiagonalOptions):
    """A Koopman-linear core: memory and read-out are linear, so that its spectrum is all there is to its dynamics."""

    def build(self, inputs: int, rng: torch.Generator) -> "SSMCore":
        """Make the core."""
        return SSMCore(inputs, self, nonlinear=False, rng=rng)


class SSMCore(nn.Module):
    """A diagonal linear memory between a linear encoder and a read-out of memory and input.

    Args:
        inputs: numbers a step.
        config: the options.
        nonlinear: whether the read-out is.
        rng: draws the initial weights.
    """

    def __init__(self, inputs: int, config: _DiagonalOptions, nonlinear: bool, rng: torch.Generator) -> None:
        super().__init__()
        self.width, self.modes, self.nonlinear = config.width, config.modes, nonlinear
        self.encoder = linear(inputs, 2 * config.modes, rng)
        self.memory = DiagonalSSM(config.modes, config.slowest, rng)
        self.read = linear(2 * config.modes + inputs, config.width, rng)

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, 2 * modes]`: real parts, then imaginary parts."""
        return torch.zeros(n, 2 * self.modes)

    def _features(self, states: Tensor, x: Tensor) -> Tensor:
        read: Tensor = self.read(torch.cat([_real(states), x], -1))
        return F.gelu(read) if self.nonlinear else read

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """One input `[N, I]`."""
        following = self.memory.step(_complex(state), _complex(self.encoder(x)))
        return _real(following), self._features(following, x)

    def scan(self, state: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs `[T, N, I]`."""
        states = self.memory.scan(_complex(state), _complex(self.encoder(xs)))
        return _real(states[-1]), self._features(states, xs)
