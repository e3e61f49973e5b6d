"""The commands for curriculum runs: pretrain, train, resume, report, export, probe, inspect."""

from collections.abc import Sequence
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clutr.envs.registry import no_such
from clutr.experiments.cli.arguments import Arguments, UsageError, choose, command, first_line, run, take
from clutr.experiments.cli.first_look import look_at_training
from clutr.experiments.cli.names import manifold_presets, registered
from clutr.experiments.directories import look_at_run

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
