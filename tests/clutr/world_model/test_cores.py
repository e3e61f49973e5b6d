"""Sequence cores: steps and scans agree, and each is what it says it is."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clutr.world_model.cores.aaren import AarenConfig, AarenCore
from clutr.world_model.cores.base import CORES, Core, convolve, loop
from clutr.world_model.cores.lmu import LMUConfig, legendre_delay, recall_weights
from clutr.world_model.cores.lstm_gru import GRUCore, LSTMCore
from clutr.world_model.cores.ssm import KoopmanConfig

NAMES = list(CORES)
INPUTS = 5
OPTIONS: dict[str, Any] = {name: {"rows": 2, "columns": 2, "channels": 1} for name in ("geometric", "conv-gru")}
"""Options that a core needs for so few inputs."""


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(name: str, seed: int = 1) -> Core:
    config: Any = CORES[name]
    core: Core = config(width=12, **OPTIONS.get(name, {})).build(INPUTS, generator(seed))
    return core


def sequence(steps: int, n: int = 3) -> Tensor:
    return torch.randn(steps, n, INPUTS, generator=generator(steps))


def test_all_cores_are_there() -> None:
    assert set(NAMES) == {"lstm", "gru", "lmu", "ssm", "koopman", "aaren", "geometric", "conv-gru"}


@pytest.mark.parametrize("steps", [1, 2, 7, 33])
@pytest.mark.parametrize("name", NAMES)
def test_a_scan_is_its_steps(name: str, steps: int) -> None:
    core, xs = build(name), sequence(steps)
    state, features = core.scan(core.initial_state(3), xs)
    expected_state, expected = loop(core, core.initial_state(3), xs)
    assert features.shape == (steps, 3, core.width)
    torch.testing.assert_close(features, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(state, expected_state, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_carries_over_chunks_and_rows_know_no_company(name: str) -> None:
    core, xs = build(name), sequence(20)
    state, features = core.scan(core.initial_state(3), xs)
    middle, first = core.scan(core.initial_state(3), xs[:13])
    end, second = core.scan(middle, xs[13:])
    torch.testing.assert_close(torch.cat([first, second]), features, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(end, state, atol=2e-5, rtol=1e-4)
    _, alone = core.scan(core.initial_state(1), xs[:, 1:2])
    torch.testing.assert_close(alone, features[:, 1:2], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_looks_ahead_and_gradients_flow(name: str) -> None:
    core, xs = build(name), sequence(9).requires_grad_()
    _, features = core.scan(core.initial_state(3), xs)
    (slope,) = torch.autograd.grad(features[4].sum(), xs, retain_graph=True)
    assert slope[5:].abs().max() < 1e-6
    assert slope[:5].abs().sum(dim=(1, 2)).min() > 0, "it remembers all of a short past"
    features.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in core.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_weights_come_from_the_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = build(name), build(name), build(name, 2)
    assert torch.equal(torch.get_rng_state(), before)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    other.load_state_dict(first.state_dict())
    torch.testing.assert_close(
        other.scan(other.initial_state(3), sequence(4))[1], first.scan(first.initial_state(3), sequence(4))[1]
    )


def test_gated_cores_are_torch_s_own() -> None:
    xs = sequence(6)
    lstm = LSTMCore(INPUTS, 7, generator())
    reference = torch.nn.LSTM(INPUTS, 7)
    reference.load_state_dict(lstm.lstm.state_dict())
    torch.testing.assert_close(lstm.scan(lstm.initial_state(3), xs)[1], reference(xs)[0])
    gru = GRUCore(INPUTS, 7, generator())
    other = torch.nn.GRU(INPUTS, 7)
    other.load_state_dict(gru.gru.state_dict())
    torch.testing.assert_close(loop(gru, gru.initial_state(3), xs)[1], other(xs)[0])


@settings(max_examples=30, deadline=None)
@given(steps=st.integers(1, 20), seed=st.integers(0, 99))
def test_convolution_by_definition(steps: int, seed: int) -> None:
    rng = generator(seed)
    kernel, inputs = torch.randn(steps, 1, 2, generator=rng), torch.randn(steps, 3, 2, generator=rng)
    expected = torch.stack(
        [sum((kernel[t - s] * inputs[s] for s in range(t + 1)), torch.zeros(3, 2)) for t in range(steps)]
    )
    torch.testing.assert_close(convolve(kernel, inputs), expected, atol=1e-5, rtol=1e-4)
    turned = torch.polar(torch.ones(1), torch.tensor([0.3]))
    found = convolve(kernel * turned, inputs.to(torch.complex64))
    torch.testing.assert_close(found, expected * turned, atol=1e-5, rtol=1e-4)


def test_an_aaren_is_softmax_attention_over_the_past() -> None:
    core, xs = AarenConfig(width=6, heads=2, values=3).build(INPUTS, generator()), 5 * sequence(17)
    assert isinstance(core, AarenCore)
    scores, values = core.score(xs), core.value(xs).unflatten(-1, (2, 3))
    _, features = core.scan(core.initial_state(3), xs)
    for t in (0, 5, 16):
        weights = scores[: t + 1].softmax(0)
        read = (weights[..., None] * values[: t + 1]).sum(0).flatten(1)
        expected = torch.tanh(core.read(torch.cat([read, xs[t]], 1)))
        torch.testing.assert_close(features[t], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(core.attention(xs).sum(0), torch.ones(3, 2))


def test_huge_scores_do_not_overflow() -> None:
    core, xs = AarenConfig(width=6).build(INPUTS, generator()), 1e4 * sequence(9)
    assert core.scan(core.initial_state(3), xs)[1].isfinite().all()


def test_a_legendre_memory_recalls_a_delayed_sine() -> None:
    """d = 12, window 50, 0.12 rad a step: inside the window the error is about 0.002, at its edges 0.01."""
    core = LMUConfig(width=4, channels=1, order=12, window=50.0).build(1, generator())
    with torch.no_grad():
        core.encoder.weight.fill_(1.0)
        core.encoder.bias.fill_(0.0)
    sine = torch.sin(0.12 * torch.arange(300.0))
    state, _ = core.scan(core.initial_state(1), sine[:, None, None])
    back = torch.arange(0, 50)
    error = (core.recall(state, back)[0, 0] - sine[299 - back]).abs()
    assert error[5:45].max() < 0.005
    assert error.max() < 0.05
    without_half_step = recall_weights(12, 50.0, back - 0.5)
    worse = (core.memory(state)[0, 0] @ without_half_step.T - sine[299 - back]).abs()
    assert worse[5:45].max() > 0.04


def test_the_delay_system_is_stable_and_starts_from_its_formula() -> None:
    a, b = legendre_delay(6, 40.0)
    assert np.abs(np.linalg.eigvals(a)).max() < 1
    # to first order in 1 / window: A = 1 + A_c, B = B_c
    slow, push = legendre_delay(3, 1e6)
    drift = np.array([[-1, -1, -1], [3, -3, -3], [-5, 5, -5]]) / 1e6
    np.testing.assert_allclose(slow - np.eye(3), drift, atol=1e-10)
    np.testing.assert_allclose(push, np.array([1, -3, 5]) / 1e6, atol=1e-10)
    assert b.shape == (6,)


def test_a_koopman_core_is_linear_and_its_eigenvalues_are_its_time_scales() -> None:
    core = KoopmanConfig(width=4, modes=3, slowest=100.0).build(INPUTS, generator())
    xs, others = sequence(8), torch.randn(8, 3, INPUTS, generator=generator(9))
    state = core.initial_state(3)
    nothing = core.scan(state, torch.zeros_like(xs))[1]
    both = core.scan(state, xs + others)[1] - nothing
    apart = core.scan(state, xs)[1] + core.scan(state, others)[1] - 2 * nothing
    torch.testing.assert_close(both, apart, atol=1e-5, rtol=1e-4)
    sizes = core.memory.eigenvalues().abs()
    torch.testing.assert_close(sizes, torch.exp(-1 / torch.tensor([1.0, 10.0, 100.0])))
    assert (sizes < 1).all()


def test_messages() -> None:
    for name in NAMES:
        with pytest.raises(ValueError, match="width must be at least 1, got 0"):
            CORES[name](width=0)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"window must be at least 1, got 0\.5"):
        LMUConfig(window=0.5)
    with pytest.raises(ValueError, match=r"slowest must be at least 1, got 0\.1"):
        KoopmanConfig(slowest=0.1)
    assert math.isclose(LMUConfig().window, 50.0)
