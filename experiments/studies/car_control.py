"""Does a world model's memory help to drive `CarRacing-v3`? Controllers on latents, with memory, with an untrained one.

    python -m clutr.experiments.studies.car_control WORLD OUT.json [--seeds 1,2,3,4,5] [--package-roads N]

WORLD is a directory that `clutr world train` finished, or the name of a model that ships. For each seed and each of
the three a controller learns as in `clutr world control` and drives the same 100 roads of the package on our engine,
whole episodes; those of the first seed also drive the first N of these roads in the unmodified package. What OUT.json
has already is left alone; the controllers lie beside it.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.display import work_display
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.world_model.control import SEEN, Control, ControlOptions, result, summary
from clutr.experiments.world_model.run_directory import open_world_model
from clutr.experiments.world_model.training import load_world_model

RESAMPLES = 4_000


def resampled(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of returns `[seeds, roads]`, with seeds and roads drawn again: `[RESAMPLES]`, the same for each table."""
    rng = np.random.default_rng(0)
    seeds = rng.integers(len(returns), size=(RESAMPLES, len(returns)))
    roads = rng.integers(returns.shape[1], size=(RESAMPLES, returns.shape[1]))
    return np.array([returns[np.ix_(s, r)].mean() for s, r in zip(seeds, roads, strict=True)])


def compare(returns: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Mean, spread and 95 % interval of each kind's returns `[seeds, roads]`; and of what memory has beyond the others.

    Intervals resample seeds and roads together. Differences are paired: same roads, and the same draw of both.
    """
    drawn = {name: resampled(values) for name, values in returns.items()}

    def told(value: float, draws: NDArray[np.float64]) -> dict[str, Any]:
        low, high = np.quantile(draws, [0.025, 0.975])
        return {"mean": round(value, 1), "interval": [round(float(low), 1), round(float(high), 1)]}

    found: dict[str, Any] = {
        name: told(float(values.mean()), drawn[name])
        | {"std": round(float(values.std(ddof=1)), 1), "seeds": [round(float(row.mean()), 1) for row in values]}
        for name, values in returns.items()
    }
    found["memory beyond"] = {
        name: told(float((returns["memory"] - returns[name]).mean()), drawn["memory"] - drawn[name])
        for name in returns
        if name != "memory"
    }
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("world", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3, 4, 5])
    for name in ("roads", "rounds", "cars", "hidden", "generations", "max-frames"):
        parser.add_argument(f"--{name}", type=int, default=getattr(ControlOptions(), name.replace("-", "_")))
    parser.add_argument("--package-roads", type=int, default=0)
    asked = parser.parse_args(arguments)
    known = {"roads": asked.roads, "rounds": asked.rounds, "cars": asked.cars, "hidden": asked.hidden}
    known |= {"generations": asked.generations, "max_frames": asked.max_frames}
    found: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {"options": known}
    if found["options"] != known:
        raise RunError(f"{asked.out} was made with the options {found['options']}: name another file")
    run = open_world_model(asked.world, work_display)
    model, folder = load_world_model(run), asked.out.with_suffix("")
    found |= {"machine": describe_machine(), "world_seed": run.experiment.seed}
    controllers = found.setdefault("controllers", {})
    for seed in asked.seeds:
        for sees in SEEN:
            options = ControlOptions(sees=sees, engine="fast", seed=seed, **known)  # type: ignore[arg-type]
            name = f"{sees}, seed {seed}"
            if name not in controllers:
                control = Control(run, options, model, folder)
                control.test()
                controllers[name] = {key: value for key, value in result(control).items() if key != "run"}
                print(name, json.dumps(controllers[name]["summary"]["fast"]), flush=True)
                write_atomically(asked.out, json.dumps(found, indent=1).encode())
    for sees in SEEN if asked.package_roads else ():
        options = ControlOptions(sees=sees, seed=asked.seeds[0], **(known | {"roads": asked.package_roads}))  # type: ignore[arg-type]
        test = Control(run, options, model, folder).test()
        found.setdefault("package", {})[sees] = test | {"summary": summary(test)}
        print("in the package:", sees, json.dumps(summary(test)), flush=True)
        write_atomically(asked.out, json.dumps(found, indent=1).encode())
    found["comparison"] = compare(
        {
            sees: np.array([controllers[f"{sees}, seed {seed}"]["tests"]["fast"]["returns"] for seed in asked.seeds])
            for sees in SEEN
        }
    )
    print(json.dumps(found["comparison"], indent=1))
    write_atomically(asked.out, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main()
