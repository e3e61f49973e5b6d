"""Exact coordinates of tasks: no network and nothing to learn, so the control arm of every learned manifold.

Uniform points of the box are uniform tasks: the size of the set is uniform over the domain's sizes, the last tokens are
distinct cells, and the set is one of all subsets of that size of the other cells. Along the axes of the set, cells are
taken or left in their order by selection sampling (Knuth, The Art of Computer Programming, vol. 2, section 3.4.2,
algorithm S): where r of n cells are still to be taken, the next one is with chance r / n. So the first of r cells taken
out of n is the j-th with chance C(n - j, r - 1) / C(n, r), and every subset of that size is equally likely.

Three choices make near points near tasks. Size and last tokens have axes of their own and are decided first, so that
they stay where they are when the set changes. Cells that share an axis are neighbours. And the axis is folded at each
decision, as in a reflected binary code: where a cell's fate changes, the others' are the same on both sides.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.envs.capabilities import Tokens, require
from clutr.envs.domain import Domain, LevelBatch
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.state import Stateful
from clutr.envs.validation import require_at_least
from clutr.manifold import health
from clutr.manifold.base import MANIFOLDS
from clutr.manifold.coder import MOST_BITS, Coder, inside
from clutr.manifold.sets import TaskShape


@MANIFOLDS.register("combinatorial")
@dataclass(frozen=True)
class CombinatorialConfig:
    """Exact, training-free coordinates of tasks."""

    cells_per_axis: int = 3
    """Cells that share an axis: fewer make more axes, in which points are nearer to being independent cells."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "cells_per_axis")

    def build(self, domain: Domain, seed: int) -> "CombinatorialCoder":  # noqa: ARG002 (the protocol's name)
        """The manifold of a domain, the same for every seed. Raises `ValueError` if an axis would hold too much."""
        return CombinatorialCoder(require(domain, Tokens, "the combinatorial coder"), self.cells_per_axis)

    def pretraining(self, manifold: "CombinatorialCoder", domain: Domain, seed: int) -> "Measuring":  # noqa: ARG002
        """Nothing is trained; health is measured."""
        return Measuring(manifold, seed)


class CombinatorialCoder(Coder):
    """See the module's docstring. Axes: the set's size, if that varies; the last tokens; the cells.

    Args:
        domain: the domain.
        cells_per_axis: cells that share an axis.
    """

    def __init__(self, domain: Tokens, cells_per_axis: int) -> None:
        shape = TaskShape.of(domain)
        held = min(cells_per_axis, shape.cells)
        # k of n cells are least likely to have the fates they have where as many as are taken of them are taken at all
        bits = math.log2(max(math.comb(shape.cells, taken) for taken in range(held + 1)))
        if bits > MOST_BITS:
            raise ValueError(
                f"{cells_per_axis} cells an axis can take {bits:.1f} bits, and a latent holds {MOST_BITS} safely; "
                + "choose a smaller cells_per_axis"
            )
        self.cells_per_axis = cells_per_axis
        self.first_tail = int(shape.sizes > 1)
        self.first_group = self.first_tail + shape.tail
        super().__init__(domain, shape, self.first_group + math.ceil(shape.cells / cells_per_axis))

    def decode_tokens(self, latents: Tensor) -> Tensor:
        """The task `[B, L]` of each point of the box."""
        shape, points = self.shape, inside(latents)
        rows = len(points)
        size = torch.full((rows,), shape.fewest, dtype=torch.int64)
        if self.first_tail:
            size += (points[:, 0] * shape.sizes).long()
        last = self._decode_tail(points[:, self.first_tail : self.first_group])
        is_open = torch.ones(rows, shape.cells, dtype=torch.bool).scatter(1, last, False)
        left = is_open.flip(1).cumsum(1).flip(1)
        members = torch.zeros(rows, shape.cells, dtype=torch.bool)
        for cell in range(shape.cells):
            if cell % self.cells_per_axis == 0:
                u = points[:, self.first_group + cell // self.cells_per_axis]
            still = is_open[:, cell]
            chance = size.double() / left[:, cell].clamp(min=1)
            # with as many to take as are left the chance is 1, but folding can bring a point to 1 as well
            taken = still & ((u < chance) | (size >= left[:, cell]))
            folded = torch.where(taken, (chance - u) / chance, (u - chance) / (1 - chance))
            u = torch.where(still, folded, u)
            members[:, cell] = taken
            size = size - taken.long()
        return shape.join(members, last)

    def _decode_tail(self, points: Tensor) -> Tensor:
        """Distinct cells `[B, tail]`: each is uniform among those that the ones before it left."""
        last = torch.empty(points.shape, dtype=torch.int64)
        for index in range(points.shape[1]):
            cell = (points[:, index] * (self.shape.cells - index)).long()
            for before in last[:, :index].sort(1).values.unbind(1):
                cell += (cell >= before).long()
            last[:, index] = cell
        return last

    def cells(self, levels: LevelBatch) -> tuple[Tensor, Tensor]:
        """Centre and width of each level's cell along each axis, two tensors `[B, dim]` float64.

        A set of a size that the domain does not draw is coded as the nearest one (see `TaskShape.split`).
        """
        shape = self.shape
        members, last = shape.split(self.domain.to_tokens(levels))
        centres, widths = [], []
        ones = torch.ones(len(members), 1, dtype=torch.float64)
        if self.first_tail:
            centres.append((members.sum(1, keepdim=True) - shape.fewest + 0.5 * ones) / shape.sizes)
            widths.append(ones / shape.sizes)
        for index in range(shape.tail):
            before = (last[:, :index] < last[:, index : index + 1]).sum(1, keepdim=True)
            centres.append((last[:, index : index + 1] - before + 0.5 * ones) / (shape.cells - index))
            widths.append(ones / (shape.cells - index))
        is_open = torch.ones_like(members).scatter(1, last, False)
        left = is_open.flip(1).cumsum(1).flip(1).clamp(min=1)
        chance = members.flip(1).cumsum(1).flip(1).double() / left
        taken, still, chance = (self._by_axis(each) for each in (members, is_open, chance))
        u, width = torch.full_like(chance[..., 0], 0.5), torch.ones_like(chance[..., 0])
        for index in reversed(range(self.cells_per_axis)):
            p, here = chance[..., index], taken[..., index]
            u = torch.where(still[..., index], torch.where(here, p * (1 - u), p + (1 - p) * u), u)
            width = width * torch.where(still[..., index], torch.where(here, p, 1 - p), 1.0)
        return torch.cat([*centres, u], 1), torch.cat([*widths, width], 1)

    def _by_axis(self, values: Tensor) -> Tensor:
        """Values of cells `[B, cells]` as `[B, axes, cells_per_axis]`; cells that are not there are closed."""
        missing = -self.shape.cells % self.cells_per_axis
        by_axis: Tensor = torch.nn.functional.pad(values, (0, missing)).unflatten(1, (-1, self.cells_per_axis))
        return by_axis


class Measuring(Stateful):
    """The pretraining of a manifold that has none: its health is measured.

    Args:
        manifold: what to measure.
        seed: of the measurement.
    """

    saved = ("manifold",)

    def __init__(self, manifold: CombinatorialCoder, seed: int) -> None:
        self.manifold = manifold
        self.seed = seed

    def run(self, progress: Progress = lambda *_: None) -> None:
        """Measure health."""
        self.manifold.measured = health.measure(self.manifold, named_generator(self.seed, "health"))
        progress(1, 1, {})
