"""The health of each kind of task manifold after its preset's pretraining, for mazes and for cars, on one core.

Run as `OMP_NUM_THREADS=1 python -m clutr.experiments.studies.manifold_health [WORLD-PRESET...]`, such as
`maze-ariel`; writes one JSON file a row, `experiments/results/manifold/health-WORLD-KIND.json`, and all rows side by
side in `health.md`. An interrupted row goes on where it was: the state of its training is kept in the user's cache of
manifolds.
"""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.storage import load_state, save_state
from clutr.experiments.training.lookup import manifold_experiment
from clutr.experiments.training.manifolds import manifold_cache
from clutr.manifold.base import MANIFOLDS
from clutr.manifold.pretrain import NetworkPretraining

SEED = 1
RESULTS = Path(__file__).parents[1] / "results" / "manifold"
ROWS = [
    f"{domain}-{preset}" for domain in ("maze", "car") for preset in ("fast", "ariel", "combinatorial", "recurrent")
]
VARIANTS: dict[str, dict[str, Any]] = {
    "softmax": {"law": "softmax"},
    "unsupervised": {"supervision": 0.0, "decoder_joins": 0.0},
}
"""Rows that differ from the preset `recurrent` in these options."""
ABLATIONS = ["maze-shuffled", "car-shuffled", "car-softmax", "car-unsupervised"]
"""Two things differ between a hazard on sorted tasks and a softmax on shuffled ones, so a row between them has a
softmax on sorted ones. The last row trains the map from the latent through the decoder alone."""
SAVE_EVERY_SECONDS = 30.0


def train(training: NetworkPretraining[Any], unfinished: Path) -> float:
    """Train to the end, going on from `unfinished` if it is there; returns processor seconds, those before included."""
    before = 0.0
    if unfinished.exists():
        kept = load_state(unfinished)
        training.load_state_dict(kept["training"])
        before = kept["seconds"]
    start = saved = time.process_time()
    while not training.done:
        training.step()
        now = time.process_time()
        if now - saved > SAVE_EVERY_SECONDS:
            save_state(unfinished, {"training": training.state_dict(), "seconds": before + now - start})
            saved = now
    return before + time.process_time() - start


def measure_row(name: str) -> dict[str, Any]:
    """Pretrain and measure one row."""
    domain_name, _, preset = name.partition("-")
    experiment = manifold_experiment(domain_name, "recurrent" if preset in VARIANTS else preset)
    config, domain = experiment.manifold, experiment.domain
    assert config is not None
    config = replace(config, **VARIANTS.get(preset, {}))  # type: ignore[type-var]  # every configuration is a dataclass
    manifold = config.build(domain, SEED)
    training = config.pretraining(manifold, domain, SEED)
    unfinished = manifold_cache() / f"health-{name}.unfinished"
    seconds = train(training, unfinished) if isinstance(training, NetworkPretraining) else 0.0
    start = time.process_time()
    training.run(lambda *_: None)
    unfinished.unlink(missing_ok=True)
    return {
        "row": name,
        "kind": MANIFOLDS.name_of(type(config)),
        "manifold": type(config).__name__,
        "config": asdict(config),  # type: ignore[call-overload]  # every configuration is a dataclass
        "domain": asdict(domain),  # type: ignore[call-overload]  # so is every domain
        "seed": SEED,
        "dim": manifold.dim,
        "pretraining_seconds": seconds,
        "measuring_seconds": time.process_time() - start,
        "machine": describe_machine(),
        "health": manifold.health(),
    }


COLUMNS: dict[str, tuple[str, ...]] = {
    "goal and agent": ("recovery_at_25", "tail_exact"),
    "recall": ("recovery_at_25", "set_recall"),
    "precision": ("recovery_at_25", "set_precision"),
    "exact": ("recovery", "task_exact"),
    "agreement": ("prior_uniform", "agreement"),
    "returns": ("prior_uniform", "returns"),
    "validity": ("prior_uniform", "validity"),
    "coverage": ("prior_uniform", "coverage"),
    "smoothness": ("smoothness", "rank_correlation"),
}
"""Of the table: where each number is in a health. Tasks without 25 members stand with their recovery over all tasks."""


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows, by name, as a Markdown table; what a manifold does not have is left out."""
    lines = [
        "| manifold | iterations | seconds | latent | " + " | ".join(COLUMNS) + " |",
        "|---" * (4 + len(COLUMNS)) + "|",
    ]
    for name, row in sorted(rows.items()):
        health = {"recovery_at_25": row["health"]["recovery"], **row["health"]}
        numbers = [health[group].get(key) for group, key in COLUMNS.values()]
        cells = ["" if number is None else f"{number:.3f}" for number in numbers]
        iterations = row["config"].get("iterations", "")
        about = [name, f"{iterations}", f"{row['pretraining_seconds']:.0f}", f"{row['dim']}"]
        lines.append("| " + " | ".join(about + cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the rows named on the command line, or all."""
    torch.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or ROWS + ABLATIONS:
        row = measure_row(name)
        domain_name, _, preset = name.partition("-")
        variant = f"-{preset}" if name in ABLATIONS else ""
        (RESULTS / f"health-{domain_name}-{row['kind']}{variant}.json").write_text(json.dumps(row, indent=1) + "\n")
        uniform = row["health"]["prior_uniform"]
        numbers = {key: uniform[key] for key in ("agreement", "hole_rate", "validity", "unique", "coverage")}
        print(name, f"{row['pretraining_seconds']:.0f} s", row["health"]["recovery"], numbers, flush=True)
        files = {path.stem.removeprefix("health-"): path for path in RESULTS.glob("health-*.json")}
        (RESULTS / "health.md").write_text(table({name: json.loads(path.read_text()) for name, path in files.items()}))


if __name__ == "__main__":
    main()
