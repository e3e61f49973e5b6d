"""Many curricula, one student, one budget: trains and tests every method of a study.

    python -m clutr.experiments.studies.curricula STUDY.yaml OUT [--jobs N] [--methods NAME ...] [--seeds N ...]

The study's file is complete: it names an experiment, what each method changes in it, seeds and budgets. A run is tested
when it has made `steps` environment steps of one student, at `milestones` on the way there, and when its training has
taken `seconds` of one core; it goes on until all is done. All runs reach a milestone before any goes on to the next. As
many runs train at a time as there are jobs. Whatever was done before is kept, and what was interrupted goes on, so the
command can be given again at any time. `clutr.experiments.studies.curricula_tables` draws the results.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.config import Experiment, from_plain, to_plain
from clutr.experiments.evaluation.cvar import alphas_for, cvar
from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.metrics import MetricsFile
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.training.manifolds import prepare_manifold, pretrain
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.runner import Runner, UpdateReport

ENDLESS = 10**12
"""Steps of a run in a study: the study stops it."""


@dataclass(frozen=True)
class Study:
    """What is compared, and how."""

    path: Path
    about: str
    base: Experiment
    """What all methods share."""
    methods: dict[str, dict[str, Any]]
    """The parts of the experiment that each method replaces, as in a config.yaml. `preset` stands for the curriculum,
    student and manifold of a preset, which the parts beside it replace; `seeds` are the method's own."""
    seeds: tuple[int, ...]
    steps: int
    """Environment steps of one student after which a run is tested; 0: it is tested after `seconds` alone."""
    suite: str
    episodes: int
    seconds: float = 0.0
    """Training time after which a run is tested, as `Clock` counts it; 0: this test is left out."""
    milestones: tuple[int, ...] = ()
    """Environment steps of one student, fewer than `steps`, at which runs are tested on the way, on `suite` alone."""
    student: dict[str, Any] = field(default_factory=dict)
    """Options of the student that every method has, whatever its preset says."""
    cvar_suite: str = "random"
    cvar_levels: int = 0
    """Random levels on which the worst are looked for; 0: this is left out."""
    also: tuple[str, ...] = ()
    """More suites, with as many episodes."""

    @classmethod
    def read(cls, path: Path) -> "Study":
        """Read a study's file. Raises `RunError` naming what is wrong."""
        plain = yaml.safe_load(path.read_text())
        base = to_plain(PRESETS[plain.pop("preset")])
        for name, value in plain.pop("experiment").items():
            base[name] = base[name] | value if isinstance(base.get(name), dict) and "kind" not in value else value
        for name in ("seeds", "also", "milestones"):
            plain[name] = tuple(plain.get(name, ()))
        study = cls(path=path, base=from_plain(base | {"total_steps": ENDLESS}), **plain)
        if not (study.steps or study.seconds):
            raise RunError(f"{path}: a study needs steps or seconds after which its runs are tested")
        if list(study.milestones) != sorted({steps for steps in study.milestones if steps < study.steps}):
            raise RunError(
                f"{path}: milestones rise and stay below steps ({study.steps}), not {list(study.milestones)}"
            )
        return study

    @property
    def budgets(self) -> tuple[str, ...]:
        """At which budgets each run is tested: "steps", "seconds", and "steps-2000000" for a milestone."""
        steps = (*(f"steps-{steps}" for steps in self.milestones), *(("steps",) if self.steps else ()))
        return (*steps, *(("seconds",) if self.seconds else ()))

    def steps_of(self, budget: str) -> int:
        """The environment steps of a budget of steps."""
        return self.steps if budget == "steps" else int(budget.removeprefix("steps-"))

    def seeds_of(self, method: str) -> tuple[int, ...]:
        """The seeds of one method, which may have its own."""
        return tuple(self.methods[method].get("seeds", self.seeds))

    def experiment(self, method: str, seed: int) -> Experiment:
        """The experiment of one method and seed. Raises `RunError` if the method is unknown."""
        if method not in self.methods:
            raise RunError(f"{self.path} has no method {method!r}; it has: {', '.join(self.methods)}")
        parts = {name: value for name, value in self.methods[method].items() if name not in ("seeds", "preset")}
        if (preset := self.methods[method].get("preset")) is not None:
            whole = to_plain(PRESETS[preset])
            parts = {name: whole[name] for name in ("curriculum", "student", "manifold")} | parts
        plain = to_plain(self.base) | {"manifold": None, "seed": seed} | parts
        return from_plain(plain | {"student": plain["student"] | self.student})


def run_path(out: Path, method: str, seed: int) -> Path:
    """Where one run of a study lives."""
    return out / f"{method}-s{seed}"


def result_path(out: Path, method: str, seed: int, budget: str) -> Path:
    """Where the test of a run at one of `Study.budgets` is kept."""
    return run_path(out, method, seed) / "study" / f"{budget}.json"


class Clock:
    """Processor time of a run's training, over all its processes: what else the machine does is left out.

    A run has one thread, so on a quiet machine this is the wall-clock time of its updates, without tests and
    checkpoints.

    Args:
        runner: the run.
    """

    def __init__(self, runner: Runner) -> None:
        self._file = MetricsFile(runner.run.path / "study" / "clock.csv")
        self._file.path.parent.mkdir(exist_ok=True)
        self._file.truncate(runner.update)
        rows = self._file.rows()
        self.seconds = float(rows[-1]["seconds"]) if rows else 0.0
        self._started = time.process_time()

    def stop(self, update: int) -> None:
        """An update has ended."""
        self.seconds += time.process_time() - self._started
        self._file.append({"update": update, "seconds": self.seconds})

    def start(self) -> None:
        """The next update begins."""
        self._started = time.process_time()


def train_one(study: Study, out: Path, method: str, seed: int, budgets: Sequence[str] | None = None) -> None:
    """Train and test one run of the study, from wherever it stopped, until it is tested at these budgets, or at all."""
    experiment = study.experiment(method, seed)
    path = run_path(out, method, seed)
    run = RunDirectory(path) if (path / "config.yaml").exists() else RunDirectory.create(path, experiment)
    if run.experiment != experiment:
        raise RunError(f"{path} holds another experiment than {study.path} asks for: remove it or name another folder")
    manifold = None
    if experiment.manifold is not None:
        manifold = prepare_manifold(run, out / "manifolds", lambda *_: None)
    runner = Runner(run, manifold)
    clock = Clock(runner)
    missing = missing_of(out, method, seed, study.budgets if budgets is None else budgets)
    parent = os.getppid()

    def reached(budget: str) -> bool:
        return clock.seconds >= study.seconds if budget == "seconds" else runner.steps >= study.steps_of(budget)

    def report(now: UpdateReport) -> None:
        clock.stop(now.update)
        for budget in list(missing):
            if reached(budget):
                _test(study, runner, result_path(out, method, seed, budget), f"{method}-s{seed}", clock.seconds, budget)
                missing.remove(budget)
        runner.stop_requested = (
            not missing or os.getppid() != parent
        )  # the study was killed: it goes on by itself later
        clock.start()

    if missing:
        runner.train(report)


def missing_of(out: Path, method: str, seed: int, budgets: Sequence[str]) -> list[str]:
    """At which of these budgets a run is not tested yet."""
    return [budget for budget in budgets if not result_path(out, method, seed, budget).exists()]


def _test(study: Study, runner: Runner, path: Path, name: str, seconds: float, budget: str) -> None:
    """Test the student as it is, on seeds that are the same for all methods."""
    suites, seed = runner.experiment.domain.suites(), runner.experiment.seed
    whole = budget in ("steps", "seconds")
    tested, *others = (
        evaluate(runner.protagonist, suites[suite], study.episodes, torch.Generator().manual_seed(seed)).to_json(name)
        for suite in (study.suite, *(study.also if whole else ()))
    )
    result = tested | {
        "update": runner.update,
        "steps": runner.steps,
        "seconds": seconds,
        "also": others,
        "machine": describe_machine(),
    }
    if study.cvar_levels and whole:
        (task,) = suites[study.cvar_suite].tasks
        rng = torch.Generator().manual_seed(seed)
        alphas, tries = alphas_for(study.cvar_levels, (1.0, 0.1, 0.01)), 5
        risk = cvar(
            runner.protagonist,
            task,
            study.cvar_levels,
            rng=rng,
            alphas=alphas,
            episodes_select=tries,
            episodes_score=tries,
        )
        result["cvar"] = risk.to_json()
    write_atomically(path, json.dumps(result, indent=1).encode())


def train_all(
    study: Study,
    out: Path,
    methods: Sequence[str],
    seeds: Sequence[int] | None,
    jobs: int,
    until: int | None = None,
) -> None:
    """Train and test all runs, each in a process with one thread; of these seeds, or of the study's.

    Budget by budget, and seed by seed, so that a study that is stopped has whole milestones and whole seeds.

    Args:
        study: what is compared.
        out: where its runs live.
        methods: which of them.
        seeds: which of them; None: each method's.
        jobs: runs at a time.
        until: the last milestone, or None.
    """
    for method in methods:
        experiment = study.experiment(method, 1)
        if experiment.manifold is not None:
            pretrain(experiment, out / "manifolds", lambda *_: None)
    runs = [(method, seed) for method in methods for seed in seeds or study.seeds_of(method)]
    runs.sort(key=lambda run: run[1])
    for budgets in _stages(study, until):
        _train_until(study, out, budgets, [run for run in runs if missing_of(out, *run, budgets)], jobs)


def _stages(study: Study, until: int | None) -> list[tuple[str, ...]]:
    """Budgets that are reached together: each milestone alone, then the rest."""
    early = [f"steps-{steps}" for steps in study.milestones]
    last = [budget for budget in study.budgets if budget not in early]
    if until is None:
        return [*((budget,) for budget in early), tuple(last)]
    if f"steps-{until}" not in early:
        raise RunError(f"{study.path} has no milestone {until}; it has: {', '.join(map(str, study.milestones))}")
    return [(budget,) for budget in early if study.steps_of(budget) <= until]


def _train_until(study: Study, out: Path, budgets: Sequence[str], waiting: list[tuple[str, int]], jobs: int) -> None:
    running: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    failed: list[str] = []
    one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    while waiting or running:
        while waiting and len(running) < jobs:
            method, seed = waiting.pop(0)
            command = [sys.executable, "-m", "clutr.experiments.studies.curricula", str(study.path), str(out)]
            command += ["--one", method, str(seed), "--budgets", *budgets]
            running[method, seed] = subprocess.Popen(command, env=os.environ | one_thread)
        time.sleep(0.5)
        for (method, seed), process in list(running.items()):
            if process.poll() is not None:
                del running[method, seed]
                done = "FAILED" if process.returncode else f"done at {', '.join(budgets)}"
                print(f"{time.strftime('%H:%M:%S')} {method}-s{seed} {done}", flush=True)
                failed += [f"{method}-s{seed}"] if process.returncode else []
    if failed:
        raise RunError(f"these runs failed: {', '.join(failed)}. Give the command again to go on.")


def main() -> None:
    """Train and test what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int)
    parser.add_argument("--until", type=int, help="the last milestone: steps of one student; without it, everything")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "SEED"), help="train this run only, in this process")
    parser.add_argument("--budgets", nargs="*", help="with --one: where it is tested; at all budgets without it")
    arguments = parser.parse_args()
    study = Study.read(arguments.study)
    if arguments.one:
        torch.set_num_threads(1)
        train_one(study, arguments.out, arguments.one[0], int(arguments.one[1]), arguments.budgets)
    else:
        methods = arguments.methods or list(study.methods)
        train_all(study, arguments.out, methods, arguments.seeds, arguments.jobs, arguments.until)


if __name__ == "__main__":
    try:
        main()
    except RunError as error:
        sys.exit(f"error: {error}")
