"""`clutr pretrain`, `clutr train` and `clutr resume`."""

import dataclasses
from pathlib import Path
from typing import Any

from clutr.agents.backend import BACKENDS
from clutr.agents.student import STUDENTS
from clutr.envs.domain import DOMAINS
from clutr.experiments.cli.arguments import Arguments, choose, concrete, options_of, take
from clutr.experiments.config import Experiment
from clutr.experiments.display import console, say, work_display
from clutr.experiments.evaluation.runs import require_suite
from clutr.experiments.plots.manifold_health import health_table
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training import manifolds
from clutr.experiments.training.presets import PRESETS, manifold_experiment, manifold_presets
from clutr.experiments.training.train import train

RUNS = Path("runs")
"""Where runs are kept unless told otherwise."""
SHORT = ("address", "runners", "learners")
"""Options of a backend that may be given without `backend.` before them."""


def pretrain_command(args: Arguments) -> None:
    """Train a task manifold, print its health and keep it for the runs that want it."""
    choose("world", {name: DOMAINS[name] for name in DOMAINS}, "pretrain", args)
    world, presets = args[0], manifold_presets(args[0])
    chosen, rest = take("preset", args[1:])
    preset = "fast" if chosen is None else chosen
    choose("preset", presets, f"pretrain {world} --preset", [preset])
    default = manifold_experiment(world, preset)
    options = options_of(
        f"pretrain {world}",
        rest,
        f"{pretrain_command.__doc__} --preset chooses the defaults: {', '.join(presets)}.",
        domain=(type(default.domain), default.domain, "The world."),
        manifold=(type(default.manifold), default.manifold, "The manifold."),
        seed=(int, 1, "Seed of the pretraining."),
        runs=(Path, RUNS, "Where runs and manifolds are kept."),
    )
    experiment = dataclasses.replace(
        default, domain=options.domain, manifold=options.manifold, manifold_seed=options.seed
    )
    with work_display(f"pretraining {world} ({preset})") as progress:
        path, health = manifolds.pretrain(experiment, options.runs / "manifolds", progress)
    console.print(health_table(health))
    say(f"kept as {path}; runs of the same world, manifold and seed use it")


def _other_manifold(preset: Experiment, name: str, args: Arguments) -> tuple[Experiment, list[str]]:
    """The preset with the manifold that `--manifold NAME` asks for, and the arguments without it."""
    manifold, rest = take("manifold", args)
    if manifold is None:
        return preset, rest
    if preset.manifold is None:
        raise RunError(f"the preset {name!r} has no manifold to replace: its curriculum chooses no latents")
    known = manifold_presets(DOMAINS.name_of(type(preset.domain)))
    chosen = choose("manifold", known, f"train {name} --manifold", [manifold])
    return dataclasses.replace(preset, manifold=chosen), rest


def _other_student(preset: Experiment, name: str, args: Arguments) -> tuple[Experiment, list[str]]:
    """The preset with the student that `--student NAME` asks for, and the arguments without it."""
    student, rest = take("student", args)
    if student is None:
        return preset, rest
    chosen = choose("student", {name: STUDENTS[name] for name in STUDENTS}, f"train {name} --student", [student])
    # how long a level is played and what its rewards are like belongs to the preset, not to the algorithm
    kept = {"rollout_steps", "normalise_returns"} & {field.name for field in dataclasses.fields(chosen)}
    options = {name: getattr(preset.student, name) for name in kept if hasattr(preset.student, name)}
    return dataclasses.replace(preset, student=chosen(**options)), rest


def other_backend(preset: Experiment, name: str, args: Arguments) -> tuple[Experiment, list[str]]:
    """The preset with the backend that `--backend NAME` asks for, and the arguments without it.

    `--runners 8` is read as `--backend.runners 8`, and so are the others in `SHORT`.
    """
    backend, rest = take("backend", args)
    if backend is None:
        return preset, rest
    known = {name: BACKENDS[name] for name in BACKENDS}
    chosen = choose("backend", known, f"train {name} --backend", [backend])
    offered = {field.name for field in dataclasses.fields(chosen)}
    for index, arg in enumerate(rest):
        option = arg.removeprefix("--").partition("=")[0]
        if arg.startswith("--") and option in SHORT and option in offered:
            rest[index] = f"--backend.{arg.removeprefix('--')}"
    return dataclasses.replace(preset, backend=chosen()), rest


def train_command(args: Arguments) -> None:
    """Launch a curriculum experiment; any field of the preset can be overridden."""
    preset: Experiment = choose("preset", PRESETS, "train", args)
    preset, rest = _other_manifold(preset, args[0], args[1:])
    preset, rest = _other_student(preset, args[0], rest)
    preset, rest = other_backend(preset, args[0], rest)
    narrowed: Any = concrete(preset)
    options = options_of(
        f"train {args[0]}",
        rest,
        f"{train_command.__doc__} "
        + "`--manifold NAME` puts another task manifold under a curriculum that chooses latents, "
        + "`--student NAME` lets another student play (`clutr list students`), "
        + "`--backend rllib --address auto --runners N --learners M` trains on a cluster.",
        experiment=(narrowed, narrowed(), ""),
        run=(Path | None, None, "The run's directory; by default runs/PRESET-sSEED."),
    )
    fields = {field.name: getattr(options.experiment, field.name) for field in dataclasses.fields(Experiment)}
    experiment = Experiment(**fields)
    if experiment.evaluate_every:
        require_suite(experiment.domain, experiment.evaluate_suite)
    path = options.run or RUNS / f"{args[0]}-s{experiment.seed}"
    _train_on(RunDirectory.create(path, experiment))


def resume_command(args: Arguments) -> None:
    """Continue a run from its newest checkpoint."""
    options = options_of("resume", args, resume_command.__doc__ or "", run=(Path, ..., "The run's directory."))
    _train_on(RunDirectory(options.run))


def _train_on(run: RunDirectory) -> None:
    if train(run, run.path.parent / "manifolds", say):
        suite = require_suite(run.domain(), None).name
        say(f"done: `clutr eval {run.path} --suite {suite}` tests it, `clutr report {run.path}` shows it")
    else:
        say(f"stopped: `clutr resume {run.path}` continues")
