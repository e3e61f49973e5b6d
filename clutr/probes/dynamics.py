"""How a recurrent map moves: Lyapunov exponents, fixed and slow points, and the effective dimension of its states.

Sources: Vogt et al. 2020 (arXiv 2006.14123) for exponents by QR; Sussillo & Barak 2013 for fixed points. Use float64.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
"""A state `[..., S]` to the next."""
Jacobian = Callable[[Tensor], Tensor]
"""Its derivative at states `[..., S]`: `[..., S, S]`."""


class Lyapunov(NamedTuple):
    """A spectrum of exponents."""

    exponents: Tensor
    """`[K]`, falling, in nats a step: positive ones mean that near states part."""
    dimension: float
    """Kaplan and Yorke's: how many directions it takes until volumes shrink."""


def lyapunov(jacobians: Sequence[Tensor] | Tensor, count: int | None = None, warm_up: int = 100) -> Lyapunov:
    """Exponents of a trajectory from the Jacobians `[T, S, S]` along it.

    Args:
        jacobians: one a step.
        count: how many exponents (None: all S).
        warm_up: first steps that only turn the directions.

    Raises:
        ValueError: if no step is left after the warm-up.
    """
    if len(jacobians) <= warm_up:
        raise ValueError(f"exponents need more than the {warm_up} steps of the warm-up, got {len(jacobians)}")
    size = jacobians[0].shape[-1]
    count = size if count is None else count
    frame = torch.eye(size, count, dtype=jacobians[0].dtype)
    total = torch.zeros(count, dtype=jacobians[0].dtype)
    for step, jacobian in enumerate(jacobians):
        frame, stretch = torch.linalg.qr(jacobian @ frame)
        if step >= warm_up:
            total += stretch.diagonal().abs().clamp(min=1e-300).log()
    exponents = (total / (len(jacobians) - warm_up)).sort(descending=True).values
    return Lyapunov(exponents, kaplan_yorke(exponents))


def kaplan_yorke(exponents: Tensor) -> float:
    """K + (sum of the first k exponents) / |exponent k + 1|, for the largest k with a sum of at least 0."""
    sums = exponents.cumsum(0)
    k = int((sums >= 0).sum())
    if k == 0:
        return 0.0
    if k == len(exponents):
        return float(k)
    return k + float(sums[k - 1] / exponents[k].abs())


class FixedPoint(NamedTuple):
    """A state at which the map stands still, or moves slowly."""

    state: Tensor
    """`[S]`."""
    speed: float
    """q = |F(s) - s|^2 / 2."""
    eigenvalues: Tensor
    """Complex `[S]`, the largest first."""

    @property
    def kind(self) -> str:
        """Is it "stable", with all eigenvalues inside the unit circle, or a "saddle"?"""
        return "stable" if float(self.eigenvalues[0].abs()) < 1 else "saddle"

    @property
    def time_constants(self) -> Tensor:
        """`[S]` steps: 1 / |ln |lambda||."""
        return 1 / self.eigenvalues.abs().clamp(min=1e-12).log().abs().clamp(min=1e-12)


def fixed_points(
    step: Map,
    jacobian: Jacobian,
    starts: Tensor,
    *,
    tolerance: float = 1e-12,
    slow: float = 1e-6,
    iterations: int = 3_000,
    unique: float = 1e-3,
) -> list[FixedPoint]:
    """Fixed and slow points near visited states, by gradient descent on the speed.

    Args:
        step: the map under a constant input.
        jacobian: its derivative.
        starts: `[N, S]` float64: states that were visited.
        tolerance: speed below which a point counts as fixed, and the search of it stops.
        slow: points faster than this are left out.
        iterations: most steps of Adam.
        unique: points nearer than this in every coordinate are one.

    Returns:
        Different points, the slowest first; those far outside of what was visited are left out.
    """
    states = starts.clone().requires_grad_()
    optimiser = torch.optim.Adam([states], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations, eta_min=1e-5)
    for _ in range(iterations):
        speed = 0.5 * (step(states) - states).square().sum(-1)
        if float(speed.detach().max()) < tolerance:
            break
        optimiser.zero_grad()
        speed.sum().backward()
        optimiser.step()
        schedule.step()
    found = _newton(step, jacobian, states.detach())
    speeds = 0.5 * (step(found) - found).square().sum(-1)
    reach = 10 * (starts - starts.mean(0)).norm(dim=1).mean().clamp(min=1e-6)
    points: list[FixedPoint] = []
    for row in speeds.argsort():
        state, rest = found[row], float(speeds[row])
        if rest > slow or float((state - starts.mean(0)).norm()) > reach:
            continue
        if any(bool(((state - point.state).abs() < unique).all()) for point in points):
            continue
        values = torch.linalg.eigvals(jacobian(state))
        points.append(FixedPoint(state, rest, values[values.abs().argsort(descending=True)]))
    return points


def _newton(step: Map, jacobian: Jacobian, states: Tensor, rounds: int = 20) -> Tensor:
    """Sharpen roots of F(s) - s; a round that makes a point faster is not taken for it."""
    eye = torch.eye(states.shape[-1], dtype=states.dtype)
    for _ in range(rounds):
        rest = step(states) - states
        moved = states - torch.linalg.lstsq(jacobian(states) - eye, rest[..., None]).solution[..., 0]
        better = (step(moved) - moved).square().sum(-1) < rest.square().sum(-1)
        states = torch.where(better[:, None], moved, states)
        if not better.any():
            break
    return states


def participation_ratio(states: Tensor) -> float:
    """Effective dimension of states `[n, S]`: (sum of variances)^2 / (sum of their squares), along principal axes."""
    values = torch.linalg.eigvalsh(torch.cov(states.T.double())).clamp(min=0)
    return float(values.sum().square() / values.square().sum().clamp(min=1e-300))


class MemoryHorizon(NamedTuple):
    """How far back an output depends on inputs."""

    mass: Tensor
    """`[K]`: share of the gradient's size at lag k = 0, 1, ...; sums to 1."""
    half: int
    """Least lag within which half of it lies."""
    ninety: int
    """The same for nine tenths."""
    mean: float
    """Mean lag."""


def memory_horizon(read: Callable[[Tensor], Tensor], xs: Tensor) -> MemoryHorizon:
    """From the gradient of an output at the end by the inputs of all steps.

    Args:
        read: outputs `[N, ...]` at the end of inputs `[T, N, I]`.
        xs: the inputs.
    """
    inputs = xs.detach().clone().requires_grad_()
    outputs = read(inputs).flatten(1)
    sizes = torch.zeros(len(xs), dtype=xs.dtype)
    for column in range(outputs.shape[1]):
        (slope,) = torch.autograd.grad(outputs[:, column].sum(), inputs, retain_graph=True)
        sizes += slope.square().sum(-1).mean(1)
    mass = sizes.sqrt().flip(0)
    mass = mass / mass.sum().clamp(min=1e-300)
    reached = mass.cumsum(0)
    half, ninety = (int((reached < share).sum()) for share in (0.5, 0.9))
    return MemoryHorizon(mass, half, ninety, float((mass * torch.arange(len(mass))).sum()))
