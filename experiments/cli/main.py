"""The command line: parse, call, print."""

import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

import clutr.experiments.benchmarks
from clutr.agents.backend import BACKENDS
from clutr.agents.student import STUDENTS
from clutr.curricula.base import CURRICULA
from clutr.envs.car.road.circuits import use_tracks
from clutr.envs.domain import DOMAINS, LevelError
from clutr.experiments.benchmarks.measurement import to_json
from clutr.experiments.cli import demo
from clutr.experiments.cli.arguments import Arguments, about_of, choose, options_of
from clutr.experiments.cli.inspect import inspect_command
from clutr.experiments.cli.sb3 import eval_model, wants_model
from clutr.experiments.cli.train import RUNS, pretrain_command, resume_command, train_command
from clutr.experiments.cli.world import probe_command, world_model_command
from clutr.experiments.display import console, say, work_display
from clutr.experiments.evaluation.compare import compare, group_by_method, mean_cvar
from clutr.experiments.evaluation.runs import evaluate_run, require_suite
from clutr.experiments.evaluation.tables import comparison_table, cvar_table, evaluation_table
from clutr.experiments.reports.run_report import build_comparison, build_report
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.world_model.probing import PROBES
from clutr.manifold.base import MANIFOLDS
from clutr.world_model.backbones.base import BACKBONES
from clutr.world_model.cores.base import CORES


def _benches() -> dict[str, str]:
    """Modules of benches by the name that a person types."""
    modules = pkgutil.iter_modules(clutr.experiments.benchmarks.__path__)
    return {module.name.replace("_", "-"): module.name for module in modules if module.name != "figure"}


def _list(args: Arguments) -> None:
    """What there is: domains, presets, curricula, manifolds, students, suites, backends, models, probes, benches."""
    shelves: dict[str, dict[str, str]] = {
        "domains": {name: about_of(DOMAINS[name]) for name in DOMAINS},
        "presets": {name: about_of(preset) for name, preset in PRESETS.items()},
        "curricula": {name: about_of(CURRICULA[name]) for name in CURRICULA},
        "manifolds": {name: about_of(MANIFOLDS[name]) for name in MANIFOLDS},
        "students": {name: about_of(STUDENTS[name]) for name in STUDENTS},
        "suites": {
            name: f"{world}: {suite.about}" for world in DOMAINS for name, suite in DOMAINS[world]().suites().items()
        },
        "backbones": {name: about_of(BACKBONES[name]) for name in BACKBONES},
        "cores": {name: about_of(CORES[name]) for name in CORES},
        "probes": {name: about_of(PROBES[name]) for name in PROBES} | {"students": about_of(probe_command)},
        "backends": {name: about_of(BACKENDS[name]) for name in BACKENDS},
        "benches": {name: about_of(_bench_module(name)) for name in _benches()},
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
    options = options_of(
        "demo",
        args,
        _demo.__doc__ or "",
        runs=(Path, RUNS / "demo", "Where the demo's runs go; those of an earlier demo are replaced."),
        seed=(int, 1, "Seed of both runs."),
    )
    demo.run_demo(options.runs, options.seed)


def _eval(args: Arguments) -> None:
    """Zero-shot transfer: play a suite of levels that nobody trained on."""
    if wants_model(args):
        eval_model(args)
        return
    options = options_of(
        "eval",
        args,
        f"{_eval.__doc__} `clutr eval --sb3 MODEL.zip` tests a model of Stable-Baselines3 instead of a run.",
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
    suite = require_suite(run.domain(), options.suite).name
    with nullcontext() if options.json else work_display(f"playing {suite}") as progress:
        result = evaluate_run(
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
    console.print(evaluation_table({run.path.name: result}))
    if "cvar" in result["summary"]:
        console.print(cvar_table({run.path.name: result["summary"]["cvar"]}))


def _compare(args: Arguments) -> None:
    """Methods side by side, with confidence intervals. Runs that differ in their seed alone are one method."""
    options = options_of(
        "compare",
        args,
        _compare.__doc__ or "",
        runs=(tuple[Path, ...], ..., "The runs' directories; the first one's method is the baseline."),
        suite=(str | None, None, "The suite, by default the world's first; run `clutr eval` on it first."),
        output=(Path | None, None, "Also write a self-contained HTML page with table and curves here."),
        json=(bool, False, "Print one JSON object for machines."),
    )
    runs = [RunDirectory(path) for path in options.runs]
    methods = group_by_method(runs, options.suite)
    comparison = compare(methods, torch.Generator().manual_seed(0))
    if options.output is not None:
        build_comparison(comparison.to_json(), runs, options.output)
    cvar = mean_cvar(methods)
    if options.json:
        print(json.dumps(comparison.to_json() | ({"cvar": cvar} if cvar else {})))
        return
    console.print(comparison_table(comparison))
    if cvar:
        console.print(cvar_table(cvar))
    if options.output is not None:
        say(f"open {options.output}")


def _report(args: Arguments) -> None:
    """Write one self-contained HTML file that shows a run."""
    options = options_of(
        "report",
        args,
        _report.__doc__ or "",
        run=(Path, ..., "The run's directory."),
        beside=(tuple[Path, ...], (), "Other runs to show in the same curves and tables."),
    )
    path = build_report(RunDirectory(options.run), [RunDirectory(path) for path in options.beside])
    say(f"open {path}")


def _bench_module(name: str) -> Any:
    return importlib.import_module(f"clutr.experiments.benchmarks.{_benches()[name]}")


def _bench(args: Arguments) -> None:
    """The project's own measurements, each beside a peer in the same run."""
    choose("name", {name: _bench_module(name) for name in _benches()}, "bench", args)
    options = options_of(
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


COMMANDS: dict[str, Callable[[Arguments], None]] = {
    "demo": _demo,
    "list": _list,
    "pretrain": pretrain_command,
    "train": train_command,
    "resume": resume_command,
    "eval": _eval,
    "compare": _compare,
    "report": _report,
    "bench": _bench,
    "world": world_model_command,
    "probe": probe_command,
    "inspect": inspect_command,
}


def main(args: Arguments | None = None) -> int:
    """Run one command; an error that the user can mend is one line, and exit status 2."""
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help"):
        say("usage: clutr COMMAND ...\n\ncommands:")
        for name, command in COMMANDS.items():
            say(f"  {name:10} {about_of(command)}")
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
