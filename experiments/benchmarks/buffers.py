"""How fast a level buffer takes and draws levels, beside the same rules followed one level at a time."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from clutr.curricula.buffer import LevelBuffer, ReplayOptions
from clutr.envs.domain import LevelBatch
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.measurement import Measurement

CAPACITY = 16_000
NUM_ENVS = 1_024
REPETITIONS = 5
"""The best of so many is reported, so that another program's burst does not count."""
PLAIN_LEVELS = 64
"""How many levels the plain buffer takes and draws: each costs the same."""


class PlainLevelBuffer(LevelBuffer):
    """The same rules with the whole distribution computed anew for every level that is taken or drawn."""

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """See `LevelBuffer.draw`."""
        drawn = torch.empty(n, dtype=torch.int64)
        for i in range(n):
            drawn[i] = torch.multinomial(self.distribution(), 1, generator=rng)
            self.clock += 1
            self.last_drawn[drawn[i]] = self.clock
        return drawn

    def insert(self, levels: LevelBatch, scores: Tensor, **columns: Tensor) -> Tensor:
        """See `LevelBuffer.insert`."""
        if self._levels is None:
            self._levels = levels[:0]
            self.columns = {name: values[:0] for name, values in columns.items()}
        keys = levels.key()
        strangers = [key not in self for key in keys]
        for i in sorted(range(len(keys)), key=strangers.__getitem__):  # known levels first, else in their order
            row = self._rows.get(keys[i])
            if row is None:
                if len(self) < self.options.capacity:
                    row = len(self)
                    self._append(levels[i], {name: values[i : i + 1] for name, values in columns.items()})
                else:
                    row = int(self.distribution().argmin())
                    if not float(scores[i]) >= float(self.scores[row]):
                        continue
                    del self._rows[self._keys[row]]
                    for name, values in self.levels.tensors().items():
                        values[row] = levels.tensors()[name][i]
                self._keys[row : row + 1] = [keys[i]]
                self._rows[keys[i]] = row
                self.clock += 1
                self.last_drawn[row] = self.clock
            self.scores[row] = scores[i]
            for name, values in columns.items():
                self.columns[name][row] = values[i]
        return torch.tensor([self._rows.get(key, -1) for key in keys], dtype=torch.int64)

    def _append(self, level: LevelBatch, columns: dict[str, Tensor]) -> None:
        self._levels = self._type.concatenate([self.levels, level])
        self.scores = torch.cat([self.scores, torch.zeros(1)])
        self.last_drawn = torch.cat([self.last_drawn, torch.zeros(1, dtype=torch.int64)])
        self.columns = {name: torch.cat([values, columns[name]]) for name, values in self.columns.items()}


def run(progress: Callable[[str], None]) -> list[Measurement]:
    """Measure a full buffer of mazes under robust PLR's options. Needs some seconds."""
    domain, rng = MazeDomain(), named_generator(0, "bench", "buffers")
    buffers = [kind(ReplayOptions(capacity=CAPACITY), domain.level_type) for kind in (LevelBuffer, PlainLevelBuffer)]
    levels, scores = domain.sample(CAPACITY, rng), torch.rand(CAPACITY, generator=rng)
    ours, plain = buffers
    ours.insert(levels, scores, best_return=scores)
    plain.load_state_dict(ours.state_dict())

    def insert(buffer: LevelBuffer, n: int) -> float:
        new, worth = domain.sample(n, rng), torch.rand(n, generator=rng)
        return _seconds(lambda: buffer.insert(new, worth, best_return=worth))

    def draw(buffer: LevelBuffer, n: int) -> float:
        return _seconds(lambda: buffer.draw(n, rng))

    figures, seconds = [], 0.0
    for what, work in (("insert", insert), ("draw", draw)):
        progress(what)
        work(ours, NUM_ENVS)  # compiles, or loads what was compiled
        mine = min(work(ours, NUM_ENVS) for _ in range(REPETITIONS))
        theirs = min(work(plain, PLAIN_LEVELS) for _ in range(2)) / PLAIN_LEVELS
        name = f"{what} {NUM_ENVS:,} levels, {CAPACITY:,} in the buffer"
        figures.append(Measurement.beside(name, NUM_ENVS / mine, "levels/s", "one level at a time", 1 / theirs))
        seconds += mine
    return [*figures, Measurement("insert and draw together", 1e3 * seconds, "ms")]


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
