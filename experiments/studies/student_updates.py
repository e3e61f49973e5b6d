"""How the presets' students should update: the same processor time for each, domain randomisation, three seeds.

    python -m clutr.experiments.studies.student_updates maze|car SECONDS

Results are added to `experiments/results/student-updates.json`. Processor time is that of the training alone, so other
programs and pauses do not count.
"""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from clutr.agents.ppo import PPOOptions
from clutr.envs.domain import Domain
from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.storage import write_atomically
from clutr.experiments.training.presets import LIGHT_CAR_STUDENT, LIGHT_STUDENT, PRESETS

RESULTS = Path(__file__).parent.parent / "results" / "student-updates.json"
SEEDS = (1, 2, 3)
EPISODES = 10
LAST = 10
"""Updates at the end whose training returns are averaged."""

ROWS: dict[str, dict[str, PPOOptions]] = {
    "maze": {
        "one step a pass, 1e-3": replace(LIGHT_STUDENT, learning_rate=1e-3, minibatches=1),
        "four steps a pass, 5e-4": LIGHT_STUDENT,
    },
    "car": {
        "1e-3": replace(LIGHT_CAR_STUDENT, learning_rate=1e-3, target_kl=0.0),
        "3e-4, passes end at a KL of 0.03": LIGHT_CAR_STUDENT,
    },
}
"""Students by domain and name."""
SUITES = {"maze": ("random", "accel"), "car": ()}
"""What each is tested on: cars drive too slowly here, so their training returns have to do."""


def measure(domain: Domain, num_envs: int, config: PPOOptions, seed: int, seconds: float, suites: Any) -> Any:
    """Train one student for some seconds of processor time and test it."""
    engine = domain.engine(num_envs)
    student = config.build(engine.observation_space, engine.action_space, seed, "student")
    rng, spent = named_generator(seed, "levels"), 0.0
    history: list[dict[str, float]] = []
    while spent < seconds:
        started = time.process_time()
        played = student.rollout(engine, domain.sample(num_envs, rng))
        learned = student.learn(played)
        spent += time.process_time() - started
        history.append(learned | {"return": float(played.statistics().mean_return.mean())})
    names = ("approx_kl", "clip_fraction", "gradient_steps", "entropy")
    known = domain.suites()
    return {
        "seed": seed,
        "seconds": spent,
        "updates": len(history),
        "steps": len(history) * num_envs * config.rollout_steps,
        "return": sum(update["return"] for update in history[-LAST:]) / len(history[-LAST:]),
        **{name: sum(update[name] for update in history) / len(history) for name in names},
        "solved": {
            name: evaluate(student, known[name], EPISODES, torch.Generator().manual_seed(seed)).mean_solved
            for name in suites
        },
    }


def main() -> None:
    """Measure the rows of a domain."""
    torch.set_num_threads(1)
    kind, seconds = sys.argv[1], float(sys.argv[2])
    preset = PRESETS[f"{kind}-dr"]
    num_envs = 32 if kind == "maze" else preset.num_envs
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known |= {"machine": describe_machine(), "episodes": EPISODES}
    rows = known.setdefault(kind, {})
    for seed in SEEDS:
        for name, config in ROWS[kind].items():
            run = measure(preset.domain, num_envs, config, seed, seconds, SUITES[kind])
            print(name, run, flush=True)
            row = rows.setdefault(name, {"num_envs": num_envs, "student": asdict(config), "runs": []})
            row["runs"] = [each for each in row["runs"] if each["seed"] != seed] + [run]
            write_atomically(RESULTS, json.dumps(known, indent=1).encode())


if __name__ == "__main__":
    main()
