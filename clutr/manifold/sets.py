"""Tasks as every domain has them: a set of cells, and an ordered suffix of a few tokens with roles of their own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.envs.capabilities import Tokens
from clutr.envs.randomness import named_generator
from clutr.manifold.corpus import lengths

DRAWS = 256
"""Tasks that are drawn to see whether all of a domain's sets have one size."""


def split_parts(tokens: Tensor, vocabulary: int, tail: int) -> tuple[Tensor, Tensor]:
    """The set of tasks `[B, L]` as indicators `[B, C]` bool, and their last `tail` tokens `[B, tail]`."""
    count = lengths(tokens).unsqueeze(1)
    in_set = torch.arange(tokens.shape[1], device=tokens.device) < count - tail
    members = torch.zeros(len(tokens), vocabulary + 1, dtype=torch.bool, device=tokens.device)
    members.scatter_(1, torch.where(in_set, tokens, 0), True)
    last = (count - tail + torch.arange(tail, device=tokens.device)).clamp(min=0)
    return members[:, 1:], tokens.gather(1, last)


@dataclass(frozen=True)
class TaskShape:
    """What a domain's tasks have in common; all that exact coders know of a domain."""

    cells: int
    """Cells that tokens name."""
    fewest: int
    """Least size of a set."""
    most: int
    """Largest size of a set."""
    tail: int
    """Tokens after the set: all different, and none of the set."""

    @classmethod
    def of(cls, domain: Tokens) -> "TaskShape":
        """The shape of `domain`'s tasks. Sets that are not all of one size are of any from 0 up to the largest."""
        tokens = domain.to_tokens(domain.sample(DRAWS, named_generator(0, "task shape")))
        sizes = lengths(tokens) - domain.ordered_suffix_length
        most = domain.max_tokens - domain.ordered_suffix_length
        constant = int(sizes[0]) if bool((sizes == sizes[0]).all()) else -1
        if constant >= 0:
            return cls(domain.vocabulary, constant, constant, domain.ordered_suffix_length)
        return cls(domain.vocabulary, 0, most, domain.ordered_suffix_length)

    @property
    def sizes(self) -> int:
        """How many sizes a set can have."""
        return self.most - self.fewest + 1

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Canonical tasks `[B, L]` as members `[B, cells]` bool and last cells `[B, tail]`, counted from 0.

        A set of a size that the domain does not draw becomes the nearest one: the first free cells fill it up, or its
        last ones go.
        """
        members, last = split_parts(tokens, self.cells, self.tail)
        last = last - 1
        members = members & (members.cumsum(1) <= self.most)
        free = (~members).scatter(1, last, False)
        members = members | (free & (free.cumsum(1) <= (self.fewest - members.sum(1)).unsqueeze(1)))
        return members, last

    def join(self, members: Tensor, last: Tensor) -> Tensor:
        """The inverse of `split`: tokens `[B, most + tail]`, ascending, then the last ones, padded with 0."""
        tokens = torch.zeros(len(members), self.most + self.tail, dtype=torch.int64, device=members.device)
        rows, cells = members.nonzero(as_tuple=True)
        tokens[rows, (members.cumsum(1) - 1)[rows, cells]] = cells + 1
        position = members.sum(1, keepdim=True) + torch.arange(self.tail, device=members.device)
        return tokens.scatter(1, position, last + 1)


def edit_distance(first: Tensor, second: Tensor, vocabulary: int, tail: int) -> Tensor:
    """Cells that are in one set alone, and last tokens that differ, of canonical tasks `[B, L]`: `[B]` float32."""
    members, last = split_parts(first, vocabulary, tail)
    other_members, other_last = split_parts(second, vocabulary, tail)
    return ((members ^ other_members).sum(1) + (last != other_last).sum(1)).float()
