"""Is a task manifold fit for a curriculum? What it keeps of a task, and what its points look like.

Everything is measured free-running, as the curriculum uses the manifold: a held-out task is encoded, decoded greedily,
repaired by its domain and compared with the original. What only some manifolds have, they measure themselves
(`Measurable.own_health`); what does not apply is missing or None.
"""

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from clutr.envs.capabilities import Repairs, Tokens
from clutr.envs.domain import LevelBatch
from clutr.manifold.base import Manifold
from clutr.manifold.corpus import lengths
from clutr.manifold.sets import split_parts
from clutr.manifold.smoothness import smoothness

BINS = 30
"""About so many bins hold the values of a property that is no count."""
COVERAGE_BINS = 10
"""Bins of each property whose combinations are the cells of `coverage`."""
HOLE = 3.0
"""A point that decoding and encoding moves by more than so many standard deviations lies in a hole."""
CHOSEN_SIZE = 25
"""Set size at which recovery is also reported, if the domain has such tasks: the benchmark's usual obstacle count."""


def recovery(tokens: Tensor, decoded: Tensor, vocabulary: int, tail: int) -> dict[str, float]:
    """How much of tasks `[B, L]` comes back in the canonical tasks `decoded` `[B, L]`.

    Returns:
        `tail_exact`: fraction of tasks whose ordered suffix (a maze's goal and agent) is right, where tasks have one;
        `set_recall`: fraction of all set tokens (obstacles, control points) that came back; `set_precision`: fraction
        of what came back that belongs there; `task_exact`: fraction of tasks that came back whole.
    """
    members, last = split_parts(tokens, vocabulary, tail)
    decoded_members, decoded_last = split_parts(decoded, vocabulary, tail)
    right = (members & decoded_members).sum()
    tail_exact = (last == decoded_last).all(1)
    found = {"tail_exact": float(tail_exact.float().mean())} if tail else {}
    return found | {
        "set_recall": float(right / members.sum().clamp(min=1)),
        "set_precision": float(right / decoded_members.sum().clamp(min=1)),
        "task_exact": float((tail_exact & (members == decoded_members).all(1)).float().mean()),
    }


def histogram(values: Tensor, bins: int, width: float = 1.0) -> list[float]:
    """Fraction of the non-negative `values` `[B]` nearest to each of 0, width, 2 width, ...; 0s of none.

    The last of the `bins` also counts all larger values.
    """
    counts = torch.bincount((values / width).round().long().clamp(0, bins - 1), minlength=bins)
    return [float(count) for count in counts / max(1, len(values))]


def bin_width(values: Tensor) -> float:
    """1 for counts `[B]`; else the least of 1, 2 and 5 times a power of ten that needs at most `BINS` bins for them."""
    if bool((values == values.round()).all()) or float(values.max()) <= float(values.min()):
        return 1.0
    least = float(values.max() - values.min()) / BINS
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least)


def total_variation(first: list[float], second: list[float]) -> float:
    """Half the sum of absolute differences of two histograms: 0 for equal ones, 1 for disjoint ones."""
    return 0.5 * sum(abs(a - b) for a, b in zip(first, second, strict=True))


def agreement(latents: Tensor, returned: Tensor) -> float:
    """How well points of the box `[B, dim]` agree with `returned` `[B, dim]`, the codes of the levels they decode to.

    Returns:
        1 - (mean squared distance between the two) / (the same after pairing each code with another point): 1 if every
        level's code is the point it came from, 0 if it is no nearer to it than to any other point.
    """
    distance = (returned - latents).square().sum(1).mean()
    chance = (returned - latents.roll(1, 0)).square().sum(1).mean()
    return float(1 - distance / chance.clamp(min=1e-12))


class Measurable(Manifold, Protocol):
    """A manifold whose health can be measured."""

    @property
    def domain(self) -> Tokens:
        """The domain of its tasks."""
        ...

    def decode_tokens(self, latents: Tensor) -> Tensor:
        """Tasks `[B, L]` for any points of the box, before the domain repairs them."""
        ...

    def deviations(self, latents: Tensor, levels: LevelBatch) -> Tensor:
        """How far points lie from the codes of the levels they decode to, `[B]`, in the manifold's own measure."""
        ...

    def priors(self, n: int, rng: torch.Generator) -> dict[str, Tensor]:
        """Points `[n, dim]` of its own prior by name, if it has one beside the uniform one."""
        ...

    def own_health(self, levels: LevelBatch, rng: torch.Generator) -> dict[str, Any]:
        """What only this kind of manifold has, on held-out levels, as plain values."""
        ...


def grid_cells(properties: dict[str, Tensor], edges: dict[str, tuple[float, float]]) -> Tensor:
    """The cell `[B]` int64 of levels in the grid of `COVERAGE_BINS` equal bins a property between its `edges`."""
    cell = torch.zeros(len(next(iter(properties.values()))), dtype=torch.int64)
    for name, (low, high) in edges.items():
        position = ((properties[name] - low) / (high - low) * COVERAGE_BINS).long().clamp(0, COVERAGE_BINS - 1)
        cell = cell * COVERAGE_BINS + position
    return cell


def covered(data: Tensor, found: Tensor) -> float:
    """Fraction of the cells of `data` `[B]` that are among those of `found` `[N]`."""
    return float(torch.isin(data.unique(), found).float().mean())


def novelty(tasks: Tensor, known: Tensor) -> float:
    """Fraction of tasks `[B, L]` that are not among `known` `[N, K]`, all canonical and padded with 0."""
    longest = max(tasks.shape[1], known.shape[1])
    # odd multipliers that wrap around: equal sums of different tasks are next to impossible
    weights = torch.randint(-(2**62), 2**62, (longest,), generator=torch.Generator().manual_seed(0)) * 2 + 1
    hashes = [(each.long() * weights[: each.shape[1]]).sum(1) for each in (tasks, known)]
    return float((~torch.isin(*hashes)).float().mean())


@torch.no_grad()
def measure(
    manifold: Measurable, rng: torch.Generator, tasks: int = 2_000, known: Tensor | None = None
) -> dict[str, Any]:
    """The health of a manifold on freshly drawn tasks, as plain values.

    Args:
        manifold: what to measure.
        rng: draws held-out tasks (of fresh draws next to none was trained on) and points of the box.
        tasks: held-out tasks, and points of each prior.
        known: the tasks it was trained on `[N, L]`, if they are few enough to be known.

    Returns:
        `recovery` over all held-out tasks; `recovery_at_25` on tasks with 25 set tokens, if the domain has any;
        the manifold's own numbers (`clutr.manifold.posterior`, `clutr.manifold.coder`); `prior_uniform` on points drawn
        uniformly from the box, and the same on the manifold's other priors (`_prior`); `data`, what the domain's own
        draws reach; `smoothness` (see there); `distributions`, histograms of described properties over 0, 1, 2, ...
        times the property's `distribution_widths`. Properties other than `solvable` are those of solvable levels.
    """
    domain = manifold.domain
    levels = domain.sample(tasks, rng)
    found: dict[str, Any] = {"recovery": _recovery(manifold, levels)}
    chosen = _levels_of_size(domain, rng)
    if chosen is not None:
        found[f"recovery_at_{CHOSEN_SIZE}"] = _recovery(manifold, chosen)
    found |= manifold.own_health(levels, rng)
    low, high = manifold.bounds
    uniform = torch.rand(tasks, manifold.dim, generator=rng) * (high - low) + low
    points = {"prior_uniform": uniform, **manifold.priors(tasks, rng)}
    decoded = {name: domain.from_tokens(manifold.decode_tokens(point)) for name, point in points.items()}
    fresh = domain.describe(domain.sample(tasks, rng))
    described = {"data": domain.describe(levels)} | {name: domain.describe(each) for name, (each, _) in decoded.items()}
    solvable = {each: values["solvable"] > 0 for each, values in described.items()}
    properties = sorted(described["data"].keys() - {"solvable"})
    populations = {
        each: {name: values[name][solvable[each]] for name in properties} for each, values in described.items()
    }
    distributions, widths = _distributions(populations)
    data = populations["data"]
    varying = {name: each for name, each in data.items() if bool((each != each[0]).any())}
    edges = {name: (float(each.min()), float(each.max())) for name, each in varying.items()}
    cells = grid_cells(data, edges)
    for name, (batch, repairs) in decoded.items():
        found[name] = _prior(manifold, points[name], batch, repairs) | {
            "solvable": float(solvable[name].float().mean()),
            "coverage": covered(cells, grid_cells(populations[name], edges)),
            "novelty": None if known is None else novelty(domain.to_tokens(batch), known),
            "total_variation": {
                what: total_variation(of_each["data"], of_each[name]) for what, of_each in distributions.items()
            },
        }
    drawn = {name: fresh[name][fresh["solvable"] > 0] for name in properties}
    found["data"] = {
        "solvable": float(solvable["data"].float().mean()),
        "coverage": covered(cells, grid_cells(drawn, edges)),
    }
    parts = (domain.vocabulary, domain.ordered_suffix_length)

    def decode(latents: Tensor) -> Tensor:
        return domain.to_tokens(manifold.decode(latents))

    found["smoothness"] = smoothness(decode, manifold.dim, manifold.bounds, parts, rng)
    return found | {"distributions": distributions, "distribution_widths": widths}


def _prior(manifold: Measurable, points: Tensor, levels: LevelBatch, repairs: Repairs) -> dict[str, Any]:
    """What points of the box `[B, dim]` are worth, given the levels they decode to and the repairs.

    Returns:
        `agreement` of point and code; `hole_rate`, fraction of points more than `HOLE` standard deviations away from
        their level's code, and the median `deviation`; `returns`, fraction of levels that their own code decodes to;
        `validity`, fraction that needed no repair, and `repairs_per_task` by reason; `unique` fraction.
    """
    codes = manifold.encode(levels)
    deviations = manifold.deviations(points, levels)
    keys = levels.key()
    again = manifold.decode(codes).key()
    repaired = torch.stack([count > 0 for count in repairs.counts.values()]).any(0)
    return {
        "agreement": agreement(points, codes),
        "hole_rate": float((deviations > HOLE).float().mean()),
        "deviation": float(deviations.median()),
        "returns": sum(one == other for one, other in zip(keys, again, strict=True)) / len(keys),
        "validity": float((~repaired).float().mean()),
        "unique": len(set(keys)) / len(keys),
        "repairs_per_task": {why: float(count.float().mean()) for why, count in repairs.counts.items()},
    }


def _distributions(
    populations: dict[str, dict[str, Tensor]],
) -> tuple[dict[str, dict[str, list[float]]], dict[str, float]]:
    """Histograms of each property for each population, in bins of common width, and those widths."""
    found: dict[str, dict[str, list[float]]] = {}
    widths: dict[str, float] = {}
    for name in populations["data"]:
        of_each = {each: values[name] for each, values in populations.items()}
        width = widths[name] = bin_width(of_each["data"])
        bins = round(max(float(values.max()) for values in of_each.values() if len(values)) / width) + 1
        found[name] = {each: histogram(values, bins, width) for each, values in of_each.items()}
    return found, widths


def _recovery(manifold: Measurable, levels: LevelBatch) -> dict[str, float]:
    domain = manifold.domain
    decoded = domain.to_tokens(manifold.decode(manifold.encode(levels)))
    return recovery(domain.to_tokens(levels), decoded, domain.vocabulary, domain.ordered_suffix_length)


def _levels_of_size(domain: Tokens, rng: torch.Generator, draws: int = 20_000) -> LevelBatch | None:
    """Those of `draws` tasks that have `CHOSEN_SIZE` set tokens; None if there are none."""
    if domain.max_tokens < CHOSEN_SIZE + domain.ordered_suffix_length:
        return None
    levels = domain.sample(draws, rng)
    size = lengths(domain.to_tokens(levels)) - domain.ordered_suffix_length
    return levels[size == CHOSEN_SIZE] if bool((size == CHOSEN_SIZE).any()) else None
