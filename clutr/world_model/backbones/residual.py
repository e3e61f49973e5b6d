"""A transparent backbone with a small residual decoder: what the linear path cannot say, and how much that is.

The encoder stays transparent. The picture is the linear one plus a correction of it by a few convolutions, the
generator and refiner of DiffuseVAE without the diffusion. `linear_share` says which part of the drop in error the
linear path carries, and so how far an explanation through the linear path can be believed (above 1: the correction, too
little trained, does harm).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.agents.adam import Adam
from clutr.agents.networks import initialised
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_above, require_at_least
from clutr.world_model.backbones.base import (
    BACKBONES,
    Backbone,
    BackboneConfig,
    Fitting,
    Frames,
    blacken,
    require_frames,
    visible,
)
from clutr.world_model.backbones.ppca import PPCAConfig

SLOPE = 0.1
"""Of the hidden units below 0."""
MEASURED_ON = 1_000
"""Most frames that are looked at afterwards."""


@BACKBONES.register("residual")
@dataclass(frozen=True)
class ResidualConfig:
    """A transparent backbone and a residual decoder."""

    base: BackboneConfig = field(default_factory=PPCAConfig)
    """The transparent backbone."""
    width: int = 24
    """Channels of the residual decoder's two hidden layers."""
    iterations: int = 1_500
    """Gradient steps of the residual decoder."""
    batch_size: int = 32
    """Frames of each."""
    learning_rate: float = 3e-4
    """Adam's step size at the start; it falls to 0 along a cosine. Much larger ones silence the hidden units."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "width", "iterations", "batch_size")
        require_above(self, 0, "learning_rate")

    def build(self, size: tuple[int, int], seed: int) -> "ResidualBackbone":
        """An unfitted backbone. Raises `ValueError` as the transparent one does."""
        return ResidualBackbone(self.base.build(size, seed), self.width, named_generator(seed, "refined", "weights"))

    def fitting(self, backbone: "ResidualBackbone", frames: Frames, seed: int) -> "ResidualTraining":
        """The transparent one first, then gradient descent."""
        return ResidualTraining(backbone, self, frames, seed)


def _convolution(inputs: int, outputs: int, rng: torch.Generator, gain: float) -> nn.Conv2d:
    draw = partial(nn.init.xavier_uniform_, gain=gain, generator=rng)
    return initialised(nn.Conv2d, draw, inputs, outputs, kernel_size=5, padding=2)


class ResidualBackbone:
    """A transparent backbone whose pictures are corrected.

    Args:
        base: the transparent backbone.
        width: channels of the residual decoder.
        rng: draws its initial weights; at first it corrects next to nothing.
    """

    def __init__(self, base: Backbone, width: int, rng: torch.Generator) -> None:
        self.base, self.latents, self.size, self.masked_rows = base, base.latents, base.size, base.masked_rows
        # leaky, so that no unit can fall silent for good
        layers = _convolution(3, width, rng, 1.0), nn.LeakyReLU(SLOPE), _convolution(width, width // 2, rng, 1.0)
        self.residual = nn.Sequential(*layers, nn.LeakyReLU(SLOPE), _convolution(width // 2, 3, rng, 0.01))

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """As the transparent backbone."""
        return self.base.encode(frames)

    def refine(self, pictures: Tensor) -> Tensor:
        """Corrected pictures `[N, H, W, 3]`, differentiable in the weights."""
        corrected: Tensor = pictures + self.residual(pictures.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return corrected

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The corrected picture; `base.decode` is the linear one."""
        return blacken(self.refine(self.base.decode(latents)), self.masked_rows)

    def pixel_maps(self) -> Tensor | None:
        """Those of the transparent backbone: the linear path alone."""
        return self.base.pixel_maps()

    def parameters(self) -> Iterator[Tensor]:
        """Those of both parts."""
        return chain(self.base.parameters(), self.residual.parameters())

    def state_dict(self) -> dict[str, Any]:
        """Both parts."""
        return {"base": self.base.state_dict(), "residual": dict(self.residual.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.base.load_state_dict(state["base"])
        self.residual.load_state_dict(state["residual"])


class ResidualTraining:
    """Fits the transparent backbone, then the residual decoder on what it leaves.

    Args:
        backbone: what is fitted.
        config: how.
        frames: on what.
        seed: of batches.
    """

    def __init__(self, backbone: ResidualBackbone, config: ResidualConfig, frames: Frames, seed: int) -> None:
        self.backbone, self.config, self.frames = backbone, config, require_frames(frames)
        self.seen = backbone.size[0] - backbone.masked_rows
        self.first: Fitting = config.base.fitting(backbone.base, frames, seed)
        self.optimiser = Adam(backbone.residual.parameters(), config.learning_rate)
        self.rng = named_generator(seed, "refined", "training")
        self.iteration = 0
        self.metrics: dict[str, Any] = {}

    def run(self, progress: Progress = lambda *_: None) -> None:
        """Fit to the end, then measure."""
        if not self.first.metrics:
            self.first.run(progress)
        while self.iteration < self.config.iterations:
            wrong = self.step()
            if self.iteration % 20 == 0 or self.iteration == self.config.iterations:
                progress(self.iteration, self.config.iterations, {"mse": float(wrong)})
        if not self.metrics:
            self.metrics = self.first.metrics | self._measure()

    def step(self) -> Tensor:
        """One gradient step; the mean squared error before it."""
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * self.iteration / config.iterations))
        frames = self.frames[torch.randint(len(self.frames), (config.batch_size,), generator=self.rng)]
        with torch.no_grad():
            linear = self.backbone.base.decode(self.backbone.base.encode(frames)[0])
        shown = visible(frames, self.backbone.masked_rows)
        wrong = F.mse_loss(self.backbone.refine(linear)[:, : self.seen], shown[:, : self.seen])
        self.optimiser.zero_grad()
        wrong.backward()
        self.optimiser.step()
        self.iteration += 1
        return wrong.detach()

    def _measure(self) -> dict[str, Any]:
        """Errors of the mean picture, of the linear path and of the refined one."""
        numbers = torch.linspace(0, len(self.frames) - 1, min(len(self.frames), MEASURED_ON)).long()
        total = torch.zeros(3, dtype=torch.float64)
        masked = self.backbone.masked_rows
        mean = torch.stack([visible(self.frames[index], masked).sum(0) for index in numbers.split(200)]).sum(0)
        mean = mean / len(numbers)
        for index in numbers.split(200):
            shown = visible(self.frames[index], masked)
            linear = self.backbone.base.decode(self.backbone.encode(self.frames[index])[0])
            with torch.no_grad():
                refined = self.backbone.refine(linear)
            away = [(picture - shown)[:, : self.seen] for picture in (mean.expand_as(shown), linear, refined)]
            total += torch.stack([each.square().mean().double() for each in away]) * len(index)
        nothing, linear_error, refined_error = (total / len(numbers)).tolist()
        share = (nothing - linear_error) / max(nothing - refined_error, 1e-12)
        return {"mse": refined_error, "linear_mse": linear_error, "linear_share": share}

    def state_dict(self) -> dict[str, Any]:
        """Both fittings, optimiser, generator and place."""
        return {
            "first": self.first.state_dict(),
            "residual": dict(self.backbone.residual.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.get_state(),
            "iteration": self.iteration,
            "metrics": self.metrics,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.first.load_state_dict(state["first"])
        self.backbone.residual.load_state_dict(state["residual"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.set_state(state["rng"])
        self.iteration, self.metrics = state["iteration"], dict(state["metrics"])
