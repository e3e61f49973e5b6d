"""Whole episodes of `CarRacing-v3`, seen through a world model: on our engine, many cars at once, or in the package."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.envs.car.engine import FRAMES_A_SECOND, CarEngine
from clutr.envs.car.observer import shrink
from clutr.envs.domain import LevelBatch
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.dream import Dreamer
from clutr.world_model.driving.controller import from_actions, to_actions
from clutr.world_model.driving.expert import RacingExpert
from clutr.world_model.latent_engines import MOST_SEEN, Sees

Steering = Callable[[Tensor], Tensor]
"""Outputs `[N, 2]` of a controller for inputs `[N, I]`."""


class FeatureExtractor:
    """From pictures to the features that a controller sees: normalised latents, and the state of a memory that follows.

    Args:
        backbone: encodes pictures.
        dreamer: its memory follows.
        sees: latents alone, or latents and memory.

    Raises:
        ValueError: the memory's state is too large to be seen.
    """

    def __init__(self, backbone: Backbone, dreamer: Dreamer, sees: Sees) -> None:
        state = dreamer.memory.initial_state(1).shape[1]
        if sees == "both" and state > MOST_SEEN:
            raise ValueError(f"this memory's state has {state:,} numbers, too many to be seen: take latents alone")
        self._backbone, self._dreamer, self._sees = backbone, dreamer, sees
        self.features = backbone.latents + (state if sees == "both" else 0)
        self.reset(1)

    def reset(self, n: int) -> None:
        """N episodes begin."""
        self._state = self._dreamer.memory.initial_state(n)
        self._latent = torch.zeros(n, self._backbone.latents)

    @torch.no_grad()
    def extract(self, pictures: Tensor) -> Tensor:
        """Features `[N, I]` of pictures `[N, 96, 96, 3]` uint8."""
        seen = self._backbone.encode(shrink(pictures))[0]
        self._latent = self._dreamer.clip(self._dreamer.scale.normalise(seen))
        return torch.cat([self._latent, self._state], 1) if self._sees == "both" else self._latent

    @torch.no_grad()
    def update(self, actions: Tensor) -> None:
        """The actions `[N, 3]` that were taken at what was seen last."""
        if self._sees == "both":
            self._state, _ = self._dreamer.memory.step(self._state, self._latent, actions)


@dataclass(frozen=True)
class Drives:
    """N whole episodes."""

    returns: Tensor
    """`[N]`."""
    frames: Tensor
    """`[N]` int64: how long each was, 1,000 at most."""
    laps: Tensor
    """`[N]` bool: whether every tile was reached."""
    inputs: Tensor
    """`[n, I]`: what was seen in all their steps, if it was to be recorded."""
    wanted: Tensor
    """`[n, 2]`: what the expert would have done there (`clutr.world_model.driving.controller.from_actions`)."""


@dataclass(frozen=True)
class Teaching:
    """The expert in a drive that is recorded."""

    drives: Tensor
    """`[N]` bool: the cars that it drives itself; the controller drives the others."""
    noise: float = 0.0
    """Standard deviation by which a wandering error of the outputs grows each step; mistakes are to be seen mended."""
    rng: torch.Generator | None = None
    """Draws it."""


ERROR_DECAY = 0.9
"""Share of a wandering error that is left after a step."""
LOST_FRAMES = 100
"""A drive that is recorded ends when no wheel has been on the road for so long: what an expert would do there helps
nobody who cannot see the road either."""


@torch.no_grad()
def drive(
    extractor: FeatureExtractor,
    steer: Steering,
    levels: LevelBatch,
    engine: Any,
    teaching: Teaching | None = None,
    most_steps: int | None = None,
) -> Drives:
    """Drive each level to the end of its episode.

    Args:
        extractor: sees for the controller.
        steer: the controller.
        levels: `[N]`, as the engine takes them.
        engine: of N cars; a `CarEngine` where the expert teaches.
        teaching: the expert is asked at every step, and what it says is recorded.
        most_steps: an earlier end, in actions.
    """
    n = engine.num_envs
    picture = engine.reset(levels)["image"]
    extractor.reset(n)
    expert = RacingExpert(engine) if teaching is not None and isinstance(engine, CarEngine) else None
    repeat = round(FRAMES_A_SECOND / engine.render_fps)
    lost = torch.zeros(n, dtype=torch.int64)
    returns, steps, alive = torch.zeros(n), torch.zeros(n, dtype=torch.int64), torch.ones(n, dtype=torch.bool)
    laps, error = torch.zeros(n, dtype=torch.bool), torch.zeros(n, 2)
    inputs: list[Tensor] = []
    wanted: list[Tensor] = []
    while alive.any() and (most_steps is None or len(inputs) < most_steps):
        seen = extractor.extract(picture)
        outputs = steer(seen)
        if teaching is not None and expert is not None:
            told = from_actions(expert.act())
            outputs = torch.where(teaching.drives[:, None], told, outputs)
            if teaching.noise:
                error = ERROR_DECAY * error + teaching.noise * torch.randn(n, 2, generator=teaching.rng)
                outputs = outputs + error
            wanted.append(told[alive])
        inputs.append(seen[alive] if expert is not None else seen[:0])
        actions = to_actions(outputs)
        extractor.update(actions)
        observation, reward, terminated, truncated = engine.step(actions)
        picture = observation["image"]
        returns += torch.where(alive, reward.cpu(), 0.0)
        steps += alive
        laps |= alive & engine.solved.cpu()
        alive &= ~(terminated | truncated).cpu()
        if expert is not None:
            lost = torch.where(torch.from_numpy(engine.cars.on_road.any(1)), 0, lost + repeat)
            alive &= lost < LOST_FRAMES
    empty = torch.zeros(0, 2)
    return Drives(returns, steps * repeat, laps, torch.cat(inputs), torch.cat(wanted) if wanted else empty)
