"""What two runs that train side by side make together, beside one run that has all cores to itself."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from clutr.envs.workers import worker_count
from clutr.experiments.benchmarks.measurement import Measurement
from clutr.experiments.metrics import MetricsFile
from clutr.experiments.storage import RunError

PRESET = "maze-dr"
WINDOW = 20.0
"""Seconds over which updates are counted, once every run has trained for two."""
ROUNDS = 3
"""One run, then two, so often: another program's burst does not decide."""
POLL = 0.01

Sample = tuple[float, float]
"""When an update was seen to be finished, in seconds, and the steps of the run until then."""


def run(progress: Callable[[str], None]) -> list[Measurement]:
    """Measure whole processes of `clutr train`, started as a person would. Needs about three minutes."""
    found: dict[int, list[float]] = {1: [], 2: []}
    for number in range(ROUNDS):
        for runs, speeds in found.items():
            progress(f"round {number + 1} of {ROUNDS}: {runs} at once")
            speeds.append(steps_per_second(runs))
    # the rounds' pairs are neighbours in time; the middle one of their ratios is reported, with its own speeds
    pairs = sorted(zip(found[1], found[2], strict=True), key=lambda pair: pair[1] / pair[0])
    alone, together = pairs[len(pairs) // 2]
    cores = f"{worker_count()} cores"
    what = f"two runs of {PRESET} side by side on {cores}, together"
    return [Measurement.beside(what, together, "steps/s", f"one run on {cores}", alone)]


def steps_per_second(runs: int) -> float:
    """Environment steps per second of so many runs together, while all of them train.

    Raises:
        RunError: if one of them ends.
    """
    with tempfile.TemporaryDirectory(prefix="clutr-bench-") as folder:
        paths = [Path(folder) / f"run-{number}" for number in range(runs)]
        processes = [start(path, seed) for seed, path in enumerate(paths, 1)]
        try:
            return sum(map(rate, watch(paths, processes)))
        finally:
            for process in processes:
                process.kill()
                process.wait()


def start(path: Path, seed: int) -> "subprocess.Popen[bytes]":
    """A training that does not end by itself, without evaluations, with the default threads."""
    command = "import sys; from clutr.experiments.cli.main import main; sys.exit(main())"
    options = ["--run", str(path), "--seed", str(seed), "--total-steps", str(10**9), "--evaluate-every", "0", "--quiet"]
    return subprocess.Popen([sys.executable, "-c", command, "train", PRESET, *options], stderr=subprocess.DEVNULL)


def watch(paths: Sequence[Path], processes: "Sequence[subprocess.Popen[bytes]]") -> list[list[Sample]]:
    """The updates of each run in a window that begins when all have made two. Raises `RunError` if one ends."""
    samples: list[list[Sample]] = [[] for _ in paths]
    begun: float | None = None
    while begun is None or time.perf_counter() < begun + WINDOW or any(len(seen) < 2 for seen in samples):
        time.sleep(POLL)
        for path, process, seen in zip(paths, processes, samples, strict=True):
            if process.poll() is not None:
                raise RunError(f"a run ended with status {process.returncode} while it was measured")
            steps = [float(row["steps"]) for row in MetricsFile(path / "metrics.csv").rows()]
            enough = len(steps) >= 2 if begun is None else len(steps) > 0
            if enough and (not seen or steps[-1] > seen[-1][1]):
                seen.append((time.perf_counter(), steps[-1]))
        if begun is None and all(samples):
            begun = time.perf_counter()
            samples = [seen[-1:] for seen in samples]
    return samples


def rate(samples: Sequence[Sample]) -> float:
    """Steps per second between the first and the last update that were seen."""
    (first, before), (last, after) = samples[0], samples[-1]
    return (after - before) / (last - first)
