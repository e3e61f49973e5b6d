"""An LSTM cell that shows its insides: gates, cells and Jacobians, with the weights of `nn.LSTM`.

`nn.LSTM` hides what explanations need. This one computes the same numbers with plain operations, which differentiate
twice, take hooks and know no special backend. Gates are in torch's order: i, f, g, o.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn


class LSTMStep(NamedTuple):
    """One step's insides, each `[..., H]`."""

    i: Tensor
    """Input gate."""
    f: Tensor
    """Forget gate."""
    g: Tensor
    """Candidate."""
    o: Tensor
    """Output gate."""
    c: Tensor
    """Cells after the step."""
    h: Tensor
    """Output after the step."""


class OpenLSTM:
    """One layer of an LSTM with its gates in the open.

    Args:
        inputs: `[4 H, I]`, weights of the input.
        recurrent: `[4 H, H]`, weights of the output before.
        bias: `[4 H]`, the sum of torch's two.
    """

    def __init__(self, inputs: Tensor, recurrent: Tensor, bias: Tensor) -> None:
        self.inputs, self.recurrent, self.bias = inputs, recurrent, bias
        self.width = recurrent.shape[1]

    @classmethod
    def of(cls, lstm: nn.LSTM) -> Self:
        """The same layer. Raises `ValueError` for more than one layer, two directions or projections."""
        if lstm.num_layers != 1 or lstm.bidirectional or lstm.proj_size:
            raise ValueError("an open LSTM has one layer, one direction and no projection")
        state = {name: value.detach().clone() for name, value in lstm.state_dict().items()}
        zero = torch.zeros(4 * lstm.hidden_size, dtype=state["weight_hh_l0"].dtype)
        bias = state.get("bias_ih_l0", zero) + state.get("bias_hh_l0", zero)
        return cls(state["weight_ih_l0"], state["weight_hh_l0"], bias)

    def to(self, dtype: torch.dtype) -> "OpenLSTM":
        """The same layer in another precision: dynamics want float64."""
        return OpenLSTM(self.inputs.to(dtype), self.recurrent.to(dtype), self.bias.to(dtype))

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> LSTMStep:
        """One step for inputs `[..., I]`, outputs and cells `[..., H]`."""
        i, f, g, o = (x @ self.inputs.T + h @ self.recurrent.T + self.bias).chunk(4, -1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        return LSTMStep(i, f, g, o, c, o * c.tanh())

    def run(self, xs: Tensor, h: Tensor | None = None, c: Tensor | None = None) -> LSTMStep:
        """All steps of inputs `[T, ..., I]`: each part `[T, ..., H]`."""
        zero = xs.new_zeros(*xs.shape[1:-1], self.width)
        h, c = zero if h is None else h, zero if c is None else c
        moments = []
        for x in xs:
            moments.append(self.step(x, h, c))
            h, c = moments[-1].h, moments[-1].c
        return LSTMStep(*(torch.stack(part) for part in zip(*moments, strict=True)))

    def map(self, x: Tensor, state: Tensor) -> Tensor:
        """The state (h, c) `[..., 2 H]` after a step from such a state: the dynamical system."""
        moment = self.step(x, *state.chunk(2, -1))
        return torch.cat([moment.h, moment.c], -1)

    def jacobian(self, x: Tensor, state: Tensor) -> Tensor:
        """The derivative of `map` by the state, `[..., 2 H, 2 H]`, in closed form."""
        h, before = state.chunk(2, -1)
        i, f, g, o, c, _ = self.step(x, h, before)
        u_i, u_f, u_g, u_o = self.recurrent.chunk(4, 0)

        def rows(scale: Tensor, matrix: Tensor) -> Tensor:
            return scale[..., :, None] * matrix

        squashed = c.tanh()
        through = o * (1 - squashed.square())
        c_by_h = rows(before * f * (1 - f), u_f) + rows(g * i * (1 - i), u_i) + rows(i * (1 - g.square()), u_g)
        c_by_c = torch.diag_embed(f)
        h_by_h = rows(squashed * o * (1 - o), u_o) + rows(through, c_by_h)
        h_by_c = torch.diag_embed(through * f)
        return torch.cat([torch.cat([h_by_h, h_by_c], -1), torch.cat([c_by_h, c_by_c], -1)], -2)


class GateStatistics(NamedTuple):
    """Of each unit, over time and sequences; `[H]`."""

    mean: dict[str, Tensor]
    """Of the gates i, f and o."""
    saturated_low: dict[str, Tensor]
    """Share of the time below 0.1."""
    saturated_high: dict[str, Tensor]
    """Share of the time above 0.9."""
    half_life: Tensor
    """Steps after which half of a cell is forgotten: ln 2 / -E ln f."""


def gate_statistics(moments: LSTMStep) -> GateStatistics:
    """Of a run's moments `[T, ..., H]`."""
    gates = {name: getattr(moments, name).flatten(0, -2) for name in ("i", "f", "o")}
    forgotten = -gates["f"].clamp(min=1e-12).log().mean(0)
    return GateStatistics(
        mean={name: gate.mean(0) for name, gate in gates.items()},
        saturated_low={name: (gate < 0.1).to(gate.dtype).mean(0) for name, gate in gates.items()},
        saturated_high={name: (gate > 0.9).to(gate.dtype).mean(0) for name, gate in gates.items()},
        half_life=torch.log(torch.tensor(2.0)) / forgotten.clamp(min=1e-12),
    )
