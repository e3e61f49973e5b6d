"""Random tasks to pretrain on, as token sequences."""

import torch
from torch import Tensor

from clutr.envs.capabilities import Tokens
from clutr.envs.randomness import named_generator

POOL = 32
"""Batches that are drawn, and sorted by length, together."""


def lengths(tokens: Tensor) -> Tensor:
    """Content tokens `[B]` of padded sequences `[B, L]`."""
    return (tokens > 0).sum(1)


def shuffle_sets(tokens: Tensor, tail: int, rng: torch.Generator) -> Tensor:
    """The same tasks with the tokens before their last `tail` ones in random order (the sorting ablation)."""
    position = torch.arange(tokens.shape[1])
    in_set = position < (lengths(tokens) - tail).unsqueeze(1)
    random_order = torch.rand(tokens.shape, generator=rng)
    # whatever is not in the set keeps its position behind it
    order = torch.where(in_set, random_order, position + 1.0).argsort(1)
    return tokens.gather(1, order)


class Corpus:
    """Batches of tasks by number, each a function of the seed alone, so that training resumes without a record.

    Args:
        domain: the domain.
        seed: of the corpus.
        batch_size: tasks a batch.
        size: number of tasks, drawn without repeats where the domain allows; 0 draws fresh tasks without end.
        shuffle: whether each task's set is in random order instead of ascending.
        by_length: whether tasks of about one length share a batch, which spares a recurrent network padding; a network
            without a time axis learns better from mixed batches.
    """

    def __init__(
        self,
        domain: Tokens,
        seed: int,
        batch_size: int,
        size: int = 0,
        shuffle: bool = False,
        by_length: bool = True,
    ) -> None:
        self.domain = domain
        self.seed = seed
        self.batch_size = batch_size
        self.size = size
        self.shuffle = shuffle
        self.by_length = by_length
        self._fixed = self._draw_fixed() if size else None
        self._pool: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def tasks(self) -> Tensor | None:
        """The different tasks `[size, max_tokens]` int16 of a fixed corpus; None if it draws fresh ones."""
        return self._fixed

    def batch(self, number: int) -> Tensor:
        """Tasks `[batch_size, L]` int64 of about one length, padded with 0; L is the longest of them."""
        pool_number, index = divmod(number, POOL)
        if self._pool[0] != pool_number:
            self._pool = pool_number, self._make_pool(pool_number)
        tokens = self._pool[1][index]
        return tokens[:, : int(lengths(tokens).max())]

    def _make_pool(self, number: int) -> Tensor:
        """`[POOL, batch_size, max_tokens]`; by length, neighbours share a batch and batches come in random order."""
        rng = named_generator(self.seed, "corpus", number)
        count = POOL * self.batch_size
        if self._fixed is None:
            tokens = self.domain.to_tokens(self.domain.sample(count, rng))
        else:
            tokens = self._fixed[self._in_pass(number, count)].long()
        if self.shuffle:
            tokens = shuffle_sets(tokens, self.domain.ordered_suffix_length, rng)
        if self.by_length:
            tokens = tokens[lengths(tokens).argsort(stable=True)]
        pools: Tensor = tokens.unflatten(0, (POOL, self.batch_size))
        return pools[torch.randperm(POOL, generator=rng)]

    def _in_pass(self, number: int, count: int) -> Tensor:
        """Indices of a pool into the fixed corpus, which is shuffled again in each pass."""
        wanted = torch.arange(number * count, (number + 1) * count)
        passes, index = wanted // self.size, wanted % self.size
        rows = torch.empty_like(wanted)
        for each in passes.unique().tolist():
            order = torch.randperm(self.size, generator=named_generator(self.seed, "pass", each))
            rows[passes == each] = order[index[passes == each]]
        return rows

    def _draw_fixed(self) -> Tensor:
        """`size` different tasks `[size, max_tokens]` int16; fewer than asked only where sampling repeats too much."""
        rng = named_generator(self.seed, "fixed corpus")
        found = torch.empty(0, self.domain.max_tokens, dtype=torch.int16)
        for _ in range(20):
            drawn = self.domain.to_tokens(self.domain.sample(self.size, rng)).to(torch.int16)
            found = torch.unique(torch.cat([found, drawn]), dim=0)
            if len(found) >= self.size:
                break
        # `unique` sorts, so what is kept must be drawn at random
        found = found[torch.randperm(len(found), generator=rng)[: self.size]]
        repeats = -(-self.size // len(found))
        return found.repeat(repeats, 1)[: self.size]
