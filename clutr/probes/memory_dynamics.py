"""Dynamics of a world model's memory: Lyapunov exponents, fixed points, memory horizon, effective dimension, collapse.

Works on any core of `clutr.world_model.cores`, through its step alone. Sources: Vogt et
al. 2020 (arXiv 2006.14123) for exponents, Sussillo & Barak 2013 for fixed points, "Stuffed Mamba" (COLM 2025) for the
test of state collapse, which is ported to these cores.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from clutr.agents.adam import Adam
from clutr.probes.attribution import Past
from clutr.world_model.dream import Dreamer, clip_latents
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import Memory

Map = Callable[[Tensor], Tensor]
"""A state `[..., S]` to the next."""
Jacobian = Callable[[Tensor], Tensor]
"""Its derivative at states `[..., S]`: `[..., S, S]`."""

BAND = 3.0
"""Standard deviations of the state's size in training length within which it should stay."""
GROWN = 1.5
"""Times the state's size at the training length, above which it has grown."""
BURST = 0.5
"""Nats a dimension by which the loss may rise."""


class Lyapunov(NamedTuple):
    """A spectrum of exponents."""

    exponents: Tensor
    """`[K]`, falling, in nats a step: positive ones mean that near states diverge."""
    dimension: float
    """Kaplan and Yorke's: how many directions it takes until volumes shrink."""


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
    optimiser = Adam([states], lr=0.05)
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


def exponents_along(
    steps: Sequence[Map] | Callable[[int], Map], state: Tensor, length: int, count: int, warm_up: int
) -> Lyapunov:
    """The largest exponents along a trajectory, by products of Jacobians with a few directions.

    Args:
        steps: the map of each step, from a state `[S]` to the next, or of several `[..., S]`.
        state: `[S]`, the first.
        length: steps, the warm-up among them.
        count: how many exponents.
        warm_up: first steps, which only turn the directions.

    Raises:
        ValueError: if no step is left after the warm-up.
    """
    if length <= warm_up:
        raise ValueError(f"exponents need more than the {warm_up} steps of the warm-up, got {length}")
    count = min(count, len(state))
    frame = torch.eye(len(state), count, dtype=state.dtype)
    total = torch.zeros(count, dtype=state.dtype)
    for time in range(length):
        step = steps(time) if callable(steps) else steps[time]

        frame, stretch = torch.linalg.qr(_pushed(step, state, frame))
        state = step(state)
        if time >= warm_up:
            total += stretch.diagonal().abs().clamp(min=1e-300).log()
    exponents = (total / (length - warm_up)).sort(descending=True).values
    return Lyapunov(exponents, kaplan_yorke(exponents))


def _pushed(step: Map, state: Tensor, frame: Tensor) -> Tensor:
    """The Jacobian of a map at a state `[S]` times directions `[S, K]`."""
    # What a backward pass returns is linear in what it was given, and a pass back through that is the product wanted.
    # Torch's forward mode does much of its work in Python, and takes two to three times as long.
    with torch.enable_grad():
        states = state.detach().repeat(frame.shape[1], 1).requires_grad_()
        after = step(states)
        given = torch.zeros_like(after, requires_grad=True)
        (pulled,) = torch.autograd.grad(after, states, given, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, given, frame.T)
    return pushed.T


def in_double(memory: Memory) -> Memory:
    """A copy in double precision: dynamics want it."""
    return copy.deepcopy(memory).double().requires_grad_(False)


def driven_map(memory: Memory, x: Tensor) -> Map:
    """The core under one input `[I]`: states `[..., S]` to the next."""

    def step(state: Tensor) -> Tensor:
        flat = state.reshape(-1, state.shape[-1])
        after, _ = memory.core.step(flat, x.expand(len(flat), -1))
        return after.view_as(state)

    return step


def dreaming_map(memory: Memory, action: Tensor) -> Map:
    """The closed loop under one action `[A]`: states with the present latent behind them, `[..., S + D]`."""

    def step(joined: Tensor) -> Tensor:
        flat = joined.reshape(-1, joined.shape[-1])
        state, latent = flat.split([flat.shape[1] - memory.latents, memory.latents], 1)
        after, expected = memory.step(state, latent, action.expand(len(flat), -1))
        return torch.cat([after, clip_latents(expected.latent.mean())], 1).view_as(joined)

    return step


def jacobian_of(step: Map) -> Map:
    """Derivatives `[..., S, S]` of a map at states `[..., S]`."""

    def slope(states: Tensor) -> Tensor:
        flat = states.reshape(-1, states.shape[-1])
        found: Tensor = vmap(jacrev(step))(flat)
        return found.view(*states.shape, states.shape[-1])

    return slope


def chained(episodes: Sequence[LatentEpisode], dreamer: Dreamer, length: int) -> Tensor:
    """The inputs `[length, I]` of episodes one after the other, repeated if need be."""
    rows: list[Tensor] = []
    have = 0
    while have < length:
        for episode in episodes:
            rows.append(torch.cat([dreamer.scale.normalise(episode.mean[:-1]), episode.actions], 1))
            have += len(episode)
    return torch.cat(rows)[:length]


def spectra(
    dreamer: Dreamer, episodes: Sequence[LatentEpisode], length: int, warm_up: int, count: int
) -> dict[str, Lyapunov]:
    """Exponents `driven` by the data, and `dreaming` in closed loop under the recorded actions.

    Episodes follow each other without a reset, so that the trajectory is long enough.
    """
    memory = in_double(dreamer.memory)
    xs = chained(episodes, dreamer, length).double()
    start = memory.initial_state(1)[0].double()
    with torch.no_grad():
        start = memory.core.scan(start[None], xs[: max(warm_up, 1), None])[0][0]
    driven = exponents_along(lambda t: driven_map(memory, xs[t]), start, length, count, warm_up)
    joined = torch.cat([start, xs[0, : memory.latents]])
    actions = xs[:, memory.latents :]
    dreaming = exponents_along(lambda t: dreaming_map(memory, actions[t]), joined, length, count, warm_up)
    return {"driven": driven, "dreaming": dreaming}


def gradient_horizon(memory: Memory, past: Past) -> MemoryHorizon:
    """How far back the expected change of the latent depends on inputs, by gradients."""

    def read(xs: Tensor) -> Tensor:
        _, features = memory.core.scan(past.state, xs)
        return memory._predict(features[-1], torch.zeros_like(xs[-1, :, : memory.latents])).latent.mean()

    return memory_horizon(read, past.inputs.transpose(0, 1))


@torch.no_grad()
def occlusion_horizon(memory: Memory, past: Past, following: Tensor) -> Tensor:
    """Nats a dimension by which the next latent is predicted worse if one step is hidden from the core: `[T]` by lag.

    Args:
        memory: the model.
        past: sequences of T steps.
        following: `[N, D]`: the normalised latents that came next.
    """

    def nats(inputs: Tensor) -> Tensor:
        _, features = memory.core.scan(past.state, inputs.transpose(0, 1))
        expected = memory._predict(features[-1], past.inputs[:, -1, : memory.latents])
        return -expected.latent.log_density(following).mean()

    before, found = nats(past.inputs), []
    for lag in range(past.inputs.shape[1]):
        hidden = past.inputs.clone()
        hidden[:, -1 - lag] = past.baseline
        found.append(nats(hidden) - before)
    return torch.stack(found)


class EffectiveDimension(NamedTuple):
    """Over how many directions states spread."""

    participation: float
    """(sum of variances)^2 / sum of their squares; low for few samples."""
    entropy: float
    """exp of the entropy of the shares of variance."""
    ninety: int
    """Principal components that hold nine tenths of it."""
    states: int
    """Samples."""


def effective_dimension(states: Tensor) -> EffectiveDimension:
    """Of states `[n, S]`."""
    values = torch.linalg.eigvalsh(torch.cov(states.T.double())).clamp(min=0).flip(0)
    shares = values / values.sum().clamp(min=1e-300)
    entropy = -(shares * shares.clamp(min=1e-300).log()).sum()
    return EffectiveDimension(
        participation=float(values.sum().square() / values.square().sum().clamp(min=1e-300)),
        entropy=float(entropy.exp()),
        ninety=int((shares.cumsum(0) < 0.9).sum()) + 1,
        states=len(states),
    )


class Collapse(NamedTuple):
    """The state far beyond the training length."""

    sizes: dict[str, Tensor]
    """Root mean square of the state over units and streams by step, `[L]`, under `data`, `constant` and `dream`."""
    outside: dict[str, Tensor]
    """`[L]`: share of units whose root mean square over streams left the band of the training length."""
    nats: Tensor
    """`[L]`: loss on data, nats a dimension."""
    flagged: dict[str, bool]
    """Whether most units leave their band at the end and the state has grown by half since the training length; for
    `data` also the loss must have risen."""


@torch.no_grad()
def collapse(
    dreamer: Dreamer, episodes: Sequence[LatentEpisode], trained: int, length: int, streams: int = 16
) -> Collapse:
    """Run a memory far beyond its training length on data, on one input again and again, and on its own dreams.

    Args:
        dreamer: the memory.
        episodes: they follow each other without a reset, in each stream from another one on.
        trained: steps of a training sequence.
        length: steps to run.
        streams: side by side.

    Raises:
        ValueError: if it is not to run beyond the training length.
    """
    if length <= trained:
        raise ValueError(f"a run beyond {trained} steps of training needs more than that, got {length}")
    memory = dreamer.memory
    streams = min(streams, len(episodes))
    starts = [round(stream * len(episodes) / streams) for stream in range(streams)]
    orders = [[*episodes[start:], *episodes[:start]] for start in starts]
    xs = torch.stack([chained(order, dreamer, length + 1) for order in orders], 1)
    latents, actions = xs[..., : memory.latents], xs[..., memory.latents :]
    seen: dict[str, list[Tensor]] = {"data": [], "constant": [], "dream": []}
    states = {name: memory.initial_state(streams) for name in seen}
    dreamt, still, nats = latents[0], torch.zeros_like(latents[0]), []
    idle = actions.flatten(0, 1).mean(0).expand(streams, -1)
    for time in range(length):
        states["data"], expected = memory.step(states["data"], latents[time], actions[time])
        nats.append(-expected.latent.log_density(latents[time + 1]).mean())
        states["constant"], _ = memory.step(states["constant"], still, idle)
        states["dream"], ahead = memory.step(states["dream"], dreamt, actions[time])
        dreamt = clip_latents(ahead.latent.mean())
        for name, state in states.items():
            seen[name].append(state.square().mean(0).sqrt())
    units = {name: torch.stack(rows) for name, rows in seen.items()}
    within = units["data"][trained // 2 : trained]
    centre, spread = within.mean(0), within.std(0).clamp(min=1e-6)
    told = torch.stack(nats)
    tail = max(trained // 2, 1)
    outside = {name: ((rows - centre).abs() > BAND * spread).float().mean(1) for name, rows in units.items()}
    usual = float(outside["data"][trained // 2 : trained].mean())
    rose = float(told[-tail:].mean() - told[trained // 2 : trained].mean()) > BURST
    sizes = {name: rows.square().mean(1).sqrt() for name, rows in units.items()}
    grown = {
        name: float(rows[-tail:].mean() / rows[trained - 1].clamp(min=1e-9)) > GROWN for name, rows in sizes.items()
    }
    left = {name: grown[name] and float(rows[-tail:].mean()) > max(0.5, 2 * usual) for name, rows in outside.items()}
    return Collapse(
        sizes=sizes,
        outside=outside,
        nats=told,
        flagged={"data": left["data"] and rose, "constant": left["constant"], "dream": left["dream"]},
    )


def summary_of(points: Sequence[Any]) -> list[dict[str, Any]]:
    """Fixed and slow points as plain values."""
    return [
        {
            "kind": point.kind if point.speed < 1e-12 else "slow",
            "stable": point.kind == "stable",
            "speed": point.speed,
            "largest": float(point.eigenvalues[0].abs()),
            "slowest_steps": float(point.time_constants[point.eigenvalues.abs() < 1].max())
            if bool((point.eigenvalues.abs() < 1).any())
            else None,
            "unstable_directions": int((point.eigenvalues.abs() > 1).sum()),
            "turns_per_step": float(point.eigenvalues[0].angle().abs() / (2 * torch.pi)),
        }
        for point in points
    ]
