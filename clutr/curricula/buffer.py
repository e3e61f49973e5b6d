"""The level buffer of replay methods: levels that were worth it, and how likely each is to be replayed.

Source: prioritised level replay, arXiv 2010.03934, section 3; the numbers beside it are of arXiv 2110.02439. Everything
is a tensor with a row a level; the level's key is its id, and no key is in the buffer twice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
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
        rank = torch.empty(len(scores), dtype=torch.float64)
        rank[scores.argsort(descending=True, stable=True)] = torch.arange(1.0, len(scores) + 1, dtype=torch.float64)
        weights = 1 / rank
    else:
        weights = scores.double().clamp(min=0) + floor
        weights = weights / weights.max().clamp(min=1e-300)  # so that no power of it overflows
    return _normalise(weights ** (1 / temperature))


def _normalise(weights: Tensor) -> Tensor:
    total = weights.sum()
    return weights / total if total > 0 else torch.full_like(weights, 1 / len(weights))


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
        return self._blend(self._by_score())

    def _by_score(self) -> Tensor:
        options = self.options
        floor = 1e-3 if options.priority == "power" and options.staleness == 0 else 0.0
        return score_distribution(self.scores, options.priority, options.temperature, floor)

    def _blend(self, by_score: Tensor) -> Tensor:
        by_staleness = _normalise((self.clock - self.last_drawn).double())
        return (1 - self.options.staleness) * by_score + self.options.staleness * by_staleness

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw n rows `[n]` int64 one after the other, each with the staleness that the draws before it left.

        Raises:
            RuntimeError: if there is something to draw and the buffer is empty.
        """
        drawn = torch.empty(n, dtype=torch.int64)
        if not n:
            return drawn
        if not len(self):
            raise RuntimeError("the level buffer is still empty")
        by_score = self._by_score()
        for i in range(n):
            drawn[i] = torch.multinomial(self._blend(by_score), 1, generator=rng)
            self.clock += 1
            self.last_drawn[drawn[i]] = self.clock
        return drawn

    def find(self, levels: LevelBatch) -> Tensor:
        """The row of each level, -1 where it is not in the buffer: `[B]` int64."""
        return torch.tensor([self._rows.get(key, -1) for key in levels.key()], dtype=torch.int64)

    def best_return(self, levels: LevelBatch, statistics: EpisodeStatistics) -> Tensor:
        """Best returns `[B]` of any finished episode on levels that were just played, those of earlier replays too.

        0 where no episode was ever finished. The buffer keeps earlier ones in its column `best_return`.
        """
        best = torch.where(statistics.episodes > 0, statistics.best_return, -torch.inf)
        rows = self.find(levels)
        known = rows >= 0
        if bool(known.any()):
            best[known] = torch.maximum(best[known], self.columns["best_return"][rows[known]])
        together: dict[str, float] = {}  # a level that is there twice has one best return
        for key, value in zip(keys := levels.key(), best.tolist(), strict=True):
            together[key] = max(value, together.get(key, -math.inf))
        best = torch.tensor([together[key] for key in keys])
        return torch.where(best.isinf(), 0.0, best)

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
        strangers = [key not in self._rows for key in keys]
        for i in sorted(range(len(keys)), key=strangers.__getitem__):
            row = self._rows.get(keys[i])
            if row is None:
                row = self._make_room(float(scores[i]))
                if row is None:
                    continue
                self._put(row, keys[i], levels[i])
                self.clock += 1
                self.last_drawn[row] = self.clock
            self.scores[row] = scores[i]
            for name, values in columns.items():
                self.columns[name][row] = values[i]
        return torch.tensor([self._rows.get(key, -1) for key in keys], dtype=torch.int64)

    def _make_room(self, score: float) -> int | None:
        """A free row, or that of the level that has to leave for one with this score, if any has."""
        if len(self) == self.options.capacity:
            least = int(self.distribution().argmin())
            return least if score >= float(self.scores[least]) else None
        self.scores = torch.cat([self.scores, torch.zeros(1)])
        self.last_drawn = torch.cat([self.last_drawn, torch.zeros(1, dtype=torch.int64)])
        self.columns = {
            name: torch.cat([values, values.new_zeros(1, *values.shape[1:])]) for name, values in self.columns.items()
        }
        return len(self)

    def _put(self, row: int, key: str, level: LevelBatch) -> None:
        if row == len(self):
            self._levels = self._type.concatenate([self.levels, level])
            self._keys.append(key)
        else:
            for name, values in self.levels.tensors().items():
                values[row] = level.tensors()[name][0]
            del self._rows[self._keys[row]]
            self._keys[row] = key
        self._rows[key] = row

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        self._keys = self._levels.key() if self._levels is not None else []
        self._rows = {key: row for row, key in enumerate(self._keys)}
