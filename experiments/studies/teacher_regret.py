"""Does a teacher's curriculum differ from random tasks? The regret of its levels beside that of its untrained self.

    python -m clutr.experiments.studies.teacher_regret OUT.json RUN... [--tasks N]

Each RUN is a run of a curriculum that learns from regret (CLUTR, PAIRED). Its students, as they are at the newest
checkpoint, play N tasks that its teacher proposes now and N tasks of a teacher that has learnt nothing (for CLUTR's
usual start: uniform latents), without learning. The regret is the one that the teacher maximises.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clutr.curricula.base import Context, Curriculum, Outcome
from clutr.curricula.regret import OBJECTIVES, regret_by_level
from clutr.envs.randomness import derive_seed
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.training.manifolds import load_manifold
from clutr.experiments.training.runner import Runner

Z = 1.96
"""Standard errors of a 95 % interval."""


def regrets_of(runner: Runner, curriculum: Curriculum, tasks: int) -> tuple[Tensor, dict[str, float]]:
    """The regret `[tasks]` of what a curriculum proposes to a run's students, and the mean of each property of it.

    Raises:
        RunError: if the curriculum does not maximise a regret.
    """
    objective = OBJECTIVES.get(getattr(runner.experiment.curriculum, "regret", ""))
    if objective is None or len(runner.students) < 2:
        raise RunError(f"{runner.run.path} has no teacher that maximises regret")
    proposal, found = curriculum.propose(tasks), []
    levels = proposal.levels
    for rows in torch.arange(len(levels)).split(runner.experiment.num_envs):
        part = type(proposal).everyone(levels[rows], len(runner.students))
        statistics = [each.rollout(runner.engine, levels[rows]).statistics() for each in runner.students.values()]
        found.append(regret_by_level(objective, Outcome.stack(part, statistics)))
    described = runner.experiment.domain.describe(levels)
    return torch.cat(found), {name: float(value.float().mean()) for name, value in described.items()}


def difference(a: Tensor, b: Tensor) -> list[float]:
    """Mean of `a` minus mean of `b`, two samples, with its 95 % interval (normal, unequal variances)."""
    away = float(a.mean() - b.mean())
    half = Z * float(a.var() / len(a) + b.var() / len(b)) ** 0.5
    return [away, away - half, away + half]


def compare_with_untrained(run: RunDirectory, tasks: int) -> dict[str, Any]:
    """What the teacher of a run proposes beside what it proposed before it learnt."""
    experiment = run.experiment
    manifold = None if experiment.manifold is None else load_manifold(experiment, run.manifold_path)
    runner = Runner(run, manifold)
    untrained = experiment.curriculum.build(
        Context(experiment.domain, derive_seed(experiment.seed, "curriculum"), manifold)
    )
    tasks = -(-tasks // experiment.num_envs) * experiment.num_envs
    both = {"teacher": runner.curriculum, "untrained": untrained}
    measured = {name: regrets_of(runner, curriculum, tasks) for name, curriculum in both.items()}
    (ours, _), (random, _) = measured.values()
    return {
        "run": run.path.name,
        "seed": experiment.seed,
        "steps": runner.steps,
        "tasks": tasks,
        **{name: {"regret": float(regret.mean())} | about for name, (regret, about) in measured.items()},
        "difference": difference(ours, random),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--tasks", type=int, default=256, help="rounded up to whole batches")
    asked = parser.parse_args(arguments)
    found = [compare_with_untrained(RunDirectory(path), asked.tasks) for path in asked.runs]
    for each in found:
        print(json.dumps(each), flush=True)
    write_atomically(asked.out, json.dumps({"machine": describe_machine(), "runs": found}, indent=1).encode())


if __name__ == "__main__":
    main()
