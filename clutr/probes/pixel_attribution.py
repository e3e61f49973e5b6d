"""To which pixels of the present frame a prediction is due.

Through a transparent backbone the answer is exact: its latents are linear in the pixels, so a latent's relevance is
shared out by formula. Through a black box it is shared out by slopes. Occlusion asks without either.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from clutr.probes.attribution import AttributionInput, answer, layerwise_relevance
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.memory import Scale

BLOCK = 8
"""Pixels along the side of the squares that occlusion hides."""
STEPS = 32
"""Points of the path of integrated gradients."""


def differentiable(backbone: Backbone) -> Callable[[Tensor], Tensor]:
    """The means `[N, k]` of frames `[N, H, W, 3]` in 0..255, float32, as a function with gradients."""
    inner: Any = backbone
    while hasattr(inner, "base"):  # a refined backbone encodes as its base does
        inner = inner.base
    encode = getattr(inner, "posterior_of", inner.encode)
    return lambda frames: encode(frames)[0]


@dataclass(frozen=True)
class PixelAttributionInput:
    """What a memory says of a target as a function of the present frame; what came before stays as it was."""

    question: AttributionInput
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

    def answers(self, frames: Tensor, inputs: Tensor, state: Tensor) -> Tensor:
        """The answer `[N]` to frames, after inputs `[N, T, I]` from states of their own."""
        latents = self.latents(frames)
        present = torch.cat([latents, inputs[:, -1, latents.shape[1] :]], 1)
        return answer(
            self.question.memory, self.question.target, torch.cat([inputs[:, :-1], present[:, None]], 1), state
        )

    def __call__(self, frames: Tensor) -> Tensor:
        """The answer `[N]` to frames in place of the present ones."""
        return self.answers(frames, self.question.past.inputs, self.question.past.state)

    def over(self, frames: Tensor) -> "PixelAttributionInput":
        """The same question about other frames."""
        return PixelAttributionInput(self.question, self.encode, self.scale, frames, self.baseline)

    def asked_of(self, question: AttributionInput, encode: Callable[[Tensor], Tensor]) -> "PixelAttributionInput":
        """The same frames, put to another memory or encoder."""
        return PixelAttributionInput(question, encode, self.scale, self.frames, self.baseline)


ExplainPixels = Callable[[PixelAttributionInput], Tensor]
"""Relevance `[N, H, W]`, summed over colours."""


def gradient_times_pixels(question: PixelAttributionInput) -> Tensor:
    """Slopes times what differs from the mean frame."""
    frames = question.frames.clone().requires_grad_()
    (slope,) = torch.autograd.grad(question(frames).sum(), frames)
    return (slope * (question.frames - question.baseline)).sum(-1)


def integrated_pixels(question: PixelAttributionInput) -> Tensor:
    """Slopes along the straight way from the mean frame; they add up to the difference that the frame makes."""
    past = question.question.past
    found: Tensor = IntegratedGradients(question.answers).attribute(
        question.frames,
        baselines=question.baseline.expand_as(question.frames).contiguous(),
        additional_forward_args=(past.inputs, past.state),
        n_steps=STEPS,
        internal_batch_size=4 * max(len(past.inputs), STEPS),
    )
    return found.detach().sum(-1)


@torch.no_grad()
def occluded_pixels(question: PixelAttributionInput) -> Tensor:
    """By how much the answer falls if a square of the frame is hidden behind the mean frame, evenly over the square."""
    before, found = question(question.frames), torch.zeros(question.frames.shape[:3])
    rows, columns = question.frames.shape[1:3]
    for row in range(0, rows, BLOCK):
        for column in range(0, columns, BLOCK):
            place = (slice(None), slice(row, row + BLOCK), slice(column, column + BLOCK))
            hidden = question.frames.clone()
            hidden[place] = question.baseline[place[1:]]
            found[place] = (before - question(hidden))[:, None, None] / BLOCK**2
    return found


def propagate_to_pixels(question: PixelAttributionInput, relevance: Tensor) -> Tensor:
    """Share out the relevance `[N, D]` of the present latents among pixels `[N, H, W]`.

    Each pixel gets of a latent what it contributes to the latent's difference from that of the mean frame. Exact for a
    linear encoder: nothing is lost, and the map is the sum of the latents' pixel filters, weighted by relevance. For
    another one contributions are slopes times differences, scaled to what the latents really differ by.
    """
    frames = question.frames.clone().requires_grad_()
    latents = question.latents(frames)
    with torch.no_grad():
        difference = latents - question.latents(question.baseline[None])
    ratio = relevance / torch.where(difference.abs() > 1e-4, difference, torch.inf)
    (slope,) = torch.autograd.grad((latents * ratio).sum(), frames)
    return (slope * (question.frames - question.baseline)).sum(-1)


def layerwise_pixels(question: PixelAttributionInput) -> Tensor:
    """Layer-wise relevance of the present latents, shared out among pixels."""
    return propagate_to_pixels(
        question, layerwise_relevance(question.question)[:, -1, : question.question.memory.latents]
    )


PIXEL_METHODS: dict[str, ExplainPixels] = {
    "gradient x input": gradient_times_pixels,
    "integrated gradients": integrated_pixels,
    "occlusion": occluded_pixels,
    "layer-wise relevance": layerwise_pixels,
}
"""Explanations by name."""
