"""An LSTM that carries episode starts inside its sequences, and knows that inputs repeat.

`torch.nn.LSTM` cannot zero its state in the middle of a sequence, and a loop of small autograd steps is an order of
magnitude slower. Here the whole sequence is one autograd function: a compiled one on a processor
(`clutr.agents.kernels.lstm`), a loop of tensor operations elsewhere. What depends on the input alone, its projection,
is outside of the loop, and is computed once for all steps that see the same.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from clutr.agents.kernels import lstm
from clutr.agents.kernels.products import PANEL, pack


class _Compiled(torch.autograd.Function):
    """Hidden states of an LSTM over a sequence, on a processor in float32. Gate order i, f, g, o, as in torch."""

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, index: Tensor, weight_hh: Tensor, episode_starts: Tensor, state: Tensor
    ) -> Any:
        """See `LSTM.forward`; `projected` is `[U, 4H]`, `index` `[T, N]`, `weight_hh` `[4H, H]`."""
        steps, num_envs = index.shape
        width, size = weight_hh.shape
        hiddens, cells = (projected.new_empty(steps + 1, num_envs, size) for _ in range(2))
        hiddens[0], cells[0] = state.split(size, 1)  # slot 0 holds the state before the first step
        gates = projected.new_empty(steps, num_envs, width)
        given = projected.detach().contiguous(), index.contiguous(), pack(weight_hh), episode_starts.contiguous()
        lstm.forward(*(tensor.numpy() for tensor in (*given, hiddens, cells, gates)))
        ctx.save_for_backward(index, weight_hh, episode_starts, hiddens, cells)
        ctx.gates, ctx.inputs = gates, len(projected)
        last = torch.cat([hiddens[-1], cells[-1]], 1)
        ctx.mark_non_differentiable(last)
        return hiddens[1:], last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Backpropagation through time; the initial state is taken as a constant."""
        index, weight_hh, episode_starts, hiddens, cells = ctx.saved_tensors
        if ctx.gates is None:
            raise RuntimeError("an LSTM's gradients can be computed once; run it again for more")
        gates, ctx.gates = ctx.gates, None  # they are overwritten with their gradients
        given = gradients[0].contiguous(), pack(weight_hh.t().contiguous()), episode_starts.contiguous(), cells, gates
        lstm.backward(*(tensor.numpy() for tensor in given))
        rows = gates.flatten(0, 1)
        sums = rows.new_zeros(ctx.inputs, rows.shape[1])
        lstm.sum_rows(rows.numpy(), index.flatten().numpy(), sums.numpy())
        previous = hiddens[:-1].masked_fill(episode_starts.unsqueeze(2), 0.0)
        return sums, None, rows.t() @ previous.flatten(0, 1), None, None


class _Looped(torch.autograd.Function):
    """The same by tensor operations, on any device and in any precision."""

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, index: Tensor, weight_hh: Tensor, episode_starts: Tensor, state: Tensor
    ) -> Any:
        """See `_Compiled`."""
        size = weight_hh.shape[1]
        keep = (~episode_starts).to(projected.dtype).unsqueeze(-1)
        gates, weight = projected[index], weight_hh.t()
        hiddens, cells = (projected.new_empty(len(index) + 1, *state[:, :size].shape) for _ in range(2))
        hiddens[0], cells[0] = state.split(size, 1)
        for t, gate in enumerate(gates):
            gate.addmm_(hiddens[t] * keep[t], weight)
            into, forget, candidate, output = gate.split(size, 1)
            for part in (into, forget, output):
                part.sigmoid_()
            candidate.tanh_()
            torch.addcmul(into * candidate, forget, cells[t] * keep[t], out=cells[t + 1])
            torch.mul(output, cells[t + 1].tanh(), out=hiddens[t + 1])
        ctx.save_for_backward(index, weight_hh, keep, gates, hiddens, cells)
        ctx.inputs = len(projected)
        last = torch.cat([hiddens[-1], cells[-1]], 1)
        ctx.mark_non_differentiable(last)
        return hiddens[1:], last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """See `_Compiled`."""
        index, weight_hh, keep, gates, hiddens, cells = ctx.saved_tensors
        into, forget, candidate, output = gates.chunk(4, 2)
        squashed = cells[1:].tanh()
        # what a gate before squashing gets of the cell's gradient (i, f, g) and of the hidden state's (o)
        factors = torch.empty_like(gates)
        by_into, by_forget, by_candidate, by_output = factors.chunk(4, 2)
        torch.mul(candidate * into, 1 - into, out=by_into)
        torch.mul(cells[:-1] * keep * forget, 1 - forget, out=by_forget)
        torch.mul(into, 1 - candidate.square(), out=by_candidate)
        torch.mul(squashed * output, 1 - output, out=by_output)
        by_cell = output * (1 - squashed.square())
        hidden_gradient, cell_gradient = (torch.zeros_like(hiddens[0]) for _ in range(2))
        for t in range(len(gates) - 1, -1, -1):
            hidden_gradient = hidden_gradient + gradients[0][t]
            cell_gradient = torch.addcmul(cell_gradient, hidden_gradient, by_cell[t])
            rows = factors[t].unflatten(1, (4, -1))
            rows[:, :3].mul_(cell_gradient.unsqueeze(1))
            rows[:, 3].mul_(hidden_gradient)
            hidden_gradient = factors[t] @ weight_hh * keep[t]
            cell_gradient = cell_gradient * forget[t] * keep[t]
        rows = factors.flatten(0, 1)
        sums = rows.new_zeros(ctx.inputs, rows.shape[1]).index_add_(0, index.flatten(), rows)
        return sums, None, rows.t() @ (hiddens[:-1] * keep).flatten(0, 1), None, None


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

    @property
    def compiled(self) -> bool:
        """Whether the compiled functions apply: on a processor, in float32, with a width of whole panels."""
        weight = self.weight_hh_l0
        return weight.device.type == "cpu" and weight.dtype == torch.float32 and self.hidden_size % PANEL == 0

    def forward(
        self, inputs: Tensor, episode_starts: Tensor, state: Tensor, index: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence.

        Args:
            inputs: `[T, N, input_size]`; with `index`, the distinct inputs `[U, input_size]`.
            episode_starts: `[T, N]` bool; the state is zeroed before these steps.
            state: `[N, 2H]` before the first step; no gradient flows into it.
            index: `[T, N]` int64, which of the distinct inputs each step sees.

        Returns:
            Hidden states `[T, N, H]` and the state `[N, 2H]` after the last step, which carries no gradient.
        """
        if index is None:
            index = torch.arange(episode_starts.numel(), device=inputs.device).view_as(episode_starts)
            inputs = inputs.flatten(0, 1)
        projected = F.linear(inputs, self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0)
        function = _Compiled if self.compiled else _Looped
        result: tuple[Tensor, Tensor] = function.apply(projected, index, self.weight_hh_l0, episode_starts, state)
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
