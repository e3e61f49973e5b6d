"""The demo: pretraining, a CLUTR run, a domain-randomisation run of the same length, and the zero-shot table.

Beside them plays the best student that ships, to show what a longer training gives.
"""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from clutr.agents.ppo import PPOConfig
from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.config import Experiment
from clutr.experiments.display import console, say, work_display
from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.evaluation.runs import evaluate_run
from clutr.experiments.evaluation.tables import evaluation_table
from clutr.experiments.pretrained import Card, cards
from clutr.experiments.reports.demo_page import build_demo_page
from clutr.experiments.reports.run_report import build_report
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.training.manifolds import manifold_cache
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.train import train

SUITE = "small"
EPISODES = 50


def run_demo(root: Path, seed: int) -> None:
    """Run the demo in `root`, replacing the runs of an earlier demo there.

    Raises:
        RunError: if `root` holds something else under a name that the demo needs.
        KeyboardInterrupt: if a training was stopped.
    """
    started, worked = time.perf_counter(), time.process_time()
    experiments = {name: replace(PRESETS[f"demo-{name}"], seed=seed) for name in ("clutr", "dr")}
    _say_choices(experiments["clutr"])
    runs = {name: _fresh_run(root / name, experiment) for name, experiment in experiments.items()}
    for run in runs.values():
        if not train(run, manifold_cache(), say):
            raise KeyboardInterrupt

    say(f"\ntesting the students on {SUITE!r}: mazes that nobody trained on ...")
    results = {name: _evaluated(run) for name, run in runs.items()}
    results["untrained"] = _evaluate_untrained(experiments["clutr"])
    runs["clutr"].save_evaluation(results["untrained"], name=f"{SUITE}-untrained")  # so that the report shows it too
    shipped = best_student()
    if shipped is not None:
        results[shipped.name] = _evaluated(RunDirectory(shipped.name))
    console.print(evaluation_table(results))
    report = build_report(runs["clutr"], [runs["dr"]])
    say("\nfilming the students, and dreaming ...")
    page = build_demo_page(runs, results, root / "index.html", SUITE, shipped)
    say(f"\nopen {page} : results, a film, the curriculum, the task manifold, a dream, and where to go from there")
    say(f"{report} has more: curves, paths, every option")
    minutes, processor = (time.perf_counter() - started) / 60, (time.process_time() - worked) / 60
    say(f"the demo took {minutes:.1f} minutes, {processor:.1f} of processor time.")
    say("One seed each: which method is ahead may be luck.")


def best_student() -> Card | None:
    """Of the maze students that ship, the one that measured best; None if none does."""
    students = [card for card in cards().values() if (card.kind, card.domain) == ("student", "maze")]
    return max(students, key=lambda card: float(card.measured["value"]), default=None)


def _evaluated(run: RunDirectory) -> dict[str, Any]:
    with work_display(f"testing {run.path.name}") as progress:
        return evaluate_run(run, SUITE, EPISODES, progress=progress)


def _say_choices(experiment: Experiment) -> None:
    domain, student = experiment.domain, experiment.student
    assert isinstance(domain, MazeDomain)
    assert isinstance(student, PPOConfig)
    size = f"{domain.height}x{domain.width} cells, up to {domain.max_obstacles} obstacles"
    shape = f"{experiment.num_envs} environments x {student.rollout_steps} steps, {student.epochs} epochs"
    say(f"environment: mazes of {size}, {domain.max_steps} steps an episode")
    say(f"student: recurrent PPO, LSTM {student.hidden}, {shape}, learning rate {student.learning_rate:g}")
    say(f"budget: {experiment.total_steps:,} steps of each student; CLUTR trains two, protagonist and antagonist")
    say("chosen so that minutes on two cores show learning; `maze-clutr` and its kin are the full-size presets\n")


def _fresh_run(path: Path, experiment: Experiment) -> RunDirectory:
    if path.exists():
        RunDirectory(path)  # refuses to remove what is not a run
        shutil.rmtree(path)
    return RunDirectory.create(path, experiment)


def _evaluate_untrained(experiment: Experiment) -> dict[str, Any]:
    engine = experiment.domain.engine(1)
    student = experiment.student.build(engine.observation_space, engine.action_space, experiment.seed, "untrained")
    rng = torch.Generator().manual_seed(1)
    return evaluate(student, experiment.domain.suites()[SUITE], EPISODES, rng).to_json("untrained")
