from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clutr.envs.maze.domain import MazeDomain
from clutr.manifold.corpus import POOL, Corpus, lengths, shuffle_sets

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=8)


def rows(tokens: Tensor) -> list[tuple[int, ...]]:
    """Tasks without their padding."""
    return [tuple(token for token in row if token) for row in tokens.tolist()]


def drawn(corpus: Corpus, batches: int, start: int = 0) -> list[tuple[int, ...]]:
    return [row for number in range(start, start + batches) for row in rows(corpus.batch(number))]


def test_lengths_count_what_is_not_padding() -> None:
    assert lengths(torch.tensor([[3, 1, 2], [4, 1, 0], [0, 0, 0]])).tolist() == [3, 2, 0]


@given(seed=st.integers(0, 1_000), tail=st.integers(0, 2))
def test_shuffling_keeps_every_set_its_tail_and_the_padding(seed: int, tail: int) -> None:
    tokens = torch.tensor([[2, 3, 5, 7, 9, 4, 1], [6, 8, 1, 2, 0, 0, 0], [5, 6, 0, 0, 0, 0, 0]])
    shuffled = shuffle_sets(tokens, tail, torch.Generator().manual_seed(seed))
    for before, after in zip(rows(tokens), rows(shuffled), strict=True):
        count = len(before) - tail
        assert sorted(after[:count]) == sorted(before[:count])
        assert after[count:] == before[count:]
    assert torch.equal(shuffled == 0, tokens == 0)


def test_shuffling_reaches_every_order() -> None:
    tokens = torch.tensor([[1, 2, 3, 9, 8]]).expand(6_000, -1)
    orders = Counter(rows(shuffle_sets(tokens, 2, torch.Generator().manual_seed(0))))
    assert len(orders) == 6
    assert min(orders.values()) > 850  # of 1,000 expected, standard deviation 29


def test_a_batch_depends_on_its_number_alone() -> None:
    for size in (0, 300):
        forwards = [Corpus(DOMAIN, 7, 4, size).batch(number) for number in (0, 1, 40, 90)]
        backwards = Corpus(DOMAIN, 7, 4, size)
        for number, expected in zip((90, 40, 1, 0), reversed(forwards), strict=True):
            assert torch.equal(backwards.batch(number), expected)
    assert drawn(Corpus(DOMAIN, 7, 4), 1) != drawn(Corpus(DOMAIN, 8, 4), 1)


def test_batches_are_tasks_of_the_domain_no_longer_than_their_longest() -> None:
    corpus = Corpus(DOMAIN, 1, 16)
    for number in range(POOL):
        tokens = corpus.batch(number)
        assert tokens.shape[1] == lengths(tokens).max()
        assert tokens.dtype == torch.int64
        padded = torch.nn.functional.pad(tokens, (0, DOMAIN.max_tokens - tokens.shape[1]))
        assert torch.equal(DOMAIN.to_tokens(DOMAIN.from_tokens(tokens)[0]), padded)


def test_by_length_neighbours_share_a_batch_and_else_they_do_not() -> None:
    def spread(by_length: bool) -> int:
        corpus = Corpus(DOMAIN, 1, 16, by_length=by_length)
        counts = [lengths(corpus.batch(number)) for number in range(POOL)]
        return max(int(each.max() - each.min()) for each in counts)

    assert spread(by_length=True) <= 1
    assert spread(by_length=False) > 4


def test_lengths_are_in_random_order_over_batches() -> None:
    means = [float(lengths(Corpus(DOMAIN, 1, 16).batch(number)).float().mean()) for number in range(8)]
    assert means != sorted(means)


def test_a_fixed_corpus_has_no_repeats_and_each_pass_shows_every_task_once() -> None:
    corpus = Corpus(DOMAIN, 3, 4, size=POOL * 4)
    first, second = drawn(corpus, POOL), drawn(corpus, POOL, start=POOL)
    assert len(set(first)) == POOL * 4
    assert sorted(first) == sorted(second)
    assert first != second


def test_passes_need_not_fit_into_pools() -> None:
    corpus = Corpus(DOMAIN, 3, 4, size=96)  # three passes are 288 tasks, 2.25 pools
    seen = Counter(drawn(corpus, 3 * POOL))  # 384 tasks, 4 passes
    assert len(seen) == 96
    assert set(seen.values()) == {4}


def test_a_domain_with_fewer_tasks_than_asked_repeats_them() -> None:
    corpus = Corpus(MazeDomain(height=2, width=2, max_obstacles=0), 3, 1, size=POOL)
    seen = Counter(drawn(corpus, POOL))
    assert len(seen) == 12  # ordered pairs of 4 cells
    assert sum(seen.values()) == POOL
    assert max(seen.values()) <= 3


def test_the_sorting_ablation_only_reorders() -> None:
    ascending, shuffled = (drawn(Corpus(DOMAIN, 5, 8, shuffle=shuffle), POOL) for shuffle in (False, True))
    assert Counter(ascending) != Counter(shuffled)
    assert Counter(ascending) == Counter((*sorted(row[:-2]), *row[-2:]) for row in shuffled)
