"""How the presets' students should update: the same processor time for each, domain randomisation.

    python -m clutr.experiments.studies.student_updates maze|car SECONDS [--seeds 1,2,3] [--only NAME ...]

Results are added to `experiments/results/student-updates.json`; a row at another budget is a row of its own. Processor
time is that of the training alone, so other programs and pauses do not count. What is there is not measured again.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.agents.ppo import PPOConfig, PPOOptions
from clutr.envs.domain import Domain
from clutr.envs.randomness import named_generator
from clutr.envs.workers import use_workers
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.storage import write_atomically
from clutr.experiments.training.presets import PRESETS, RECURRENT_CAR_STUDENT

RESULTS = Path(__file__).parent.parent / "results" / "student-updates.json"
EPISODES = 10
LAST = 10
"""Updates at the end whose training returns are averaged."""

_WIDE = PPOConfig(
    torso="symbols", hidden=128, head=64, learning_rate=5e-4, epochs=4, minibatches=4, discount=0.99, rollout_steps=256
)
"""The presets' student in mazes before this search."""
_PRESET = replace(_WIDE, epochs=2, minibatches=8, learning_rate=7e-4)
_NARROW = replace(_WIDE, hidden=64)
_LIGHT = PixelPPOConfig(torso="light", learning_rate=3e-4, epochs=5, minibatches=16, target_kl=0.03)
"""The presets' student in cars before this search."""
_SMALL = replace(_LIGHT, torso="small")

ROWS: dict[str, dict[str, PPOOptions]] = {
    "maze": {
        "one step a pass, 1e-3": replace(_WIDE, learning_rate=1e-3, minibatches=1),
        "four steps a pass, 5e-4": _WIDE,
        "four steps a pass, 1e-3": replace(_WIDE, learning_rate=1e-3),
        "two steps a pass, 7e-4": replace(_WIDE, learning_rate=7e-4, minibatches=2),
        "eight steps a pass, 5e-4": replace(_WIDE, minibatches=8),
        "two epochs, eight steps a pass, 7e-4": _PRESET,
        "rollouts of 128 of 64 mazes": replace(_WIDE, rollout_steps=128),
        "width 64": _NARROW,
        "width 256": replace(_WIDE, hidden=256),
        "width 64, 1e-3": replace(_NARROW, learning_rate=1e-3),
        "width 64, two epochs, eight steps a pass, 1e-3": replace(_NARROW, epochs=2, minibatches=8, learning_rate=1e-3),
        "width 64, two epochs, eight steps a pass, 2e-3": replace(_NARROW, epochs=2, minibatches=8, learning_rate=2e-3),
        "width 64, one pass, eight steps, 1e-3": replace(_NARROW, epochs=1, minibatches=8, learning_rate=1e-3),
        "published": PPOConfig(),
        "two epochs, eight steps a pass, 7e-4, rollouts of 128": replace(_PRESET, rollout_steps=128),
        "two epochs, eight steps a pass, 7e-4, entropy 0.03": replace(_PRESET, entropy_coefficient=0.03),
        "two epochs, eight steps a pass, 7e-4, entropy 0.1": replace(_PRESET, entropy_coefficient=0.1),
    },
    "car": {
        "1e-3": replace(_LIGHT, learning_rate=1e-3, target_kl=0.0),
        "3e-4, passes end at a KL of 0.03": _LIGHT,
        "two epochs": replace(_LIGHT, epochs=2, learning_rate=5e-4),
        "small": _SMALL,
        "small, two epochs": replace(_SMALL, epochs=2, learning_rate=5e-4),
        "published": PixelPPOConfig(),
        "recurrent": RECURRENT_CAR_STUDENT,
    },
}
"""Students by domain and name."""
SUITES = {"maze": ("random", "accel12"), "car": ()}
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
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("domain", choices=tuple(ROWS))
    arguments.add_argument("seconds", type=int, help="of processor time of each run")
    arguments.add_argument("--seeds", default="1,2,3", help="separated by commas")
    arguments.add_argument("--only", nargs="*", help="names of rows; all of them without it")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    use_workers(1)
    preset = PRESETS[f"{given.domain}-dr"]
    for seed in map(int, given.seeds.split(",")):
        for name in given.only or ROWS[given.domain]:
            config = ROWS[given.domain][name]
            # the same steps in a rollout whatever its length
            num_envs = 8_192 // config.rollout_steps if given.domain == "maze" else preset.num_envs
            runs = _row(_known(), given, name, num_envs, config)["runs"]
            if any(run["seed"] == seed for run in runs):
                continue
            run = measure(preset.domain, num_envs, config, seed, given.seconds, SUITES[given.domain])
            print(name, run, flush=True)
            known = _known() | {"machine": describe_machine(), "episodes": EPISODES}
            _row(known, given, name, num_envs, config)["runs"].append(run)
            write_atomically(RESULTS, json.dumps(known, indent=1).encode())


def _known() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def _row(known: dict[str, Any], given: argparse.Namespace, name: str, num_envs: int, config: PPOOptions) -> Any:
    rows = known.setdefault(f"{given.domain}, {given.seconds} s", {})
    return rows.setdefault(name, {"num_envs": num_envs, "student": asdict(config), "runs": []})


if __name__ == "__main__":
    main()
