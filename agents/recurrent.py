"""An LSTM that carries episode starts inside its sequences.

`torch.nn.LSTM` cannot zero its state in the middle of a sequence, and a loop of small autograd steps is an order of
magnitude slower than it. Here the whole sequence is one autograd function: the input projection of all steps is one
matrix product, the loop over time does only what depends on the step before, and the weight gradients are one matrix
product over all steps.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Product = Callable[[Tensor, Tensor | None], Tensor]


def _has_onednn(tensor: Tensor) -> bool:
    """Whether oneDNN's products apply to `tensor` and this torch has them under the names and signatures used here."""
    if tensor.device.type != "cpu" or tensor.dtype != torch.float32:
        return False
    one = torch.ones(1, 1)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(one, 1)
        product = torch.ops.mkldnn._linear_pointwise(one, packed, None, "none", [], "")
        total = torch.ops.mkldnn._linear_pointwise.binary(one, one, packed, None, "add")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool(product == 1) and bool(total == 2)


def product_with(weight: Tensor, rows: int) -> Product:
    """A function (x `[rows, in]`, y) -> x @ weight.T, plus y if there is one, for a weight `[out, in]`; no gradients.

    On the CPU it lays the weight out once as oneDNN wants it. That is what `torch.nn.LSTM` does inside, and twice as
    fast as the BLAS on processors that the latter does not favour. torch has no public name for it, so where the
    operators are missing, or do not apply, the ordinary product is taken.
    """
    if _has_onednn(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        multiply = torch.ops.mkldnn._linear_pointwise

        def product(x: Tensor, y: Tensor | None) -> Tensor:
            result: Tensor = (
                multiply(x, packed, None, "none", [], "") if y is None else multiply.binary(x, y, packed, None, "add")
            )
            return result

        return product
    transposed = weight.t()
    return lambda x, y: torch.mm(x, transposed) if y is None else torch.addmm(y, x, transposed)


CHUNK = 16
"""Steps whose backward factors are computed together: few enough to stay in the processor's cache."""


class _Sequence(torch.autograd.Function):
    """Hidden states of an LSTM over a sequence. Gate order i, f, g, o, as in torch.

    tanh(x) is taken as 2 sigmoid(2x) - 1, several times as fast on a CPU and exact to about 1e-7; with the
    candidate's rows doubled, all four gates are then one sigmoid. Buffers hold sigmoid(2x) in the candidate's place.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor,
        episode_starts: Tensor,
        state: Tensor,
    ) -> Any:
        """See `LSTM.forward`; `weight_ih` is `[4H, I]`, `weight_hh` `[4H, H]`, `bias` `[4H]`."""
        steps, num_envs, _ = inputs.shape
        width, size = weight_hh.shape
        keep = (~episode_starts).to(inputs.dtype).unsqueeze(-1)
        resets = episode_starts.any(1).tolist()  # one look at the device a sequence; most steps then need no masking
        scale = torch.ones_like(bias)
        scale[2 * size : 3 * size] = 2
        rows = inputs.flatten(0, 1)
        project = product_with(weight_ih * scale.unsqueeze(1), len(rows))
        gates = project(rows, (bias * scale).expand(len(rows), width)).view(steps, num_envs, width)
        product = product_with(weight_hh * scale.unsqueeze(1), num_envs)
        # slot 0 holds the state before the first step
        hiddens, cells = (inputs.new_empty(steps + 1, num_envs, size) for _ in range(2))
        hidden, cell = state.split(size, 1)
        hiddens[0], cells[0] = hidden, cell
        hidden, squashed, zero = hiddens[0], torch.empty_like(hiddens[0]), torch.zeros_like(hiddens[0])
        columns = zip(gates.unbind(), hiddens[1:].unbind(), cells[1:].unbind(), strict=True)
        for t, (gate, next_hidden, next_cell) in enumerate(columns):
            if resets[t]:
                hidden, cell = hidden * keep[t], cell * keep[t]
            torch.sigmoid(product(hidden, gate), out=gate)
            into, forget, candidate, out = gate.split(size, 1)
            # f c + i (2 s - 1)
            torch.mul(forget, cell, out=next_cell).addcmul_(into, candidate, value=2).sub_(into)
            torch.mul(next_cell, 2, out=squashed).sigmoid_().sub_(0.5)
            torch.addcmul(zero, out, squashed, value=2, out=next_hidden)
            hidden, cell = next_hidden, next_cell
        ctx.save_for_backward(inputs, weight_ih, weight_hh, gates, hiddens, cells, keep)
        ctx.resets = resets
        last = torch.cat([hiddens[-1], cells[-1]], 1)
        ctx.mark_non_differentiable(last)
        return hiddens[1:], last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Backpropagation through time; the initial state is taken as a constant."""
        inputs, weight_ih, weight_hh, gates, hiddens, cells, keep = ctx.saved_tensors
        steps, num_envs, width = gates.shape
        size = width // 4
        product = product_with(weight_hh.t(), num_envs)
        gate_gradients = torch.empty_like(gates)
        hidden_gradient, cell_gradient = (torch.zeros_like(hiddens[0]) for _ in range(2))
        for end in range(steps, 0, -CHUNK):
            part = slice(max(end - CHUNK, 0), end)
            factors = gate_gradients[part].unflatten(2, (4, size))
            by_cell = _factors(gates[part], cells[part.start : end + 1], keep[part], factors)
            columns = zip(
                range(part.start, end),
                gradients[0][part].unbind(),
                gate_gradients[part].unbind(),
                factors[:, :, :3].unbind(),
                factors[:, :, 3].unbind(),
                by_cell.unbind(),
                gates[part, :, size : 2 * size].unbind(),
                strict=True,
            )
            for t, from_above, gate, by_three, by_out, cell_factor, forget in reversed(list(columns)):
                hidden_gradient.add_(from_above)
                cell_gradient.addcmul_(hidden_gradient, cell_factor)
                by_three.mul_(cell_gradient.unsqueeze(1))
                by_out.mul_(hidden_gradient)
                hidden_gradient = product(gate, None)
                cell_gradient.mul_(forget)
                if ctx.resets[t]:
                    hidden_gradient.mul_(keep[t])
                    cell_gradient.mul_(keep[t])
        rows = gate_gradients.flatten(0, 1)
        previous = hiddens[:-1] * keep
        return (
            product_with(weight_ih.t(), len(rows))(rows, None).view_as(inputs),
            _outer(rows, inputs.flatten(0, 1)),
            _outer(rows, previous.flatten(0, 1)),
            rows.sum(0),
            None,
            None,
        )


def _factors(gates: Tensor, cells: Tensor, keep: Tensor, out: Tensor) -> Tensor:
    """What each step's gates do to gradients, for a few steps at once.

    Args:
        gates: `[K, N, 4H]` as `_Sequence.forward` leaves them.
        cells: `[K + 1, N, H]`, one step earlier to begin with.
        keep: `[K, N, 1]`, 0 where an episode starts.
        out: `[K, N, 4, H]`, receives what the gates before their sigmoids get of the cell's gradient (i, f, g) and of
            the hidden state's (o).

    Returns:
        What the cell gets of the hidden state's gradient, `[K, N, H]`.
    """
    into, _, candidate, output = gates.unflatten(2, (4, out.shape[3])).unbind(2)
    flat = out.flatten(2)
    torch.addcmul(gates, gates, gates, value=-1, out=flat)  # x (1 - x), the derivative of each sigmoid
    squashed = torch.mul(cells[1:], 2).sigmoid_().mul_(2).sub_(1)
    out[:, :, 0].mul_(candidate * 2 - 1)
    out[:, :, 1].mul_(cells[:-1]).mul_(keep)
    out[:, :, 2].mul_(into).mul_(4)
    out[:, :, 3].mul_(squashed)
    return torch.addcmul(output, squashed.square_(), output, value=-1)


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """left.T @ right for `[R, a]` and `[R, b]`: the gradient of a weight `[a, b]`."""
    if _has_onednn(left):
        # this way round, oneDNN need not copy `left`, the larger one
        result: Tensor = torch.ops.mkldnn._linear_pointwise(right.t().contiguous(), left.t(), None, "none", [], "").t()
        return result
    return left.t() @ right


class LSTM(nn.Module):
    """One layer of LSTM. Its parameters have the names, order and meaning of `torch.nn.LSTM`'s.

    The recurrent state is one tensor `[N, 2 * hidden_size]`: hidden state, then cell state.

    Args:
        input_size: width of the input.
        hidden_size: width H of hidden and cell state.
        rng: draws the initial weights: orthogonal, biases zero.
    """

    def __init__(self, input_size: int, hidden_size: int, rng: torch.Generator) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih_l0 = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(4 * hidden_size))
        self.bias_hh_l0 = nn.Parameter(torch.zeros(4 * hidden_size))
        for weight in (self.weight_ih_l0, self.weight_hh_l0):
            nn.init.orthogonal_(weight, generator=rng)

    def forward(self, inputs: Tensor, episode_starts: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run over a sequence.

        Args:
            inputs: `[T, N, input_size]`.
            episode_starts: `[T, N]` bool; the state is zeroed before these steps.
            state: `[N, 2H]` before the first step; no gradient flows into it.

        Returns:
            Hidden states `[T, N, H]` and the state `[N, 2H]` after the last step, which carries no gradient.
        """
        bias = self.bias_ih_l0 + self.bias_hh_l0
        result: tuple[Tensor, Tensor] = _Sequence.apply(
            inputs, self.weight_ih_l0, self.weight_hh_l0, bias, episode_starts, state
        )
        return result

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step without gradients: inputs `[N, input_size]`, state `[N, 2H]`; hidden `[N, H]` and next state."""
        size = self.hidden_size
        hidden, cell = state.split(size, 1)
        gates = torch.addmm(self.bias_ih_l0 + self.bias_hh_l0, inputs, self.weight_ih_l0.t())
        gates.addmm_(hidden, self.weight_hh_l0.t())
        into, forget, candidate, out = gates.split(size, 1)
        following = torch.empty_like(state)
        next_hidden, next_cell = following.split(size, 1)
        torch.mul(forget.sigmoid_(), cell, out=next_cell)
        next_cell.addcmul_(into.sigmoid_(), candidate.tanh_())
        torch.mul(out.sigmoid_(), next_cell.tanh(), out=next_hidden)
        return next_hidden, following
