"""The LSTM with resets against torch's own, and against a plain loop."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from clutr.agents.recurrent import LSTM, product_with

STEPS, ENVS, INPUTS, HIDDEN = 9, 5, 4, 6


def make(dtype: torch.dtype = torch.float64) -> LSTM:
    rng = torch.Generator().manual_seed(0)
    layer = LSTM(INPUTS, HIDDEN, rng)
    for bias in (layer.bias_ih_l0, layer.bias_hh_l0):
        nn.init.normal_(bias, generator=rng)
    return layer.to(dtype)


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS, ENVS, INPUTS, generator=rng, dtype=dtype)
    episode_starts = torch.rand(STEPS, ENVS, generator=rng) < 0.3
    state = torch.randn(ENVS, 2 * HIDDEN, generator=rng, dtype=dtype)
    return x, episode_starts, state


def by_loop(layer: LSTM, x: Tensor, episode_starts: Tensor, state: Tensor) -> Tensor:
    """What the layer should compute, one `nn.LSTMCell` step at a time under autograd."""
    cell = nn.LSTMCell(INPUTS, HIDDEN, dtype=x.dtype)
    named: dict[str, Tensor] = {name.removesuffix("_l0"): value for name, value in layer.named_parameters()}
    hidden, memory = state.split(HIDDEN, 1)
    outputs = []
    for t in range(len(x)):
        keep = (~episode_starts[t]).to(x.dtype).unsqueeze(1)
        hidden, memory = torch.func.functional_call(cell, named, (x[t], (hidden * keep, memory * keep)))
        outputs.append(hidden)
    return torch.stack(outputs)


def gradients(output: Tensor, *of: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
    return list(torch.autograd.grad((output * weights).sum(), of))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torch_where_no_episode_starts(dtype: torch.dtype) -> None:
    """On the CPU, float32 takes the products of oneDNN and float64 the ordinary ones."""
    layer = make(dtype)
    reference = nn.LSTM(INPUTS, HIDDEN, dtype=dtype)
    reference.load_state_dict(layer.state_dict())
    x, episode_starts, state = inputs(dtype)
    x.requires_grad_()
    hidden, memory = (part.contiguous().unsqueeze(0) for part in state.split(HIDDEN, 1))
    ours, last = layer(x, torch.zeros_like(episode_starts), state)
    theirs, (last_hidden, last_memory) = reference(x, (hidden, memory))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(last, torch.cat([last_hidden[0], last_memory[0]], 1))
    mine = gradients(ours, x, *layer.parameters())
    for left, right in zip(mine, gradients(theirs, x, *reference.parameters()), strict=True):
        torch.testing.assert_close(left, right)


def test_weights_load_from_and_into_torch() -> None:
    layer = make()
    reference = nn.LSTM(INPUTS, HIDDEN, dtype=torch.float64)
    layer.load_state_dict(reference.state_dict())
    assert list(layer.state_dict()) == list(reference.state_dict())
    assert torch.equal(layer.weight_hh_l0, reference.state_dict()["weight_hh_l0"])


def test_equals_a_masked_loop_where_episodes_start_inside() -> None:
    layer = make()
    x, episode_starts, state = inputs()
    assert episode_starts[1:].any(), "the test needs episodes that start inside the sequence"
    x.requires_grad_()
    ours, _ = layer(x, episode_starts, state)
    theirs = by_loop(layer, x, episode_starts, state)
    torch.testing.assert_close(ours, theirs)
    mine = gradients(ours, x, *layer.parameters())
    for left, right in zip(mine, gradients(theirs, x, *layer.parameters()), strict=True):
        torch.testing.assert_close(left, right)


def test_gradients_numerically() -> None:
    layer = make()
    x, episode_starts, state = inputs()

    def hiddens(x: Tensor, weight_ih: Tensor, weight_hh: Tensor) -> Tensor:
        layer_weights = {**dict(layer.named_parameters()), "weight_ih_l0": weight_ih, "weight_hh_l0": weight_hh}
        result: tuple[Tensor, Tensor] = torch.func.functional_call(layer, layer_weights, (x, episode_starts, state))
        return result[0]

    points = [value.detach().clone().requires_grad_() for value in (x, layer.weight_ih_l0, layer.weight_hh_l0)]
    assert torch.autograd.gradcheck(hiddens, points)


def test_an_episode_knows_nothing_of_the_one_before() -> None:
    layer = make()
    x, _, state = inputs()
    episode_starts = torch.zeros(STEPS, ENVS, dtype=torch.bool)
    episode_starts[4] = True
    changed = x.clone()
    changed[:4] += 1
    assert torch.equal(layer(x, episode_starts, state)[0][4:], layer(changed, episode_starts, state)[0][4:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_equal_the_sequence(dtype: torch.dtype) -> None:
    layer = make(dtype)
    x, episode_starts, state = inputs(dtype)
    ours, last = layer(x, episode_starts, state)
    with torch.no_grad():
        for t in range(STEPS):
            hidden, state = layer.step(x[t], state.masked_fill(episode_starts[t].unsqueeze(1), 0.0))
            torch.testing.assert_close(hidden, ours[t])
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_product_with_a_weight(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(7, 4, generator=rng, dtype=dtype), torch.randn(7, 6, generator=rng, dtype=dtype)
    weight = torch.randn(4, 6, generator=rng, dtype=dtype).t()
    product = product_with(weight, 7)
    torch.testing.assert_close(product(x, None), x @ weight.T)
    torch.testing.assert_close(product(x, y), x @ weight.T + y)


def outcome_in_single_precision() -> list[Tensor]:
    layer = make(torch.float32)
    x, episode_starts, state = inputs(torch.float32)
    x.requires_grad_()
    output, _ = layer(x, episode_starts, state)
    return [output, *gradients(output, x, *layer.parameters())]


@pytest.mark.parametrize("operators", [(), ("_linear_pointwise",), ("_reorder_linear_weight",)])
def test_missing_operators_are_done_without(operators: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """torch may rename its private operators, both or one of them."""
    expected = outcome_in_single_precision()
    present = SimpleNamespace(**{name: getattr(torch.ops.mkldnn, name) for name in operators})
    monkeypatch.setattr(torch.ops, "mkldnn", present)
    for ours, theirs in zip(outcome_in_single_precision(), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_repeats_bit_for_bit() -> None:
    for first, second in zip(outcome_in_single_precision(), outcome_in_single_precision(), strict=True):
        assert torch.equal(first, second)
