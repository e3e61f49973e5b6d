"""The laws of the next member, against worked numbers and sums over all sets."""

import itertools
import math

import pytest
import torch

from clutr.manifold.next_member import AnyOrder, Ascending, members_of


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def padded(sets: list[tuple[int, ...]], longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.zeros(len(sets), longest, dtype=torch.int64)
    for row, members in enumerate(sets):
        tokens[row, : len(members)] = torch.tensor(members)
    return tokens, torch.tensor([len(members) for members in sets])


def test_members_are_the_tokens_before_the_last_ones() -> None:
    tokens = torch.tensor([[2, 4, 1], [3, 1, 0]])
    assert members_of(tokens, torch.tensor([2, 1]), 4).int().tolist() == [[0, 1, 0, 1], [0, 0, 1, 0]]


def test_a_hazard_a_cell_by_hand() -> None:
    # chances .5 and .25 of cells 1 and 2 at the first step, .1 of cell 2 once 1 is taken
    logits = torch.logit(torch.tensor([[[0.5, 0.25], [0.9, 0.1], [0.5, 0.5]]])).expand(4, -1, -1)
    tokens, sizes = padded([(), (1,), (2,), (1, 2)], 2)
    expected = [-math.log(each) for each in (0.5 * 0.75, 0.5 * 0.9, 0.5 * 0.25, 0.5 * 0.1)]
    assert Ascending(2).nats(logits, tokens, sizes).tolist() == pytest.approx(expected)


def test_chances_of_all_ascending_sets_add_up_to_one() -> None:
    cells = 4
    sets = [each for size in range(cells + 1) for each in itertools.combinations(range(1, cells + 1), size)]
    tokens, sizes = padded(sets, cells)
    # any logits that depend on the step alone
    logits = torch.randn(1, cells + 1, cells, generator=rng()).double().expand(len(sets), -1, -1)
    assert float((-Ascending(cells).nats(logits, tokens, sizes)).exp().sum()) == pytest.approx(1)


def test_chances_of_all_sequences_add_up_to_one() -> None:
    cells = 3
    sequences = [each for size in range(cells + 1) for each in itertools.permutations(range(1, cells + 1), size)]
    tokens, sizes = padded(sequences, cells)
    logits = torch.randn(1, cells + 1, cells + 1, generator=rng()).double().expand(len(sequences), -1, -1)
    assert float((-AnyOrder(cells).nats(logits, tokens, sizes)).exp().sum()) == pytest.approx(1)


def test_the_first_likely_cell_behind_the_last_comes_next() -> None:
    law, may_end = Ascending(4), torch.tensor([True])
    taken = torch.zeros(1, 4, dtype=torch.bool)
    logits = torch.tensor([[3.0, -1.0, 0.5, 9.0]])
    chosen = [int(law.choose(logits, torch.tensor([last]), taken, may_end)) for last in (0, 1, 3, 4)]
    assert chosen == [1, 3, 4, 5]


def test_a_set_that_may_not_end_takes_the_likeliest_cell_that_is_left() -> None:
    law, may_not_end = Ascending(4), torch.tensor([False])
    logits = torch.tensor([[3.0, -2.0, -3.0, -4.0]])
    taken = torch.tensor([[True, False, True, False]])
    assert int(law.choose(logits, torch.tensor([3]), taken, ~may_not_end)) == 5
    assert int(law.choose(logits, torch.tensor([3]), taken, may_not_end)) == 2, "it was passed, and is the likeliest"


def test_in_any_order_no_cell_comes_twice_and_the_end_when_it_may() -> None:
    law = AnyOrder(3)
    logits = torch.tensor([[9.0, 1.0, 2.0, 3.0]])
    taken = torch.tensor([[True, False, False]])
    last = torch.tensor([1])
    assert int(law.choose(logits, last, taken, torch.tensor([True]))) == 4
    assert int(law.choose(logits, last, taken, torch.tensor([False]))) == 3
