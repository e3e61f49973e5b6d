"""Latent traversals: what a recorded frame looks like while one of its latents changes.

The range of a latent is that of the aggregate posterior, not of the prior, so that traversals stay near the data and a
passive latent changes nothing.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import scipy  # its parts are imported at their first use, which takes a second
import torch
from torch import Tensor

from clutr.world_model.backbones.locality import locality

Decode = Callable[[Tensor], Tensor]
"""Latents `[n, D]` to pictures `[n, H, W, 3]`."""
MAX_DEVIATION = 3.0
"""Standard deviations to either side."""


class Traversal(NamedTuple):
    """One latent moved through its range on one frame."""

    latent: int
    values: Tensor
    """`[K]`: the latent's values."""
    pictures: Tensor
    """`[K, H, W, 3]`."""
    difference: Tensor
    """`[H, W]`: mean absolute difference of the two ends."""
    energy: float
    """Mean squared change over the traversal."""
    area: float
    """Effective number of pixels that change."""
    frequency: float
    """Mean spatial frequency of the change, in waves a picture."""


def traverse(decode: Decode, code: Tensor, latent: int, spread: float, steps: int = 7) -> Traversal:
    """Move one latent of a frame's `code` `[D]` by up to `MAX_DEVIATION` times its `spread` over the data."""
    values = code[latent] + spread * torch.linspace(-MAX_DEVIATION, MAX_DEVIATION, steps)
    codes = code.repeat(steps, 1)
    codes[:, latent] = values
    pictures = decode(codes)
    change = pictures[-1] - pictures[0]
    place = locality(change[None])
    moved = pictures - pictures.mean(0)
    return Traversal(
        latent=latent,
        values=values,
        pictures=pictures,
        difference=change.abs().mean(-1),
        energy=float(moved.square().mean()),
        area=float(place.area[0]) if change.abs().max() > 0 else 0.0,
        frequency=float(place.frequency[0]),
    )


def latent_traversals(decode: Decode, code: Tensor, spreads: Tensor, kl: Tensor, most: int = 16) -> list[Traversal]:
    """Traversals of the latents with the most KL `[D]` first, at most so many, on one frame's code `[D]`."""
    order = kl.argsort(dim=0, descending=True, stable=True)[:most].tolist()
    return [traverse(decode, code, latent, float(spreads[latent])) for latent in order]


def monotonicity(found: Traversal, encode: Decode, read: Decode) -> Tensor:
    """How monotonically each true quantity follows a traversal, as it is read from the pictures, encoded again.

    Args:
        found: the traversal.
        encode: pictures `[K, H, W, 3]` to latents `[K, D]`.
        read: latents to quantities `[K, Q]`.

    Returns:
        Spearman's correlation `[Q]` of the latent's value with each quantity; 0 where nothing changes.
    """
    quantities = read(encode(found.pictures))
    ranks = []
    for column in quantities.T:
        moves = float(column.max() - column.min()) > 1e-6 and float(found.values.max() - found.values.min()) > 1e-9
        ranks.append(float(scipy.stats.spearmanr(found.values.numpy(), column.numpy()).statistic) if moves else 0.0)
    return torch.tensor(ranks)


class Match(NamedTuple):
    """The true quantity that goes with a latent the most."""

    quantity: str
    correlation: float
    """Pearson's, over the data."""
    monotonicity: float
    """Spearman's: how far one is any monotone function of the other."""


def best_matches(latents: Tensor, privileged_state: Tensor, quantities: Sequence[str]) -> list[Match]:
    """For each latent of `[n, D]` the column of `privileged_state` `[n, Q]` with the largest absolute correlation.

    Quantities and latents that never change match nothing: correlation 0.
    """
    joined = torch.cat([latents, privileged_state], 1).double()
    away = joined - joined.mean(0)
    size = away.norm(dim=0).clamp(min=1e-12)
    count = latents.shape[1]
    correlations = (away[:, :count].T @ away[:, count:]) / (size[:count, None] * size[count:])
    found = []
    for latent, row in enumerate(correlations):
        column = int(row.abs().argmax())
        moves = float(size[latent]) > 1e-9 and float(size[count + column]) > 1e-9
        rank = (
            float(scipy.stats.spearmanr(latents[:, latent].numpy(), privileged_state[:, column].numpy()).statistic)
            if moves
            else 0.0
        )
        found.append(Match(quantities[column], float(row[column]) if moves else 0.0, rank))
    return found
