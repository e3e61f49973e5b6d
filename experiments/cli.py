"""The command line: parse, call, print."""

import dataclasses
import importlib
import io
import itertools
import json
import os
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.table import Table
from rich.text import Text

import experiments.benchmarks
from agents.student import STUDENTS
from clutr.curricula.base import CURRICULA
from clutr.manifold.base import MANIFOLDS
from envs.car.circuits import use_tracks
from envs.domain import DOMAINS, LevelError
from experiments import commands, compare, demo, manifolds, world_report, world_run, world_train
from experiments.benchmarks.figure import to_json
from experiments.config import Experiment
from experiments.display import console, say, work_display
from experiments.files import RunError
from experiments.presets import PRESETS, manifold_experiment, manifold_presets
from experiments.report import build_comparison, build_report
from experiments.run_dir import RunDirectory
from experiments.world_config import WORLD_PRESETS, WorldExperiment
from experiments.world_run import WorldRun

RUNS = Path("runs")
WORLD = RUNS / "world"
Arguments = Sequence[str]


def _annotated(kind: Any, marker: Any) -> Any:
    """`Annotated[kind, marker]` for a type that is only known at run time."""
    return Annotated[kind, marker]


def _options(command: str, args: Arguments, about: str, **fields: tuple[Any, Any, str]) -> Any:
    """Parse `args` into an object with `fields`, each given as (type, default or `...` if required, help).

    A field without help is a dataclass whose options are offered as if they were the command's own.
    """
    columns: list[Any] = []
    for name, (kind, default, text) in fields.items():
        help_ = tyro.conf.arg(help=text) if text else tyro.conf.arg(name="")
        if default is ...:
            columns.append((name, _annotated(_annotated(kind, help_), tyro.conf.Positional)))
        else:
            columns.append((name, _annotated(kind, help_), dataclasses.field(default=default)))
    kind = dataclasses.make_dataclass("Options", columns, frozen=True)
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(kind, prog=f"clutr {command}", description=about, args=list(args))
    except ValueError as error:
        raise RunError(str(error)) from error
    except SystemExit as end:
        if not end.code:  # after help
            raise
        raise RunError(f"{_first_paragraph(complaint.getvalue())} (`clutr {command} --help` tells more)") from None


def _first_paragraph(box: str) -> str:
    """What the parser's framed error says between its title and the next rule, as one line."""
    lines = [line.strip("│ ") for line in Text.from_ansi(box).plain.splitlines()]
    groups = itertools.groupby(lines, lambda line: line[:1] in ("╭", "╰") or set(line) <= set("─-"))
    paragraphs = [" ".join(group) for is_rule, group in groups if not is_rule]
    titled_in_frame = "╭" in box  # where the output has no such characters the title is a paragraph of its own
    return paragraphs[0 if titled_in_frame else 1].replace("experiment.", "")


def _concrete(value: Any) -> type:
    """The class of a frozen dataclass, narrowed to the types of its present values.

    So the command line offers the options of exactly these parts. The fields' documentation is inherited.
    """
    fields = [
        (field.name, type(getattr(value, field.name)), dataclasses.field(default=getattr(value, field.name)))
        for field in dataclasses.fields(value)
    ]
    return dataclasses.make_dataclass(type(value).__name__, fields, bases=(type(value),), frozen=True)


def _choose(what: str, known: Mapping[str, Any], command: str, args: Arguments) -> Any:
    """The entry of `known` that the first argument names; help or one clear error otherwise."""
    if not args or args[0] in ("-h", "--help"):
        say(f"usage: clutr {command} {what.upper()} [--option value ...]\n\n{what}s:")
        for name, value in known.items():
            say(f"  {name:24} {_about(value)}")
        say(f"\n`clutr {command} {what.upper()} --help` lists the options.")
        raise SystemExit(0 if args else 2)
    if args[0] not in known:
        raise RunError(f"no {what} is called {args[0]!r}; there are: {', '.join(known)}")
    return known[args[0]]


def _about(value: Any) -> str:
    if isinstance(value, Experiment):
        curriculum = CURRICULA.name_of(type(value.curriculum))
        return f"{curriculum} on {DOMAINS.name_of(type(value.domain))}, {value.total_steps:,} steps"
    return (getattr(value, "__doc__", None) or "").strip().partition("\n")[0]


def _benches() -> dict[str, str]:
    """Modules of benches by the name that a person types."""
    modules = pkgutil.iter_modules(experiments.benchmarks.__path__)
    return {module.name.replace("_", "-"): module.name for module in modules if module.name != "figure"}


def _list(args: Arguments) -> None:
    """What there is: domains, presets, curricula, manifolds, students, suites, benches."""
    shelves: dict[str, dict[str, str]] = {
        "domains": {name: _about(DOMAINS[name]) for name in DOMAINS},
        "presets": {name: _about(preset) for name, preset in PRESETS.items()},
        "curricula": {name: _about(CURRICULA[name]) for name in CURRICULA},
        "manifolds": {name: _about(MANIFOLDS[name]) for name in MANIFOLDS},
        "students": {name: _about(STUDENTS[name]) for name in STUDENTS},
        "suites": {
            name: f"{world}: {suite.about}" for world in DOMAINS for name, suite in DOMAINS[world]().suites().items()
        },
        "benches": {name: _about(_bench_module(name)) for name in _benches()},
    }
    if args and args[0] in ("-h", "--help"):
        say(f"usage: clutr list [SHELF]\n\nshelves: {', '.join(shelves)}")
        return
    if args and args[0] not in shelves:
        raise RunError(f"cannot list {args[0]!r}; there are: {', '.join(shelves)}")
    for shelf in args[:1] or shelves:
        table = Table(title=shelf, title_justify="left", title_style="bold", show_header=False, box=None)
        for name, about in shelves[shelf].items():
            table.add_row(f"  {name}", about)
        console.print(table)


def _demo(args: Arguments) -> None:
    """The whole story in minutes on a laptop: pretrain, curriculum, zero-shot table, report."""
    options = _options(
        "demo",
        args,
        _demo.__doc__ or "",
        runs=(Path, RUNS / "demo", "Where the demo's runs go; those of an earlier demo are replaced."),
        seed=(int, 1, "Seed of both runs."),
    )
    demo.run_demo(options.runs, options.seed)


def _pretrain(args: Arguments) -> None:
    """Train a task manifold, print its health and keep it for the runs that want it."""
    _choose("world", {name: DOMAINS[name] for name in DOMAINS}, "pretrain", args)
    world, rest = args[0], [part for arg in args[1:] for part in _split_preset(arg)]
    preset, presets = "fast", manifold_presets(world)
    if "--preset" in rest:
        at = rest.index("--preset")
        preset = "".join(rest[at + 1 : at + 2])
        _choose("preset", presets, f"pretrain {world} --preset", [preset])
        del rest[at : at + 2]
    default = manifold_experiment(world, preset)
    options = _options(
        f"pretrain {world}",
        rest,
        f"{_pretrain.__doc__} --preset chooses the defaults: {', '.join(presets)}.",
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
    console.print(manifolds.health_table(health))
    say(f"kept as {path}; runs of the same world, manifold and seed use it")


def _split_preset(arg: str) -> list[str]:
    """`--preset=fast` as the two arguments that it stands for."""
    return arg.split("=", 1) if arg.startswith("--preset=") else [arg]


def _other_manifold(preset: Experiment, name: str, args: Arguments) -> tuple[Experiment, list[str]]:
    """The preset with the manifold that `--manifold NAME` asks for, and the arguments without it."""
    rest = list(args)
    if "--manifold" not in rest:
        return preset, rest
    if preset.manifold is None:
        raise RunError(f"the preset {name!r} has no manifold to replace: its curriculum chooses no latents")
    at = rest.index("--manifold")
    known = manifold_presets(DOMAINS.name_of(type(preset.domain)))
    chosen = _choose("manifold", known, f"train {name} --manifold", rest[at + 1 : at + 2])
    del rest[at : at + 2]
    return dataclasses.replace(preset, manifold=chosen), rest


def _train(args: Arguments) -> None:
    """Launch a curriculum experiment; any field of the preset can be overridden."""
    preset: Experiment = _choose("preset", PRESETS, "train", args)
    preset, rest = _other_manifold(preset, args[0], args[1:])
    concrete: Any = _concrete(preset)
    options = _options(
        f"train {args[0]}",
        rest,
        f"{_train.__doc__} `--manifold NAME` puts another task manifold under a curriculum that chooses latents.",
        experiment=(concrete, concrete(), ""),
        run=(Path | None, None, "The run's directory; by default runs/PRESET-sSEED."),
    )
    fields = {field.name: getattr(options.experiment, field.name) for field in dataclasses.fields(Experiment)}
    experiment = Experiment(**fields)
    if experiment.evaluate_every:
        commands.require_suite(experiment.domain, experiment.evaluate_suite)
    path = options.run or RUNS / f"{args[0]}-s{experiment.seed}"
    _train_on(RunDirectory.create(path, experiment))


def _resume(args: Arguments) -> None:
    """Continue a run from its newest checkpoint."""
    options = _options("resume", args, _resume.__doc__ or "", run=(Path, ..., "The run's directory."))
    _train_on(RunDirectory(options.run))


def _train_on(run: RunDirectory) -> None:
    if commands.train(run, run.path.parent / "manifolds", say):
        suite = commands.require_suite(run.domain(), None).name
        say(f"done: `clutr eval {run.path} --suite {suite}` tests it, `clutr report {run.path}` shows it")
    else:
        say(f"stopped: `clutr resume {run.path}` continues")


def _eval(args: Arguments) -> None:
    """Zero-shot transfer: play a suite of levels that nobody trained on."""
    options = _options(
        "eval",
        args,
        _eval.__doc__ or "",
        run=(Path, ..., "The run's directory."),
        suite=(str | None, None, "The suite; by default its world's first. `clutr list suites` names them."),
        episodes=(int, 100, "Episodes a level."),
        deterministic=(bool, False, "Take the most probable action instead of sampling."),
        seed=(int, 1, "Seed of levels and actions."),
        cvar_levels=(int, 0, "With --suite random: also the solve rate on the worst of this many levels."),
        tracks=(Path | None, None, "Directory of the circuits' GeoJSON files, for --suite f1."),
        json=(bool, False, "Print one JSON object for machines."),
    )
    run = RunDirectory(options.run)
    if options.tracks is not None:
        use_tracks(options.tracks)
    suite = commands.require_suite(run.domain(), options.suite).name
    with nullcontext() if options.json else work_display(f"playing {suite}") as progress:
        result = commands.evaluate_run(
            run,
            suite,
            options.episodes,
            options.seed,
            options.deterministic,
            cvar_levels=options.cvar_levels,
            progress=progress,
        )
    if options.json:
        print(json.dumps(result))
        return
    console.print(commands.evaluation_table({run.path.name: result}))
    if "cvar" in result["summary"]:
        console.print(commands.cvar_table({run.path.name: result["summary"]["cvar"]}))


def _compare(args: Arguments) -> None:
    """Methods side by side, with confidence intervals. Runs that differ in their seed alone are one method."""
    options = _options(
        "compare",
        args,
        _compare.__doc__ or "",
        runs=(tuple[Path, ...], ..., "The runs' directories; the first one's method is the baseline."),
        suite=(str | None, None, "The suite, by default the world's first; run `clutr eval` on it first."),
        output=(Path | None, None, "Also write a self-contained HTML page with table and curves here."),
        json=(bool, False, "Print one JSON object for machines."),
    )
    runs = [RunDirectory(path) for path in options.runs]
    methods = commands.group_by_method(runs, options.suite)
    comparison = compare.compare(methods, torch.Generator().manual_seed(0))
    if options.output is not None:
        build_comparison(comparison.to_json(), runs, options.output)
    cvar = commands.mean_cvar(methods)
    if options.json:
        print(json.dumps(comparison.to_json() | ({"cvar": cvar} if cvar else {})))
        return
    console.print(compare.table(comparison))
    if cvar:
        console.print(commands.cvar_table(cvar))
    if options.output is not None:
        say(f"open {options.output}")


def _report(args: Arguments) -> None:
    """Write one self-contained HTML file that shows a run."""
    options = _options(
        "report",
        args,
        _report.__doc__ or "",
        run=(Path, ..., "The run's directory."),
        beside=(tuple[Path, ...], (), "Other runs to show in the same curves and tables."),
    )
    path = build_report(RunDirectory(options.run), [RunDirectory(path) for path in options.beside])
    say(f"open {path}")


def _bench_module(name: str) -> Any:
    return importlib.import_module(f"experiments.benchmarks.{_benches()[name]}")


def _bench(args: Arguments) -> None:
    """The project's own measurements, each beside a peer in the same run."""
    _choose("name", {name: _bench_module(name) for name in _benches()}, "bench", args)
    options = _options(
        f"bench {args[0]}", args[1:], _bench.__doc__ or "", json=(bool, False, "Print one JSON object for machines.")
    )
    figures = _bench_module(args[0]).run((lambda _: None) if options.json else say)
    if options.json:
        print(json.dumps(to_json(args[0], figures)))
        return
    table = Table("what", "value", "unit", "peer", "peer's value", "ratio")
    for figure in figures:
        numbers = [figure.value, figure.peer_value, figure.ratio]
        value, peer_value, ratio = ("" if number is None else f"{number:,.4g}" for number in numbers)
        table.add_row(figure.what, value, figure.unit, figure.peer or "", peer_value, ratio)
    console.print(table)


def _world(args: Arguments) -> None:
    """World models of what students see: record episodes, train, and report what dreams are worth."""
    parts = {"record": _world_record, "train": _world_train, "report": _world_report}
    _choose("part", parts, "world", args)(args[1:])


def _world_record(args: Arguments) -> None:
    """Begin a world model and record its episodes, from wherever an earlier recording stopped."""
    preset, rest = "car", list(args)
    if "--preset" in rest:
        at = rest.index("--preset")
        preset = "".join(rest[at + 1 : at + 2])
        del rest[at : at + 2]
    concrete: Any = _concrete(_choose("preset", WORLD_PRESETS, "world record --preset", [preset]))
    options = _options(
        "world record",
        rest,
        f"{_world_record.__doc__} --preset chooses the defaults: {', '.join(WORLD_PRESETS)}.",
        experiment=(concrete, concrete(), ""),
        run=(Path, WORLD, "The world model's directory."),
    )
    fields = {field.name: getattr(options.experiment, field.name) for field in dataclasses.fields(WorldExperiment)}
    run = WorldRun.create(options.run, WorldExperiment(**fields))
    with work_display("recording") as progress:
        found = world_run.record(run, progress)
    console.print(world_run.recording_table(found))
    say(f"kept as {run.recording_path}; `clutr world train --run {run.path}` goes on")


def _world_train(args: Arguments) -> None:
    """Train a world model on its recording, from wherever an earlier training stopped."""
    options = _options(
        "world train", args, _world_train.__doc__ or "", run=(Path, WORLD, "The world model's directory.")
    )
    run = WorldRun(options.run)
    recording = run.recording()
    with work_display("fitting the backbone") as progress:
        backbone = world_train.fit_backbone(run, recording, progress)
    with work_display("training the memory") as progress:
        world_train.train_memories(run, recording, backbone, progress)
    say(f"done: `clutr world report --run {run.path}` shows it")


def _world_report(args: Arguments) -> None:
    """Measure dreams on episodes that nobody trained on, and write one self-contained HTML file."""
    options = _options(
        "world report", args, _world_report.__doc__ or "", run=(Path, WORLD, "The world model's directory.")
    )
    run = WorldRun(options.run)
    path = world_report.build_world_report(run)
    say(f"open {path}; the numbers are in {run.path / 'dreams.json'}")


COMMANDS: dict[str, Callable[[Arguments], None]] = {
    "demo": _demo,
    "list": _list,
    "pretrain": _pretrain,
    "train": _train,
    "resume": _resume,
    "eval": _eval,
    "compare": _compare,
    "report": _report,
    "bench": _bench,
    "world": _world,
}


def main(args: Arguments | None = None) -> int:
    """Run one command; an error that the user can mend is one line, and exit status 2."""
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help"):
        say("usage: clutr COMMAND ...\n\ncommands:")
        for name, command in COMMANDS.items():
            say(f"  {name:10} {_about(command)}")
        say("\n`clutr COMMAND --help` tells more.")
        return 0 if args else 2
    try:
        if args[0] not in COMMANDS:
            raise RunError(f"no command is called {args[0]!r}; there are: {', '.join(COMMANDS)}")
        COMMANDS[args[0]](args[1:])
    except (RunError, LevelError) as error:
        print("clutr:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("clutr: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for what Python flushes at its end)
        return 0
    return 0
