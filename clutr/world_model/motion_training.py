"""Training the motion of a core by itself, before the rest of the memory.

Whatever the map is worth, it is carried to where the motion says. Without the map a gradient step costs a tenth, and
motion takes some thousands of them: more than the passes over the whole memory make.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from clutr.agents.adam import Adam
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.world_model.cores.base import Motions, side_by_side
from clutr.world_model.latents import LatentEpisode, Streams
from clutr.world_model.memory import Memory, Scale

STREAMS = 32
"""Episodes side by side."""
LENGTH = 64
"""Steps of each chunk, longer than a memory's: how fast a car is shows in many pictures."""
DREAMT = 16
"""Steps of each dream: one begins after every so many steps of a chunk."""
LEARNING_RATE = 3e-3
"""Adam's step size, which falls to 0 along a cosine."""
MAX_GRADIENT_NORM = 1.0
REST_WEIGHT = 0.3
"""Of the squared error of latents that are no cells: motion is told by them."""
TOLD = "motion", "rest", "dream_motion", "dream_rest"
"""Losses: of motion what `MovingCore.displacement` says, and half squared errors of latents that are no cells."""


@contextmanager
def fixed(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Within this, parameters that are trained are not."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class MotionTraining:
    """Passes over episodes that train what a core's motion depends on; stopped after any, it goes on bit for bit.

    Args:
        memory: whose core predicts its motion; its scale and its motion's have been told.
        scale: of the latents.
        passes: over the training episodes.
        train: training episodes.
        valid: validation episodes.
        seed: of order and noise.
    """

    def __init__(
        self,
        memory: Memory,
        scale: Scale,
        passes: int,
        train: Sequence[LatentEpisode],
        valid: Sequence[LatentEpisode],
        seed: int,
    ) -> None:
        assert memory.moving is not None
        self.memory, self.core, self.scale, self.passes = memory, memory.moving, scale, passes
        self.train, self.valid, self.seed = train, valid, seed
        self.parameters = self.core.motion_parameters()
        self.optimiser = Adam(self.parameters, LEARNING_RATE)
        self.rng = named_generator(seed, "memory", "motion")
        self.device = self.parameters[0].device
        self.done = 0
        """Passes that were made."""

    def run(self, progress: Progress = lambda *_: None) -> None:
        """All passes that are left."""
        while self.done < self.passes:
            trained = self._pass(
                Streams(self.train, STREAMS, LENGTH, self.rng, sample=True, offsets=self.rng), learn=True
            )
            rng = named_generator(self.seed, "memory", "validation")
            with torch.no_grad():
                tested = self._pass(Streams(self.valid, STREAMS, LENGTH, rng, sample=False), learn=False)
            self.done += 1
            told = {"train": trained, "valid": tested}
            metrics = {
                f"{split}_{name}": value
                for split, values in told.items()
                for name, value in zip(TOLD, values.tolist(), strict=True)
            }
            progress(self.done, self.passes, metrics)

    def _pass(self, streams: Streams, learn: bool) -> Tensor:
        """Mean losses `[4]` over all recorded steps."""
        units = self.core.initial_units(STREAMS).to(self.device)
        sums, steps = torch.zeros(4, device=self.device), torch.zeros(4, device=self.device)
        chunks, begins = streams.epoch(), range(DREAMT, LENGTH, DREAMT)
        weights = torch.tensor([1.0, REST_WEIGHT], device=self.device).repeat(2)
        for number, recorded in enumerate(chunks):
            chunk = recorded.to(self.device)
            latents = self.scale.normalise(chunk.latents)
            true = self.core.in_deviations(chunk.motion)
            xs = torch.cat([latents[:-1], chunk.actions], -1)
            units = torch.where(chunk.first[:, None], 0.0, units)
            observed, dreamt = self.core.motions(units, xs, latents.shape[-1], DREAMT, begins)
            last = chunk.real.sum(0).clamp(min=1) - 1  # an episode may go on after a chunk that was padded
            units = observed.units.detach()[last, torch.arange(STREAMS, device=self.device)]
            came = true, latents[1:], chunk.real.float()
            dreams = [side_by_side(each, DREAMT, begins) for each in came]
            losses = torch.cat(
                [self._losses(observed, *came, summed=False), self._losses(dreamt, *dreams, summed=True)]
            )
            if learn:
                done = (self.done + number / len(chunks)) / self.passes
                for group in self.optimiser.param_groups:
                    group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))
                self.optimiser.zero_grad()
                (losses * weights).sum().backward()
                nn.utils.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM)
                self.optimiser.step()
            count = torch.stack([came[-1].sum(), dreams[-1].sum()]).repeat_interleave(2)
            sums += losses.detach() * count
            steps += count
        return sums / steps.clamp(min=1)

    def _losses(self, found: Motions, true: Tensor, latents: Tensor, real: Tensor, *, summed: bool) -> Tensor:
        """`[2]`: of motion and of the rest, of steps that came; errors of dreamt motions add up."""
        known = torch.where(true.isnan(), found.motion.detach(), true)  # unknown: nothing to learn
        motion = self.core.displacement(found.motion, known, summed=summed)
        numbers = found.rest.shape[-1]
        missed = found.rest - latents[:, :, latents.shape[-1] - numbers :]
        rest = 0.5 * missed.square().sum(-1) / max(1, numbers)
        return torch.stack([(each * real).sum() for each in (motion, rest)]) / real.sum().clamp(min=1)

    def state_dict(self) -> dict[str, Any]:
        """What is needed to continue between two passes, beside the memory's weights."""
        return {"done": self.done, "optimiser": self.optimiser.state_dict(), "rng": self.rng.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.done = state["done"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.set_state(state["rng"])
