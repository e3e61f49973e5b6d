"""Laws of the next member of a set that is written cell by cell, and of its end.

`Ascending`: the members come in ascending order. The writer passes over the cells behind the last member, and a logit a
cell says how likely it stops there: the discrete hazard of survival analysis. A cell is decided exactly once, so the
set's code length is one Bernoulli term a cell, each with the logit of the step at which the writer passed.

`AnyOrder`: the members come in whatever order. A softmax over the cells that are not yet taken, and the end.

Greedy choices differ accordingly. Where cells are passed one by one, the first that is likelier a member than not comes
next; of alternatives, the likeliest.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

IMPOSSIBLE = -1e9
"""A logarithm of a chance, finite so that sums and gradients stay so."""


class Law(Protocol):
    """How logits become chances."""

    outputs: int
    """Logits of a step: one a cell, and one for the end where the law needs it."""

    def nats(self, logits: Tensor, tokens: Tensor, sizes: Tensor) -> Tensor:
        """Code length `[B]` of the sets of tasks, in nats.

        Args:
            logits: of steps 0, 1, ... `[B, S, outputs]`; step t follows t members.
            tokens: the tasks `[B, L]`: cells counted from 1, the set first.
            sizes: members of each set `[B]`, all below S.
        """
        ...

    def choose(self, logits: Tensor, last: Tensor, taken: Tensor, may_end: Tensor) -> Tensor:
        """The next member `[B]`, counted from 1, or C + 1 for the end.

        Args:
            logits: of one step `[B, outputs]`.
            last: the last member `[B]`; 0 before the first.
            taken: members so far `[B, C]` bool.
            may_end: whether the set may end here `[B]` bool.
        """
        ...


def members_of(tokens: Tensor, sizes: Tensor, cells: int) -> Tensor:
    """Indicators `[B, C]` bool of the first `sizes` `[B]` tokens of tasks `[B, L]`."""
    in_set = torch.arange(tokens.shape[1], device=tokens.device) < sizes.unsqueeze(1)
    members = torch.zeros(len(tokens), cells + 1, dtype=torch.bool, device=tokens.device)
    return members.scatter_(1, torch.where(in_set, tokens, 0), True)[:, 1:]


class Ascending:
    """Members in ascending order, by a hazard a cell.

    Args:
        cells: number of cells C.
    """

    def __init__(self, cells: int) -> None:
        self.cells = self.outputs = cells

    def nats(self, logits: Tensor, tokens: Tensor, sizes: Tensor) -> Tensor:
        """See `Law`."""
        members = members_of(tokens, sizes, self.cells).long()
        step = members.cumsum(1) - members
        decided = logits.gather(1, step.unsqueeze(1)).squeeze(1)
        return F.binary_cross_entropy_with_logits(decided, members.to(logits.dtype), reduction="none").sum(1)

    def choose(self, logits: Tensor, last: Tensor, taken: Tensor, may_end: Tensor) -> Tensor:
        """See `Law`. A set that may not end takes the likeliest cell that is left, even one that was passed."""
        cells = torch.arange(1, self.cells + 1, device=logits.device)
        likely = (cells > last.unsqueeze(1)) & ~taken & (logits > 0)
        first = torch.where(likely, cells, self.cells + 1).amin(1)
        left = logits.masked_fill(taken, IMPOSSIBLE).argmax(1) + 1
        return torch.where((first > self.cells) & ~may_end, left, first)


class AnyOrder:
    """Members in any order, by a softmax over what is left and the end.

    Args:
        cells: number of cells C.
    """

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self.outputs = cells + 1

    def nats(self, logits: Tensor, tokens: Tensor, sizes: Tensor) -> Tensor:
        """See `Law`."""
        step = torch.arange(logits.shape[1], device=tokens.device)
        padded = F.pad(tokens, (0, max(0, len(step) - tokens.shape[1])))[:, : len(step)]
        in_set = step < sizes.unsqueeze(1)
        chosen = torch.where(in_set, padded - 1, self.cells)
        added = F.one_hot(chosen, self.cells + 1)
        taken = (added.cumsum(1) - added) > 0
        taken[:, :, self.cells] = False
        nats = F.cross_entropy(logits.masked_fill(taken, IMPOSSIBLE).transpose(1, 2), chosen, reduction="none")
        return (nats * (step <= sizes.unsqueeze(1))).sum(1)

    def choose(self, logits: Tensor, last: Tensor, taken: Tensor, may_end: Tensor) -> Tensor:  # noqa: ARG002 (the law's)
        """See `Law`."""
        impossible = torch.cat([taken, ~may_end.unsqueeze(1)], 1)
        return logits.masked_fill(impossible, IMPOSSIBLE).argmax(1) + 1
