"""Probes with their controls, and the checks that decide whether an explanation is believed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from clutr.probes.faithfulness import infidelity, perturb
from clutr.probes.linear_probes import beyond, folds_of, probe
from clutr.probes.mask_agreement import agreement
from clutr.probes.randomisation import randomisation, similarity
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
def test_no_group_is_in_two_folds(groups: list[int]) -> None:
    known = torch.tensor(groups)
    folds = folds_of(known, generator())
    assert all(len(folds[known == group].unique()) == 1 for group in set(groups))
    assert folds.unique().tolist() == list(range(min(5, len(set(groups)))))


def test_folds_need_groups() -> None:
    with pytest.raises(ValueError, match="needs at least 3 groups, got 2"):
        folds_of(torch.tensor([0, 1, 1]), generator())


def test_what_is_there_is_found_and_what_is_not_is_not() -> None:
    rng = generator(2)
    states = torch.randn(600, 8, generator=rng)
    targets = torch.stack([2 * states[:, 0] - states[:, 3], torch.randn(600, generator=rng)], 1)
    groups, cells = torch.arange(600) // 20, torch.randint(0, 12, (600,), generator=rng)
    found = probe(states, targets, groups, cells, rng)
    assert found.score[0].low > 0.99
    assert found.score[1].low < 0.02, "nothing tells it, and the interval says so"
    assert all(control.value < 0.1 for control in found.control), "random states do not know their cells"
    assert found.selectivity[0].low > 0.9
    better, worse = beyond(found.read, torch.zeros_like(targets), targets, groups)
    assert better.low > 0.9
    assert worse.low < 0.02
    # states that tell the cell can be read for any label of cells: a score of such a probe says nothing
    telling = torch.nn.functional.one_hot(cells, 12).float()
    memorised = probe(telling, telling[:, :1], groups, cells, generator(3))
    assert memorised.control[0].value > 0.95 or memorised.control[0].value == 0  # a label that never changes scores 0
    assert memorised.selectivity[0].low < 0.1 or memorised.control[0].value == 0


def test_rows_that_do_not_count_are_neither_fitted_nor_scored() -> None:
    rng = generator(3)
    states = torch.randn(300, 4, generator=rng)
    targets = states[:, :2].clone()
    counted = torch.ones(300, 2, dtype=torch.bool)
    counted[::2, 0] = False
    targets[::2, 0] = 1e6  # were they fitted or scored, nothing would be told
    groups = torch.arange(300) // 10
    found = probe(states, targets, groups, groups % 7, rng, counted)
    assert found.score[0].low > 0.99
    assert bool(found.read[::2, 0].isnan().all())
    assert not bool(found.read[:, 1].isnan().any())
    nowhere = probe(states, targets, groups, groups % 7, rng, torch.zeros_like(counted))
    assert [each.value for each in nowhere.score] == [0.0, 0.0]


def test_r_squared_by_hand() -> None:
    targets = torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    read = torch.tensor([[1.0, 5.0], [2.0, 5.0], [4.0, 9.0]])
    assert r2(read, targets).tolist() == [0.5, 0.0]


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
    same = randomisation(maps, [maps] * 4)
    assert not same.passed
    assert same.similarity == pytest.approx((1, 1, 1))
    others = [torch.rand(10, 30, generator=generator(seed)) for seed in range(7, 15)]
    assert randomisation(maps, others).passed
    flips = randomisation(maps, [maps, -maps] * 4)
    assert not flips.passed, "signs alone make no other map"
    assert flips.similarity.value == pytest.approx(0)
    assert float(similarity(maps, torch.ones(10, 30)).abs().max()) == 0.0
    with pytest.raises(ValueError, match="needs at least 2 of them, got 1"):
        randomisation(maps, [maps])


def test_what_inputs_and_lag_explain_is_taken_out() -> None:
    rng = generator(8)
    size, lag = torch.rand(10, 30, generator=rng), torch.arange(30.0).expand(10, 30)
    controls = torch.stack([size, lag], -1)
    mine, theirs = (size * 3 + lag / 30 + 0.5 * torch.randn(10, 30, generator=rng) for _ in range(2))
    assert float(similarity(mine, theirs).mean()) > 0.6
    assert abs(float(similarity(mine, theirs, controls).mean())) < 0.2
    told = similarity(size, theirs, controls)
    assert told.tolist() == [1.0] * 10, "a map that is its inputs' sizes is every model's"


def test_infidelity_of_maps_with_and_without_sign() -> None:
    inputs = torch.ones(30, 6)
    empty = infidelity(linear, inputs, torch.zeros(30, 6), torch.zeros(1), generator())
    assert empty == pytest.approx((1, 1, 1)), "an empty map misses all of it"
    exact = infidelity(linear, inputs, WEIGHTS.expand(30, 6), torch.zeros(1), generator())
    assert exact == pytest.approx((0, 0, 0), abs=1e-9)
    assert infidelity(linear, inputs, -WEIGHTS.expand(30, 6), torch.zeros(1), generator()).value == pytest.approx(4)

    def size(x: Tensor) -> Tensor:
        return x @ WEIGHTS.abs()

    for scale in (1.0, 7.0):  # what has no sign has no unit either
        told = infidelity(size, inputs, scale * WEIGHTS.abs().expand(30, 6), torch.zeros(1), generator(), signed=False)
        assert told.value == pytest.approx(0, abs=1e-6)
    even = infidelity(size, inputs, torch.ones(30, 6), torch.zeros(1), generator(), signed=False)
    assert even.value == pytest.approx(1)


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
