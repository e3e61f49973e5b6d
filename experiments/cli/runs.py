"""The commands for curriculum runs: pretrain, train, resume, evaluate, compare, show, probe, inspect."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clutr.envs.registry import no_such
from clutr.experiments.cli.arguments import Arguments, UsageError, choose, command, first_line, run, take
from clutr.experiments.cli.first_look import look_at_suite, look_at_training
from clutr.experiments.cli.names import manifold_presets, registered
from clutr.experiments.directories import look_at_run
from clutr.experiments.files import as_directory, as_output, expanded, require_writable

if TYPE_CHECKING:
    from clutr.experiments.config import Experiment
    from clutr.experiments.run_directory import RunDirectory
    from clutr.experiments.training.trackers import Tracker

RUNS = Path("runs")
"""Where runs are kept unless told otherwise."""
SHORT = ("address", "runners", "learners")
"""Options of a backend that may be given without `backend.` before them."""


@command("demo")
def demo(*, runs: Path = RUNS / "demo", seed: int = 1) -> None:
    """The whole story in minutes on a laptop: pretrain, curriculum, zero-shot table, report.

    Args:
        runs: Where the demo's runs go; those of an earlier demo are replaced.
        seed: Seed of both runs.
    """
    from clutr.experiments.cli.demo import run_demo
    from clutr.experiments.training.threads import use_cores

    use_cores()
    run_demo(runs, seed)


def pretrain(args: Arguments) -> None:
    """Train a task manifold, print its health and keep it for the runs that want it."""
    domains = registered("domains")
    name = choose("domain", domains, domains.__getitem__, "pretrain", args)
    chosen, rest = take("preset", args[1:])
    if chosen is not None and (known := manifold_presets(name)) and chosen not in known:
        raise UsageError(no_such("preset", chosen, known))
    from clutr.experiments.display import console, say, work_display
    from clutr.experiments.plots.manifold_health import health_table
    from clutr.experiments.training import lookup
    from clutr.experiments.training import manifolds as manifold_files
    from clutr.experiments.training.threads import use_threads

    default = lookup.manifold_experiment(name, "fast" if chosen is None else chosen)

    def keep(
        domain: Any, manifold: Any, seed: int = 1, manifolds: Path | None = None, threads: int | None = None
    ) -> None:
        use_threads(threads)
        experiment = replace(default, domain=domain, manifold=manifold, manifold_seed=seed)
        shared = manifolds or manifold_files.manifold_cache()
        with work_display(f"pretraining {name} ({chosen or 'fast'})") as progress:
            path, health = manifold_files.pretrain(experiment, shared, progress, say)
        console.print(health_table(health))
        say(f"kept as {path}; runs of the same domain, manifold and seed use it")

    keep.__doc__ = f"""{first_line(pretrain)} --preset chooses the defaults: {", ".join(lookup.manifold_presets(name))}.

    Args:
        domain: The domain.
        manifold: The manifold.
        seed: Seed of the pretraining.
        manifolds: Where the manifold is kept; by default in the cache in which runs look for it.
        threads: Processor threads; by default one, the fastest for small networks.
    """
    run(f"pretrain {name}", keep, rest, domain=default.domain, manifold=default.manifold)


def train(args: Arguments) -> None:
    """Launch a curriculum experiment, a preset's or a config.yaml's; any field can be overridden."""
    look_at_training(args)
    from clutr.experiments.training.lookup import named_experiment

    name, experiment = named_experiment(args[0])
    preset, rest = with_parts(experiment, args[1:])
    seeds, rest = take("seeds", rest)
    if seeds is not None:
        from clutr.experiments.cli.many import train_seeds

        train_seeds(args[0], name, preset, seeds, rest)
        return

    def launch(
        options: "Experiment", run: Path | None = None, threads: int | None = None, track: tuple[str, ...] = ()
    ) -> None:
        """Launch a curriculum experiment, a preset's or a config.yaml's; any field can be overridden.

        `--manifold NAME` puts another task manifold under a curriculum that chooses latents, `--student NAME` lets
        another student play (`clutr list students`), `--backend rllib --address auto --runners N --learners M` trains
        on a cluster. `--seeds 1-5 --jobs 2` trains a run for each seed, two at a time (`--seeds 1-5 --help`).

        Args:
            options: What is trained.
            run: The run's directory; by default runs/PRESET-sSEED, or with the name of the file or its folder.
            threads: Cores to train on; by default all that there are. Results do not depend on it.
            track: Also send metrics to trackers: wandb, mlflow.
        """
        from clutr.experiments.api import new_run
        from clutr.experiments.training.trackers import trackers_of
        from clutr.experiments.training.train import left_if_begun

        trackers = trackers_of(track)
        made = new_run(options, run or RUNS / f"{name}-s{options.seed}")
        with left_if_begun(made):
            _train_on(made, threads, trackers)

    run(f"train {args[0]}", launch, rest, options=preset)


def with_parts(preset: "Experiment", args: Arguments) -> tuple["Experiment", list[str]]:
    """The preset with the parts that `--manifold`, `--student` and `--backend` name, and the arguments without these.

    With `--backend NAME`, `--runners 8` is read as `--backend.runners 8`, and so are the others in `SHORT`.
    """
    from clutr.experiments.training.lookup import override

    rest = list(args)
    for part in ("manifold", "student", "backend"):
        chosen, rest = take(part, rest)
        if chosen is not None:
            preset = override(preset, **{part: chosen})
            if part == "backend":
                backend: Any = preset.backend
                offered = {f"--{field.name}" for field in fields(backend) if field.name in SHORT}
                rest = [f"--backend.{arg[2:]}" if arg.partition("=")[0] in offered else arg for arg in rest]
    return preset, rest


@command("resume")
def resume(
    run: Path, /, total_steps: int | None = None, threads: int | None = None, track: tuple[str, ...] = ()
) -> None:
    """Continue a run from its newest checkpoint.

    Args:
        run: The run's directory.
        total_steps: Another budget, in environment steps of one student: a run that has finished goes on.
        threads: Cores to train on; by default all that there are. Results do not depend on it.
        track: Also send metrics to trackers: wandb, mlflow.
    """
    look_at_run(run)
    import clutr
    from clutr.experiments.display import say
    from clutr.experiments.training.extend import extend
    from clutr.experiments.training.trackers import trackers_of

    directory, trackers = clutr.load_run(run), trackers_of(track)
    if total_steps is not None:
        directory = extend(directory, total_steps, say)
    _train_on(directory, threads, trackers)


def _train_on(run: "RunDirectory", threads: int | None, trackers: "Sequence[Tracker]") -> None:
    from clutr.experiments.display import say
    from clutr.experiments.evaluation.runs import require_suite
    from clutr.experiments.training.manifolds import manifold_cache
    from clutr.experiments.training.threads import use_cores
    from clutr.experiments.training.train import train

    use_cores(threads)
    if train(run, manifold_cache(), say, trackers=trackers):
        suite = require_suite(run.domain(), None).name
        say(f"done: `clutr eval {run.path} --suite {suite}` tests it, `clutr report {run.path}` shows it")
    else:
        say(f"stopped: `clutr resume {run.path}` continues")


@dataclass(frozen=True)
class EvaluationOptions:
    """How a suite is played."""

    suite: str | None = None
    """The suite; by default its domain's first. `clutr list suites` names them."""
    episodes: int = 100
    """Episodes a level."""
    deterministic: bool = False
    """Take the most probable action instead of sampling."""
    seed: int = 1
    """Seed of levels and actions."""
    tracks: Path | None = None
    """Directory of the circuits' GeoJSON files, for --suite f1."""
    json: bool = False
    """Print one JSON object for machines."""


def evaluate(args: Arguments) -> None:
    """Zero-shot transfer: play a suite of levels that nobody trained on."""
    if any(arg.partition("=")[0] == "--sb3" for arg in args):
        _evaluate_model(args)
    else:
        run("eval", _evaluate_runs, args, options=EvaluationOptions())


def _evaluate_runs(
    runs: tuple[Path, ...], /, options: EvaluationOptions, cvar_levels: int = 0, checkpoint: int | None = None
) -> None:
    """Zero-shot transfer: play a suite of levels that nobody trained on.

    `clutr eval --sb3 MODEL.zip` tests a model of Stable-Baselines3 instead of a run.

    Args:
        runs: The runs' directories, or names of models that ship; several are shown side by side, and --json prints a
            line for each.
        options: How the suite is played.
        cvar_levels: With --suite random: also the solve rate on the worst of this many levels.
        checkpoint: Environment steps of the checkpoint that plays; by default the newest.
    """
    if not runs:
        raise UsageError("name at least one run: `clutr eval RUN`")
    for path in runs:
        look_at_suite(path, options.suite)
    import clutr
    from clutr.experiments.evaluation.runs import load_student, require_options
    from clutr.experiments.training.threads import use_cores

    use_cores()
    directories = {path: clutr.load_run(path) for path in dict.fromkeys(runs)}
    for directory in directories.values():  # whatever is refused is refused before any of them plays
        require_options(directory, options.suite, options.episodes, options.seed, cvar_levels)
        load_student(directory, checkpoint)
    results = [
        _play(directory, options, path=path, cvar_levels=cvar_levels, checkpoint=checkpoint)
        for path, directory in directories.items()
    ]
    _show(results, options.json)


_AS_IN_GYMNASIUM: dict[str, dict[str, Any]] = {"car": {"action_repeat": 1}}
"""Where the environments that such models know differ from what our students play."""


def _evaluate_model(args: Arguments) -> None:
    """Zero-shot transfer of a model that a Stable-Baselines3 script saved."""
    named, rest = take("domain", args)
    name, domains = "maze" if named is None else named, registered("domains")
    choose("domain", domains, domains.__getitem__, "eval --sb3 MODEL --domain", [name])
    model = take("sb3", rest)[0]
    with suppress(OSError):  # a name that is too long is told by who reads it
        if model and not expanded(model).exists():
            raise UsageError(f"there is no file {expanded(model)}")
    import clutr

    if {"-h", "--help"} & set(rest):
        rest = ["--help"]
    domain = clutr.DOMAINS[name](**_AS_IN_GYMNASIUM.get(name, {}))
    run("eval", _play_model, rest, options=EvaluationOptions(), domain=domain)


def _play_model(
    *, options: EvaluationOptions, domain: Any, sb3: Path, trust: bool = False, algorithm: str | None = None
) -> None:
    """Zero-shot transfer of a model that a Stable-Baselines3 script saved. --domain names the domain: maze or car.

    Args:
        options: How the suite is played.
        domain: The environments as the model knows them.
        sb3: What `model.save` wrote.
        trust: Load it, though loading runs code that the file holds.
        algorithm: What made it, such as ppo or sac; by default what it looks like.
    """
    from clutr.experiments.evaluation.own_policy import load_model

    if not trust:
        raise UsageError(
            "a model of Stable-Baselines3 is a zip file that runs code of its own when it is loaded: "
            + "add --trust if you know who made it"
        )
    policy, algorithm = load_model(sb3, domain, options.suite, algorithm)
    result = _play(policy, options, {"algorithm": algorithm, "domain": asdict(domain)}, sb3, domain=domain)
    _show([result], options.json)


def _play(
    player: Any, options: EvaluationOptions, about: dict[str, Any] | None = None, path: Path = RUNS, **more: Any
) -> dict[str, Any]:
    """Evaluate a run or a policy that is called `path`; the result has `about` in its summary."""
    import clutr

    if options.tracks is not None:
        from clutr.envs.car.road.circuits import use_tracks

        use_tracks(options.tracks)
    more |= {"deterministic": options.deterministic, "seed": options.seed, "progress": not options.json}
    result = clutr.evaluate(player, options.suite, options.episodes, **more)
    result["run"], result["summary"] = str(path), result["summary"] | (about or {})
    return result


def _show(results: Sequence[dict[str, Any]], json: bool) -> None:
    """Evaluations as tables, one for each suite, or as a line of JSON each."""
    from clutr.experiments.display import console
    from clutr.experiments.evaluation.tables import cvar_table, evaluation_table

    if json:
        print("\n".join(map(dumps, results)))
        return
    names = [Path(result["run"]).name for result in results]
    suites: dict[str, dict[str, Any]] = {}
    for name, result in zip(names, results, strict=True):
        column = name if names.count(name) == 1 else result["run"]
        suites.setdefault(result["suite"], {})[column] = result
    for columns in suites.values():
        console.print(evaluation_table(columns))
        worst = {name: found["summary"]["cvar"] for name, found in columns.items() if "cvar" in found["summary"]}
        if worst:
            console.print(cvar_table(worst))


@command("compare")
def compare(
    runs: tuple[Path, ...],
    /,
    suite: str | None = None,
    deterministic: bool = False,
    any_steps: bool = False,
    evaluate: bool = False,
    output: Path | None = None,
    figures: Path | None = None,
    json: bool = False,
) -> None:
    """Methods side by side, with confidence intervals. Runs that differ in their seed alone are one method.

    Of each run's evaluations those are used that match: of the newest steps, then the most episodes, that all have.

    Args:
        runs: The runs' directories; the first one's method is the baseline.
        suite: The suite, by default the domain's first; run `clutr eval` on it first.
        deterministic: Compare evaluations of the most probable actions instead of sampled ones.
        any_steps: Compare each run's newest evaluation, though the runs have trained for different numbers of steps.
        evaluate: Evaluate runs first whose newest checkpoint has not been.
        output: Also write a self-contained HTML page with table and curves here.
        figures: Also write figures (PDF, SVG, PNG) and tables (LaTeX, Markdown, CSV) for papers into this directory.
        json: Print one JSON object for machines.
    """
    for path in runs:
        look_at_suite(path, suite)
    if output is not None:
        as_output(output, "Nothing was compared.")
    if figures is not None:
        require_writable(as_directory(figures), "Nothing was compared.")
    import clutr
    from clutr.experiments.display import console, say
    from clutr.experiments.evaluation.tables import comparison_table, cvar_table
    from clutr.experiments.reports.run_report import build_comparison

    options = {"deterministic": deterministic, "any_steps": any_steps}
    comparison = clutr.compare(runs, suite, evaluate=evaluate, progress=evaluate and not json, **options)
    if output is not None:
        build_comparison(comparison.to_json(), [clutr.load_run(path) for path in runs], output)
    if figures is not None:
        written = clutr.write_figures(comparison, figures, command=shlex.join(["clutr", *sys.argv[1:]]))
    if json:
        print(dumps(comparison.to_json()))
        return
    console.print(comparison_table(comparison))
    if comparison.cvar:
        console.print(cvar_table(comparison.cvar))
    if output is not None:
        say(f"open {output}")
    if figures is not None:
        say(f"{len(written)} files in {figures}; {figures / 'captions.md'} says what they show")


@command("report")
def report(run: Path, /, beside: tuple[Path, ...] = ()) -> None:
    """Write one self-contained HTML file that shows a run.

    Args:
        run: The run's directory.
        beside: Other runs to show in the same curves and tables.
    """
    for path in (run, *beside):
        look_at_run(path)
    import clutr
    from clutr.experiments.display import say

    say(f"open {clutr.report(run, beside)}")


@command("export")
def export(run: Path, /, output: Path = Path("student.onnx")) -> None:
    """Write a student as an ONNX file, which runs without this library, checked against the student.

    Args:
        run: The run's directory.
        output: The file.
    """
    look_at_run(run)
    import clutr
    from clutr.experiments.display import say

    path = clutr.export(run, output)
    say(f"{path}: {path.stat().st_size / 1e6:.2f} MB, checked on onnxruntime against the student")


@command("probe")
def probe(run: Path, /, levels: int = 128, seed: int = 1) -> None:
    """Probe what a run's students look at, know and use, and write one self-contained HTML file.

    Args:
        run: The run's directory, or the name of a student that ships; for a world model see `clutr world probe`.
        levels: Random levels that each student plays once.
        seed: Seed of levels, actions and splits.
    """
    look_at_run(run)
    import clutr
    from clutr.experiments.display import say, work_display
    from clutr.experiments.reports.student_probes import build_student_page, probe_students

    directory = clutr.load_run(run)
    with work_display("probing students") as progress:
        probe_students(directory, levels, seed, progress)
    say(f"open {build_student_page(directory)}; the numbers are in {directory.path / 'probes'}")


@command("inspect")
def inspect(
    runs: tuple[Path, ...],
    /,
    port: int = 8642,
    host: str = "127.0.0.1",
    remote: bool = False,
    browser: bool = True,
    manifolds: Path | None = None,
) -> None:
    """A live page on world models and curriculum runs: dream, steer, change latents, decode tasks, watch students.

    Any run can be opened, finished or in training; one that cannot is shown with its error beside the others.

    Args:
        runs: Directories of world models and of curriculum runs, or names of models that ship, a tab each.
        port: Where the page is served.
        host: The address; others than this machine's own need --remote.
        remote: Allow an address that other machines can reach: whoever reaches the page can use it.
        browser: Open the page in a browser.
        manifolds: Where pretrained manifolds are kept; by default in the cache in which runs look for them.
    """
    if not runs:
        raise UsageError("name at least one run: `clutr inspect RUN`")
    if find_spec("nicegui") is None:
        raise UsageError('the live page needs NiceGUI: pip install "clutr[inspect]"')
    from clutr.experiments.cli.world import directory_of
    from clutr.experiments.display import say
    from clutr.experiments.live.page import require_address, serve
    from clutr.experiments.live.sessions import Refused, open_sessions
    from clutr.experiments.training.manifolds import manifold_cache

    require_address(host, port, remote)
    sessions = open_sessions(runs, manifolds or manifold_cache(), directory_of)
    for each in sessions:
        if isinstance(each, Refused):
            say(f"not opened: {each.reason}")
    address = f"[{host}]" if ":" in host else host
    say(f"open http://{address}:{port} (Ctrl+C ends it)")
    serve(sessions, host, port, browser, remote)
