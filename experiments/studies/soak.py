"""Training on Ray while runners are killed every minute: the driver's memory, and whether all levels are accounted for.

    python -m clutr.experiments.studies.soak OUT [--minutes 60] [--runners 2] [--preset maze-plr] [--kill-every 60]

Trains the preset on the backend rllib for so many minutes. Every `--kill-every` seconds a runner, chosen at random,
gets SIGKILL at some point of an update. Writes OUT/memory.csv (seconds, update, resident and private bytes of the
driver; kills, shards lost, levels given and levels played so far) and OUT/results.json: the slopes of the memory with
95% intervals, and whether all levels that were given were played once. The first fifth of the time, while caches fill,
is left out of the slopes.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student_t

from clutr.agents.rllib import RLlibBackend
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import write_atomically
from clutr.experiments.training.manifolds import prepare_manifold
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.runner import Runner, UpdateReport

WARM_UP = 0.2
"""Shard of the time that the slope leaves out."""
BLOCKS = 20
"""Means of so many stretches of time are what the slope is fitted to: they are nearly independent."""


def resident_bytes() -> tuple[int, int]:
    """Of this process: all, and what it shares with no other (Ray's object store is shared)."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    page = os.sysconf("SC_PAGE_SIZE")
    return resident * page, (resident - shared) * page


def slope(seconds: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """Least-squares slope of values per second, and the ends of its 95% interval, from means of `BLOCKS` stretches.

    Raises `ValueError` for fewer than three stretches with a value.
    """
    edges = np.linspace(seconds[0], seconds[-1], BLOCKS + 1)[1:-1]
    block = np.searchsorted(edges, seconds)
    means = [(seconds[block == b].mean(), values[block == b].mean()) for b in np.unique(block)]
    if len(means) < 3:
        raise ValueError("too short for a slope: fewer than three stretches of time have a measurement")
    x, y = (np.array(column) for column in zip(*means, strict=True))
    centred = x - x.mean()
    found = float((centred * y).sum() / (centred**2).sum())
    residual = y - y.mean() - found * centred
    error = float(np.sqrt((residual**2).sum() / (len(x) - 2) / (centred**2).sum()))
    reach = float(student_t.ppf(0.975, len(x) - 2)) * error
    return found, found - reach, found + reach


class Soak:
    """Watches a run, and kills its runners."""

    def __init__(self, runner: Runner, out: Path, minutes: float, kill_every: float) -> None:
        self.runner, self.minutes, self.kill_every = runner, minutes, kill_every
        self.cluster = next(iter(runner.students.values())).cluster  # type: ignore[attr-defined]
        self.started, self.kills, self.stall = time.monotonic(), 0, 0.0
        self.last = self.started
        self.killers: list[subprocess.Popen[bytes]] = []
        self.rows: list[dict[str, Any]] = []
        self.out, self.rng = out, random.Random(1)

    def __call__(self, report: UpdateReport) -> None:
        """After each update."""
        now = time.monotonic()
        self.stall, self.last = max(self.stall, now - self.last), now
        ledger, (resident, private) = self.cluster.ledger, resident_bytes()
        self.rows.append(
            {
                "seconds": round(now - self.started, 3),
                "update": report.update,
                "resident_bytes": resident,
                "private_bytes": private,
                "kills": self.kills,
                "lost": ledger.lost,
                "given": ledger.given,
                "played": ledger.played,
            }
        )
        if now - self.started > self.kill_every * (self.kills + 1):
            self._kill()
        self.runner.stop_requested = now - self.started > 60 * self.minutes

    def _kill(self) -> None:
        """The victim dies in the next rollout: a process elsewhere sends the signal a little later."""
        processes = self.cluster.runners.foreach_env_runner(lambda _: os.getpid(), local_env_runner=False)
        if processes:
            victim, delay = self.rng.choice(processes), self.rng.uniform(0, self.typical_update())
            self.killers.append(subprocess.Popen(["sh", "-c", f"sleep {delay}; kill -9 {victim}"]))
            self.kills += 1
        self.killers = [killer for killer in self.killers if killer.poll() is None]

    def typical_update(self) -> float:
        """Seconds."""
        times = np.diff([row["seconds"] for row in self.rows[-20:]])
        return float(np.median(times)) if len(times) else 0.0

    def write(self) -> dict[str, Any]:
        """Write what was measured, and return the results."""
        with (self.out / "memory.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
        seconds = np.array([row["seconds"] for row in self.rows])
        late = seconds > WARM_UP * seconds[-1]
        memory: dict[str, Any] = {}
        for kind in ("resident", "private"):
            mib = np.array([row[f"{kind}_bytes"] for row in self.rows]) / 2**20
            middle, low, high = (3600 * each for each in slope(seconds[late], mib[late]))
            memory |= {f"{kind}_mib_at_end": mib[-1], f"{kind}_mib_per_hour": middle}
            memory |= {f"{kind}_mib_per_hour_interval": [low, high]}
        ledger = self.cluster.ledger
        results = {
            "machine": describe_machine(),
            "minutes": seconds[-1] / 60,
            "updates": len(self.rows),
            "runners_killed": self.kills,
            "shares_lost_and_replayed": ledger.lost,
            "levels_given": ledger.given,
            "levels_played": ledger.played,
            "all_levels_accounted_for": ledger.balanced,
            "longest_update_seconds": self.stall,
        } | memory
        write_atomically(self.out / "results.json", json.dumps(results, indent=1).encode())
        return results


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--runners", type=int, default=2)
    parser.add_argument("--preset", default="maze-plr")
    parser.add_argument("--kill-every", type=float, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    experiment = replace(
        PRESETS[options.preset],
        backend=RLlibBackend(runners=options.runners),
        total_steps=10**12,
        evaluate_every=0,
    )
    run = RunDirectory.create(options.out / "run", experiment)
    manifold = None
    if experiment.manifold is not None:
        manifold = prepare_manifold(run, options.out / "manifolds", lambda *_: None)
    runner = Runner(run, manifold)
    soak = Soak(runner, options.out, options.minutes, options.kill_every)
    runner.train(soak)
    print(json.dumps(soak.write(), indent=1))


if __name__ == "__main__":
    main()
