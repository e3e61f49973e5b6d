"""The level buffer of replay methods: levels that were worth it, and how likely each is to be replayed.

Source: prioritised level replay, arXiv 2010.03934, section 3; the numbers beside it are of arXiv 2110.02439. Everything
is a tensor with a row a level; the level's key is its id, and no key is in the buffer twice.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.buffer_kernels import draw_rows, replace_rows
from clutr.curricula.scores import require_score
from clutr.envs.domain import LevelBatch
from clutr.envs.state import Stateful
from clutr.envs.validation import require_above, require_at_least, require_one_of, require_within

Priority = Literal["rank", "proportional", "power"]


@dataclass(frozen=True)
class ReplayOptions:
    """What is kept for replay, and how it is drawn. The defaults are the published ones for mazes of 25 blocks."""

    score: str = "max_mc"
    """What a level is kept for: see `clutr.curricula.scores`."""
    capacity: int = 4_000
    """Most levels that the buffer holds."""
    priority: Priority = "rank"
    """How scores become probabilities: by rank; proportional to them; or "power", which is proportional but adds 0.001
    where staleness has no part, so that a level with a score of 0 can be drawn."""
    temperature: float = 0.1
    """Weights are raised to one over this; towards 0 only the best level is replayed."""
    staleness: float = 0.3
    """Fraction of the probability that goes to levels by how long they were not replayed."""
    replay_probability: float = 0.5
    """How often a batch is replayed instead of new (the parallel form: the fraction of a batch)."""
    minimum_fill: float = 0.5
    """Nothing is replayed before the buffer is filled to this fraction."""
    replacement: bool = True
    """Whether a batch may draw a level again. Where levels stay for a whole rollout, a low temperature then gives most
    environments the same one."""

    def __post_init__(self) -> None:
        require_score(self.score)
        require_one_of(self, get_args(Priority), "priority")
        require_at_least(self, 1, "capacity")
        require_above(self, 0, "temperature")
        require_within(self, 0, 1, "staleness", "replay_probability", "minimum_fill")


def score_distribution(scores: Tensor, priority: Priority, temperature: float, floor: float = 0.0) -> Tensor:
    """P_score over levels: weight^(1/temperature), normalised. `[B]` float64.

    The weight is 1/rank (the best level has rank 1, equal scores rank in the order in which they are stored), or
    max(score, 0) + `floor`. Where all weights are 0 the distribution is uniform.
    """
    if priority == "rank":
        found = torch.empty(len(scores), dtype=torch.float64)
        found[_by_rank(scores)] = rank_shares(len(scores), temperature)
        return found
    weights = scores.double().clamp(min=0) + floor
    weights = weights / weights.max().clamp(min=1e-300)  # so that no power of it overflows
    return _normalise(weights ** (1 / temperature))


def _by_rank(scores: Tensor) -> Tensor:
    """Rows `[B]`, the best first; equal scores in the order in which they are stored."""
    # Sorted as integers that hold score and row: many times faster than a stable sort of floats.
    bits = (scores.float() + 0.0).view(torch.int32).long()  # -0 becomes 0
    rising = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    keys = (-rising << 32) + torch.arange(len(scores))
    return torch.from_numpy(np.sort(keys.numpy())) & 0xFFFFFFFF


@lru_cache(maxsize=8)
def rank_shares(n: int, temperature: float) -> Tensor:
    """P_score of the ranks 1 to n. `[n]` float64, not to be written to."""
    return _normalise((1 / torch.arange(1.0, n + 1, dtype=torch.float64)) ** (1 / temperature))


def _normalise(weights: Tensor) -> Tensor:
    total = weights.sum()
    return weights / total if total > 0 else torch.full_like(weights, 1 / len(weights))


def _race(chances: Tensor, rng: torch.Generator) -> Tensor:
    """All rows `[B]` in the order of draws without replacement.

    Each takes an exponential time over its probability to arrive (Efraimidis & Spirakis 2006).
    """
    times = -torch.rand(len(chances), dtype=torch.float64, generator=rng).log() / chances
    return times.argsort(stable=True)


def _indices(numbers: Iterable[int]) -> Tensor:
    return torch.from_numpy(np.array(list(numbers), dtype=np.int64))  # torch.tensor would look at each


class LevelBuffer(Stateful):
    """Levels, scores and what else is known of them, by row.

    Args:
        options: how much is kept, and how it is drawn.
        level_type: the domain's kind of level.
        columns: names of further numbers that are kept of each level, each a scalar or a vector.
    """

    saved = ("_levels", "scores", "last_drawn", "columns", "clock")

    def __init__(
        self, options: ReplayOptions, level_type: type[LevelBatch], columns: tuple[str, ...] = ("best_return",)
    ) -> None:
        self.options = options
        self._type = level_type
        self._names = columns
        self._levels: LevelBatch | None = None
        self._keys: list[str] = []
        self._rows: dict[str, int] = {}
        self.scores = torch.zeros(0)
        self.last_drawn = torch.zeros(0, dtype=torch.int64)
        """The clock's time when each level was last put in or drawn."""
        self.columns: dict[str, Tensor] = {}
        self.clock = 0
        """Levels put in and draws so far."""

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    @property
    def ready(self) -> bool:
        """Whether it is filled enough for replay."""
        return len(self) > 0 and len(self) >= self.options.minimum_fill * self.options.capacity

    @property
    def levels(self) -> LevelBatch:
        """All levels. Raises `RuntimeError` while there is none."""
        if self._levels is None:
            raise RuntimeError("the level buffer is still empty")
        return self._levels

    @property
    def replay_chance(self) -> float:
        """The probability that a batch is replayed: none until it is ready, and at most the fraction that is filled."""
        return min(len(self) / self.options.capacity, self.options.replay_probability) if self.ready else 0.0

    def distribution(self) -> Tensor:
        """P = (1 - staleness) P_score + staleness P_stale over all levels `[len]` float64.

        P_stale is proportional to the time since each level's last use (arXiv 2010.03934, section 3.2).
        """
        return (1 - self.options.staleness) * self._by_score() + self.options.staleness * self._by_staleness()

    def _by_staleness(self) -> Tensor:
        return _normalise((self.clock - self.last_drawn).double())

    def _by_score(self) -> Tensor:
        return score_distribution(self.scores, self.options.priority, self.options.temperature, self._floor)

    @property
    def _floor(self) -> float:
        return 1e-3 if self.options.priority == "power" and self.options.staleness == 0 else 0.0

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw n rows `[n]` int64 one after the other, each with the staleness that the draws before it left.

        Raises:
            RuntimeError: if there is something to draw and the buffer is empty.
        """
        if not n:
            return torch.empty(0, dtype=torch.int64)
        if not len(self):
            raise RuntimeError("the level buffer is still empty")
        if not self.options.replacement:
            return self._draw_distinct(n, rng)
        uniform = torch.rand(n, 2, dtype=torch.float64, generator=rng)
        cumulative = self._by_score().cumsum(0)
        by_score = torch.searchsorted(cumulative, uniform[:, 1] * cumulative[-1], right=True).clamp(max=len(self) - 1)
        by_score[uniform[:, 0] < self.options.staleness] = -1
        drawn = draw_rows(by_score.numpy(), uniform[:, 1].numpy(), self.last_drawn.numpy(), self.clock)
        self.clock += n
        return torch.from_numpy(drawn)

    def _draw_distinct(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw without replacement; again in the same order where n is more than there are.

        Each draw is by staleness as often as `staleness` says, else by score, among the levels that are left. (One
        race over the blend of both would, once the few best are gone, draw nearly all others by staleness.)
        """
        by_staleness = torch.rand(n, generator=rng) < self.options.staleness
        orders = [iter(_race(each, rng).tolist()) for each in (self._by_score(), self._by_staleness())]
        rows: dict[int, None] = {}
        for stale in by_staleness.tolist()[: len(self)]:
            rows[next(row for row in orders[stale] if row not in rows)] = None
        drawn = _indices(rows).repeat(-(-n // len(rows)))[:n]
        self.last_drawn[drawn] = self.clock + 1 + torch.arange(n)
        self.clock += n
        return drawn

    def undo(self, rows: Tensor, kept: Tensor, before: Tensor) -> None:
        """Let draws that came to nothing leave no mark on staleness.

        Args:
            rows: `[n]` that were drawn last, in their order.
            kept: `[n]` bool, which of them were used.
            before: `last_drawn` as it was before them.
        """
        used = rows[kept]
        self.clock -= len(rows)
        self.last_drawn = before.clone()
        # of a row that was drawn twice the later time counts
        self.last_drawn.scatter_reduce_(0, used, self.clock + 1 + torch.arange(len(used)), "amax")
        self.clock += len(used)

    def find(self, levels: LevelBatch) -> Tensor:
        """The row of each level, -1 where it is not in the buffer: `[B]` int64."""
        return self._find(levels.key())

    def _find(self, keys: Iterable[str]) -> Tensor:
        return _indices([self._rows.get(key, -1) for key in keys])

    def best_return(self, levels: LevelBatch, statistics: EpisodeStatistics) -> Tensor:
        """Best returns `[B]` of any episode on levels that were just played, those of earlier replays too.

        The buffer keeps earlier ones in its column `best_return`.
        """
        best, keys = statistics.best_return.clone(), levels.key()
        rows = self._find(keys)
        known = rows >= 0
        if bool(known.any()):
            best[known] = torch.maximum(best[known], self.columns["best_return"][rows[known]])
        together: dict[str, float] = {}  # a level that is there twice has one best return
        for key, value in zip(keys, best.tolist(), strict=True):
            together[key] = max(value, together.get(key, -math.inf))
        return torch.tensor([together[key] for key in keys])

    def insert(self, levels: LevelBatch, scores: Tensor, **columns: Tensor) -> Tensor:
        """Offer levels, `scores` `[B]` and one tensor `[B, ...]` for each column.

        First the levels that are there already get their new scores and columns. Then the others, one by one, take a
        free row or, in a full buffer, that of the level least likely to be drawn, if they score at least as much.

        Returns:
            The row that each level has now, -1 where it was not taken or has been replaced since. `[B]` int64.

        Raises:
            ValueError: if a column is missing or unknown.
        """
        if sorted(columns) != sorted(self._names):
            raise ValueError(f"the buffer keeps the columns {', '.join(self._names)}, got {', '.join(columns)}")
        if self._levels is None:
            self._levels = levels[:0]
            self.columns = {name: values[:0] for name, values in columns.items()}
        keys = levels.key()
        writers = {self._rows[key]: i for i, key in enumerate(keys) if key in self._rows}  # the last offer of each row
        waiting: list[int] = []
        new: list[int] = []
        for i in [i for i, key in enumerate(keys) if key not in self._rows]:
            row = self._rows.get(keys[i])  # it may have come in with an earlier offer
            if waiting or (row is None and len(self) == self.options.capacity):
                waiting.append(i)
                continue
            if row is None:
                row = self._rows[keys[i]] = len(self)
                self._keys.append(keys[i])
                new.append(i)
            writers[row] = i
        self._grow(levels[new])
        self._write(_indices(writers), _indices(writers.values()), levels, scores, columns)
        if waiting:
            self._replace(_indices(waiting), [keys[i] for i in waiting], levels, scores, columns)
        return self._find(keys)

    def _grow(self, new: LevelBatch) -> None:
        """Rows for levels that take free ones, one after the other."""
        if not len(new):
            return
        self._levels = self._type.concatenate([self.levels, new])
        self.scores = torch.cat([self.scores, torch.zeros(len(new))])
        self.last_drawn = torch.cat([self.last_drawn, self.clock + 1 + torch.arange(len(new))])
        self.clock += len(new)
        self.columns = {
            name: torch.cat([values, values.new_zeros(len(new), *values.shape[1:])])
            for name, values in self.columns.items()
        }

    def _write(
        self, rows: Tensor, index: Tensor, levels: LevelBatch, scores: Tensor, columns: Mapping[str, Tensor]
    ) -> None:
        """Let rows `[R]` hold the offers at `index`."""
        offered = levels.tensors()
        for name, values in self.levels.tensors().items():
            values[rows] = offered[name][index]
        self.scores[rows] = scores[index].to(self.scores)
        for name, values in columns.items():
            self.columns[name][rows] = values[index].to(self.columns[name])

    def _replace(
        self, index: Tensor, keys: list[str], levels: LevelBatch, scores: Tensor, columns: Mapping[str, Tensor]
    ) -> None:
        """Offer the levels at `index` `[W]`, which have these keys, one by one to the full buffer."""
        options = self.options
        if options.priority == "rank":
            order = _by_rank(self.scores).flip(0)
            shares = rank_shares(len(self), options.temperature).flip(0)
        else:
            order, shares = _by_rank(-self.scores.clamp(min=0)), torch.empty(0, dtype=torch.float64)
        distinct = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        writer, self.clock = replace_rows(
            self.scores.double().numpy(),
            self.last_drawn.numpy(),
            self.clock,
            options.staleness,
            order.numpy(),
            np.concatenate([self.last_drawn.numpy().argsort(kind="stable"), np.empty(len(index), dtype=np.int64)]),
            shares.numpy(),
            1 / options.temperature,
            self._floor,
            scores[index].to(self.scores).double().numpy(),
            _indices([distinct[key] for key in keys]).numpy(),
            self._find(distinct).numpy(),
        )
        rows = torch.from_numpy((writer >= 0).nonzero()[0])
        taken = torch.from_numpy(writer)[rows]
        new = [keys[i] for i in taken.tolist()]
        for row in rows.tolist():
            del self._rows[self._keys[row]]
        for row, key in zip(rows.tolist(), new, strict=True):
            self._keys[row] = key
            self._rows[key] = row
        self._write(rows, index[taken], levels, scores, columns)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        self._keys = self._levels.key() if self._levels is not None else []
        self._rows = {key: row for row, key in enumerate(self._keys)}
