"""The one protocol of sequence cores: a step at a time, or a whole sequence at once, with the same numbers."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from clutr.envs.registry import Registry


class Core(Protocol):
    """Turns inputs into features that remember earlier inputs; an `nn.Module`.

    The state is one flat tensor, so that it can be stored, branched and pushed about like any other.
    """

    width: int
    """Features W."""

    def initial_state(self, n: int) -> Tensor:
        """`[n, S]` float32: nothing remembered."""
        ...

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """One input `[N, I]`: the next state `[N, S]` and features `[N, W]`."""
        ...

    def scan(self, state: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs `[T, N, I]`: the state after the last of them, and features `[T, N, W]`; what T steps would give."""
        ...

    def parameters(self) -> Any:
        """The weights."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Weights by name."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """The inverse of `state_dict`."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch between training and evaluation."""
        ...


class Parts(NamedTuple):
    """What the features of a core that proposes mean."""

    features: Tensor
    """`[..., F]`: what reward, termination and uncertainty are predicted from."""
    proposal: Tensor
    """`[..., D]`: the next normalised latent."""
    motion: Tensor | None
    """`[..., 3]`: right, ahead and turn of the step, in standard deviations; None of a core that predicts none."""


@runtime_checkable
class ProposingCore(Core, Protocol):
    """A core that says itself what comes next, since its latents lie in a grid; heads say how sure it is."""

    head_width: int
    """Numbers of `Parts.features`."""

    def parts(self, features: Tensor, latents: int) -> Parts:
        """What features `[..., W]` mean, for so many latents."""
        ...


class Motions(NamedTuple):
    """What a moving core predicts without its map."""

    motion: Tensor
    """`[T, N, 3]`: as in `Parts`."""
    rest: Tensor
    """`[T, N, R]`: the next normalised latents that are no cells, the last ones of all."""
    units: Tensor
    """`[T, N, U]`: what it remembers for that."""


@runtime_checkable
class MovingCore(ProposingCore, Protocol):
    """A core that proposes by the motion that it predicts, which it learns from true motion."""

    def use_scale(self, mean: Tensor, std: Tensor) -> None:
        """Take note of the latents' means and standard deviations `[D]`."""
        ...

    def use_motion(self, motion: Tensor) -> None:
        """Take note of the scale of true motions `[n, 3]`."""
        ...

    def in_deviations(self, motion: Tensor) -> Tensor:
        """True motions `[..., 3]` in the units of `Parts.motion`."""
        ...

    def displacement(self, found: Tensor, true: Tensor, summed: bool) -> Tensor:
        """How far motions `[T, N, 3]`, both in the units of `Parts.motion`, let the view be out of place.

        Args:
            found: predicted.
            true: what should have been.
            summed: whether motions follow each other unseen, so that errors add up.

        Returns:
            `[T, N]`: squares, 1 for what a view moves in a step.
        """
        ...

    def initial_units(self, n: int) -> Tensor:
        """`[n, U]`: nothing remembered of what motion is predicted from."""
        ...

    def motion_parameters(self) -> list[Tensor]:
        """The weights that `motions` depends on."""
        ...

    def motions(
        self, units: Tensor, xs: Tensor, latents: int, dreamt: int, begins: Sequence[int]
    ) -> tuple[Motions, Motions]:
        """Motion without the map, which costs most.

        Args:
            units: `[N, U]` before the inputs.
            xs: inputs `[T, N, I]`.
            latents: D, how many of the inputs are latents; they come first.
            dreamt: steps of each dream.
            begins: of which inputs the dreams' first steps are, one or more.

        Returns:
            Of all inputs; and of dreams `side_by_side`, in which latents that are no cells are predictions.
        """
        ...

    def dreaming(self, state: Tensor, on: bool) -> Tensor:
        """The state `[N, S]`, told whether from here on latents are its own predictions."""
        ...

    def seen(self, state: Tensor) -> Tensor:
        """`[N, rows, columns]`: how much of each cell of the present view was seen, not invented."""
        ...


class CoreConfig(Protocol):
    """A frozen dataclass of a core's options, registered in `CORES`."""

    def build(self, inputs: int, rng: torch.Generator) -> Core:
        """Make a core for `inputs` numbers a step."""
        ...


CORES: Registry[type[CoreConfig]] = Registry("core", "clutr.world_model.cores.*")


def side_by_side(of_steps: Tensor, steps: int, begins: Sequence[int]) -> Tensor:
    """Of `[T, N, ...]` so many steps from each of the beginnings on: `[steps, len(begins) * N, ...]`."""
    return torch.cat([of_steps[begin : begin + steps] for begin in begins], 1)


def loop(core: Core, state: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
    """`scan` by steps, for cores that have no faster way."""
    features = []
    for x in xs:
        state, feature = core.step(state, x)
        features.append(feature)
    return state, torch.stack(features)


def convolve(kernel: Tensor, inputs: Tensor) -> Tensor:
    """Causal convolution over time by the fast Fourier transform.

    Args:
        kernel: `[T, ...]` real or complex: the answer to a unit input, 0, 1, ... steps later.
        inputs: `[T, ...]`, of a shape that broadcasts with the kernel's.

    Returns:
        `[T, ...]`: the sum over s <= t of kernel[t - s] * inputs[s].
    """
    length = len(kernel)
    size = 2 * length
    if kernel.is_complex() or inputs.is_complex():
        product = torch.fft.fft(kernel, size, 0) * torch.fft.fft(inputs, size, 0)
        found: Tensor = torch.fft.ifft(product, dim=0)
    else:
        found = torch.fft.irfft(torch.fft.rfft(kernel, size, 0) * torch.fft.rfft(inputs, size, 0), size, 0)
    return found[:length]
