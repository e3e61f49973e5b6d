"""Evolution of an imitation: six numbers, an affine map of its outputs, by CMA-ES (Hansen; the package `cma`).

They say how hard to steer and how fast to drive, which an imitation that sees less than its expert has to set anew. All
candidates of a generation drive the same fresh roads, side by side.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.car.engine import CarEngine
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_above, require_at_least
from clutr.world_model.driving.controller import OUTPUTS, Controller
from clutr.world_model.driving.drive import FeatureExtractor, drive
from clutr.world_model.driving.roads import draw_roads

Score = Callable[[NDArray[np.float64], int], NDArray[np.float64]]
"""Scores `[P]` of candidates `[P, D]` in a generation: higher is better."""


@dataclass(frozen=True)
class EvolutionOptions:
    """How an imitation is evolved."""

    generations: int = 0
    """Generations; 0: it stays as it is."""
    population: int = 8
    """Candidates of each."""
    roads: int = 4
    """That each candidate drives, the same for all of a generation."""
    spread: float = 0.08
    """First standard deviation of the six numbers."""
    judged: int = 16
    """Fresh roads on which the outcome has to be better than the imitation, or else it is dropped."""

    def __post_init__(self) -> None:
        require_at_least(self, 0, "generations")
        require_at_least(self, 2, "population")
        require_at_least(self, 1, "roads", "judged")
        require_above(self, 0, "spread")


def climb(
    score: Score,
    start: NDArray[np.float64],
    spread: float,
    population: int,
    generations: int,
    seed: int,
    progress: Progress = lambda *_: None,
) -> tuple[NDArray[np.float64], list[float]]:
    """The mean of the last generation's distribution, and each generation's mean score: CMA-ES from `start` `[D]`."""
    import cma  # noqa: PLC0415  # takes half a second

    settings: dict[str, Any] = {"popsize": population, "seed": seed + 1, "verbose": -9}  # 0 would be drawn by time
    search = cma.CMAEvolutionStrategy(start, spread, settings)
    history: list[float] = []
    for generation in range(generations):
        asked: list[NDArray[np.float64]] = search.ask()
        scores = score(np.stack(asked), generation)
        search.tell(asked, (-scores).tolist())
        history.append(float(scores.mean()))
        progress(generation + 1, generations, {"return": history[-1]})
    return np.asarray(search.mean, dtype=np.float64), history


def affine(controller: Controller, numbers: Tensor) -> Controller:
    """A copy whose outputs are mapped by `numbers` `[6]`: gains, row by row, then shifts."""
    found = deepcopy(controller)
    found.gain.copy_(numbers[: OUTPUTS * OUTPUTS].view(OUTPUTS, OUTPUTS))
    found.shift.copy_(numbers[OUTPUTS * OUTPUTS :])
    return found


def returns_of(
    controllers: list[Controller], extractor: FeatureExtractor, engine: CarEngine, seed: int, purpose: str, number: int
) -> Tensor:
    """Mean returns `[P]` of P controllers, each on the same fresh roads; the engine has P times as many cars."""
    roads = engine.num_envs // len(controllers)
    drawn = draw_roads(roads, named_generator(seed, "driving", purpose, number))
    levels = drawn[torch.arange(roads).repeat(len(controllers))]

    def steer(inputs: Tensor) -> Tensor:
        return torch.cat([each(part) for each, part in zip(controllers, inputs.split(roads), strict=True)])

    return drive(extractor, steer, levels, engine).returns.view(len(controllers), roads).mean(1)


def evolve_outputs(
    controller: Controller,
    extractor: FeatureExtractor,
    engine_of: Callable[[int], CarEngine],
    options: EvolutionOptions,
    seed: int,
    progress: Progress = lambda *_: None,
) -> tuple[Controller, list[float]]:
    """The evolved controller, or the one that was given where it is no better; and each generation's mean return."""
    if not options.generations:
        return controller, []
    engine = engine_of(options.population * options.roads)

    def score(candidates: NDArray[np.float64], generation: int) -> NDArray[np.float64]:
        made = [affine(controller, torch.from_numpy(each).float()) for each in candidates]
        return returns_of(made, extractor, engine, seed, "evolution", generation).double().numpy()

    start = np.concatenate([np.eye(OUTPUTS).ravel(), np.zeros(OUTPUTS)])
    mean, history = climb(score, start, options.spread, options.population, options.generations, seed, progress)
    evolved = affine(controller, torch.from_numpy(mean).float())
    before, after = returns_of(
        [controller, evolved], extractor, engine_of(2 * options.judged), seed, "judged", 0
    ).tolist()
    return (evolved if after > before else controller), history
