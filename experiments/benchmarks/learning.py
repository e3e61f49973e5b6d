"""Quality by the clock: how good students are after some minutes of training, beside JaxUED's settings in JAX."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.agents.ppo import PPOConfig
from clutr.envs.domain import Suite
from clutr.envs.maze.level import MazeLevels
from clutr.envs.randomness import named_generator
from clutr.envs.registry import no_such
from clutr.experiments.benchmarks.maze_train import run_jaxued
from clutr.experiments.benchmarks.measurement import Measurement
from clutr.experiments.config import Experiment
from clutr.experiments.evaluation.evaluate import SuiteEvaluation, draw_seed, evaluate
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.manifolds import manifold_cache, prepare_manifold
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.runner import Runner, UpdateReport
from clutr.experiments.training.threads import use_cores

ENDLESS = 10**12
"""Steps of a training that the clock stops, and updates between two checkpoints or records: there are none."""
MAZES: dict[str, Experiment] = {
    "maze-dr": PRESETS["maze-dr"],
    "maze-accel": PRESETS["maze-accel"],
    "maze-clutr": PRESETS["maze-clutr"],
    "maze-dr-published": replace(PRESETS["maze-dr"], student=PPOConfig()),
}
CARS: dict[str, Experiment] = {
    "car-dr": PRESETS["car-dr"],
    "car-clutr": PRESETS["car-clutr"],
    "car-dr-published": replace(PRESETS["car-dr"], student=PixelPPOConfig()),
}
"""What trains; the last of each kind is domain randomisation of the published student."""
JAXUED = "jaxued"
SUITES = {"maze": ("accel12", 20), "car": ("bezier-heldout", 4)}
"""What is played, and how many episodes a level."""


@dataclass(frozen=True)
class Learned:
    """What some minutes brought."""

    about: str
    """Steps of each student, and the interval of `value`."""
    value: float
    unit: str


def run(progress: Callable[[str], None], minutes: float = 10.0, only: Sequence[str] = ()) -> list[Measurement]:
    """Train each of `MAZES` and `CARS`, and JaxUED's student, for `minutes`: 80 minutes in all by default.

    The clock counts training alone: neither compilation, nor pretraining (a task manifold serves all runs), nor tests.

    Args:
        progress: told what trains.
        minutes: of each.
        only: names of these; all of them by default.

    Raises:
        RunError: if there is nothing of a name.
    """
    known = [*MAZES, JAXUED, *CARS]
    for name in only:
        if name not in known:
            raise RunError(no_such("method", name, known))
    use_cores()
    chosen = [name for name in known if name in only] or known
    found: dict[str, Learned] = {}
    for name in chosen:
        progress(f"{name}, {minutes:g} minutes")
        if name == JAXUED:
            continue
        domain = "maze" if name in MAZES else "car"
        found[name] = learn((MAZES | CARS)[name], minutes, *SUITES[domain])
    jaxued = learn_jaxued(minutes) if JAXUED in chosen else None
    figures = []
    for kind, peer in ((MAZES, jaxued), (CARS, None)):
        published = list(kind)[-1]
        peers: list[tuple[str | None, float | None]] = []
        if published in found:
            peers.append((published, found[published].value))
        peers += [peer] if peer else []
        for name in [name for name in kind if name in found]:
            what, mine = f"{name}, {minutes:g} minutes: {found[name].about}", found[name]
            beside = [each for each in peers if each[0] != name]
            for other, value in beside or [(None, None)]:
                figures.append(
                    Measurement(what, mine.value, mine.unit, other, value, mine.value / value if value else None)
                )
    return figures


def learn(experiment: Experiment, minutes: float, suite_name: str, episodes: int) -> Learned:
    """Train for some minutes, then play a suite."""
    suite = experiment.domain.suites()[suite_name]
    experiment = replace(
        experiment, evaluate_every=0, total_steps=ENDLESS, checkpoint_every=ENDLESS, record_every=ENDLESS
    )
    with tempfile.TemporaryDirectory() as folder:
        _train(experiment, Path(folder) / "first", 0.0)  # one update, which compiles
        runner = _train(experiment, Path(folder) / "run", 60 * minutes)
    played = evaluate(runner.protagonist, suite, episodes, torch.Generator().manual_seed(1))
    return _learned(played, runner.steps)


def _train(experiment: Experiment, path: Path, seconds: float) -> Runner:
    """The training after the first update that ends later than `seconds`."""
    run = RunDirectory.create(path, experiment)
    manifold = None
    if experiment.manifold is not None:
        manifold = prepare_manifold(run, manifold_cache(), lambda *_: None)
    runner = Runner(run, manifold)

    def stop(report: UpdateReport) -> None:
        runner.stop_requested = report.seconds >= seconds

    runner.train(stop)
    return runner


def _learned(played: SuiteEvaluation, steps: int) -> Learned:
    summary, name = played.summary(), f"mean_{played.metric}"
    low, high = summary[f"{name}_interval"]
    about = f"{steps:,} steps a student, [{low:.3g}, {high:.3g}] (95 %, episodes)"
    return Learned(about, summary[name], f"{'solved' if played.metric == 'solved' else 'return'} on {played.suite}")


def learn_jaxued(minutes: float) -> tuple[str, float | None]:
    """The peer's name, with its versions and steps, and what it solves of the same mazes; None where it is missing."""
    name, episodes = SUITES["maze"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mazes.json"
        path.write_text(json.dumps(mazes_of(MAZES["maze-dr"].domain.suites()[name], episodes)))
        told, found = run_jaxued("JaxUED's settings in JAX", "--minutes", str(minutes), "--mazes", str(path))
    if found is None:
        return told, None
    return f"{told}, {found['steps']:,} steps", sum(found["solved"].values()) / len(found["solved"])


def mazes_of(suite: Suite, episodes: int) -> list[dict[str, Any]]:
    """The very levels that our students play with seed 1, as the peer's program reads them."""
    source = draw_seed(torch.Generator().manual_seed(1))
    mazes: list[dict[str, Any]] = []
    for task in suite.tasks:
        levels = task.draw(episodes, named_generator(source, "levels", task.name))
        assert isinstance(levels, MazeLevels)
        width, steps = levels.width, task.engine(1).max_steps  # type: ignore[attr-defined]  # of mazes
        for index in range(episodes):
            cells = {"agent": int(levels.agent[index]), "goal": int(levels.goal[index])}
            maze = {what: [cell % width, cell // width] for what, cell in cells.items()}
            walls = levels.walls[index].int().tolist()
            about = {"name": task.name, "walls": walls, "heading": int(levels.heading[index]), "steps": steps}
            mazes.append(maze | about)
    return mazes
