"""Which student learns fastest: equal wall-clock, domain randomisation, small mazes.

    python -m clutr.experiments.studies.maze_students SECONDS [ROW ...]

Each row is trained for as many seconds on every seed and then tested on solvable mazes of its own kind and on the suite
"small". Results are added to `experiments/results/maze-students.json`.
"""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from clutr.agents.ppo import PPOConfig
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.storage import write_atomically
from clutr.experiments.training.presets import LIGHT_STUDENT

RESULTS = Path(__file__).parent.parent / "results" / "maze-students.json"
DOMAIN = MazeDomain(height=9, width=9, max_obstacles=25, max_steps=100)
SEEDS = (1, 2)
EPISODES = 200

ROWS: dict[str, tuple[int, PPOConfig]] = {
    "published, 32x256": (32, PPOConfig()),
    "published, learning rate 1e-3, 32x256": (32, PPOConfig(learning_rate=1e-3)),
    "light, conv torso, 64x128": (64, replace(LIGHT_STUDENT, rollout_steps=128, torso="conv")),
    "light, LSTM 256, 64x128": (64, replace(LIGHT_STUDENT, rollout_steps=128, hidden=256)),
    "light, LSTM 64, 64x128": (64, replace(LIGHT_STUDENT, rollout_steps=128, hidden=64)),
    "light, 64x128": (64, replace(LIGHT_STUDENT, rollout_steps=128)),
    "light, 32x256": (32, LIGHT_STUDENT),
    "light, entropy 0.03, 64x128": (64, replace(LIGHT_STUDENT, rollout_steps=128, entropy_coefficient=0.03)),
}
"""Number of environments and student by name."""


def measure(num_envs: int, config: PPOConfig, seed: int, seconds: float) -> dict[str, Any]:
    """Train one student for some seconds and test it."""
    engine = DOMAIN.engine(num_envs)
    student = config.build(engine.observation_space, engine.action_space, seed, "student")
    rng = named_generator(seed, "levels")
    updates, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        student.learn(student.rollout(engine, DOMAIN.sample(num_envs, rng)))
        updates += 1
    spent = time.perf_counter() - started
    suites = DOMAIN.suites()
    solved = {
        name: evaluate(student, suites[name], EPISODES, torch.Generator().manual_seed(seed)).mean_solved
        for name in ("random", "small")
    }
    return {"seed": seed, "seconds": spent, "steps": updates * num_envs * config.rollout_steps, "solved": solved}


def main() -> None:
    """Measure the rows named on the command line, or all."""
    seconds = float(sys.argv[1])
    known = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
    for name in sys.argv[2:] or ROWS:
        num_envs, config = ROWS[name]
        runs = [measure(num_envs, config, seed, seconds) for seed in SEEDS]
        known[name] = {"num_envs": num_envs, "student": asdict(config), "runs": runs}
        print(name, *(run["solved"] for run in runs), flush=True)
        content = {"domain": asdict(DOMAIN), "episodes": EPISODES, "machine": describe_machine(), "rows": known}
        write_atomically(RESULTS, json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
