"""The sequence model of AriEL: how likely each token of a task is, given those before it.

A small autoregressive network that adds up the embeddings of the tokens before (Larochelle and Murray 2011, "The Neural
Autoregressive Distribution Estimator"), for tasks in their canonical order: the set ascending, then the last tokens.

A coder's encoder and decoder must agree on the chances to the last bit, or a code could decode to another task. Rounded
floating point numbers would not do: how they round depends on the batch's size, the number of threads and the
processor. So `Chances` reads the weights as multiples of 2^-`GRID_BITS`. All its sums are then whole multiples of a
power of two, small enough for double precision to hold them exactly in whatever order they are added; exponentials come
from a table of whole numbers; and chances are whole multiples of 2^-bits.
"""

import math

import torch
from torch import Tensor, nn

from clutr.manifold.sets import TaskShape

GRID_BITS = 14
"""Weights and hidden values are multiples of 2^-14."""
LARGEST = 16.0
"""Their largest absolute value in the output: a sum over 1,024 hidden values needs 10 + 4 + 4 + 14 + 14 bits of 53."""
LEVELS = 32
"""Differences of logits are multiples of 1/32."""
DEEPEST = 16
"""A logit that is farther than this below the largest one counts as so far."""
NEVER = -1e9


class SequenceModel(nn.Module):
    """Chances of the next token of a task, given those before.

    Step t, counted from 0, adds the t-th member of the set, or the stop behind it; the last steps add the last tokens.
    A set that has its largest size needs no stop.

    Args:
        shape: of the tasks.
        hidden: width.
        rng: draws the initial weights.
    """

    def __init__(self, shape: TaskShape, hidden: int, rng: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        self.steps = shape.most + shape.tail
        self.stop = shape.cells
        symbols = shape.cells + 1
        self.step = nn.Embedding(self.steps, hidden)
        self.before = nn.Embedding(symbols, hidden)
        """Of every token before."""
        self.previous = nn.Embedding(symbols, hidden)
        """Of the token right before."""
        self.output = nn.Linear(hidden, symbols)
        with torch.no_grad():
            nn.init.normal_(self.step.weight, 0.5, 0.5, generator=rng)
            nn.init.normal_(self.before.weight, 0, 0.05, generator=rng)
            nn.init.normal_(self.previous.weight, 0, 0.5, generator=rng)
            nn.init.normal_(self.output.weight, 0, hidden**-0.5, generator=rng)
            nn.init.zeros_(self.output.bias)

    def symbols(self, members: Tensor, last: Tensor) -> Tensor:
        """The token of each step `[B, steps]`, counted from 0; -1 in the steps of the set behind its stop."""
        most, size = self.shape.most, members.sum(1, keepdim=True)
        found = torch.full((len(members), most + 1), -1)
        rows, cells = members.nonzero(as_tuple=True)
        found[rows, (members.cumsum(1) - 1)[rows, cells]] = cells
        found.scatter_(1, size, self.stop)
        return torch.cat([found[:, :most], last], 1)

    def possible(self, step: int, previous: Tensor, taken: Tensor) -> Tensor:
        """Which tokens can come in a step `[B, C + 1]`.

        Args:
            step: which.
            previous: the member before `[B]`, -1 if there is none.
            taken: cells of the task so far `[B, C]`.
        """
        shape = self.shape
        if step >= shape.most:
            return nn.functional.pad(~taken, (0, 1))
        # enough cells must be left behind this one for the members that must still come
        end = shape.cells - max(0, shape.fewest - step - 1)
        cells = torch.arange(shape.cells + 1)
        follows = (cells > previous.unsqueeze(1)) & (cells < end)
        follows[:, self.stop] = step >= shape.fewest
        return follows

    def loss(
        self,
        tokens: Tensor,
        iteration: int,  # noqa: ARG002 (the protocol's names)
        total: int,  # noqa: ARG002
        rng: torch.Generator,  # noqa: ARG002
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean code length of tasks `[B, L]` in nats, by unrounded weights."""
        members, last = self.shape.split(tokens)
        symbols = self.symbols(members, last)
        come = symbols >= 0
        known = symbols.clamp(min=0)
        added = self.before(known) * come.unsqueeze(2)
        sums = added.cumsum(1) - added
        hidden = sums + self.step.weight + self._previous(symbols)
        logits = self.output(hidden[come].clamp(0, LARGEST))
        logits = logits.masked_fill(~self._all_possible(symbols)[come], NEVER)
        nats = nn.functional.cross_entropy(logits, symbols[come], reduction="sum") / len(tokens)
        return nats, {"reconstruction": nats.detach()}

    def _previous(self, symbols: Tensor) -> Tensor:
        """Embeddings of the token that came before each step `[B, steps, hidden]`; 0 before the first.

        Steps behind a set's stop do not count, so before the first of the last tokens comes the stop, or the last
        member of a full set.
        """
        index = torch.where(symbols >= 0, torch.arange(self.steps), -1).cummax(1).values
        index = nn.functional.pad(index[:, :-1], (1, 0), value=-1)
        before = symbols.gather(1, index.clamp(min=0))
        embedded: Tensor = self.previous(before) * (index >= 0).unsqueeze(2)
        return embedded

    def _all_possible(self, symbols: Tensor) -> Tensor:
        """`possible` of every step `[B, steps, C + 1]`."""
        # two columns more, for the stop and for steps that do not count
        taken = torch.zeros(len(symbols), self.shape.cells + 2, dtype=torch.bool)
        previous = torch.full((len(symbols),), -1)
        found = []
        for step, chosen in enumerate(symbols.unbind(1)):
            found.append(self.possible(step, previous, taken[:, :-2]))
            taken = taken.scatter(1, chosen.remainder(self.shape.cells + 2).unsqueeze(1), True)
            previous = chosen
        return torch.stack(found, 1)


class Chances:
    """The model's chances in exact arithmetic (see the module's docstring), for a batch of tasks, step by step.

    Args:
        model: the sequence model.
        batch: number of tasks.
        bits: chances are multiples of 2^-bits.
    """

    def __init__(self, model: SequenceModel, batch: int, bits: int) -> None:
        self.model = model
        self.total = 2**bits
        self.step, self.before, self.previous = (_on_grid(e.weight) for e in (model.step, model.before, model.previous))
        self.output, self.bias = _on_grid(model.output.weight), _on_grid(model.output.bias)
        self.table = torch.tensor([math.floor(2**24 * math.exp(-k / LEVELS)) for k in range(LEVELS * DEEPEST + 1)])
        self.sums = torch.zeros(batch, self.step.shape[1], dtype=torch.float64)
        self.last = torch.zeros_like(self.sums)
        """Embedding of the token before."""
        self.member = torch.full((batch,), -1)
        self.taken = torch.zeros(batch, model.shape.cells + 1, dtype=torch.bool)

    def next(self, step: int) -> Tensor:
        """Chances of each token in this step in multiples of 2^-bits, `[B, C + 1]` int64 that sum to 2^bits."""
        possible = self.model.possible(step, self.member, self.taken[:, :-1])
        hidden = (self.sums + self.step[step] + self.last).clamp(0, LARGEST)
        logits = (hidden @ self.output.T + self.bias).masked_fill(~possible, -torch.inf)
        below = (logits.amax(1, keepdim=True) - logits).mul(LEVELS).round().clamp(max=LEVELS * DEEPEST)
        weights = torch.where(possible, self.table[below.long()], 0)
        # Each possible token gets one part of the total, the rest is shared by weight; what rounding leaves goes to the
        # likeliest. Products stay below 2^63.
        rest = self.total - possible.sum(1, keepdim=True)
        counts = possible.long() + weights * rest // weights.sum(1, keepdim=True)
        left = self.total - counts.sum(1, keepdim=True)
        whole: Tensor = counts.scatter_add(1, weights.argmax(1, keepdim=True), left)
        return whole

    def add(self, symbols: Tensor) -> None:
        """Continue the tasks by `symbols` `[B]`; -1 leaves one as it is."""
        come = (symbols >= 0).unsqueeze(1)
        known = symbols.clamp(min=0)
        self.sums = self.sums + torch.where(come, self.before[known], 0.0)
        self.last = torch.where(come, self.previous[known], self.last)
        self.member = torch.where(come[:, 0], symbols, self.member)
        self.taken = torch.where(come, self.taken.scatter(1, known.unsqueeze(1), True), self.taken)


def _on_grid(weight: Tensor) -> Tensor:
    """A weight in double precision, as the nearest multiples of 2^-`GRID_BITS`, at most `LARGEST`."""
    rounded: Tensor = (weight.detach().double() * 2**GRID_BITS).round() / 2**GRID_BITS
    return rounded.clamp(-LARGEST, LARGEST)
