"""How a policy does on the levels that it finds hardest."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.agents.student import Policy
from clutr.envs.domain import LevelBatch, Task
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.experiments.evaluation.evaluate import draw_seed, play_in_batches

ALPHAS = (0.1, 0.01, 0.001)
"""The fractions of levels that are measured, as far as there are enough levels."""


def alphas_for(levels: int, alphas: Sequence[float] = ALPHAS) -> tuple[float, ...]:
    """Those of the fractions that are one level or more of so many."""
    return tuple(alpha for alpha in alphas if alpha * levels >= 1)


@dataclass(frozen=True)
class Robustness:
    """Solve rates on the levels that a policy finds hardest (conditional value at risk)."""

    task: str
    levels: int
    mean: float
    """Solve rate on all levels."""
    worst: dict[float, float]
    """Solve rate on the worst fraction alpha of the levels, by alpha."""
    episodes_select: int
    """Episodes a level by which the worst levels were picked; `mean` is taken from these too."""
    episodes_score: int
    """Fresh episodes a level on which the worst levels were then scored."""
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; the alphas become text."""
        return asdict(self) | {"worst": {str(alpha): value for alpha, value in self.worst.items()}}


def cvar(
    policy: Policy,
    task: Task,
    levels: int = 10_000,
    *,
    rng: torch.Generator,
    alphas: Sequence[float] = ALPHAS,
    episodes_select: int = 10,
    episodes_score: int = 10,
    progress: Progress | None = None,
) -> Robustness:
    """The risk protocol of Rutherford et al. 2024 ("No Regrets", arXiv 2408.15099).

    The worst levels are picked on one set of episodes and scored on another: scored on the episodes that picked them,
    they would also be those where luck was worst, and the figure would be too low.

    Args:
        policy: plays, sampling its actions.
        task: draws the levels, which should all be solvable.
        levels: how many.
        rng: source of all randomness.
        alphas: fractions of the levels, each in (0, 1] and of one level or more.
        episodes_select: episodes on every level.
        episodes_score: episodes on each of the worst levels.
        progress: called as episodes are played, with `solved`, their mean fraction solved.

    Raises:
        ValueError: if a number is out of range.
    """
    if min(levels, episodes_select, episodes_score) < 1:
        raise ValueError("levels and episodes must be at least 1")
    if not alphas or not all(0 < alpha <= 1 for alpha in alphas):
        raise ValueError(f"each alpha must be in (0, 1], got {tuple(alphas)}")
    if too_fine := set(alphas) - set(alphas_for(levels, alphas)):
        raise ValueError(f"the worst {max(too_fine):.3g} of {levels} levels is less than one level: draw more levels")
    source = draw_seed(rng)
    actions = named_generator(source, "actions", task.name, device=rng.device)
    drawn = task.draw(levels, named_generator(source, "levels", task.name))
    counts = {alpha: math.ceil(alpha * levels) for alpha in alphas}
    widest = max(counts.values())
    total = levels * episodes_select + widest * episodes_score
    done = 0

    def solve_rates(batch: LevelBatch, episodes: int) -> Tensor:
        nonlocal done
        solved = torch.zeros(len(batch), dtype=torch.float64)
        for episode in range(episodes):
            solved += play_in_batches(policy, task, batch, actions).solved
            done += len(batch)
            if progress is not None:
                progress(done, total, {"solved": float(solved.mean()) / (episode + 1)})
        return solved / episodes

    selected = solve_rates(drawn, episodes_select)
    # Levels are drawn independently, so keeping their order among equals breaks ties at random.
    hardest = selected.argsort(stable=True)[:widest]
    scored = solve_rates(drawn[hardest], episodes_score)
    worst = {alpha: float(scored[:count].mean()) for alpha, count in counts.items()}
    return Robustness(
        task.name, levels, float(selected.mean()), worst, episodes_select, episodes_score, rng.initial_seed()
    )
