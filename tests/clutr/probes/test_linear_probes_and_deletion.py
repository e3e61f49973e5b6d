"""Probes with their controls, and the checks that decide whether an explanation is believed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from clutr.probes.linear_probes import causal_test, probe, split_by_group
from clutr.probes.sanity_checks import agreement, perturb, randomisation
from clutr.world_model.linear_probe import fit_probe, r2


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_probe_is_ridge_regression() -> None:
    rng = generator()
    states = torch.randn(200, 6, generator=rng) * torch.arange(1.0, 7.0)
    targets = states[:, :2] @ torch.tensor([[1.0, 0.0], [0.5, -2.0]]) + 3 + torch.randn(200, 2, generator=rng)
    found = fit_probe(states, targets, 0.1)
    alpha = 0.1 * float(states.var(0, correction=0).mean()) * 200
    expected = Ridge(alpha=alpha).fit(states.numpy(), targets.numpy())
    torch.testing.assert_close(
        found.weights.double(), torch.from_numpy(expected.coef_.T).double(), atol=1e-4, rtol=1e-3
    )
    torch.testing.assert_close(found(states), torch.from_numpy(expected.predict(states.numpy())), atol=1e-3, rtol=1e-3)


@settings(max_examples=25, deadline=None)
@given(groups=st.lists(st.integers(0, 9), min_size=3, max_size=60).filter(lambda g: len(set(g)) >= 3))
def test_no_group_is_on_two_sides(groups: list[int]) -> None:
    known = torch.tensor(groups)
    split = split_by_group(known, generator())
    sides = [set(known[rows].tolist()) for rows in split]
    assert sum(map(len, sides)) == len(set(groups))
    assert all(sides)
    assert sorted(torch.cat(list(split)).tolist()) == list(range(len(groups)))


def test_splits_need_groups() -> None:
    with pytest.raises(ValueError, match="needs at least 3 groups, got 2"):
        split_by_group(torch.tensor([0, 1, 1]), generator())


def test_what_is_there_is_found_and_what_is_not_is_not() -> None:
    rng = generator(2)
    states = torch.randn(600, 8, generator=rng)
    targets = torch.stack([2 * states[:, 0] - states[:, 3], torch.randn(600, generator=rng)], 1)
    groups, cells = torch.arange(600) // 20, torch.randint(0, 12, (600,), generator=rng)
    found = probe(states, targets, groups, cells, rng)
    assert float(found.score[0]) > 0.99
    assert abs(float(found.score[1])) < 0.15
    assert (found.control < 0.1).all(), "random states do not know their cells"
    assert float(found.selectivity[0]) > 0.9
    # states that tell the cell can be read for any label of cells: a score of such a probe says nothing
    telling = torch.nn.functional.one_hot(cells, 12).float()
    memorised = probe(telling, telling[:, :1], groups, cells, generator(3))
    assert float(memorised.control[0]) > 0.95 or memorised.control[0] == 0  # a label that never changes scores 0
    assert float(memorised.selectivity[0]) < 0.1 or memorised.control[0] == 0


def test_r_squared_by_hand() -> None:
    targets = torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    read = torch.tensor([[1.0, 5.0], [2.0, 5.0], [4.0, 9.0]])
    assert r2(read, targets).tolist() == [0.5, 0.0]


def test_a_direction_that_is_used_answers_one_to_one() -> None:
    rng = generator(4)
    states = torch.randn(50, 5, generator=rng)
    used = torch.tensor([0.0, 3.0, 0.0, 4.0, 0.0])
    found = fit_probe(states, (states @ used)[:, None], 1e-6)
    result = causal_test(found, 0, states, lambda s: s @ used, torch.tensor([-2.0, -1.0, 1.0, 2.0]), rng)
    assert result.slope == pytest.approx(1, abs=1e-3)
    assert result.correlation == pytest.approx(1, abs=1e-4)
    assert abs(result.control_slope) < 1e-3
    idle = causal_test(found, 0, states, lambda s: s[:, 0], torch.tensor([-1.0, 1.0]), rng)
    assert abs(idle.slope) < 0.01, "what the probe reads is there, but this output does not use it"


# --- faithfulness, on a linear model whose oracle is known

WEIGHTS = torch.tensor([4.0, -2.0, 1.0, 0.5, 0.0, 3.0])


def linear(x: Tensor) -> Tensor:
    return x @ WEIGHTS


INPUTS = torch.rand(40, 6, generator=generator(5)) + 0.5


def test_an_oracle_beats_chance_and_its_opposite_loses() -> None:
    oracle = INPUTS * WEIGHTS
    good = perturb(linear, INPUTS, oracle, torch.zeros(1), generator())
    bad = perturb(linear, INPUTS, -oracle, torch.zeros(1), generator())
    assert good.abpc > 1
    assert good.random_gap > 0.5
    assert bad.abpc == pytest.approx(-good.abpc, rel=1e-5)
    assert bad.random_gap < 0
    for curve in (good.most_first, good.least_first, good.random):
        assert float(curve[0]) == pytest.approx(float(linear(INPUTS).mean()), rel=1e-5)
        assert float(curve[-1]) == pytest.approx(0, abs=1e-5)
    by_hand = perturb(linear, torch.ones(1, 6), WEIGHTS[None], torch.zeros(1), generator())
    stages = [round(stage / 20 * 6) for stage in range(21)]
    falling = [6.5, 2.5, -0.5, -1.5, -2.0, -2.0, 0.0]
    assert by_hand.most_first.tolist() == pytest.approx([falling[stage] for stage in stages])


def test_a_map_that_does_not_notice_the_weights_fails() -> None:
    maps = torch.rand(10, 30, generator=generator(6))
    assert not randomisation(maps, maps).passed
    assert randomisation(maps, maps).similarity == pytest.approx(1)
    other = randomisation(maps, torch.rand(10, 30, generator=generator(7)))
    assert other.passed
    assert not randomisation(maps, -maps).passed, "signs alone make no other map"
    assert randomisation(maps, torch.ones(10, 30)).similarity == 0.0


def test_agreement_with_masks() -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:4, 2:6] = True
    perfect = agreement(mask.float(), mask)
    assert (perfect.mass, perfect.rank, perfect.pointing, perfect.chance) == (1.0, 1.0, True, 8 / 64)
    assert perfect.nss == pytest.approx((1 - 1 / 8) / (7 / 64) ** 0.5)
    even = agreement(torch.ones(8, 8), mask)
    assert (even.mass, even.nss) == (8 / 64, 0.0)
    wrong = agreement((~mask).float(), mask)
    assert (wrong.mass, wrong.rank, wrong.pointing) == (0.0, 0.0, False)
    assert wrong.nss < 0
    with pytest.raises(ValueError, match="the mask is empty: the object is not on this picture"):
        agreement(torch.ones(8, 8), torch.zeros(8, 8, dtype=torch.bool))
