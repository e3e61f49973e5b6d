"""What a teacher maximises: estimates of the regret that its levels cause.

True regret needs the optimal policy. PAIRED (arXiv 2012.02096, section 4) estimates it by the difference between two
students, which both learn: it is an estimate, and 0 on a level that neither can solve.

Means are over first episodes, the best return is of any (`EpisodeStatistics`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from clutr.curricula.base import Outcome, Proposal
from clutr.envs.state import Stateful

PROTAGONIST, ANTAGONIST = 0, 1
"""Rows of an `Outcome`, in the order of a regret curriculum's students."""


def paired_regret(outcome: Outcome) -> Tensor:
    """Best return of the antagonist minus mean return of the protagonist, at least 0. `[B]` float32."""
    return (outcome.best_return[ANTAGONIST] - outcome.mean_return[PROTAGONIST]).clamp(min=0)


def flexible_regret(outcome: Outcome) -> Tensor:
    """Like `paired_regret`, but on each level the student with the larger best return takes the antagonist's part.

    On a tie the roles stay as they are named. `[B]` float32.
    """
    best, mean = outcome.best_return, outcome.mean_return
    reversed_regret = (best[PROTAGONIST] - mean[ANTAGONIST]).clamp(min=0)
    return torch.where(best[ANTAGONIST] >= best[PROTAGONIST], paired_regret(outcome), reversed_regret)


def population_regret(outcome: Outcome) -> Tensor:
    """`flexible_regret` among any number of students from two up, `[B]` float32.

    On each level the student with the largest best return takes the antagonist's part; regret is that return minus the
    mean of the other students' mean returns, at least 0. On a tie the first antagonist of the best takes it.
    """
    best, others = outcome.best_return, outcome.mean_return
    count = len(best)
    # looked for among the antagonists first: `argmax` finds the first of equals
    champion = (best.roll(-1, dims=0).argmax(0, keepdim=True) + 1) % count
    others = others.scatter(0, champion, 0.0)
    return (best.gather(0, champion)[0] - others.sum(0) / (count - 1)).clamp(min=0)


def minimax(outcome: Outcome) -> Tensor:
    """Minus the protagonist's best return: the reward of the minimax adversary, no regret. `[B]` float32."""
    return -outcome.best_return[PROTAGONIST]


OBJECTIVES = {"paired": paired_regret, "flexible": flexible_regret, "minimax": minimax}
"""What a teacher can maximise, by name."""


def regret_by_level(objective: Callable[[Outcome], Tensor], outcome: Outcome) -> Tensor:
    """An objective of each of the proposal's levels, whose environments are joined. `[B]` float32."""
    students = [outcome.by_level(student) for student in range(len(outcome.mean_return))]
    return objective(Outcome.stack(Proposal.everyone(outcome.proposal.levels, len(students)), students))


def students_of(objective: str) -> tuple[str, ...]:
    """Names of the students that an objective compares. Raises `ValueError` for an unknown objective."""
    if objective not in OBJECTIVES:
        raise ValueError(f"regret must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    return ("protagonist",) if objective == "minimax" else ("protagonist", "antagonist")


class RunningStd(Stateful):
    """Standard deviation of all numbers seen so far, by which a teacher's reward can be divided.

    The mean is not subtracted, so a regret of 0 stays 0 (CLUTR and PAIRED on car racing). Moments are merged batch by
    batch (Chan, Golub & LeVeque 1983, equation 2.1) in float64.
    """

    saved = ("count", "mean", "squares")

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self.squares = torch.zeros((), dtype=torch.float64)  # sum of squared deviations from the mean

    def update(self, values: Tensor) -> None:
        """Take in `values`, of any shape."""
        values = values.double()
        mean, n = values.mean(), values.numel()
        total = self.count + n
        difference = mean - self.mean
        self.squares += (values - mean).square().sum() + difference.square() * (self.count * n / total)
        self.mean += difference * (n / total)
        self.count = total

    def normalise(self, values: Tensor) -> Tensor:
        """`values` after an update by them, divided."""
        self.update(values)
        return self.divide(values)

    def divide(self, values: Tensor) -> Tensor:
        """`values` over the population's standard deviation so far; unchanged where that is still 0."""
        std = (self.squares / max(self.count, 1)).sqrt().to(values.dtype)
        return values / torch.where(std > 0, std, 1.0)
