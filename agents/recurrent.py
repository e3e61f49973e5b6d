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


def product_with(weight: Tensor, rows: int) -> Product:
    """A function (x `[rows, in]`, y) -> x @ weight.T, plus y if there is one, for a weight `[out, in]`; no gradients.

    On the CPU it lays the weight out once as oneDNN wants it. That is what `torch.nn.LSTM` does inside, and twice as
    fast as the BLAS on processors that the latter does not favour. torch has no public name for it, so where the
    operators are missing, or do not apply, the ordinary product is taken.
    """
    operators = torch.ops.mkldnn
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and hasattr(operators, "_linear_pointwise"):
        packed = operators._reorder_linear_weight(weight.contiguous(), rows)
        multiply = operators._linear_pointwise

        def product(x: Tensor, y: Tensor | None) -> Tensor:
            result: Tensor = (
                multiply(x, packed, None, "none", [], "") if y is None else multiply.binary(x, y, packed, None, "add")
            )
            return result

        return product
    transposed = weight.t()
    return lambda x, y: torch.mm(x, transposed) if y is None else torch.addmm(y, x, transposed)


class _Sequence(torch.autograd.Function):
    """Hidden states of an LSTM over a sequence. Gate order i, f, g, o, as in torch."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, starts: Tensor, state: Tensor
    ) -> Any:
        """See `LSTM.forward`; `weight_ih` is `[4H, I]`, `weight_hh` `[4H, H]`, `bias` `[4H]`."""
        steps, num_envs, _ = inputs.shape
        width, size = weight_hh.shape
        keep = (~starts).to(inputs.dtype).unsqueeze(-1)
        resets = starts.any(1).tolist()  # one look at the device a sequence; most steps then need no masking
        rows = inputs.flatten(0, 1)
        projected = product_with(weight_ih, len(rows))(rows, bias.expand(len(rows), width)).view(steps, num_envs, width)
        gates = projected.new_empty(steps, num_envs, width)
        hiddens, cells, squashed = (projected.new_empty(steps, num_envs, size) for _ in range(3))
        product = product_with(weight_hh, num_envs)
        hidden, cell = state.split(size, 1)
        columns = zip(
            projected.unbind(), gates.unbind(), hiddens.unbind(), cells.unbind(), squashed.unbind(), strict=True
        )
        for t, (step_inputs, gate, next_hidden, next_cell, tanh_cell) in enumerate(columns):
            if resets[t]:
                hidden, cell = hidden * keep[t], cell * keep[t]
            raw = product(hidden, step_inputs)
            into, forget, candidate, out = gate.split(size, 1)
            torch.sigmoid(raw[:, : 2 * size], out=gate[:, : 2 * size])
            torch.tanh(raw[:, 2 * size : 3 * size], out=candidate)
            torch.sigmoid(raw[:, 3 * size :], out=out)
            torch.mul(forget, cell, out=next_cell)
            next_cell.addcmul_(into, candidate)
            torch.tanh(next_cell, out=tanh_cell)
            torch.mul(out, tanh_cell, out=next_hidden)
            hidden, cell = next_hidden, next_cell
        ctx.save_for_backward(inputs, weight_ih, weight_hh, gates, hiddens, cells, squashed, keep, state)
        ctx.resets = resets
        last = torch.cat([hiddens[-1], cells[-1]], 1)
        ctx.mark_non_differentiable(last)
        return hiddens, last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Backpropagation through time; the initial state is taken as a constant."""
        inputs, weight_ih, weight_hh, gates, hiddens, cells, squashed, keep, state = ctx.saved_tensors
        _, num_envs, width = gates.shape
        size = width // 4
        first_hidden, first_cell = state.split(size, 1)
        into, forget, candidate, out = gates.split(size, 2)
        # What each step does to its gates, given the gradients of its hidden and cell state, for all steps at once.
        by_out = squashed * out * (1 - out)
        by_cell = out * (1 - squashed * squashed)
        previous_cells = torch.cat([first_cell[None], cells[:-1]]).mul_(keep)
        by_gates = torch.stack(
            [candidate * into * (1 - into), previous_cells * forget * (1 - forget), into * (1 - candidate**2)], 2
        )
        gate_gradients = torch.empty_like(gates)
        product = product_with(weight_hh.t(), num_envs)
        hidden_gradient, cell_gradient = torch.zeros_like(first_hidden), torch.zeros_like(first_cell)
        columns = zip(
            gradients[0].unbind(),
            gate_gradients.unbind(),
            by_out.unbind(),
            by_cell.unbind(),
            by_gates.unbind(),
            forget.unbind(),
            strict=True,
        )
        for t, (from_above, gate, d_out, d_cell, d_gates, forgotten) in reversed(list(enumerate(columns))):
            hidden_gradient = hidden_gradient.add_(from_above)
            cell_gradient.addcmul_(hidden_gradient, d_cell)
            split_gate = gate.view(num_envs, 4, size)
            torch.mul(hidden_gradient, d_out, out=split_gate[:, 3])
            torch.mul(cell_gradient.unsqueeze(1), d_gates, out=split_gate[:, :3])
            hidden_gradient = product(gate, None)
            cell_gradient *= forgotten
            if ctx.resets[t]:
                hidden_gradient *= keep[t]
                cell_gradient *= keep[t]
        rows = gate_gradients.flatten(0, 1)
        previous = torch.cat([first_hidden[None], hiddens[:-1]]).mul_(keep)
        input_gradient = product_with(weight_ih.t(), len(rows))(rows, None).view_as(inputs)
        transposed = rows.t()
        return (
            input_gradient,
            transposed @ inputs.flatten(0, 1),
            transposed @ previous.flatten(0, 1),
            rows.sum(0),
            None,
            None,
        )


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

    def forward(self, inputs: Tensor, starts: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run over a sequence.

        Args:
            inputs: `[T, N, input_size]`.
            starts: `[T, N]` bool; the state is zeroed before these steps.
            state: `[N, 2H]` before the first step; no gradient flows into it.

        Returns:
            Hidden states `[T, N, H]` and the state `[N, 2H]` after the last step, which carries no gradient.
        """
        bias = self.bias_ih_l0 + self.bias_hh_l0
        result: tuple[Tensor, Tensor] = _Sequence.apply(
            inputs, self.weight_ih_l0, self.weight_hh_l0, bias, starts, state
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
