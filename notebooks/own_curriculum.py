# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A curriculum of your own
#
# A curriculum is two methods: `propose` says what the students play next, `observe` learns from what happened. Any
# student, either environment and everything around a run (resuming, reports, comparison) work with it.

# %% tags=["parameters"]
STEPS = 1_000_000
EPISODES = 50
RUNS = "runs/notebooks"

# %%
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import clutr
from clutr.curricula.base import Context, Outcome, Proposal

# %% [markdown]
# This one steers difficulty: it plays mazes with about as many obstacles as the student can take, one more after a
# rollout in which most levels were solved, one fewer otherwise. Options are a frozen dataclass; its `build` gets the
# domain and named generators.


# %%
@dataclass(frozen=True)
class StaircaseConfig:
    """Mazes with so many obstacles that the student solves about `target` of them."""

    target: float = 0.7
    """Solve rate above which there is one obstacle more."""

    def build(self, context: Context) -> "Staircase":
        """Make the curriculum."""
        return Staircase(self, context)


class Staircase:
    """See `StaircaseConfig`."""

    students = ("student",)

    def __init__(self, config: StaircaseConfig, context: Context) -> None:
        self.config, self.domain, self.rng = config, context.domain, context.generator("staircase")
        self.obstacles = 0

    def propose(self, n: int) -> Proposal:
        """The n of many random mazes that are nearest to the wanted number of obstacles."""
        levels = self.domain.sample(8 * n, self.rng)
        distance = (self.domain.describe(levels)["wall_count"] - self.obstacles).abs()
        return Proposal.everyone(levels[distance.argsort(stable=True)[:n]], students=1)

    def observe(self, outcome: Outcome) -> dict[str, torch.Tensor]:
        """One obstacle more or fewer."""
        solved = outcome.by_level().solved.mean()
        self.obstacles = max(0, self.obstacles + (1 if solved > self.config.target else -1))
        return {"staircase/obstacles": torch.tensor(float(self.obstacles))}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {"obstacles": self.obstacles, "rng": self.rng.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.obstacles = state["obstacles"]
        self.rng.set_state(state["rng"])


# %% [markdown]
# Registered under a name, it can be named in presets, on the command line's `config.yaml` and here. (In a file of
# `clutr/curricula/` the registration stands above the class as a decorator.)

# %%
if "staircase" not in clutr.CURRICULA:
    clutr.CURRICULA.register("staircase")(StaircaseConfig)

path = Path(RUNS) / "staircase"
if path.exists():
    run = clutr.load_run(path)
else:
    options = {"total_steps": STEPS, "evaluate_every": 0}
    run = clutr.train("demo-dr", curriculum="staircase", run=path, progress=True, **options)
metrics = run.metrics()
print("obstacles:", metrics["staircase/obstacles"])
print("solved:", metrics["student/solved"].round(2))

# %% [markdown]
# Whatever a curriculum reports from `observe` is a column of `metrics.csv` and a curve in the report. Whether it is any
# good is a question of several seeds against domain randomisation: [compare curricula properly](compare_properly.md).

# %%
print(f"{clutr.evaluate(run, 'small', EPISODES)['summary']['mean_solved']:.0%} of the test mazes are solved")
