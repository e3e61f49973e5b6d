"""An LSTM that carries episode starts inside its sequences.

`torch.nn.LSTM` cannot zero its state in the middle of a sequence, and a loop of small autograd steps is an order of
magnitude slower than it. Here the whole sequence is one autograd function: the input projection of all steps is one
matrix product, the loop over time does only what depends on the step before, and the weight gradients are one matrix
product over all steps.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Sequence(torch.autograd.Function):
    """Hidden states of an LSTM over a sequence. Gate order i, f, g, o, as in torch."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor, starts: Tensor, hidden: Tensor, cell: Tensor) -> Any:
        """Args: `projected` `[T, N, 4H]`, `weight` `[4H, H]`, `starts` `[T, N]` bool, `hidden`, `cell` `[N, H]`."""
        steps, num_envs, width = projected.shape
        size = width // 4
        keep = (~starts).to(projected.dtype).unsqueeze(-1)
        resets = starts.any(1).tolist()  # one look at the device a sequence; most steps then need no masking
        gates = projected.new_empty(steps, num_envs, width)
        hiddens, cells, squashed = (projected.new_empty(steps, num_envs, size) for _ in range(3))
        transposed = weight.t()
        first_hidden, first_cell = hidden, cell
        columns = zip(
            projected.unbind(), gates.unbind(), hiddens.unbind(), cells.unbind(), squashed.unbind(), strict=True
        )
        for t, (inputs, gate, next_hidden, next_cell, tanh_cell) in enumerate(columns):
            if resets[t]:
                hidden, cell = hidden * keep[t], cell * keep[t]
            torch.addmm(inputs, hidden, transposed, out=gate)
            gate[:, : 2 * size].sigmoid_()
            gate[:, 2 * size : 3 * size].tanh_()
            gate[:, 3 * size :].sigmoid_()
            into, forget, candidate, out = gate.split(size, 1)
            torch.mul(forget, cell, out=next_cell)
            next_cell.addcmul_(into, candidate)
            torch.tanh(next_cell, out=tanh_cell)
            torch.mul(out, tanh_cell, out=next_hidden)
            hidden, cell = next_hidden, next_cell
        ctx.save_for_backward(gates, hiddens, cells, squashed, weight, keep, first_hidden, first_cell)
        ctx.resets = resets
        last_hidden, last_cell = hiddens[-1].clone(), cells[-1].clone()
        ctx.mark_non_differentiable(last_hidden, last_cell)
        return hiddens, last_hidden, last_cell

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Backpropagation through time; the initial state is taken as a constant."""
        gates, hiddens, cells, squashed, weight, keep, first_hidden, first_cell = ctx.saved_tensors
        steps, num_envs, width = gates.shape
        size = width // 4
        into, forget, candidate, out = gates.split(size, 2)
        # What each step does to its gates, given the gradients of its hidden and cell state, for all steps at once.
        by_out = squashed * out * (1 - out)
        by_cell = out * (1 - squashed * squashed)
        previous_cells = torch.cat([first_cell[None], cells[:-1]]).mul_(keep)
        by_gates = torch.stack(
            [candidate * into * (1 - into), previous_cells * forget * (1 - forget), into * (1 - candidate**2)], 2
        )
        gate_gradients = torch.empty_like(gates)
        hidden_gradient = torch.zeros_like(first_hidden)
        cell_gradient = torch.zeros_like(first_cell)
        columns = zip(
            gradients[0].unbind(),
            gate_gradients.view(steps, num_envs, 4, size).unbind(),
            by_out.unbind(),
            by_cell.unbind(),
            by_gates.unbind(),
            forget.unbind(),
            strict=True,
        )
        for t, (from_above, gate, d_out, d_cell, d_gates, forgotten) in reversed(list(enumerate(columns))):
            hidden_gradient += from_above
            cell_gradient.addcmul_(hidden_gradient, d_cell)
            torch.mul(hidden_gradient, d_out, out=gate[:, 3])
            torch.mul(cell_gradient.unsqueeze(1), d_gates, out=gate[:, :3])
            torch.mm(gate.view(num_envs, width), weight, out=hidden_gradient)
            cell_gradient *= forgotten
            if ctx.resets[t]:
                hidden_gradient *= keep[t]
                cell_gradient *= keep[t]
        previous = torch.cat([first_hidden[None], hiddens[:-1]]).mul_(keep)
        weight_gradient = gate_gradients.flatten(0, 1).t() @ previous.flatten(0, 1)
        return gate_gradients, weight_gradient, None, None, None


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
        projected = F.linear(inputs, self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0)
        hidden, cell = state.split(self.hidden_size, 1)
        hiddens, last_hidden, last_cell = _Sequence.apply(projected, self.weight_hh_l0, starts, hidden, cell)
        return hiddens, torch.cat([last_hidden, last_cell], 1)

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
