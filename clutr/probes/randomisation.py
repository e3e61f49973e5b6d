"""Whether a map of relevance depends on what was learnt: maps of the same model with shuffled weights (Adebayo 2018).

Relevance of any recurrent model is largest for the latest and the largest inputs: the sizes of exact maps of two
unrelated linear models correlate by .5 to .9. So signed maps are compared, by rank, after taking out what lag and the
sizes of inputs alone explain, over many shuffles of all parameters, biases too.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import scipy  # its parts are imported at their first use, which takes a second
import torch
from torch import Tensor, nn

from clutr.probes.intervals import Interval, mean_over
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.cores.lstm_gru import LSTMCore
from clutr.world_model.memory import Memory

SHUFFLES = 16
"""Shuffles of everything that a verdict rests on."""
SIMILAR = 0.3
"""Similarity from which on a map of a model with shuffled weights counts as the same map."""
LEFT = 0.02
"""Share of a map's variance (of ranks) that lag and input sizes have to leave: else they are all that it tells."""


def _ranks(values: Tensor) -> Tensor:
    """Ranks along the last axis, ties their mean, centred."""
    ranks = torch.from_numpy(scipy.stats.rankdata(values.double().numpy(), axis=-1))
    return ranks - ranks.mean(-1, keepdim=True)


def similarity(relevance: Tensor, other: Tensor, controls: Tensor | None = None) -> Tensor:
    """Rank correlation of signed maps `[N, F]` of N inputs, with controls taken out: `[N]`.

    Args:
        relevance: the map that is judged.
        other: the map of another model.
        controls: `[N, F, C]`: what any map may follow, such as lag and |input|; taken out of both maps' ranks.

    Returns:
        1 where the controls explain the judged map (all but `LEFT`), for then any model's map is the same; 0 where a
        map is constant.
    """
    basis = _basis(controls)
    return _compare(_left(relevance, basis), _left(other, basis))


def _basis(controls: Tensor | None) -> Tensor | None:
    """An orthonormal basis `[N, F, C]` of the controls' ranks."""
    if controls is None:
        return None
    known = torch.stack([_ranks(controls[..., column]) for column in range(controls.shape[-1])], -1)
    found: Tensor = torch.linalg.qr(known)[0] * (known.abs().sum(1, keepdim=True) > 0)
    return found


def _left(relevance: Tensor, basis: Tensor | None) -> tuple[Tensor, Tensor]:
    """Ranks `[N, F]` without what the controls explain, and the power `[N]` that there was before."""
    ranks = _ranks(relevance)
    power = ranks.square().sum(1)
    return (ranks if basis is None else ranks - (basis @ (basis.mT @ ranks[..., None]))[..., 0]), power


def _compare(mine: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    left = mine[0].square().sum(1)
    both = (left * other[0].square().sum(1)).sqrt()
    found = torch.where(both > 1e-9, (mine[0] * other[0]).sum(1) / both.clamp(min=1e-9), 0.0)
    return torch.where((mine[1] > 1e-9) & (left < LEFT * mine[1]), 1.0, found)


class Randomisation(NamedTuple):
    """How similar the maps of the trained model and of shuffled ones are."""

    similarity: Interval
    """Mean over inputs and shuffles, and its interval over shuffles."""
    passed: bool
    """Whether the whole interval is nearer to 0 than `SIMILAR`: maps that only change their sign make it wide."""


def randomisation(relevance: Tensor, shuffled: Sequence[Tensor], controls: Tensor | None = None) -> Randomisation:
    """Compare a map `[N, F]` with those of models whose weights were shuffled.

    Raises:
        ValueError: with fewer than two shuffles, which have no interval.
    """
    if len(shuffled) < 2:
        raise ValueError(f"an interval over shuffles needs at least 2 of them, got {len(shuffled)}")
    basis = _basis(controls)
    mine = _left(relevance, basis)
    found = mean_over(torch.stack([_compare(mine, _left(other, basis)).mean() for other in shuffled]))
    return Randomisation(found, found.low > -SIMILAR and found.high < SIMILAR)


def _shuffle(weights: Tensor, rng: torch.Generator) -> None:
    """Put the numbers of a tensor in random order: of the same sizes, and without what was learnt."""
    weights.data = weights.data.flatten()[torch.randperm(weights.numel(), generator=rng)].view_as(weights)


def parts_of(memory: Memory) -> tuple[str, ...]:
    """The parts of a memory that are shuffled one by one, and all of them together."""
    inner = ("candidate", "gates") if isinstance(memory.core, LSTMCore) else ("core",)
    return ("head", *inner, "everything")


def shuffle_memory(memory: Memory, part: str, rng: torch.Generator) -> Memory:
    """A copy of a memory with one of its parts (`parts_of`) shuffled, weights and biases."""
    other = copy.deepcopy(memory)
    if part in ("head", "everything"):
        for head in (other.mixture, other.outcome):
            for weights in head.parameters():
                _shuffle(weights, rng)
    core: Any = other.core
    if isinstance(other.core, LSTMCore):
        for weights in core.lstm.parameters():
            rows = list(weights.data.chunk(4))  # torch's order: i, f, g, o
            for number, each in enumerate(rows):
                if part in ("everything", "candidate" if number == 2 else "gates"):
                    _shuffle(each, rng)
                    rows[number] = each
            weights.data = torch.cat(rows)
    elif part in ("core", "everything"):
        for weights in core.parameters():
            _shuffle(weights, rng)
    return other


def shuffle_backbone(backbone: Backbone, rng: torch.Generator) -> Backbone:
    """A copy of a backbone with shuffled weights: those of a network, or of what a closed form found.

    A closed form's variances are no weights: they stay.
    """
    other = copy.deepcopy(backbone)
    for weights in other.parameters():
        if weights.ndim > 1 or isinstance(weights, nn.Parameter):
            _shuffle(weights, rng)
    return other
