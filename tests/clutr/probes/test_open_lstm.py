"""The open LSTM, relevance through it, and its dynamics: identities that need no training."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clutr.probes.memory_dynamics import (
    effective_dimension,
    exponents_along,
    fixed_points,
    jacobian_of,
    kaplan_yorke,
    memory_horizon,
)
from clutr.probes.open_lstm import EPSILON, LSTMStep, OpenLSTM, gate_statistics, lrp


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


def test_gate_statistics_by_hand() -> None:
    opened = OpenLSTM.of(lstm())
    found = gate_statistics(opened.run(sequence(50)))
    run = opened.run(sequence(50))
    assert float(found.mean["f"][2]) == pytest.approx(float(run.f[..., 2].mean()))
    assert float(found.half_life[1]) == pytest.approx(math.log(2) / -float(run.f[..., 1].log().mean()), rel=1e-6)
    assert found.saturated_low["i"].max() == 0, "small weights leave gates open half"


def test_only_plain_lstms() -> None:
    with pytest.raises(ValueError, match="one layer, one direction and no projection"):
        OpenLSTM.of(torch.nn.LSTM(2, 3, num_layers=2))


# --- layer-wise relevance propagation


class Relevance(NamedTuple):
    """What a number was made of."""

    inputs: Tensor
    """`[T, ..., I]`."""
    initial: Tensor
    """`[...]`: what arrived at the memory before the first input; for an empty one 0 unless biases are shared out."""


def share(
    weights: Tensor, inputs: Tensor, outputs: Tensor, relevance: Tensor, epsilon: float, bias_factor: float
) -> Tensor:
    """Relevance of inputs `[..., I]` of a linear map with `weights` `[J, I]`, given that of its outputs `[..., J]`.

    With `bias_factor` 1 the shares of bias and stabiliser are spread over the inputs, so that nothing is lost.
    """
    stable = outputs + epsilon * outputs.sign()
    ratio = relevance / stable
    found = inputs * (ratio @ weights)
    if bias_factor:
        lost = relevance.sum(-1) - ((inputs @ weights.T) * ratio).sum(-1)
        found = found + bias_factor * lost[..., None] / inputs.shape[-1]
    return found


def explicit_lrp(
    lstm: OpenLSTM,
    xs: Tensor,
    read: Tensor,
    constant: float = 0.0,
    epsilon: float = EPSILON,
    bias_factor: float = 0.0,
    start: tuple[Tensor, Tensor] | None = None,
) -> Relevance:
    """Relevance of each input for s = read . h_T + constant, by explicit loops over steps.

    Args:
        lstm: the layer.
        xs: `[T, ..., I]`.
        read: `[H]`: how the explained number is read from the last output.
        constant: its constant.
        epsilon: the stabiliser.
        bias_factor: 0 drops the shares of biases and stabilisers; 1 spreads them, for tests of conservation.
        start: outputs and cells `[..., H]` before the first input; None: zeros.

    Returns:
        With `bias_factor` 1 inputs and initial memory add up to s exactly.
    """
    zero = xs.new_zeros(*xs.shape[1:-1], lstm.width)
    first_h, first_c = (zero, zero) if start is None else start
    run = lstm.run(xs, first_h, first_c)
    steps = len(xs)
    target = (run.h[-1] @ read + constant)[..., None]
    of_h = share(read[None], run.h[-1], target, target, epsilon, bias_factor)
    of_c, found = zero, torch.zeros_like(xs)
    for t in range(steps - 1, -1, -1):
        before = LSTMStep(*(part[t - 1] for part in run)) if t else None
        h = first_h if before is None else before.h
        c = first_c if before is None else before.c
        of_c = of_c + of_h  # the output gate gets nothing, tanh passes on
        stable = run.c[t] + epsilon * run.c[t].sign()
        kept, new = run.f[t] * c, run.i[t] * run.g[t]
        of_g, of_before = new / stable * of_c, kept / stable * of_c
        if bias_factor:  # what the stabiliser keeps is halved between the two
            left = 0.5 * bias_factor * (of_c - of_g - of_before)
            of_g, of_before = of_g + left, of_before + left
        both = torch.cat([xs[t], h], -1)
        width = lstm.width
        weights = torch.cat([lstm.inputs, lstm.recurrent], 1)[2 * width : 3 * width]
        candidate = both @ weights.T + lstm.bias[2 * width : 3 * width]
        shared = share(weights, both, candidate, of_g, epsilon, bias_factor)
        found[t], of_h = shared[..., : xs.shape[-1]], shared[..., xs.shape[-1] :]
        of_c = of_before
    return Relevance(found, of_h.sum(-1) + of_c.sum(-1))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 500), steps=st.integers(1, 8), scale=st.sampled_from([0.5, 2.0]))
def test_one_backward_pass_is_the_explicit_rule(seed: int, steps: int, scale: float) -> None:
    opened, xs = OpenLSTM.of(lstm(seed=seed, scale=scale)), sequence(steps, seed=seed)
    read = torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    by_loop = explicit_lrp(opened, xs, read, constant=0.3).inputs
    torch.testing.assert_close(lrp(opened, xs, read, constant=0.3), by_loop, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_nothing_is_lost_when_biases_are_shared_out(steps: int) -> None:
    opened, xs = OpenLSTM.of(lstm(seed=3, scale=2.0)), sequence(steps)
    read = torch.tensor([1.0, -0.5, 2.0, 0.3, -1.0], dtype=torch.float64)
    target = opened.run(xs).h[-1] @ read + 0.5
    found = explicit_lrp(opened, xs, read, constant=0.5, bias_factor=1.0)
    torch.testing.assert_close(found.inputs.sum((0, 2)) + found.initial, target)
    assert explicit_lrp(opened, xs, read, constant=0.5).initial.abs().max() == 0


def test_a_linear_chain_shares_by_contributions() -> None:
    """One unit with open gates and a nearly linear candidate adds its inputs up: relevance is each one's part."""
    weights = torch.zeros(4, 2, dtype=torch.float64)
    weights[2] = torch.tensor([0.02, 0.01])  # candidate
    bias = torch.tensor([50.0, 50.0, 0.0, 50.0], dtype=torch.float64)  # i, f and o are 1
    opened = OpenLSTM(weights, torch.zeros(4, 1, dtype=torch.float64), bias)
    xs = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]], [[1.0, 1.0]]], dtype=torch.float64)
    found = explicit_lrp(opened, xs, torch.ones(1, dtype=torch.float64), epsilon=1e-12).inputs[:, 0]
    total = 0.02 + 0.02 + 0.03
    expected = torch.tensor([[0.02, 0.0], [0.0, 0.02], [0.02, 0.01]], dtype=torch.float64)
    torch.testing.assert_close(found / found.sum(), expected / total, atol=1e-3, rtol=1e-2)


# --- dynamics


def test_exponents_of_a_linear_map() -> None:
    rng = np.random.default_rng(1)
    basis = rng.normal(size=(3, 3))
    matrix = torch.from_numpy(basis @ np.diag([1.2, 0.9, 0.5]) @ np.linalg.inv(basis))
    start = torch.ones(3, dtype=torch.float64)
    found = exponents_along(lambda _: lambda s: s @ matrix.T, start, 600, 3, 100)
    torch.testing.assert_close(
        found.exponents, torch.tensor([1.2, 0.9, 0.5], dtype=torch.float64).log(), atol=1e-6, rtol=0
    )


def test_exponents_of_the_henon_map() -> None:
    def henon(s: Tensor) -> Tensor:
        x, y = s.unbind(-1)
        return torch.stack([1 - 1.4 * x**2 + y, 0.3 * x], -1)

    found = exponents_along(lambda _: henon, torch.tensor([0.1, 0.1], dtype=torch.float64), 6_000, 2, 100)
    assert float(found.exponents[0]) == pytest.approx(0.419, abs=0.01)
    assert float(found.exponents.sum()) == pytest.approx(math.log(0.3), abs=1e-6), "areas shrink by 0.3"
    assert found.dimension == pytest.approx(1.26, abs=0.02)
    with pytest.raises(ValueError, match="need more than the 100 steps of the warm-up, got 50"):
        exponents_along(lambda _: henon, torch.zeros(2), 50, 2, 100)


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

    def step(state: Tensor) -> Tensor:
        after = opened.step(x, *state.chunk(2, -1))
        return torch.cat([after.h, after.c], -1)

    starts = torch.randn(4, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = fixed_points(step, jacobian_of(step), starts, iterations=500)
    assert len(found) == 1, "small weights forget: one fixed point"
    assert found[0].kind == "stable"
    torch.testing.assert_close(step(found[0].state), found[0].state, atol=1e-8, rtol=0)


def test_effective_dimensions() -> None:
    rng = torch.Generator().manual_seed(1)
    line = torch.randn(2_000, 1, generator=rng) @ torch.tensor([[1.0, 2.0, 3.0]])
    assert effective_dimension(line).participation == pytest.approx(1)
    assert effective_dimension(torch.randn(20_000, 3, generator=rng)).participation == pytest.approx(3, rel=0.01)


def test_the_memory_horizon_of_a_leaky_sum() -> None:
    """y = sum over k of 0.5^k x at lag k: shares 1/2, 1/4, ..."""
    xs = torch.randn(30, 4, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    decay = 0.5 ** torch.arange(29, -1, -1, dtype=torch.float64)
    found = memory_horizon(lambda inputs: (inputs * decay[:, None, None]).sum(0), xs)
    torch.testing.assert_close(found.mass[:3], torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64))
    assert (found.half, found.ninety) == (0, 3)
    assert found.mean == pytest.approx(1.0, abs=1e-6)
