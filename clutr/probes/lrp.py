"""Layer-wise relevance propagation through an LSTM: which inputs a number was made of.

Source: Arras et al., arXiv 1706.07206 and 1904.11829, the rule "signal takes all": gates get nothing, what they let
through gets everything; linear maps share by contributions, with a stabiliser. An input that acts through gates alone
gets zero relevance by construction, so occlusion belongs beside it.

Two forms that agree: explicit loops (`relevance`), and one backward pass through a graph whose forward values are true
and whose local derivatives are the rule's (`relevance_by_gradient`).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from clutr.probes.open_lstm import LSTMStep, OpenLSTM

EPSILON = 1e-3
"""The stabiliser."""


class Relevance(NamedTuple):
    """What a number was made of."""

    inputs: Tensor
    """`[T, ..., I]`."""
    initial: Tensor
    """`[...]`: what arrived at the memory before the first input; for an empty one 0 unless biases are shared out."""


def _stable(values: Tensor, epsilon: float) -> Tensor:
    """Values pushed away from 0, where 0 counts as positive."""
    return values + epsilon * torch.where(values >= 0, 1.0, -1.0).to(values.dtype)


def _share(
    weights: Tensor, inputs: Tensor, outputs: Tensor, relevance: Tensor, epsilon: float, bias_factor: float
) -> Tensor:
    """Relevance of inputs `[..., I]` of a linear map with `weights` `[J, I]`, given that of its outputs `[..., J]`.

    With `bias_factor` 1 the shares of bias and stabiliser are spread over the inputs, so that nothing is lost.
    """
    stable = _stable(outputs, epsilon)
    ratio = relevance / stable
    found = inputs * (ratio @ weights)
    if bias_factor:
        lost = relevance.sum(-1) - ((inputs @ weights.T) * ratio).sum(-1)
        found = found + bias_factor * lost[..., None] / inputs.shape[-1]
    return found


def relevance(
    lstm: OpenLSTM,
    xs: Tensor,
    read: Tensor,
    constant: float = 0.0,
    epsilon: float = EPSILON,
    bias_factor: float = 0.0,
    start: tuple[Tensor, Tensor] | None = None,
) -> Relevance:
    """Relevance of each input for s = read . h_T + constant, by the explicit rules.

    Args:
        lstm: the layer.
        xs: `[T, ..., I]`.
        read: `[H]`: how the explained number is read from the last output.
        constant: its constant.
        epsilon: the stabiliser.
        bias_factor: 0 drops the shares of biases and stabilisers; 1 spreads them, for tests of conservation.
        start: outputs and cells `[..., H]` before the first input; None: zeros.

    Returns:
        With `bias_factor` 1 inputs and initial memory add up to s exactly.
    """
    zero = xs.new_zeros(*xs.shape[1:-1], lstm.width)
    first_h, first_c = (zero, zero) if start is None else start
    moments = lstm.run(xs, first_h, first_c)
    steps = len(xs)
    target = (moments.h[-1] @ read + constant)[..., None]
    of_h = _share(read[None], moments.h[-1], target, target, epsilon, bias_factor)
    of_c, found = zero, torch.zeros_like(xs)
    for t in range(steps - 1, -1, -1):
        before = LSTMStep(*(part[t - 1] for part in moments)) if t else None
        h = first_h if before is None else before.h
        c = first_c if before is None else before.c
        of_c = of_c + of_h  # the output gate gets nothing, tanh passes on
        stable = _stable(moments.c[t], epsilon)
        kept, new = moments.f[t] * c, moments.i[t] * moments.g[t]
        of_g, of_before = new / stable * of_c, kept / stable * of_c
        if bias_factor:  # what the stabiliser keeps is halved between the two
            left = 0.5 * bias_factor * (of_c - of_g - of_before)
            of_g, of_before = of_g + left, of_before + left
        both = torch.cat([xs[t], h], -1)
        width = lstm.width
        weights = torch.cat([lstm.inputs, lstm.recurrent], 1)[2 * width : 3 * width]
        candidate = both @ weights.T + lstm.bias[2 * width : 3 * width]
        shared = _share(weights, both, candidate, of_g, epsilon, bias_factor)
        found[t], of_h = shared[..., : xs.shape[-1]], shared[..., xs.shape[-1] :]
        of_c = of_before
    return Relevance(found, of_h.sum(-1) + of_c.sum(-1))


def _with_slope(value: Tensor, slope: Tensor, node: Tensor) -> Tensor:
    """A node with this value and this derivative by `node`."""
    return value.detach() + slope.detach() * (node - node.detach())


def relevance_by_gradient(
    lstm: OpenLSTM,
    xs: Tensor,
    read: Tensor,
    constant: float | Tensor = 0.0,
    epsilon: float = EPSILON,
    start: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The same relevance as input times gradient of a graph with the rules' slopes, in one backward pass.

    Gates are constants; a linear node n passes n / stable(n) on, tanh its value over its argument. Own construction.

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
    return inputs.detach() * slope
