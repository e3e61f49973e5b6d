"""The commands of `clutr world`: parse, call, print."""

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from clutr.envs.progress import Progress
from clutr.experiments.cli.arguments import Arguments, choose, concrete, options_of, take
from clutr.experiments.display import console, say, work_display
from clutr.experiments.reports import probe_report as world_probe
from clutr.experiments.reports import student_probes as student_probe
from clutr.experiments.reports import world_model_report as world_report
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.world_model import run_directory as world_run
from clutr.experiments.world_model import training as world_train
from clutr.experiments.world_model.config import WORLD_PRESETS, WorldModelExperiment
from clutr.experiments.world_model.dreaming import DreamOptions, dream_on
from clutr.experiments.world_model.probing import ProbeOptions
from clutr.experiments.world_model.run_directory import WorldModelRun

WORLD = Path("runs") / "world"


def world_model_command(args: Arguments) -> None:
    """World models of what students see: record episodes, train, dream, report what dreams are worth, and probe."""
    parts = {
        "record": _world_record,
        "train": _world_train,
        "dream": _world_dream,
        "report": _world_report,
        "probe": _world_probe,
    }
    choose("part", parts, "world", args)(args[1:])


def _world_record(args: Arguments) -> None:
    """Begin a world model and record its episodes, from wherever an earlier recording stopped."""
    chosen, rest = take("preset", args)
    preset = choose("preset", WORLD_PRESETS, "world record --preset", ["car" if chosen is None else chosen])
    narrowed: Any = concrete(preset)
    options = options_of(
        "world record",
        rest,
        f"{_world_record.__doc__} --preset chooses the defaults: {', '.join(WORLD_PRESETS)}.",
        experiment=(narrowed, narrowed(), ""),
        run=(Path, WORLD, "The world model's directory."),
    )
    fields = {field.name: getattr(options.experiment, field.name) for field in dataclasses.fields(WorldModelExperiment)}
    run = WorldModelRun.create(options.run, WorldModelExperiment(**fields))
    with work_display("recording") as progress:
        found = world_run.record(run, progress)
    console.print(world_run.recording_table(found))
    say(f"kept as {run.recording_path}; `clutr world train --run {run.path}` goes on")


def _world_train(args: Arguments) -> None:
    """Train a world model on its recording, from wherever an earlier training stopped."""
    options = options_of(
        "world train", args, _world_train.__doc__ or "", run=(Path, WORLD, "The world model's directory.")
    )
    run = WorldModelRun(options.run)
    recording = run.recording()
    with work_display("fitting the backbone") as progress:
        backbone = world_train.fit_backbone(run, recording, progress)
    with work_display("training the memory") as progress:
        world_train.train_memories(run, recording, backbone, progress)
    say(f"done: `clutr world report --run {run.path}` shows it")


def _world_dream(args: Arguments) -> None:
    """Dream on from a recorded moment, in several branches, and write a page to step through."""
    options = options_of(
        "world dream",
        args,
        _world_dream.__doc__ or "",
        run=(Path, WORLD, "The world model's directory."),
        dream=(DreamOptions, DreamOptions(), ""),
    )
    say(f"open {dream_on(WorldModelRun(options.run), options.dream)}")


def _world_report(args: Arguments) -> None:
    """Measure dreams on episodes that nobody trained on, and write one self-contained HTML file."""
    options = options_of(
        "world report", args, _world_report.__doc__ or "", run=(Path, WORLD, "The world model's directory.")
    )
    run = WorldModelRun(options.run)
    path = world_report.build_world_model_report(run)
    say(f"open {path}; the numbers are in {run.path / 'dreams.json'}")


def _world_probe(args: Arguments) -> None:
    """Probe what a world model has learnt, each explanation with its checks, and write one self-contained HTML file."""
    options = options_of(
        "world probe",
        args,
        _world_probe.__doc__ or "",
        probes=(ProbeOptions, ProbeOptions(), ""),
        run=(Path, WORLD, "The world model's directory."),
    )
    run = WorldModelRun(options.run)
    with ExitStack() as shown:

        def section(name: str) -> Progress:
            shown.close()
            return shown.enter_context(work_display(f"probing: {name}"))

        world_probe.probe_world_model(run, options.probes, section)
    path = world_probe.build_probe_page(run)
    console.print(world_probe.verdict_table(run))
    say(f"open {path}; the numbers are in {run.path / 'probes'}")


def probe_command(args: Arguments) -> None:
    """Probe what a run's students remember of their mazes, and write one self-contained HTML file."""
    options = options_of(
        "probe",
        args,
        probe_command.__doc__ or "",
        run=(Path, ..., "The run's directory; for a world model see `clutr world probe`."),
        levels=(int, 512, "Random levels that each student walks once."),
        seed=(int, 1, "Seed of levels, actions and splits."),
    )
    run = RunDirectory(options.run)
    with work_display("probing students") as progress:
        student_probe.probe_students(run, options.levels, options.seed, progress)
    say(f"open {student_probe.build_student_page(run)}; the numbers are in {run.path / 'probes'}")
