"""Principal components of frames, in double precision and a few passes."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

OVERSAMPLING = 16
"""Further directions that the randomised search keeps."""
PASSES = 3
"""Passes of the randomised search over the data after the first."""


class PrincipalComponents(NamedTuple):
    """Principal components of data with D dimensions."""

    mean: Tensor
    """`[D]`."""
    directions: Tensor
    """`[k, D]`: orthonormal, by falling variance."""
    variances: Tensor
    """`[k]`: eigenvalues of the covariance (divided by n)."""
    total: float
    """The trace of the covariance: all variance there is."""


def principal_components(
    chunks: Callable[[], Iterable[Tensor]], components: int, rng: torch.Generator
) -> PrincipalComponents:
    """The leading components of rows in chunks, by randomised subspace iteration (Halko, Martinsson & Tropp 2011).

    Args:
        chunks: gives the chunks `[n, D]` anew each time it is called.
        components: k, at most D.
        rng: draws the first directions.
    """
    total, squares, count = None, 0.0, 0
    for chunk in chunks():
        rows = chunk.double()
        total = rows.sum(0) if total is None else total + rows.sum(0)
        squares += float(rows.square().sum())
        count += len(rows)
    assert total is not None
    mean = total / count
    dimensions = len(mean)
    width = min(dimensions, components + OVERSAMPLING)
    basis = torch.randn(dimensions, width, generator=rng, dtype=torch.float64)
    small = torch.zeros(width, width, dtype=torch.float64)
    for turn in range(PASSES + 1):
        basis = torch.linalg.qr(basis).Q
        image = torch.zeros_like(basis)
        small = torch.zeros(width, width, dtype=torch.float64)
        for chunk in chunks():
            rows = chunk.double() - mean
            seen = rows @ basis
            small += seen.T @ seen
            if turn < PASSES:
                image += rows.T @ seen
        if turn < PASSES:
            basis = image
    values, vectors = torch.linalg.eigh(small / count)
    order = values.argsort(descending=True)[:components]
    directions = (basis @ vectors[:, order]).T.contiguous()  # as they come back from a file: products agree bit for bit
    # a sign for each, so that the same data give the same components
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    directions = directions * torch.where(largest < 0, -1.0, 1.0)
    everything = squares / count - float(mean.square().sum())
    return PrincipalComponents(mean.float(), directions.float(), values[order].clamp(min=0).float(), everything)
