"""The health of each kind of task manifold after its preset's pretraining, for mazes and for cars, on one core.

Run as `OMP_NUM_THREADS=1 python -m clutr.experiments.studies.manifold_health [WORLD-PRESET...]`, such as
`maze-ariel`; writes one JSON file a row, `experiments/results/manifold/health-WORLD-KIND.json`.
"""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.training.presets import manifold_experiment
from clutr.manifold.base import MANIFOLDS
from clutr.manifold.pretrain import NetworkPretraining

SEED = 1
RESULTS = Path(__file__).parents[1] / "results" / "manifold"
ROWS = [
    f"{domain}-{preset}" for domain in ("maze", "car") for preset in ("fast", "ariel", "combinatorial", "recurrent")
]

SHORTENED: dict[str, dict[str, Any]] = {"maze-recurrent": {"iterations": 1_000, "kl_middle": 350.0, "kl_width": 100.0}}
"""Rows that train for a part of their preset's steps, schedules shrunk to match: this one takes minutes as it is."""


def measure_row(name: str) -> dict[str, Any]:
    """Pretrain and measure one row."""
    domain_name, _, preset = name.partition("-")
    experiment = manifold_experiment(domain_name, preset)
    config, domain = experiment.manifold, experiment.domain
    assert config is not None
    config = replace(config, **SHORTENED.get(name, {}))  # type: ignore[type-var]  # every configuration is a dataclass
    manifold = config.build(domain, SEED)
    training = config.pretraining(manifold, domain, SEED)
    start = time.perf_counter()
    if isinstance(training, NetworkPretraining):
        while not training.done:
            training.step()
    trained = time.perf_counter()
    training.run(lambda *_: None)
    return {
        "row": name,
        "kind": MANIFOLDS.name_of(type(config)),
        "manifold": type(config).__name__,
        "config": asdict(config),  # type: ignore[call-overload]  # every configuration is a dataclass
        "domain": asdict(domain),  # type: ignore[call-overload]  # so is every domain
        "seed": SEED,
        "dim": manifold.dim,
        "pretraining_seconds": trained - start,
        "measuring_seconds": time.perf_counter() - trained,
        "machine": describe_machine(),
        "health": manifold.health(),
    }


def main() -> None:
    """Measure the rows named on the command line, or all."""
    torch.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or ROWS:
        row = measure_row(name)
        domain_name = name.partition("-")[0]
        (RESULTS / f"health-{domain_name}-{row['kind']}.json").write_text(json.dumps(row, indent=1) + "\n")
        uniform = row["health"]["prior_uniform"]
        numbers = {key: uniform[key] for key in ("agreement", "hole_rate", "validity", "unique", "coverage")}
        print(name, f"{row['pretraining_seconds']:.0f} s", row["health"]["recovery"], numbers, flush=True)


if __name__ == "__main__":
    main()
