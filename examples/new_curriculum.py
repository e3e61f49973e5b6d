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

    environments: int = 4  # in which each level is played: one alone would solve it always or never
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
        """Levels, on each of which the student plays and learns in some of its N environments."""
        size = max(n // self.config.environments, 1)
        again = self.levels[torch.multinomial(self.weights, size // 2, replacement=True, generator=self.rng)]
        levels = self.domain.level_type.concatenate([again, self.domain.sample(size - len(again), self.rng)])
        assignment = torch.arange(n).remainder(size).unsqueeze(0)
        return Proposal(levels, assignment, train=torch.ones(size, dtype=torch.bool))

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
