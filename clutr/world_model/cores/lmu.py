"""The Legendre memory unit: a window of the past as coefficients of Legendre polynomials.

Source: Voelker, Kajic & Eliasmith 2019, "Legendre Memory Units"; in the parallel form of LMUFormer. What it remembers
is known in closed form: `recall` reads the input of any time inside the window.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported at their first use, which takes half a second
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clutr.agents.networks import linear
from clutr.envs.validation import require_at_least
from clutr.world_model.cores.base import CORES, convolve


@CORES.register("lmu")
@dataclass(frozen=True)
class LMUConfig:
    """A Legendre memory unit."""

    width: int = 256
    """Features."""
    channels: int = 32
    """Numbers of each step that are remembered."""
    order: int = 12
    """Polynomials, hence memory cells of each channel."""
    window: float = 50.0
    """Steps that are remembered."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "width", "channels", "order")
        require_at_least(self, 1, "window")

    def build(self, inputs: int, rng: torch.Generator) -> "LMUCore":
        """Make the core."""
        return LMUCore(inputs, self, rng)


def legendre_delay(order: int, window: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The delay system under a zero-order hold of one step.

    Args:
        order: polynomials d.
        window: theta, in steps.

    Returns:
        A `[d, d]` and B `[d]` of m_t = A m_{t-1} + B u_t.
    """
    i, j = np.arange(order)[:, None], np.arange(order)[None, :]
    sign = np.where(i < j, -1.0, np.where((i - j) % 2 == 0, -1.0, 1.0))
    drift = (2 * i + 1) / window * sign
    push = (2 * np.arange(order) + 1) / window * (-1.0) ** np.arange(order)
    joined = np.zeros((order + 1, order + 1))
    joined[:order, :order], joined[:order, order] = drift, push
    held = scipy.linalg.expm(joined)
    return held[:order, :order], held[:order, order]


def recall_weights(order: int, window: float, steps_back: Tensor) -> Tensor:
    """`[K, d]`: weights of the memory cells that give the input `steps_back` `[K]` steps before the newest.

    Shifted Legendre polynomials; the hold delays time by half a step, so that q steps back lie at q + 1/2.
    """
    place = ((steps_back.double() + 0.5) / window).numpy()
    polynomials = [np.polynomial.legendre.Legendre.basis(n)(2 * place - 1) for n in range(order)]
    return torch.from_numpy(np.stack(polynomials, 1)).float()


class LMUCore(nn.Module):
    """A linear memory of the encoded input, and features of memory and input.

    Args:
        inputs: numbers a step.
        config: the options.
        rng: draws the initial weights.
    """

    A: Tensor
    B: Tensor

    def __init__(self, inputs: int, config: LMUConfig, rng: torch.Generator) -> None:
        super().__init__()
        self.width, self.config = config.width, config
        a, b = legendre_delay(config.order, config.window)
        self.register_buffer("A", torch.from_numpy(a).float())
        self.register_buffer("B", torch.from_numpy(b).float())
        self.encoder = linear(inputs, config.channels, rng)
        self.read = linear(config.channels * config.order + inputs, config.width, rng)

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, channels * order]`."""
        return torch.zeros(n, self.config.channels * self.config.order)

    def memory(self, state: Tensor) -> Tensor:
        """The state `[N, S]` as memory cells `[N, channels, order]`."""
        return state.view(len(state), self.config.channels, self.config.order)

    def recall(self, state: Tensor, steps_back: Tensor) -> Tensor:
        """What the encoded input was, `[N, channels, K]`, so many steps `[K]` before the newest, inside the window."""
        return self.memory(state) @ recall_weights(self.config.order, self.config.window, steps_back).T

    def _features(self, memory: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.read(torch.cat([memory.flatten(-2), x], -1)))

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """One input `[N, I]`."""
        memory = self.memory(state) @ self.A.T + self.encoder(x)[..., None] * self.B
        return memory.flatten(1), self._features(memory, x)

    def scan(self, state: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs `[T, N, I]`; the memory is a convolution."""
        steps = len(xs)
        kernel, decay = [self.B], [self.A]
        for _ in range(steps - 1):
            kernel.append(self.A @ kernel[-1])
            decay.append(self.A @ decay[-1])
        pushed = convolve(torch.stack(kernel)[:, None, None], self.encoder(xs)[..., None])
        kept = torch.einsum("tij,ncj->tnci", torch.stack(decay), self.memory(state))
        memory = pushed + kept
        return memory[-1].flatten(1), self._features(memory, xs)
