"""DAgger: the expert drives once, then the controller does, and the expert says what it would have done there.

Source: Ross, Gordon & Bagnell 2011, "A Reduction of Imitation Learning and Structured Prediction to No-Regret Online
Learning". An imitation of recorded drives alone is lost as soon as it has made a mistake that the expert does not make.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from clutr.envs.car.engine import CarEngine
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_at_least
from clutr.world_model.driving.controller import Controller, FitOptions, fit
from clutr.world_model.driving.drive import FeatureExtractor, Teaching, drive
from clutr.world_model.driving.roads import draw_roads
from clutr.world_model.linear_probe import r2


@dataclass(frozen=True)
class DaggerOptions:
    """How a controller learns from the expert."""

    rounds: int = 6
    """After the expert's own: fits of a controller, each followed by a drive of it."""
    cars: int = 16
    """Episodes of each round, each on a road of its own."""
    noise: float = 0.1
    """Of the expert's own round (see `clutr.world_model.driving.drive.Teaching`)."""
    fit: FitOptions = field(default_factory=FitOptions)
    """How it is fitted."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "rounds", "cars")
        require_at_least(self, 0, "noise")
        require_at_least(self.fit, 0, "hidden")
        require_at_least(self.fit, 1, "passes")


@dataclass(frozen=True)
class Imitated:
    """What DAgger found."""

    controller: Controller
    """Of the round with the highest mean return, on roads that it was not fitted on."""
    returns: list[float]
    """Mean return of the expert's own round, and of each controller's."""
    quality: list[list[float]]
    """R^2 of steering and of the pedal, of each controller: what it did, and what the expert would have done there."""
    steps: int
    """Steps that were recorded in all."""


def imitate_expert(
    extractor: FeatureExtractor,
    engine_of: Callable[[int], CarEngine],
    options: DaggerOptions,
    seed: int,
    progress: Progress = lambda *_: None,
    most_steps: int | None = None,
) -> Imitated:
    """Fit a controller to the racing expert, round by round.

    Args:
        extractor: what it sees.
        engine_of: makes an engine of n cars.
        options: how.
        seed: of roads, noise and fits.
        progress: told after each drive.
        most_steps: of each drive.
    """
    engine = engine_of(options.cars)
    everyone = torch.ones(options.cars, dtype=torch.bool)
    inputs, wanted = torch.zeros(0, extractor.features), torch.zeros(0, 2)
    controller: Controller | None = None
    found: list[Controller] = []
    returns: list[float] = []
    quality: list[list[float]] = []
    for number in range(options.rounds + 1):
        if number:
            controller = fit(inputs, wanted, options.fit, named_generator(seed, "driving", "fit", number))
            found.append(controller)
        teaching = (
            Teaching(~everyone)
            if number
            else Teaching(everyone, options.noise, named_generator(seed, "driving", "noise"))
        )
        roads = draw_roads(options.cars, named_generator(seed, "driving", "roads", number))
        steer = controller or (lambda seen: torch.zeros(len(seen), 2))
        driven = drive(extractor, steer, roads, engine, teaching, most_steps)
        inputs, wanted = torch.cat([inputs, driven.inputs]), torch.cat([wanted, driven.wanted])
        returns.append(float(driven.returns.mean()))
        if controller is not None:
            with torch.no_grad():
                quality.append(r2(controller(driven.inputs).clamp(-1, 1), driven.wanted).tolist())
        progress(number + 1, options.rounds + 1, {"return": returns[-1], "steps": float(len(inputs))})
    best = max(range(len(found)), key=lambda index: returns[index + 1])
    return Imitated(found[best], returns, quality, len(inputs))
