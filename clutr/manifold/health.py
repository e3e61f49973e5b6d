"""Is a task VAE fit to be a curriculum's manifold? What it keeps of a task, and what its points look like.

Everything is measured free-running, as the curriculum uses the manifold: a held-out task is encoded to its posterior's
mean, decoded greedily, repaired by its world and compared with the original.
"""

import math
from typing import Any

import torch
from torch import Tensor

from clutr.manifold.corpus import lengths
from clutr.manifold.vae import VAEManifold, into_box, kl_to_standard_normal
from envs.domain import Domain, LevelBatch

ACTIVE = 0.01
"""A dimension is active if the variance of its posterior mean over tasks exceeds this (Burda et al. 2015,
"Importance Weighted Autoencoders", arXiv 1509.00519)."""
COLLAPSED = 0.1
"""A model with a smaller share of active dimensions has collapsed: most of the box's directions change nothing."""
BINS = 30
"""About so many bins hold the values of a property that is no count."""
CHOSEN_SIZE = 25
"""Set size at which recovery is also reported, where the world has such tasks: the benchmark's usual obstacle count."""


def split_parts(tokens: Tensor, vocabulary: int, tail: int) -> tuple[Tensor, Tensor]:
    """The set of tasks `[B, L]` as indicators `[B, C]` bool, and their last `tail` tokens `[B, tail]`."""
    count = lengths(tokens).unsqueeze(1)
    in_set = torch.arange(tokens.shape[1], device=tokens.device) < count - tail
    members = torch.zeros(len(tokens), vocabulary + 1, dtype=torch.bool, device=tokens.device)
    members.scatter_(1, torch.where(in_set, tokens, 0), True)
    last = (count - tail + torch.arange(tail, device=tokens.device)).clamp(min=0)
    return members[:, 1:], tokens.gather(1, last)


def recovery(tokens: Tensor, decoded: Tensor, vocabulary: int, tail: int) -> dict[str, float]:
    """How much of tasks `[B, L]` comes back in the canonical tasks `decoded` `[B, L]`.

    Returns:
        `tail_exact`: share of tasks whose tail tokens (a maze's goal and agent) are all right, where tasks have a tail;
        `set_recall`: share of all set tokens (obstacles, control points) that came back; `set_precision`: share of what
        came back that belongs there; `task_exact`: share of tasks that came back whole.
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
    """Share of the non-negative `values` `[B]` nearest to each of 0, width, 2 width, ...; 0s of none.

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


@torch.no_grad()
def measure(manifold: VAEManifold, rng: torch.Generator, tasks: int = 2_000) -> dict[str, Any]:
    """The health of a trained manifold on freshly drawn tasks, as plain values.

    Args:
        manifold: what to measure.
        rng: draws held-out tasks (of fresh draws next to none was trained on) and points of the box.
        tasks: held-out tasks, and points of each prior.

    Returns:
        `recovery` over all held-out tasks; `recovery_at_25` on tasks with 25 set tokens, if the world has any;
        `reconstruction` and `kl` in nats a task; `kl_per_dimension`, `active_dimensions` (see `ACTIVE`), `collapsed`
        (see `COLLAPSED`); `prior_uniform` and `prior_gaussian` on points drawn uniformly from the box, and from the
        Gaussian prior through the squash: `agreement` of point and code, `repairs_per_task` by reason, `unique` share,
        `solvable` share, and the total variation of each described property against the data; `distributions` with
        those properties' histograms over 0, 1, 2, ... times the property's `distribution_widths`. Properties other than
        `solvable` are those of solvable levels.
    """
    domain = manifold.domain
    levels = domain.sample(tasks, rng)
    tokens = domain.to_tokens(levels)
    mean, log_variance = manifold.network.posterior(tokens)
    kl = kl_to_standard_normal(mean, log_variance).mean(0)
    _, parts = manifold.network.loss(tokens, 1, 1, rng)
    found: dict[str, Any] = {"recovery": _recovery(manifold, levels)}
    chosen = _levels_of_size(domain, rng)
    if chosen is not None:
        found[f"recovery_at_{CHOSEN_SIZE}"] = _recovery(manifold, chosen)
    active = int((mean.var(0) > ACTIVE).sum())
    found |= {
        "reconstruction": float(parts["reconstruction"]),
        "kl": float(kl.sum()),
        "active_dimensions": active,
        "collapsed": active < COLLAPSED * manifold.dim,
        "kl_per_dimension": kl.tolist(),
    }
    data = domain.describe(levels)
    low, high = manifold.bounds
    points = {
        "prior_uniform": torch.rand(tasks, manifold.dim, generator=rng) * (high - low) + low,
        "prior_gaussian": into_box(torch.randn(tasks, manifold.dim, generator=rng), manifold.squash, high),
    }
    decoded = {name: domain.from_tokens(manifold.decode_tokens(point)) for name, point in points.items()}
    described = {"data": data} | {name: domain.describe(batch) for name, (batch, _) in decoded.items()}
    solvable = {each: values["solvable"] > 0 for each, values in described.items()}
    distributions: dict[str, dict[str, list[float]]] = {}
    widths: dict[str, float] = {}
    for name in sorted(data.keys() - {"solvable"}):
        populations = {each: values[name][solvable[each]] for each, values in described.items()}
        width = widths[name] = bin_width(populations["data"])
        bins = round(max(float(values.max()) for values in populations.values() if len(values)) / width) + 1
        distributions[name] = {each: histogram(values, bins, width) for each, values in populations.items()}
    for name, (batch, repairs) in decoded.items():
        found[name] = {
            "agreement": agreement(points[name], manifold.encode(batch)),
            "solvable": float(solvable[name].float().mean()),
            "unique": len(set(batch.key())) / tasks,
            "repairs_per_task": {why: float(count.float().mean()) for why, count in repairs.counts.items()},
            "total_variation": {
                what: total_variation(shares["data"], shares[name]) for what, shares in distributions.items()
            },
        }
    found["data"] = {"solvable": float(solvable["data"].float().mean())}
    return found | {"distributions": distributions, "distribution_widths": widths}


def _recovery(manifold: VAEManifold, levels: LevelBatch) -> dict[str, float]:
    domain = manifold.domain
    decoded = domain.to_tokens(manifold.decode(manifold.encode(levels)))
    return recovery(domain.to_tokens(levels), decoded, domain.vocabulary, domain.tail_tokens)


def _levels_of_size(domain: Domain, rng: torch.Generator, draws: int = 20_000) -> LevelBatch | None:
    """Those of `draws` tasks that have `CHOSEN_SIZE` set tokens; None if there are none."""
    if domain.max_tokens < CHOSEN_SIZE + domain.tail_tokens:
        return None
    levels = domain.sample(draws, rng)
    size = lengths(domain.to_tokens(levels)) - domain.tail_tokens
    return levels[size == CHOSEN_SIZE] if bool((size == CHOSEN_SIZE).any()) else None
