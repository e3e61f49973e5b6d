"""An LSTM cell that shows its gates, and layer-wise relevance propagation (LRP) through it.

`nn.LSTM` hides what explanations need. This one computes the same numbers with plain operations. Gates are in torch's
order: i, f, g, o.

LRP: Arras et al., arXiv 1706.07206 and 1904.11829, the rule "signal takes all": gates get nothing, what they let
through gets everything; linear maps share relevance by contributions, with a stabiliser. An input that acts through
gates alone gets zero relevance by construction, so occlusion belongs beside it.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

EPSILON = 1e-3
"""The stabiliser."""


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
        found = []
        for x in xs:
            found.append(self.step(x, h, c))
            h, c = found[-1].h, found[-1].c
        return LSTMStep(*(torch.stack(part) for part in zip(*found, strict=True)))


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


def gate_statistics(run: LSTMStep) -> GateStatistics:
    """Of all steps `[T, ..., H]` of a run."""
    gates = {name: getattr(run, name).flatten(0, -2) for name in ("i", "f", "o")}
    forgotten = -gates["f"].clamp(min=1e-12).log().mean(0)
    return GateStatistics(
        mean={name: gate.mean(0) for name, gate in gates.items()},
        saturated_low={name: (gate < 0.1).to(gate.dtype).mean(0) for name, gate in gates.items()},
        saturated_high={name: (gate > 0.9).to(gate.dtype).mean(0) for name, gate in gates.items()},
        half_life=torch.log(torch.tensor(2.0)) / forgotten.clamp(min=1e-12),
    )


def _stable(values: Tensor, epsilon: float) -> Tensor:
    """Values pushed away from 0, where 0 counts as positive."""
    return values + epsilon * torch.where(values >= 0, 1.0, -1.0).to(values.dtype)


def _with_slope(value: Tensor, slope: Tensor, node: Tensor) -> Tensor:
    """A node with this value and this derivative by `node`."""
    return value.detach() + slope.detach() * (node - node.detach())


def lrp(
    lstm: OpenLSTM,
    xs: Tensor,
    read: Tensor,
    constant: float | Tensor = 0.0,
    epsilon: float = EPSILON,
    start: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Relevance of each input for s = read . h_T + constant: `[T, ..., I]`, against a baseline of 0.

    See `lrp_slopes` for the arguments.
    """
    return xs.detach() * lrp_slopes(lstm, xs, read, constant, epsilon, start)


def lrp_slopes(
    lstm: OpenLSTM,
    xs: Tensor,
    read: Tensor,
    constant: float | Tensor = 0.0,
    epsilon: float = EPSILON,
    start: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """What relevance multiplies each input with: `[T, ..., I]`. Against a baseline, multiply differences from it.

    It is the gradient of a graph whose values are the LSTM's and whose slopes are the rule's: gates are
    constants; a linear node n passes n / stable(n) on, tanh its value over its argument. Own construction.

    Args:
        lstm: the layer.
        xs: `[T, ..., I]`.
        read: `[H]`, or `[..., H]` if every sequence has its own.
        constant: of the explained number.
        epsilon: the stabiliser.
        start: outputs and cells `[..., H]` before the first input; None: zeros.
    """
    inputs = xs.detach().clone().requires_grad_()
    zero = xs.new_zeros(*xs.shape[1:-1], lstm.width)
    h, c = (zero, zero) if start is None else start
    for x in inputs:
        i, f, u, o = (x @ lstm.inputs.T + h @ lstm.recurrent.T + lstm.bias).chunk(4, -1)
        i, f, o = (gate.sigmoid().detach() for gate in (i, f, o))
        g = _with_slope(u.tanh(), u.tanh() / _stable(u, epsilon), u)
        node = f * c + i * g
        c = _with_slope(node, node / _stable(node, epsilon), node)
        squashed = c.tanh()
        slope = torch.where(c == 0, torch.ones_like(c), squashed / torch.where(c == 0, torch.ones_like(c), c))
        h = o * _with_slope(squashed, slope, c)
    total = (h * read).sum(-1) + constant
    total = _with_slope(total, total / _stable(total, epsilon), total)
    (slope,) = torch.autograd.grad(total.sum(), inputs)
    return slope
