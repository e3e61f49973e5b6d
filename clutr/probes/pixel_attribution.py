"""Attribution of predictions to the pixels of the present frame.

The relevance of latents is propagated to pixels: exactly through a linear backbone, through another one by integrated
gradients of the encoder. Occlusion needs neither.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from clutr.probes.attribution import AttributionInput, layerwise_slopes, predict
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.memory import Scale

BLOCK = 8
"""Pixels along the side of the squares that occlusion hides."""
STEPS = 32
"""Points of the path of integrated gradients."""


def differentiable(backbone: Backbone) -> Callable[[Tensor], Tensor]:
    """The means `[N, k]` of frames `[N, H, W, 3]` in 0..255, float32, as a function with gradients."""
    inner: Any = backbone
    while hasattr(inner, "base"):  # a residual backbone encodes as its base does
        inner = inner.base
    encode = getattr(inner, "posterior_of", inner.encode)
    return lambda frames: encode(frames)[0]


@dataclass(frozen=True)
class PixelAttributionInput:
    """A memory's prediction of a target as a function of the present frame; earlier inputs are fixed."""

    latents_input: AttributionInput
    encode: Callable[[Tensor], Tensor]
    """Of `differentiable`."""
    scale: Scale
    frames: Tensor
    """`[N, H, W, 3]` float32 in 0..255: the present."""
    baseline: Tensor
    """`[H, W, 3]`: the mean frame."""

    def latents(self, frames: Tensor) -> Tensor:
        """Normalised latents `[N, D]` of frames."""
        return self.scale.normalise(self.encode(frames))

    def predict_from(self, frames: Tensor, inputs: Tensor, state: Tensor) -> Tensor:
        """The prediction `[N]` for frames, after inputs `[N, T, I]` from states of their own."""
        latents = self.latents(frames)
        present = torch.cat([latents, inputs[:, -1, latents.shape[1] :]], 1)
        return predict(
            self.latents_input.memory,
            self.latents_input.target,
            torch.cat([inputs[:, :-1], present[:, None]], 1),
            state,
        )

    def __call__(self, frames: Tensor) -> Tensor:
        """The prediction `[N]` for frames in place of the present ones."""
        return self.predict_from(frames, self.latents_input.past.inputs, self.latents_input.past.state)

    def over(self, frames: Tensor) -> Self:
        """The same for other frames."""
        return replace(self, frames=frames)

    def first(self, count: int) -> Self:
        """The first `count` predictions, or all."""
        inner = self.latents_input
        few = AttributionInput(inner.memory, inner.target, inner.past.first(count))
        return replace(self, latents_input=few, frames=self.frames[:count])

    def put_to(self, latents_input: AttributionInput, encode: Callable[[Tensor], Tensor]) -> Self:
        """The same frames for another memory or encoder."""
        return replace(self, latents_input=latents_input, encode=encode)


ExplainPixels = Callable[[PixelAttributionInput], Tensor]
"""Relevance `[N, H, W]` of the present frame, or `[N, L, H, W]` of past ones, summed over colours."""


def gradient_times_pixels(explained: PixelAttributionInput) -> Tensor:
    """Gradients times the difference from the mean frame."""
    frames = explained.frames.clone().requires_grad_()
    (slope,) = torch.autograd.grad(explained(frames).sum(), frames)
    return (slope * (explained.frames - explained.baseline)).sum(-1)


def integrated_pixels(explained: PixelAttributionInput, steps: int = STEPS) -> Tensor:
    """Gradients along the straight path from the mean frame; they add up to the difference that the frame makes."""
    from captum.attr import IntegratedGradients  # noqa: PLC0415  # takes two seconds

    past = explained.latents_input.past
    found: Tensor = IntegratedGradients(explained.predict_from).attribute(
        explained.frames,
        baselines=explained.baseline.expand_as(explained.frames).contiguous(),
        additional_forward_args=(past.inputs, past.state),
        n_steps=steps,
        internal_batch_size=4 * max(len(past.inputs), steps),
    )
    return found.detach().sum(-1)


@torch.no_grad()
def occluded_pixels(explained: PixelAttributionInput) -> Tensor:
    """By how much the prediction falls if a square is replaced by that of the mean frame, spread over the square."""
    before, found = explained(explained.frames), torch.zeros(explained.frames.shape[:3])
    rows, columns = explained.frames.shape[1:3]
    for row in range(0, rows, BLOCK):
        for column in range(0, columns, BLOCK):
            place = (slice(None), slice(row, row + BLOCK), slice(column, column + BLOCK))
            hidden = explained.frames.clone()
            hidden[place] = explained.baseline[place[1:]]
            found[place] = (before - explained(hidden))[:, None, None] / BLOCK**2
    return found


def propagate_to_pixels(explained: PixelAttributionInput, slopes: Tensor, steps: int = 8) -> Tensor:
    """Relevance of pixels, by slopes `[N, D]` or `[N, L, D]` that tell what a unit of each frame's latents is worth.

    Each pixel gets of a latent's difference from that of the mean frame what it contributes, by integrated gradients of
    the encoder: contributions add up to the difference, for any encoder, and nothing is divided by it. Latents and
    pixels so have the same baseline, the mean frame. A linear encoder needs one step.
    """
    away, found = explained.frames - explained.baseline, torch.zeros_like(explained.frames)
    for step in range(steps):
        frames = (explained.baseline + (step + 0.5) / steps * away).requires_grad_()
        (slope,) = torch.autograd.grad((explained.latents(frames) * slopes).sum(), frames)
        found += slope / steps
    return (found * away).sum(-1)


def layerwise_pixels(explained: PixelAttributionInput) -> Tensor:
    """Layer-wise relevance of the present latents, propagated to pixels."""
    inner = explained.latents_input
    return propagate_to_pixels(explained, layerwise_slopes(inner)[:, -1, : inner.memory.latents])


PIXEL_METHODS: dict[str, ExplainPixels] = {
    "gradient x input": gradient_times_pixels,
    "integrated gradients": integrated_pixels,
    "occlusion": occluded_pixels,
    "layer-wise relevance": layerwise_pixels,
}
"""Explanations by name."""
