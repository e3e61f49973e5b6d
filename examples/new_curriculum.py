"""A new curriculum in one file: levels come back the more often the less certain it is that they are solved."""

from dataclasses import dataclass
from typing import Any

import torch

import clutr
from clutr.curricula.base import Context, Outcome, Proposal


@clutr.CURRICULA.register("undecided")
@dataclass(frozen=True)
class UndecidedConfig:
    """Half of the levels are new, the others are drawn from the last rollout by p (1 - p) for the solve rate p."""

    floor: float = 0.01  # added to each level's weight, so that every level can come back

    def build(self, context: Context) -> "Undecided":
        """Make the curriculum."""
        return Undecided(self, context)


class Undecided:
    """See `UndecidedConfig`."""

    students = ("student",)

    def __init__(self, config: UndecidedConfig, context: Context) -> None:
        self.config, self.domain, self.rng = config, context.domain, context.generator("undecided")
        self.levels, self.weights = self.domain.sample(1, self.rng), torch.ones(1)

    def propose(self, n: int) -> Proposal:
        """N levels, on each of which the student plays and learns."""
        again = self.levels[torch.multinomial(self.weights, n // 2, replacement=True, generator=self.rng)]
        fresh = self.domain.sample(n - len(again), self.rng)
        return Proposal.everyone(self.domain.level_type.concatenate([again, fresh]), students=1)

    def observe(self, outcome: Outcome) -> dict[str, torch.Tensor]:
        """Weigh the levels that were just played."""
        solved = outcome.by_level().solved
        self.levels, self.weights = outcome.proposal.levels, solved * (1 - solved) + self.config.floor
        return {"undecided": self.weights}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {"levels": self.levels.tensors(), "weights": self.weights, "rng": self.rng.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.levels, self.weights = self.domain.level_type.from_tensors(state["levels"]), state["weights"]
        self.rng.set_state(state["rng"])


if __name__ == "__main__":
    clutr.train("maze-dr", curriculum="undecided", run="runs/undecided", progress=True)
