"""Whether a student earns the same on our engine and on the real package: same roads, same policy.

    python -m clutr.experiments.studies.car_engines RUN [EPISODES]

The cars of both move alike, bit for bit, so only the pictures can make a difference, and through them the actions. The
result is written to `experiments/results/car-engines.json`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clutr.agents.student import Policy
from clutr.envs.car.box2d_env import Box2DEngine
from clutr.envs.car.engine import CarEngine
from clutr.envs.domain import Engine, Task
from clutr.experiments.evaluation.evaluate import play
from clutr.experiments.evaluation.runs import load_student
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import write_atomically

RESULTS = Path(__file__).parent.parent / "results" / "car-engines.json"
SUITE = "bezier-small"
RESAMPLES = 10_000


def returns(policy: Policy, task: Task, engine: Engine) -> NDArray[np.float64]:
    """Of one episode in each of the engine's environments."""
    rng = torch.Generator().manual_seed(0)
    return play(policy, engine, task.draw(engine.num_envs, rng), rng).returns.double().numpy()


def interval(ours: NDArray[np.float64], real: NDArray[np.float64]) -> tuple[float, float]:
    """Percentile bootstrap interval, 95 %, of the difference of means over roads `[roads, episodes]`."""
    rng = np.random.default_rng(0)
    episodes = ours.shape[1]
    means = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, episodes, (2, *ours.shape))
        means.append((np.take_along_axis(ours, chosen[0], 1) - np.take_along_axis(real, chosen[1], 1)).mean())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def measure(run: RunDirectory, episodes: int) -> dict[str, Any]:
    """Play the newest student of a run on both engines."""
    student, steps = load_student(run)
    repeat = run.experiment.domain.action_repeat  # type: ignore[attr-defined]  # a run on cars
    engines: dict[str, Engine] = {
        "ours": CarEngine(episodes, action_repeat=repeat),
        "real": Box2DEngine(episodes, action_repeat=repeat),
    }
    table: dict[str, list[list[float]]] = {name: [] for name in engines}
    for task in run.domain().suites()[SUITE].tasks:
        for name, engine in engines.items():
            table[name].append(returns(student, task, engine).tolist())
        print(task.name, *(f"{name} {np.mean(rows[-1]):.1f}" for name, rows in table.items()), flush=True)
    ours, real = np.array(table["ours"]), np.array(table["real"])
    spread = [half_difference(rows) for rows in (ours, real)]
    return {
        "run": run.path.name,
        "steps": steps,
        "suite": SUITE,
        "episodes_a_road": episodes,
        "mean_return": {"ours": ours.mean(), "real": real.mean()},
        "difference": ours.mean() - real.mean(),
        "interval": interval(ours, real),
        "difference_between_halves": {"ours": spread[0], "real": spread[1]},
        "returns": table,
    }


def half_difference(rows: NDArray[np.float64]) -> float:
    """Mean return of the first half of the episodes of each road minus that of the second: the policy's own noise."""
    half = rows.shape[1] // 2
    return float(rows[:, :half].mean() - rows[:, half : 2 * half].mean())


def main() -> None:
    """Measure the run named on the command line."""
    run = RunDirectory(Path(sys.argv[1]))
    result = measure(run, int(sys.argv[2]) if len(sys.argv) > 2 else 8)
    write_atomically(RESULTS, json.dumps(result, indent=1).encode())
    print(json.dumps({name: value for name, value in result.items() if name != "returns"}, indent=1))


if __name__ == "__main__":
    main()
