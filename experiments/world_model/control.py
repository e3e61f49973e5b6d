"""The classic test of a world model of cars: a small controller on its latents and memory drives `CarRacing-v3`.

Ha & Schmidhuber 2018, "World Models": a controller on latents alone, and on latents and memory, drives 100 random
roads, 1,000 frames each. Here it imitates a racing expert round by round (DAgger) on our engine, which moves as the
package does, and may be evolved from there; the unmodified package has the last word.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.table import Table

from clutr.envs.car.domain import CarDomain
from clutr.envs.car.engine import CarEngine
from clutr.envs.domain import Engine, LevelBatch, SeedLevels
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_at_least, require_one_of
from clutr.experiments.files import read_json, require_writable
from clutr.experiments.storage import CorruptFileError, RunError, load_state, save_state, write_atomically
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, WorldModel, load_world_model
from clutr.world_model.driving.controller import Controller, FitOptions, restore
from clutr.world_model.driving.dagger import DaggerOptions, imitate_expert
from clutr.world_model.driving.drive import FeatureExtractor, drive
from clutr.world_model.driving.evolution import EvolutionOptions, evolve_outputs
from clutr.world_model.driving.roads import PackageRoads
from clutr.world_model.latent_engines import MOST_SEEN, Sees

ENVIRONMENT = "CarRacing-v3"
SEEN: dict[str, tuple[Sees, str]] = {
    "latent": ("latent", MEMORIES[0]),
    "memory": ("both", MEMORIES[0]),
    "untrained-memory": ("both", MEMORIES[1]),
}
"""What a controller may see: latents alone, with the memory, or with the one whose core was never trained."""
ENGINES = ("package", "fast")
"""Where it is tested: the unmodified package, or our engine, which moves alike and draws almost alike."""
TOGETHER = 25
"""Cars at once in a test on our engine."""
RESAMPLES = 4_000


@dataclass(frozen=True)
class ControlOptions:
    """How a controller learns and is tested."""

    sees: Literal["auto", "latent", "memory", "untrained-memory"] = "auto"
    """Latents alone, with the memory, or with one whose core was never trained; auto: with the memory, unless it is a
    map."""
    rounds: int = 6
    """Rounds of DAgger after the expert's own."""
    cars: int = 16
    """Episodes of each round."""
    hidden: int = 64
    """Width of the controller's hidden layer; 0: it is linear."""
    generations: int = 0
    """Of the evolution after it; 0: none."""
    roads: int = 100
    """Random roads of the test, the same for all controllers."""
    engine: Literal["package", "fast"] = "package"
    """Where it is tested: the unmodified package, at some seconds a road, or our engine."""
    max_frames: int = 1000
    """Frames after which an episode is cut, as in the package."""
    seed: int = 1
    """Of training roads, noise, fits and evolution."""

    def __post_init__(self) -> None:
        require_one_of(self, ("auto", *SEEN), "sees")
        require_one_of(self, ENGINES, "engine")
        require_at_least(self, 1, "rounds", "cars", "max_frames")
        require_at_least(self, 0, "hidden", "generations", "seed")
        require_at_least(self, 2, "roads")


TOLD = ("seeds", "returns", "frames", "laps")
"""What a test tells of each road."""
TESTING = ("roads", "engine")
"""Options that change the test and not the controller."""


@dataclass
class Control:
    """One controller of one world model: learnt once, kept beside the model, and tested road by road.

    Args:
        run: a trained world model of cars.
        options: how.
        model: the run's, if it was loaded before.
        folder: where it is kept; by default `control` in the run's directory.

    Raises:
        RunError: the run is of no cars or not trained, or this controller was made with other options.
    """

    run: WorldModelRun
    options: ControlOptions
    model: WorldModel | None = None
    folder: Path | None = None
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        domain = self.run.experiment.domain
        if not isinstance(domain, CarDomain):
            raise RunError(f"{self.run.path} is no world model of cars: only those drive {ENVIRONMENT}")
        self.action_repeat = domain.action_repeat
        self.model = self.model or load_world_model(self.run)
        state = self.model.dreamers[MEMORIES[0]].memory.initial_state(1).shape[1]
        auto = "memory" if state <= MOST_SEEN else "latent"
        self.sees = auto if self.options.sees == "auto" else self.options.sees
        sees, memory = SEEN[self.sees]
        try:
            self.extractor = FeatureExtractor(self.model.backbone, self.model.dreamers[memory], sees)
        except ValueError as error:
            raise RunError(f"{error} (--sees latent)") from None
        if self.path.exists():
            self.found = read_json(self.path, options=dict, tests=dict)
            if self.found["options"] != self._learning():
                raise RunError(
                    f"{self.path} was made with other options: use the same, another --seed, or remove it to begin anew"
                )
            for engine, test in self.found["tests"].items():
                _require_test(self.path, engine, test)

    @property
    def name(self) -> str:
        """Of the controller, and its files without their suffixes."""
        return f"{self.sees}-hidden-{self.options.hidden}-seed-{self.options.seed}"

    @property
    def path(self) -> Path:
        """Where its results are kept."""
        return (self.folder or self.run.path / "control") / f"{self.name}.json"

    def _learning(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self.options).items() if name not in (*TESTING, "sees")}

    def _engine(self, n: int) -> CarEngine:
        frames = self.options.max_frames
        return CarEngine(n, action_repeat=self.action_repeat, max_frames=frames, zoom_in=True)

    def controller(self, progress_of: Callable[[str], Progress] = lambda _: lambda *_: None) -> Controller:
        """The controller, which learns unless it is there already.

        Args:
            progress_of: gives for `imitation` and `evolution` what is told of their steps.
        """
        weights = self.path.with_suffix(".safetensors")
        if self.found and weights.exists():
            return restore(load_state(weights))
        require_writable(self.path.parent, "Nothing was learnt.")
        options = self.options
        imitated = imitate_expert(
            self.extractor,
            self._engine,
            DaggerOptions(options.rounds, options.cars, fit=FitOptions(options.hidden)),
            options.seed,
            progress_of("imitation"),
        )
        history: list[float] = []
        controller = imitated.controller
        if options.generations:
            evolution = EvolutionOptions(options.generations)
            controller, history = evolve_outputs(
                controller, self.extractor, self._engine, evolution, options.seed, progress_of("evolution")
            )
        save_state(weights, controller.state())
        self.found = {
            "environment": ENVIRONMENT,
            "sees": self.sees,
            "options": self._learning(),
            "action_repeat": self.action_repeat,
            "weights": controller.weights,
            "recorded_steps": imitated.steps,
            "expert_return": round(imitated.returns[0], 2),
            "round_returns": [round(value, 2) for value in imitated.returns[1:]],
            "round_r2": [[round(value, 3) for value in pair] for pair in imitated.quality],
            "generation_returns": [round(value, 2) for value in history],
            "tests": {},
        }
        self._write()
        return controller

    def test(self, progress: Progress = lambda *_: None) -> dict[str, Any]:
        """Drive the roads of the test that it has not driven yet; what the test found (`summary`, and each road)."""
        options, controller = self.options, self.controller()
        test = self.found["tests"].setdefault(options.engine, {name: [] for name in TOLD})
        seeds = roads_of_test(options.roads)
        together = 1 if options.engine == "package" else TOGETHER
        done = len(test["seeds"])
        if done < options.roads:
            require_writable(self.path.parent, "Nothing was driven.")
        while done < options.roads:
            drawn = seeds[done : min(done + together, options.roads)]
            engine, levels = self._test_engine(drawn)
            with torch.no_grad():
                driven = drive(self.extractor, controller, levels, engine)
            test["seeds"] += drawn.tolist()
            test["returns"] += [round(value, 2) for value in driven.returns.tolist()]
            test["frames"] += driven.frames.tolist()
            test["laps"] += driven.laps.tolist()
            done = len(test["seeds"])
            self._write()
            progress(done, options.roads, {"return": sum(test["returns"]) / done})
        return {name: values[: options.roads] for name, values in test.items()}

    def _test_engine(self, seeds: torch.Tensor) -> tuple[Engine, LevelBatch]:
        if self.options.engine == "fast":
            return self._engine(len(seeds)), PackageRoads(seeds)
        from clutr.envs.car.box2d_env import Box2DEngine  # noqa: PLC0415  # Box2D is an optional dependency

        frames, repeat = self.options.max_frames, self.action_repeat
        engine = Box2DEngine(len(seeds), package_tracks=True, action_repeat=repeat, max_frames=frames)
        return engine, SeedLevels(seeds)

    def _write(self) -> None:
        write_atomically(self.path, json.dumps(self.found, indent=1).encode())


def _require_test(path: Path, engine: str, test: Any) -> None:
    """Raises `CorruptFileError` unless a test has seeds, returns, frames and laps of the same roads."""
    columns: list[Any] = [test.get(name) for name in TOLD] if isinstance(test, dict) else [None]
    if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) > 1:
        raise CorruptFileError(f"{path} is damaged: {engine!r} does not tell {', '.join(TOLD)} of the same roads")
    if not all(isinstance(each, int | float) for column in columns for each in column):
        raise CorruptFileError(f"{path} is damaged: {engine!r} tells something else than numbers of its roads")


def roads_of_test(roads: int) -> torch.Tensor:
    """The first `roads` seeds of the test, whatever the controller's own seed is."""
    return SeedLevels.draw(max(roads, 100), named_generator(0, "driving", "test roads")).seed[:roads]


def summary(test: dict[str, Any]) -> dict[str, Any]:
    """Mean return with its 95 % interval (roads resampled), standard deviation over roads, laps and frames."""
    returns = np.array(test["returns"], np.float64)
    drawn = np.random.default_rng(0).integers(len(returns), size=(RESAMPLES, len(returns)))
    low, high = np.quantile(returns[drawn].mean(1), [0.025, 0.975])
    return {
        "roads": len(returns),
        "return_mean": float(returns.mean()),
        "interval": [float(low), float(high)],
        "return_std": float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
        "return_least": float(returns.min()),
        "laps": float(np.mean(test["laps"])),
        "frames": float(np.mean(test["frames"])),
    }


def result(control: Control) -> dict[str, Any]:
    """What is known of a controller, with the summary of each of its tests, as plain data."""
    summaries = {engine: summary(test) for engine, test in control.found.get("tests", {}).items() if test["returns"]}
    return {"run": str(control.run.path), "controller": control.name, **control.found, "summary": summaries}


def control_table(found: dict[str, Any]) -> Table:
    """The tests of a controller; `found` is its `result`."""
    table = Table(title=f"{found['controller']} in {ENVIRONMENT}", title_justify="left", title_style="bold")
    for heading in ("engine", "roads", "return", "95 %", "sd", "least", "laps", "frames"):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for engine, told in found["summary"].items():
        low, high = told["interval"]
        mean, spread, least = (f"{told[name]:.0f}" for name in ("return_mean", "return_std", "return_least"))
        cells = engine, str(told["roads"]), mean, f"[{low:.0f}, {high:.0f}]", spread, least
        table.add_row(*cells, f"{told['laps']:.0%}", f"{told['frames']:.0f}")
    return table
