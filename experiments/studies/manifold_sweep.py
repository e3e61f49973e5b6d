"""Which task VAE, at equal pretraining time on two cores? Decides the default and records the sorting ablation.

Run as `python -m clutr.experiments.studies.manifold_sweep SECONDS [NAME...]`; writes one JSON file a row. With 0
seconds a row trains for its configured number of gradient steps: so the rows of cars are compared.
"""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from clutr.envs.car.domain import CarDomain
from clutr.envs.domain import Domain
from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.manifold.pretrain import pretrain
from clutr.manifold.recurrent_vae import CLUTR_PAPER, RecurrentVAEConfig
from clutr.manifold.set_vae import SetVAEConfig

SEED = 1
RESULTS = Path(__file__).parents[1] / "results" / "manifold"
TIMED_STEPS = 30
FULL_SIZE = MazeDomain()
SMALL = MazeDomain(9, 9, 25)
ROADS = CarDomain()

Config = SetVAEConfig | RecurrentVAEConfig
RECURRENT = RecurrentVAEConfig(batch_size=128, learning_rate=2e-3)
SHORT = replace(RECURRENT, iterations=800, kl_middle=280.0, kl_width=80.0)
ROWS: dict[str, tuple[MazeDomain | CarDomain, Config]] = {
    "set-kl-0.05": (FULL_SIZE, SetVAEConfig()),
    "set-kl-0.2": (FULL_SIZE, SetVAEConfig(kl_weight=0.2)),
    "recurrent": (FULL_SIZE, RECURRENT),
    "recurrent-shuffled": (FULL_SIZE, replace(RECURRENT, shuffle=True)),
    "set-small-world": (SMALL, SetVAEConfig()),
    "recurrent-fast-steps": (FULL_SIZE, replace(RECURRENT, learning_rate=5e-3)),
    # Fresh tasks instead of the published fixed million, of which such a short training would not see a tenth.
    "recurrent-paper": (FULL_SIZE, replace(CLUTR_PAPER, corpus_size=0)),
    "recurrent-small-world": (SMALL, RECURRENT),
    "set-kl-0.5": (FULL_SIZE, SetVAEConfig(kl_weight=0.5)),
    "car-set": (ROADS, SetVAEConfig(iterations=1_500)),
    "car-set-48": (ROADS, SetVAEConfig(iterations=1_500, latent=48)),
    "car-recurrent": (ROADS, SHORT),
    "car-recurrent-shuffled": (ROADS, replace(SHORT, shuffle=True)),
    "set-3-refinements": (FULL_SIZE, SetVAEConfig(refinements=3)),
}


def fit_to(config: Config, domain: Domain, seconds: float) -> Config:
    """The same training with as many iterations as fit into `seconds`, schedules stretched to match."""
    training = config.pretraining(config.build(domain, SEED), domain, SEED)
    training.step()
    start = time.perf_counter()
    for _ in range(TIMED_STEPS):
        training.step()
    iterations = max(1, int(seconds * TIMED_STEPS / (time.perf_counter() - start)))
    if isinstance(config, RecurrentVAEConfig):
        return replace(config, iterations=iterations, kl_middle=0.35 * iterations, kl_width=0.1 * iterations)
    return replace(config, iterations=iterations)


def measure_row(name: str, seconds: float) -> dict[str, Any]:
    """Pretrain one row's configuration for about `seconds`, or as it is if that is 0, and measure its health."""
    domain, config = ROWS[name]
    if seconds:
        config = fit_to(config, domain, seconds)
    start = time.perf_counter()
    manifold = pretrain(config, domain, SEED)
    return {
        "row": name,
        "manifold": type(config).__name__,
        "config": asdict(config),
        "domain": asdict(domain),
        "seed": SEED,
        "seconds": time.perf_counter() - start,
        "machine": describe_machine(),
        "health": manifold.health(),
    }


def main() -> None:
    """Measure the rows named on the command line, or all."""
    seconds, names = float(sys.argv[1]), sys.argv[2:] or list(ROWS)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names:
        row = measure_row(name, seconds)
        (RESULTS / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n")
        print(name, f"{row['seconds']:.0f} s", row["config"]["iterations"], row["health"]["recovery"], flush=True)


if __name__ == "__main__":
    main()
