"""Several runs by one command: seeds of one experiment, and sweeps over options."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clutr.experiments.cli.arguments import command, run

if TYPE_CHECKING:
    from clutr.experiments.config import Experiment

RUNS = Path("runs")


@dataclass(frozen=True)
class ManyOptions:
    """How several runs are trained."""

    jobs: int = 1
    """Runs that train at the same time."""
    threads: int | None = None
    """Cores of each run; by default those of this machine divided by the jobs. Results do not depend on it."""
    ray: str | None = None
    """Train as tasks of a Ray cluster: its address, auto for this machine's, local for one that is made here."""


def train_seeds(source: str, name: str, preset: "Experiment", seeds: str, args: list[str]) -> None:
    """`clutr train PRESET --seeds 1-5`: the experiment with each of the seeds.

    Args:
        source: what the experiment came from, for help.
        name: what its runs are called.
        preset: the experiment.
        seeds: in words.
        args: the other arguments.
    """
    from clutr.experiments.training.seeds import parse_seeds

    numbers = parse_seeds(seeds)

    def launch(options: "Experiment", many: ManyOptions, run: Path | None = None) -> None:
        """Train a run for each seed, each in a process of its own. The same command again goes on with all of them.

        Args:
            options: What is trained; its seed is replaced.
            many: How several runs are trained.
            run: The runs' directories begin with this; by default runs/PRESET. -s1 and so on follow.
        """
        begin = run or RUNS / name
        _train_all({Path(f"{begin}-s{seed}"): replace(options, seed=seed) for seed in numbers}, many)

    run(f"train {source} --seeds {seeds}", launch, args, options=preset, many=ManyOptions())


@command("sweep", options="clutr.experiments.cli.many:ManyOptions")
def sweep(file: Path, /, options: ManyOptions, runs: Path | None = None, dry: bool = False) -> None:
    """Train every combination of a YAML file's options and seeds, on this machine or on Ray, with one progress table.

    The file names a `base` (a preset or a config.yaml), and a `grid` or `random` values of options. The same command
    again goes on with what has not finished.

    Args:
        file: The sweep's file.
        options: How several runs are trained.
        runs: Where the runs go; by default runs/FILE.
        dry: Only list the runs and what would be trained.
    """
    from clutr.experiments.directories import look_at_options

    look_at_options(file)
    from clutr.experiments.display import say
    from clutr.experiments.training.sweep_file import read_sweep

    experiments = read_sweep(file)
    root = runs or RUNS / file.stem
    if dry:
        for name, experiment in experiments.items():
            say(f"{root / name}  {experiment.total_steps:,} steps")
        return
    _train_all({root / name: experiment for name, experiment in experiments.items()}, options)


def _train_all(experiments: "Mapping[Path, Experiment]", options: ManyOptions) -> None:
    from clutr.experiments.display import console, say
    from clutr.experiments.storage import RunError
    from clutr.experiments.training.many_display import many_display, status_table
    from clutr.experiments.training.many_runs import last_words, on_ray, on_this_machine, prepare_runs, train_many
    from clutr.experiments.training.threads import use_cores

    use_cores()  # of the pretraining
    threads = options.threads or max(1, (os.cpu_count() or 1) // max(1, options.jobs))
    launch = on_this_machine(threads) if options.ray is None else on_ray(options.ray, threads)
    directories = prepare_runs(experiments, say)
    with many_display() as show:
        statuses = train_many(directories, options.jobs, launch, show)
    console.print(status_table(statuses))
    failed = [status.run for status in statuses if status.state == "failed"]
    if failed:
        raise RunError(
            f"{len(failed)} of {len(statuses)} runs failed; of {failed[0].path}/train.log the last line is: "
            + f"{last_words(failed[0])}. The same command goes on with them"
        )
    if any(status.state != "done" for status in statuses):
        say("stopped: the same command goes on with all of them")
        raise KeyboardInterrupt
    paths = [str(status.run.path) for status in statuses]
    begin = os.path.commonprefix(paths)  # noqa: RUF071 (letter by letter is meant: a shell expands what follows)
    say(f"done: `clutr compare {begin}{'*' * (len(paths) > 1)} --evaluate` puts them side by side")
