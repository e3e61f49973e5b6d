"""An object that names what it saves goes on where another stopped."""

import torch
from torch import nn

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
