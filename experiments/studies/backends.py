"""Do students learn the same on Ray as in one process? The same preset and seeds on both, beside the noise of seeds.

    python -m clutr.experiments.studies.backends OUT [--preset maze-dr] [--steps 1000000] [--seeds 5] [--runners 2]
        [--learners 0]

Writes OUT/curves.csv (backend, seed, steps, return, solved), OUT/curves.svg and OUT/results.md. Runs that are finished
are left alone, and those that were interrupted go on.

Random draws are the same on both backends, so they begin alike; where rounding differs, as it does with several
learners and may with several runners, they part after a while, as two seeds do. The check compares the mean of each
half of training over seeds: the difference between backends with a 95% interval of paired differences, beside the
standard deviation between seeds.
"""

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student_t

from clutr.agents.backend import NativeBackend
from clutr.agents.rllib import RLlibBackend
from clutr.experiments.config import Experiment
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import write_atomically
from clutr.experiments.training.manifolds import prepare_manifold
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.runner import Runner

QUANTITIES = ("mean_return", "solved")


@dataclass(frozen=True)
class Difference:
    """Of two backends in one quantity over one half of training."""

    native: float
    rllib: float
    low: float
    high: float
    """Ends of the 95% interval of the mean paired difference, rllib less native."""
    seeds: float
    """Standard deviation between the seeds of the native backend."""

    @property
    def agrees(self) -> bool:
        """Whether the interval holds 0."""
        return self.low <= 0 <= self.high


def difference(native: np.ndarray, rllib: np.ndarray) -> Difference:
    """Compare means of runs, `[seeds]` each in the same order. Raises `ValueError` for fewer than two seeds."""
    if len(native) < 2:
        raise ValueError("an interval needs at least two seeds")
    paired = rllib - native
    reach = float(student_t.ppf(0.975, len(paired) - 1)) * float(paired.std(ddof=1)) / len(paired) ** 0.5
    middle = float(paired.mean())
    return Difference(
        float(native.mean()), float(rllib.mean()), middle - reach, middle + reach, float(native.std(ddof=1))
    )


def train(experiment: Experiment, path: Path, manifolds: Path) -> RunDirectory:
    """Finish a run."""
    exists = (path / "config.yaml").exists()
    run = RunDirectory(path) if exists else RunDirectory.create(path, experiment)
    manifold = None if experiment.manifold is None else prepare_manifold(run, manifolds, lambda *_: None)
    runner = Runner(run, manifold)
    if runner.steps < experiment.total_steps:
        runner.train()
    return run


def halves(values: np.ndarray) -> tuple[float, float]:
    """Means of the first and the second half, without what is missing."""
    middle = len(values) // 2
    return float(np.nanmean(values[:middle])), float(np.nanmean(values[middle:]))


def draw(curves: dict[str, list[dict[str, np.ndarray]]], path: Path) -> None:
    """A panel for each quantity: thin lines are seeds, thick ones their means."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    figure = Figure(figsize=(10, 4), layout="constrained")
    for plot, quantity in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES, strict=True):
        for (backend, runs), colour in zip(curves.items(), ("#0072b2", "#d55e00"), strict=True):
            for run in runs:
                plot.plot(run["steps"], run[quantity], color=colour, linewidth=0.5, alpha=0.5)
            mean = np.mean([run[quantity] for run in runs], axis=0)
            plot.plot(runs[0]["steps"], mean, color=colour, linewidth=2, label=backend)
        plot.set(xlabel="environment steps", ylabel=quantity.replace("_", " "))
        plot.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def report(curves: dict[str, list[dict[str, np.ndarray]]], about: str) -> str:
    """The table of differences as Markdown."""
    lines = ["# Learning curves in one process and on Ray", "", about, ""]
    lines += ["| quantity | half | native | rllib | difference (95% interval) | between seeds | agree |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: | --- |"]
    for quantity in QUANTITIES:
        for half, name in enumerate(("first", "second")):
            native, rllib = (
                np.array([halves(run[quantity])[half] for run in curves[backend]]) for backend in ("native", "rllib")
            )
            found = difference(native, rllib)
            interval = f"{found.rllib - found.native:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
            cells = [quantity.replace("_", " "), name, f"{found.native:.4f}", f"{found.rllib:.4f}", interval]
            lines.append(f"| {' | '.join(cells)} | {found.seeds:.4f} | {'yes' if found.agrees else 'no'} |")
    return "\n".join([*lines, "", "![learning curves](curves.svg)", ""])


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="maze-dr")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runners", type=int, default=2)
    parser.add_argument("--learners", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backends: dict[str, Any] = {
        "native": NativeBackend(),
        "rllib": RLlibBackend(runners=options.runners, learners=options.learners),
    }
    curves: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in backends}
    rows: list[dict[str, Any]] = []
    for seed in range(1, options.seeds + 1):
        for name, backend in backends.items():
            experiment = replace(
                PRESETS[options.preset], backend=backend, seed=seed, total_steps=options.steps, evaluate_every=0
            )
            run = train(experiment, options.out / "runs" / f"{name}-s{seed}", options.out / "manifolds")
            columns = run.metrics()
            student = next(column.partition("/")[0] for column in columns if column.endswith("/mean_return"))
            curve = {"steps": columns["steps"]} | {q: columns[f"{student}/{q}"] for q in QUANTITIES}
            curves[name].append(curve)
            points = zip(*curve.values(), strict=True)
            rows += [{"backend": name, "seed": seed} | dict(zip(curve, point, strict=True)) for point in points]
            print(f"{name}, seed {seed}: done", flush=True)
    with (options.out / "curves.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw(curves, options.out / "curves.svg")
    about = (
        f"Preset `{options.preset}`, {options.steps:,} steps, seeds 1 to {options.seeds}; {options.runners} runners, "
        + f"{options.learners or 'no'} learners of their own. Mean return and solve rate of training episodes."
    )
    write_atomically(options.out / "results.md", report(curves, about).encode())


if __name__ == "__main__":
    main()
