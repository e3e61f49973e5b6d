"""How a memory moves: identities with known maps, and with the closed forms of the open LSTM."""

from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.probes.attribution import Past
from clutr.probes.memory_dynamics import (
    chained,
    collapse,
    dreaming_map,
    driven_map,
    effective_dimension,
    exponents_along,
    gradient_horizon,
    in_double,
    jacobian_of,
    occlusion_horizon,
    spectra,
)
from clutr.probes.open_lstm import OpenLSTM
from clutr.world_model.cores.lstm_gru import LSTMConfig, LSTMCore
from clutr.world_model.dream import Dreamer
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import Memory, MemoryConfig, Scale

D, A = 2, 1


def memory(width: int = 4, scale: float = 1.0) -> Memory:
    found = MemoryConfig(core=LSTMConfig(width=width), gaussians=2).build(D, A, 1)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.mul_(scale)
    return found


def core_of(model: Memory) -> LSTMCore:
    assert isinstance(model.core, LSTMCore)
    return model.core


def dreamer(scale: float = 1.0) -> Dreamer:
    return Dreamer(memory(scale=scale), Scale(torch.zeros(D), torch.ones(D), torch.ones(D), 1.0))


def episodes(count: int = 4, length: int = 9) -> list[LatentEpisode]:
    rng = torch.Generator().manual_seed(1)
    return [
        LatentEpisode(
            torch.randn(length + 1, D, generator=rng), torch.zeros(length + 1, D),
            torch.randn(length, A, generator=rng), torch.zeros(length), torch.zeros(length),
        )
        for _ in range(count)
    ]  # fmt: skip


def test_exponents_along_a_memory_are_products_of_jacobians() -> None:
    model = in_double(memory())
    xs = torch.randn(30, D + A, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    state, frame, total = torch.zeros(8, dtype=torch.float64), torch.eye(8, 3, dtype=torch.float64), torch.zeros(3)
    for number, x in enumerate(xs):
        frame, stretch = torch.linalg.qr(jacobian_of(driven_map(model, x))(state) @ frame)
        state = driven_map(model, x)(state)
        if number >= 5:
            total = total + stretch.diagonal().abs().log()
    found = exponents_along([driven_map(model, x) for x in xs], torch.zeros(8, dtype=torch.float64), 30, 3, 5)
    torch.testing.assert_close(found.exponents, (total / 25).sort(descending=True).values)


def test_maps_and_their_derivatives() -> None:
    model = in_double(memory(scale=2.0))
    opened, rng = OpenLSTM.of(core_of(model).lstm), torch.Generator().manual_seed(3)

    def reference(x: Tensor, state: Tensor) -> Tensor:
        after = opened.step(x, *state.chunk(2, -1))
        return torch.cat([after.h, after.c], -1)

    x = torch.randn(D + A, generator=rng, dtype=torch.float64)
    states = torch.randn(3, 8, generator=rng, dtype=torch.float64)
    step = driven_map(model, x)
    torch.testing.assert_close(step(states), reference(x, states))
    torch.testing.assert_close(jacobian_of(step)(states)[1], torch.func.jacrev(lambda s: reference(x, s))(states[1]))
    action = torch.tensor([0.5], dtype=torch.float64)
    joined = torch.randn(3, 8 + D, generator=rng, dtype=torch.float64)
    after = dreaming_map(model, action)(joined)
    inside = torch.stack([reference(torch.cat([row[8:], action]), row[:8]) for row in joined])
    torch.testing.assert_close(after[:, :8], inside)
    _, expected = model.step(joined[:, :8], joined[:, 8:], action.expand(3, -1))
    torch.testing.assert_close(after[:, 8:], expected.latent.mean())


def test_a_forgetful_memory_forgets_in_both_spectra() -> None:
    found = spectra(dreamer(scale=0.3), episodes(), length=60, warm_up=20, count=3)
    assert set(found) == {"driven", "dreaming"}
    assert float(found["driven"].exponents[0]) < 0
    assert len(found["dreaming"].exponents) == 3


def test_horizons_of_a_memory_that_adds() -> None:
    model = memory(width=4, scale=3.0)
    rng = torch.Generator().manual_seed(4)
    past = Past(torch.randn(6, 5, D + A, generator=rng), model.initial_state(6), torch.zeros(D + A), [])
    found = gradient_horizon(model, past)
    assert float(found.mass.sum()) == pytest.approx(1)
    inputs = past.inputs.clone().requires_grad_()
    _, features = model.core.scan(past.state, inputs.transpose(0, 1))
    change = model._predict(features[-1], torch.zeros(6, D)).latent.mean()
    sizes = torch.zeros(5)
    for column in range(D):
        (slope,) = torch.autograd.grad(change[:, column].sum(), inputs, retain_graph=True)
        sizes += slope.square().sum(-1).mean(0)
    torch.testing.assert_close(found.mass, (sizes.sqrt() / sizes.sqrt().sum()).flip(0))
    lost = occlusion_horizon(model, past, past.inputs[:, -1, :D])
    assert lost.shape == (5,)
    hidden = past.inputs.clone()
    hidden[:, -3] = 0

    def nats(inputs: Tensor) -> Tensor:
        xs = inputs.transpose(0, 1)
        with torch.no_grad():
            _, expected = model.scan(past.state, xs[..., :D], xs[..., D:])
            return -expected.latent.log_density(past.inputs[None, :, -1, :D].expand(5, -1, -1))[-1].mean()

    torch.testing.assert_close(lost[2], nats(hidden) - nats(past.inputs))


def test_effective_dimensions_by_hand() -> None:
    axes = torch.cat([torch.eye(3), -torch.eye(3)])
    even = effective_dimension(axes)
    assert (even.participation, even.entropy) == pytest.approx((3.0, 3.0))
    assert (even.ninety, even.states) == (3, 6)
    line = effective_dimension(torch.linspace(0, 1, 10)[:, None] * torch.tensor([1.0, 2.0]))
    assert (line.participation, line.entropy) == pytest.approx((1, 1))
    assert line.ninety == 1


def test_chains_of_episodes() -> None:
    some = episodes(2, 4)
    found = chained(some, dreamer(), 10)
    assert found.shape == (10, D + A)
    torch.testing.assert_close(found[4, :D], some[1].mean[0])
    torch.testing.assert_close(found[8], found[0]), "and again from the first"


def test_a_memory_that_only_adds_bursts_and_a_forgetful_one_does_not() -> None:
    calm = collapse(dreamer(scale=0.5), episodes(), trained=16, length=64, streams=4)
    assert set(calm.sizes) == set(calm.flagged) == {"data", "constant", "dream"}
    assert calm.nats.shape == calm.sizes["data"].shape == (64,)
    assert not calm.flagged["data"]
    adding = dreamer()
    with torch.no_grad():
        lstm: Any = core_of(adding.memory).lstm
        lstm.weight_ih_l0.zero_()
        lstm.weight_hh_l0.zero_()
        lstm.bias_hh_l0.zero_()
        lstm.bias_ih_l0.copy_(torch.tensor([9.0] * 8 + [0.05] * 4 + [9.0] * 4))  # open gates, a steady candidate
        adding.memory.mixture.weight.fill_(2.0)
    found = collapse(adding, episodes(), trained=16, length=128, streams=4)
    assert found.flagged["data"]
    assert found.flagged["constant"]
    assert float(found.sizes["data"][-1]) > float(found.sizes["data"][16])
    assert float(found.outside["data"][-1]) > 0.4
    with pytest.raises(ValueError, match="needs more than that, got 16"):
        collapse(adding, episodes(), trained=16, length=16)
