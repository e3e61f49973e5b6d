"""Calibration of the checks: models whose true attributions are known, right maps of them and wrong ones.

A check means something only if what is right passes it and what is wrong does not. The planted models are small enough
for their attributions to be known in closed form: a linear recurrent model, a network of which a few pairs of inputs
matter, and pictures of which a few cells do. So are the planted representations and the planted dreams.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from clutr.probes.causal import CausalStarts, causal_effects
from clutr.probes.sanity_checks import SanityChecks, check_map
from clutr.probes.state_probes import TRAINED, UNTRAINED, StateProbeData, is_known, probe_state
from clutr.world_model.dream import Dreamer
from clutr.world_model.memory import MemoryConfig, Prediction, Scale
from clutr.world_model.mixture import GaussianMixture

N, SHUFFLED = 24, 16
"""Predictions that are explained, and shuffled models with whose maps each map is compared."""


class Maps(NamedTuple):
    """One method's map, and what it says of shuffled models."""

    relevance: Tensor
    """`[N, F]`."""
    shuffled: list[Tensor]
    """`[N, F]` each."""
    right: bool


class Planted(NamedTuple):
    """A model whose attributions are known."""

    model: Callable[[Tensor], Tensor]
    """The prediction `[N]` where features `[N, F]` are 1, and at their baseline where they are 0."""
    controls: Tensor
    """`[N, F, C]`."""
    maps: dict[str, Maps]


def _mixed(values: Tensor, rng: torch.Generator) -> Tensor:
    return values.flatten()[torch.randperm(values.numel(), generator=rng)].view_as(values)


def _always_same(relevance: Tensor) -> Maps:
    """A map that asks no model."""
    return Maps(relevance, [relevance] * SHUFFLED, False)


def _wrong_maps(right: Maps, other: Maps, rng: torch.Generator) -> dict[str, Maps]:
    """Wrong maps that any model has."""
    noise = [torch.randn(right.relevance.shape, generator=rng) * right.relevance.std() for _ in range(SHUFFLED + 1)]
    order = torch.randperm(right.relevance.shape[1], generator=rng)
    return {
        "random": Maps(noise[0], noise[1:], False),
        "of another model": other._replace(right=False),
        "upside down": Maps(-right.relevance, [-each for each in right.shuffled], False),
        "of other inputs": Maps(right.relevance[:, order], [each[:, order] for each in right.shuffled], False),
    }


def linear_recurrent(seed: int, steps: int = 10, inputs: int = 16, units: int = 16) -> Planted:
    """Units that sum up inputs and forget at rates of their own, and are read linearly: relevance is a product."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(N, steps, inputs, generator=rng)

    def drawn() -> tuple[Tensor, ...]:
        return (
            torch.randn(units, inputs, generator=rng),
            0.4 + 0.5 * torch.rand(units, generator=rng),
            torch.randn(units, generator=rng),
        )

    def relevance(weights: tuple[Tensor, ...]) -> Tensor:
        into, keeps, read = weights
        lags = torch.arange(steps - 1, -1, -1.0)
        effect = torch.einsum("u,ut,ui->ti", read, keeps[:, None] ** lags, into)
        return (x * effect).flatten(1)

    def exact(weights: tuple[Tensor, ...]) -> Maps:
        return Maps(
            relevance(weights),
            [relevance(tuple(_mixed(each, rng) for each in weights)) for _ in range(SHUFFLED)],
            True,
        )

    right = exact(drawn())
    fading = 0.6 ** torch.arange(steps - 1, -1, -1.0)[:, None]
    step = torch.arange(steps, dtype=torch.float32)[:, None].expand_as(x)
    maps = {"exact": right, **_wrong_maps(right, exact(drawn()), rng)}
    maps["sizes and recency, no model"] = _always_same((x.abs() * fading).flatten(1))
    maps["inputs and recency, no model"] = _always_same((x * fading).flatten(1))
    controls = torch.stack([step, x.abs()], -1).flatten(1, 2)
    return Planted(lambda shown: (shown * right.relevance).sum(1), controls, maps)


def planted_network(seed: int, inputs: int = 40, pairs: int = 10) -> Planted:
    """A sum of tanh of pairs of inputs, half of the inputs in none. Shapley values of pairs are in closed form."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(N, inputs, generator=rng)

    def drawn() -> Tensor:
        weights = torch.zeros(pairs, inputs)
        chosen = torch.randperm(inputs, generator=rng)[: 2 * pairs].view(pairs, 2)
        return weights.scatter_(1, chosen, 1.5 * torch.randn(pairs, 2, generator=rng))

    def value(weights: Tensor, inputs: Tensor) -> Tensor:
        return torch.tanh(inputs @ weights.T).sum(1)

    def shapley(weights: Tensor) -> Tensor:
        parts = x[:, None] * weights  # [N, pairs, inputs]
        both = parts.sum(-1, keepdim=True)
        halves = torch.tanh(both) - torch.tanh(both - parts) + torch.tanh(parts)
        return torch.where(weights != 0, halves / 2, 0.0).sum(1)

    def integrated(weights: Tensor, points: int = 32) -> Tensor:
        found = torch.zeros_like(x)
        for point in range(points):
            inside = (point + 0.5) / points * x
            found += (1 - torch.tanh(inside @ weights.T).square()) @ weights / points
        return found * x

    weights, other = drawn(), drawn()
    shuffled = [_mixed(weights, rng) for _ in range(SHUFFLED)]

    def maps(method: Callable[[Tensor], Tensor], weights: Tensor) -> Maps:
        return Maps(method(weights), [method(each) for each in shuffled], True)

    right = maps(integrated, weights)
    found = {"Shapley values": maps(shapley, weights), "integrated gradients": right}
    found |= _wrong_maps(right, maps(integrated, other), rng)
    found["inputs, no model"] = _always_same(x)
    return Planted(lambda shown: value(weights, shown * x), x.abs()[..., None], found)


def renderer(seed: int, side: int = 10) -> Planted:
    """Pictures of a road between kerbs on rough grass, and a number that a few cells of them decide."""
    rng = torch.Generator().manual_seed(seed)
    across = torch.arange(side, dtype=torch.float32)
    place, bend = torch.randn(N, 1, generator=rng), torch.randn(N, 1, generator=rng)
    centre = side / 2 + place + torch.linspace(-1, 1, side) * bend
    away = (across - centre[..., None]).abs()  # [N, rows, columns]
    frames = 0.3 + 0.1 * torch.rand(N, side, side, generator=rng)
    frames = torch.where(away < 2.5, 0.9, frames)
    frames = torch.where(away < 1.8, 0.6, frames)
    difference = (frames - frames.mean(0)).flatten(1)

    def drawn() -> Tensor:
        chosen = torch.randperm(side * side, generator=rng)[: side * side // 5]
        return torch.zeros(side * side).scatter_(0, chosen, torch.randn(len(chosen), generator=rng))

    def exact(template: Tensor) -> Maps:
        return Maps(difference * template, [difference * _mixed(template, rng) for _ in range(SHUFFLED)], True)

    right = exact(drawn())
    right_and_left = (frames.roll(1, 2) - frames.roll(-1, 2)).abs().flatten(1)
    maps = {"exact": right, **_wrong_maps(right, exact(drawn()), rng)}
    maps["edges, no model"] = _always_same(right_and_left)
    maps["differences, no model"] = _always_same(difference)
    return Planted(lambda shown: (shown * right.relevance).sum(1), difference.abs()[..., None], maps)


PLANTED: dict[str, Callable[[int], Planted]] = {
    "linear recurrent model": linear_recurrent,
    "network with planted pairs": planted_network,
    "renderer": renderer,
}
"""Models of known attributions by name, drawn by a seed."""


def check_planted(planted: Planted, seed: int) -> dict[str, SanityChecks]:
    """The checks of each of a planted model's maps."""
    rng = torch.Generator().manual_seed(seed)
    return {
        name: check_map(planted.model, each.relevance, each.shuffled, rng, planted.controls)
        for name, each in planted.maps.items()
    }


def known_rates(seed: int, levels: int = 30, rows: int = 20) -> dict[str, bool]:
    """Whether a quantity counts as known that the memory tells, that nothing tells, and that any core tells as well."""
    rng = torch.Generator().manual_seed(seed)
    n = levels * rows
    quantities = torch.randn(n, 3, generator=rng)
    common = torch.cat([quantities[:, 2:], torch.zeros(n, 1)], 1)

    def features(told: Tensor) -> Tensor:
        mix = torch.randn(4, 12, generator=rng)
        return torch.cat([told, common], 1) @ mix + 0.7 * torch.randn(n, 12, generator=rng)

    nothing, only = torch.zeros(n, 2), torch.stack([quantities[:, 0], torch.zeros(n)], 1)
    representations = {TRAINED: features(only)}
    representations |= {f"{UNTRAINED} {number}".removesuffix(" 1"): features(nothing) for number in (1, 2, 3)}
    everywhere = torch.ones(n, 3, dtype=torch.bool)
    found = StateProbeData(
        representations, quantities, torch.full_like(quantities, torch.nan), torch.arange(n) // rows,
        torch.randint(0, 16, (n,), generator=rng), torch.arange(n), 1, everywhere, ~everywhere,
    )  # fmt: skip
    readings, _ = probe_state(found, ("told", "not told", "told by any core"), seed)
    return {each.quantity: is_known(each) for each in readings if each.representation == TRAINED}


class _CarMemory:
    """A memory by hand: the state holds a speed, the latent a place and a colour; `moves` is whether the dream moves.

    Of `clutr.world_model.memory.Memory` it has what dreaming needs.
    """

    def __init__(self, moves: bool) -> None:
        self.moves, self.config = moves, MemoryConfig()

    def step(self, state: Tensor, latent: Tensor, _: Tensor) -> tuple[Tensor, Prediction]:
        change = torch.cat([0.3 * state[:, :1], torch.zeros_like(latent[:, 1:])], 1)
        means = (latent + change if self.moves else latent)[..., None]
        nothing = torch.zeros(len(latent))
        mixture = GaussianMixture(torch.zeros_like(means), means, torch.ones_like(means))
        return torch.cat([0.95 * state[:, :1], 0.5 * state[:, 1:]], 1), Prediction(mixture, nothing, nothing)

    def dreaming(self, state: Tensor, _: bool) -> Tensor:
        return state

    def seen(self, _: Tensor) -> None:
        return None


def causal_verdict(seed: int, moves: bool, levels: int = 30, rows: int = 8, steps: int = 3) -> bool:
    """Whether the speed in the state of `_CarMemory` passes the causal test."""
    rng = torch.Generator().manual_seed(seed)
    n = levels * rows
    speed, place = torch.randn(n, generator=rng), torch.randn(n, generator=rng)
    noise = torch.randn(n, 3, generator=rng)
    starts = CausalStarts(
        states=torch.stack([speed, noise[:, 0]], 1),
        latents=torch.stack([place + 0.3 * speed, noise[:, 1]], 1),
        before=torch.stack([place, noise[:, 1]], 1),
        actions=torch.zeros(steps, n, 1),
        quantities=speed[:, None],
        later=(0.95**steps * speed + 0.05 * noise[:, 2])[:, None],
        groups=torch.arange(n) // rows,
    )
    memory = _CarMemory(moves)
    dreamer = Dreamer(memory, Scale(torch.zeros(2), torch.ones(2), torch.ones(2), 1.0))  # type: ignore[arg-type]
    (effect,) = causal_effects(dreamer, starts, ("speed",), rng)
    return effect.passed
