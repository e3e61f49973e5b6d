"""An object that names what it saves goes on where another stopped."""

import torch
from torch import nn

from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import MazeLevels
from clutr.envs.state import Stateful


class Counter(Stateful):
    saved = ("count", "total")

    def __init__(self) -> None:
        self.count, self.total = 0, torch.zeros(2)


class Walker(Stateful):
    saved = ("rng", "layer", "counter", "missing")

    def __init__(self, seed: int) -> None:
        self.rng, self.layer, self.counter = torch.Generator().manual_seed(seed), nn.Linear(1, 1), Counter()
        self.missing: Counter | None = None

    def walk(self) -> torch.Tensor:
        self.counter.count += 1
        self.counter.total += torch.rand(2, generator=self.rng)
        walked: torch.Tensor = self.layer(self.counter.total[:1])
        return walked.detach()


def test_a_state_continues_another_object_and_shares_no_memory() -> None:
    one, other = Walker(1), Walker(2)
    one.walk()
    state = one.state_dict()
    assert list(state) == ["rng", "layer", "counter", "missing"]
    other.load_state_dict(state)
    assert torch.equal(one.walk(), other.walk())
    assert other.counter.count == 2
    assert state["counter"]["total"].tolist() != other.counter.total.tolist()


class Archive(Stateful):
    saved = ("levels", "columns", "counters")

    def __init__(self) -> None:
        self.levels: MazeLevels | None = None
        self.columns: dict[str, torch.Tensor] = {}
        self.counters = [Counter(), Counter()]


def test_levels_dicts_and_lists_are_copied() -> None:
    one, other = Archive(), Archive()
    other.load_state_dict(one.state_dict())
    assert other.levels is None
    one.levels = MazeDomain(height=3, width=4, max_obstacles=4).sample(2, torch.Generator().manual_seed(0))
    one.columns["score"] = torch.ones(2)
    one.counters[1].count = 7
    keys = one.levels.key()
    other.load_state_dict(one.state_dict())
    one.levels.walls[:] = True
    one.columns["score"] += 1
    assert isinstance(other.levels, MazeLevels)
    assert other.levels.key() == keys
    assert other.columns["score"].tolist() == [1, 1]
    assert [counter.count for counter in other.counters] == [0, 7]
