"""The LSTM with resets against torch's own, and against a plain loop."""

import pytest
import torch
from torch import Tensor, nn

from clutr.agents.recurrent import LSTM

STEPS, ENVS, INPUTS, HIDDEN = 9, 5, 4, 16


def make(dtype: torch.dtype = torch.float64, hidden: int = HIDDEN) -> LSTM:
    rng = torch.Generator().manual_seed(0)
    layer = LSTM(INPUTS, hidden, rng)
    for bias in (layer.bias_ih_l0, layer.bias_hh_l0):
        nn.init.normal_(bias, generator=rng)
    return layer.to(dtype)


def inputs(dtype: torch.dtype = torch.float64, hidden: int = HIDDEN) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS, ENVS, INPUTS, generator=rng, dtype=dtype)
    episode_starts = torch.rand(STEPS, ENVS, generator=rng) < 0.3
    state = torch.randn(ENVS, 2 * hidden, generator=rng, dtype=dtype)
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
    """On a processor, float32 is compiled and float64 a loop of tensor operations."""
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_a_masked_loop_where_episodes_start_inside(dtype: torch.dtype) -> None:
    layer = make(dtype)
    assert layer.compiled == (dtype == torch.float32)
    x, episode_starts, state = inputs(dtype)
    assert episode_starts[1:].any(), "the test needs episodes that start inside the sequence"
    x.requires_grad_()
    ours, _ = layer(x, episode_starts, state)
    theirs = by_loop(layer, x, episode_starts, state)
    torch.testing.assert_close(ours, theirs)
    mine = gradients(ours, x, *layer.parameters())
    for left, right in zip(mine, gradients(theirs, x, *layer.parameters()), strict=True):
        torch.testing.assert_close(left, right)


def test_gradients_numerically() -> None:
    layer = make(hidden=3)
    x, episode_starts, state = inputs(hidden=3)

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


def outcome_in_single_precision() -> list[Tensor]:
    layer = make(torch.float32)
    x, episode_starts, state = inputs(torch.float32)
    x.requires_grad_()
    output, _ = layer(x, episode_starts, state)
    return [output, *gradients(output, x, *layer.parameters())]


def test_repeats_bit_for_bit() -> None:
    for first, second in zip(outcome_in_single_precision(), outcome_in_single_precision(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_that_repeat_are_given_once(dtype: torch.dtype) -> None:
    layer = make(dtype)
    x, episode_starts, state = inputs(dtype)
    distinct = x[0].clone().requires_grad_()
    index = torch.randint(ENVS, (STEPS, ENVS), generator=torch.Generator().manual_seed(2))
    short, _ = layer(distinct, episode_starts, state, index)
    long, _ = layer(distinct[index], episode_starts, state)
    torch.testing.assert_close(short, long)
    for mine, theirs in zip(
        gradients(short, distinct, *layer.parameters()), gradients(long, distinct, *layer.parameters()), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_an_environment_does_not_depend_on_those_beside_it() -> None:
    """So results are the same however environments are divided among cores."""
    layer = make(torch.float32)
    x, episode_starts, state = inputs(torch.float32)
    together, last = layer(x, episode_starts, state)
    for first, beyond in ((0, 1), (1, 3), (3, 5)):
        alone, alone_last = layer(x[:, first:beyond], episode_starts[:, first:beyond], state[first:beyond])
        assert torch.equal(alone, together[:, first:beyond])
        assert torch.equal(alone_last, last[first:beyond])


def test_gradients_of_a_compiled_sequence_are_computed_once() -> None:
    layer = make(torch.float32)
    output, _ = layer(*inputs(torch.float32))
    gradients_twice = output.sum()
    gradients_twice.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="an LSTM's gradients can be computed once; run it again for more"):
        gradients_twice.backward()


def test_what_is_not_a_number_is_not_hidden() -> None:
    layer = make(torch.float32)
    x, episode_starts, state = inputs(torch.float32)
    x[2, 1] = torch.nan
    output, _ = layer(x, torch.zeros_like(episode_starts), state)
    assert output[2:, 1].isnan().all()
    assert not output[:, [0, 2, 3, 4]].isnan().any()
