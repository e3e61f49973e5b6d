"""The open LSTM, relevance through it, and its dynamics: identities that need no training."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clutr.probes.dynamics import (
    fixed_points,
    kaplan_yorke,
    lyapunov,
    memory_horizon,
    participation_ratio,
)
from clutr.probes.lrp import relevance, relevance_by_gradient
from clutr.probes.open_lstm import OpenLSTM, gate_statistics


def lstm(inputs: int = 3, width: int = 5, seed: int = 0, scale: float = 1.0) -> torch.nn.LSTM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = torch.nn.LSTM(inputs, width).double()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.mul_(scale)
    return found


def sequence(steps: int, n: int = 2, inputs: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(steps, n, inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("steps", "n"), [(1, 1), (7, 1), (7, 4)])
def test_it_is_torch_s_lstm(steps: int, n: int) -> None:
    reference = lstm()
    opened, xs = OpenLSTM.of(reference), sequence(steps, n)
    expected, (h, c) = reference(xs)
    found = opened.run(xs)
    torch.testing.assert_close(found.h, expected)
    torch.testing.assert_close(found.h[-1], h[0])
    torch.testing.assert_close(found.c[-1], c[0])
    single = OpenLSTM.of(reference.float()).run(xs.float())
    torch.testing.assert_close(single.h, reference.float()(xs.float())[0], atol=1e-6, rtol=1e-5)


def test_the_jacobian_in_closed_form() -> None:
    opened, rng = OpenLSTM.of(lstm(scale=2.0)), torch.Generator().manual_seed(2)
    x = torch.randn(3, generator=rng, dtype=torch.float64)
    state = torch.randn(10, generator=rng, dtype=torch.float64)
    expected = torch.func.jacrev(lambda s: opened.map(x, s))(state)
    torch.testing.assert_close(opened.jacobian(x, state), expected)
    both = opened.jacobian(torch.stack([x, 2 * x]), torch.stack([state, -state]))
    torch.testing.assert_close(both[0], expected)


def test_gate_statistics_by_hand() -> None:
    opened = OpenLSTM.of(lstm())
    found = gate_statistics(opened.run(sequence(50)))
    moments = opened.run(sequence(50))
    assert float(found.mean["f"][2]) == pytest.approx(float(moments.f[..., 2].mean()))
    assert float(found.half_life[1]) == pytest.approx(math.log(2) / -float(moments.f[..., 1].log().mean()), rel=1e-6)
    assert found.saturated_low["i"].max() == 0, "small weights leave gates open half"


def test_only_plain_lstms() -> None:
    with pytest.raises(ValueError, match="one layer, one direction and no projection"):
        OpenLSTM.of(torch.nn.LSTM(2, 3, num_layers=2))


# --- relevance


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 500), steps=st.integers(1, 8), scale=st.sampled_from([0.5, 2.0]))
def test_one_backward_pass_is_the_explicit_rule(seed: int, steps: int, scale: float) -> None:
    opened, xs = OpenLSTM.of(lstm(seed=seed, scale=scale)), sequence(steps, seed=seed)
    read = torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    by_loop = relevance(opened, xs, read, constant=0.3).inputs
    torch.testing.assert_close(relevance_by_gradient(opened, xs, read, constant=0.3), by_loop, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_nothing_is_lost_when_biases_are_shared_out(steps: int) -> None:
    opened, xs = OpenLSTM.of(lstm(seed=3, scale=2.0)), sequence(steps)
    read = torch.tensor([1.0, -0.5, 2.0, 0.3, -1.0], dtype=torch.float64)
    target = opened.run(xs).h[-1] @ read + 0.5
    found = relevance(opened, xs, read, constant=0.5, bias_factor=1.0)
    torch.testing.assert_close(found.inputs.sum((0, 2)) + found.initial, target)
    assert relevance(opened, xs, read, constant=0.5).initial.abs().max() == 0


def test_a_linear_chain_shares_by_contributions() -> None:
    """One unit with open gates and a nearly linear candidate adds its inputs up: relevance is each one's part."""
    weights = torch.zeros(4, 2, dtype=torch.float64)
    weights[2] = torch.tensor([0.02, 0.01])  # candidate
    bias = torch.tensor([50.0, 50.0, 0.0, 50.0], dtype=torch.float64)  # i, f and o are 1
    opened = OpenLSTM(weights, torch.zeros(4, 1, dtype=torch.float64), bias)
    xs = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]], [[1.0, 1.0]]], dtype=torch.float64)
    found = relevance(opened, xs, torch.ones(1, dtype=torch.float64), epsilon=1e-12).inputs[:, 0]
    total = 0.02 + 0.02 + 0.03
    expected = torch.tensor([[0.02, 0.0], [0.0, 0.02], [0.02, 0.01]], dtype=torch.float64)
    torch.testing.assert_close(found / found.sum(), expected / total, atol=1e-3, rtol=1e-2)


# --- dynamics


def test_exponents_of_a_linear_map() -> None:
    rng = np.random.default_rng(1)
    basis = rng.normal(size=(3, 3))
    matrix = torch.from_numpy(basis @ np.diag([1.2, 0.9, 0.5]) @ np.linalg.inv(basis))
    found = lyapunov(matrix.expand(600, 3, 3), warm_up=100)
    torch.testing.assert_close(
        found.exponents, torch.tensor([1.2, 0.9, 0.5], dtype=torch.float64).log(), atol=1e-6, rtol=0
    )


def test_exponents_of_the_henon_map() -> None:
    x, y, jacobians = 0.1, 0.1, []
    for _ in range(20_000):
        jacobians.append(torch.tensor([[-2.8 * x, 1.0], [0.3, 0.0]], dtype=torch.float64))
        x, y = 1 - 1.4 * x * x + y, 0.3 * x
    found = lyapunov(torch.stack(jacobians))
    assert float(found.exponents[0]) == pytest.approx(0.419, abs=0.01)
    assert float(found.exponents.sum()) == pytest.approx(math.log(0.3), abs=1e-6), "areas shrink by 0.3"
    assert found.dimension == pytest.approx(1.26, abs=0.02)
    with pytest.raises(ValueError, match="need more than the 100 steps of the warm-up, got 50"):
        lyapunov(torch.stack(jacobians[:50]))


def test_kaplan_yorke_by_hand() -> None:
    assert kaplan_yorke(torch.tensor([-0.1, -1.0])) == 0.0
    assert kaplan_yorke(torch.tensor([0.5, -1.0])) == pytest.approx(1.5)
    assert kaplan_yorke(torch.tensor([0.5, 0.1])) == 2.0


def test_fixed_points_of_a_known_map() -> None:
    """x' = x + 0.4 (x - x^3): -1 and 1 are stable, 0 is not; y' = y / 2 has 0."""

    def step(s: Tensor) -> Tensor:
        x, y = s.unbind(-1)
        return torch.stack([x + 0.4 * (x - x**3), 0.5 * y], -1)

    def slope(s: Tensor) -> Tensor:
        x = s[..., 0]
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        return torch.stack(
            [torch.stack([one + 0.4 * (1 - 3 * x**2), zero], -1), torch.stack([zero, 0.5 * one], -1)], -2
        )

    starts = torch.tensor([[-1.3, 0.5], [-0.2, 0.1], [0.05, -0.3], [0.8, 0.2], [1.2, -0.4]], dtype=torch.float64)
    found = sorted(fixed_points(step, slope, starts), key=lambda point: float(point.state[0]))
    assert [round(float(point.state[0]), 4) for point in found] == [-1.0, 0.0, 1.0]
    assert [point.kind for point in found] == ["stable", "saddle", "stable"]
    torch.testing.assert_close(found[1].eigenvalues.abs(), torch.tensor([1.4, 0.5], dtype=torch.float64))
    torch.testing.assert_close(found[0].time_constants, 1 / torch.tensor([0.5, 0.2], dtype=torch.float64).log().abs())


def test_an_lstm_s_fixed_point_is_one() -> None:
    opened, x = OpenLSTM.of(lstm(scale=0.7)), torch.zeros(3, dtype=torch.float64)
    starts = torch.randn(4, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = fixed_points(lambda s: opened.map(x, s), lambda s: opened.jacobian(x, s), starts, iterations=500)
    assert len(found) == 1, "small weights forget: one fixed point"
    assert found[0].kind == "stable"
    torch.testing.assert_close(opened.map(x, found[0].state), found[0].state, atol=1e-8, rtol=0)


def test_effective_dimensions() -> None:
    rng = torch.Generator().manual_seed(1)
    line = torch.randn(2_000, 1, generator=rng) @ torch.tensor([[1.0, 2.0, 3.0]])
    assert participation_ratio(line) == pytest.approx(1)
    assert participation_ratio(torch.randn(20_000, 3, generator=rng)) == pytest.approx(3, rel=0.01)


def test_the_memory_horizon_of_a_leaky_sum() -> None:
    """y = sum over k of 0.5^k x at lag k: shares 1/2, 1/4, ..."""
    xs = torch.randn(30, 4, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    decay = 0.5 ** torch.arange(29, -1, -1, dtype=torch.float64)
    found = memory_horizon(lambda inputs: (inputs * decay[:, None, None]).sum(0), xs)
    torch.testing.assert_close(found.mass[:3], torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64))
    assert (found.half, found.ninety) == (0, 3)
    assert found.mean == pytest.approx(1.0, abs=1e-6)
