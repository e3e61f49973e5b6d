"""Attribution of predictions to the pixels of past frames, which act through the memory.

Relevance of each step's latents is propagated to that step's frame, as in `clutr.probes.pixel_attribution`; gradients
go through memory and encoder at once. The check deletes squares of past frames, and whole frames.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import scipy  # its parts are imported at their first use, which takes a second
import torch
from torch import Tensor, nn

from clutr.probes.attribution import AttributionInput, layerwise_slopes, predict
from clutr.probes.intervals import Interval, mean_over
from clutr.probes.pixel_attribution import (
    PixelAttributionInput,
    differentiable,
    gradient_times_pixels,
    integrated_pixels,
    propagate_to_pixels,
)
from clutr.probes.randomisation import SHUFFLES, shuffle_backbone, shuffle_memory
from clutr.probes.sanity_checks import COMPARED, SanityChecks, Skill, check_map
from clutr.world_model.backbones.base import Backbone

CELL = 8
"""Pixels along the side of the squares that deletion removes and occlusion hides."""
STEPS = 16
"""Points of the path of integrated gradients."""


class PastPixelInput(PixelAttributionInput):
    """A memory's prediction as a function of the last L frames; what was before, and the actions, are fixed.

    Its `frames` are `[N, L, H, W, 3]` float32 in 0..255, the present last.
    """

    def latents(self, frames: Tensor) -> Tensor:
        """Normalised latents `[N, L, D]` of frames."""
        return super().latents(frames.flatten(0, 1)).view(*frames.shape[:2], -1)

    def predict_from(self, frames: Tensor, inputs: Tensor, state: Tensor) -> Tensor:
        """The prediction `[N]` for frames, after inputs `[N, T, I]` from states of their own."""
        latents = self.latents(frames)
        first = inputs.shape[1] - latents.shape[1]
        later = torch.cat([latents, inputs[:, first:, latents.shape[2] :]], 2)
        inner = self.latents_input
        return predict(inner.memory, inner.target, torch.cat([inputs[:, :first], later], 1), state)


ExplainPast = Callable[[PastPixelInput], Tensor]
"""Relevance `[N, L, H, W]`, summed over colours."""


@torch.no_grad()
def occluded_past(explained: PastPixelInput) -> Tensor:
    """By how much the prediction falls if a square of a frame is replaced by that of the mean frame, spread over it."""
    before, found = explained(explained.frames), torch.zeros(explained.frames.shape[:4])
    known = explained.latents(explained.frames)
    inner, count = explained.latents_input, explained.frames.shape[1]
    inputs, state = inner.past.inputs, inner.past.state
    rows, columns = explained.frames.shape[2:4]
    places = [(row, column) for row in range(0, rows, CELL) for column in range(0, columns, CELL)]
    for time in range(count):
        hidden = explained.frames[:, time].expand(len(places), -1, -1, -1, -1).clone()
        for part, (row, column) in zip(hidden, places, strict=True):
            square = (slice(row, row + CELL), slice(column, column + CELL))
            part[:, square[0], square[1]] = explained.baseline[square]
        latents = explained.scale.normalise(explained.encode(hidden.flatten(0, 1)))
        every = inputs.repeat(len(places), 1, 1)
        every[:, inputs.shape[1] - count + time, : known.shape[2]] = latents
        said = predict(inner.memory, inner.target, every, state.repeat(len(places), 1)).view(len(places), -1)
        for part, (row, column) in zip(said, places, strict=True):
            found[:, time, row : row + CELL, column : column + CELL] = ((before - part) / CELL**2)[:, None, None]
    return found


def layerwise_past(explained: PastPixelInput) -> Tensor:
    """Layer-wise relevance of the latents of each step, propagated to its frame by the encoder's path gradients."""
    inner, count = explained.latents_input, explained.frames.shape[1]
    slopes = layerwise_slopes(inner)[:, -count:, : inner.memory.latents]
    return propagate_to_pixels(explained, slopes, steps=4)


PAST_METHODS: dict[str, ExplainPast] = {
    "gradient x input": gradient_times_pixels,
    "integrated gradients": partial(integrated_pixels, steps=STEPS),
    "occlusion": occluded_past,
    "layer-wise relevance": layerwise_past,
}
"""Explanations by name."""


class FrameCheck(NamedTuple):
    """Whether a map tells which past frame matters."""

    agreement: Interval
    """Rank correlation, over frames, of a frame's absolute relevance with what deleting it does; mean over
    predictions."""
    recency: Interval
    """The same for saying that later frames matter more."""


@torch.no_grad()
def check_frames(explained: PastPixelInput, relevance: Tensor) -> FrameCheck:
    """Delete one frame after the other, and compare with the map `[N, L, H, W]`."""
    before, effects = explained(explained.frames), []
    for time in range(explained.frames.shape[1]):
        gone = explained.frames.clone()
        gone[:, time] = explained.baseline
        effects.append((explained(gone) - before).abs())
    made, claimed = torch.stack(effects, 1), relevance.abs().sum((-1, -2))
    order = torch.arange(made.shape[1], dtype=made.dtype).expand_as(made)
    return FrameCheck(*(mean_over(_rank_correlations(each, made)) for each in (claimed, order)))


def _rank_correlations(a: Tensor, b: Tensor) -> Tensor:
    """Of each row of `[N, L]`; 0 where one of them is constant."""
    found = [
        float(scipy.stats.spearmanr(x, y).statistic) if x.std() > 0 and y.std() > 0 else 0.0
        for x, y in zip(a.double(), b.double(), strict=True)
    ]
    return torch.tensor(found)


def check_past(
    explained: PastPixelInput,
    backbone: Backbone,
    explain: ExplainPast,
    rng: torch.Generator,
    shuffles: int = SHUFFLES,
    skill: Skill | None = None,
) -> tuple[Tensor, SanityChecks, FrameCheck]:
    """Explain a prediction by past frames, and check the map: see `clutr.probes.sanity_checks`."""
    relevance = explain(explained)
    few = explained.first(COMPARED)

    def shuffled() -> Tensor:
        inner = few.latents_input
        memory = shuffle_memory(inner.memory, "everything", rng)
        other = AttributionInput(memory, inner.target.shuffled(rng), inner.past)
        return _cells(explain(few.put_to(other, differentiable(shuffle_backbone(backbone, rng)))))

    def model(present: Tensor) -> Tensor:
        rows, columns = (size // CELL for size in relevance.shape[2:])
        shown = present.view(*relevance.shape[:2], rows, columns)
        shown = shown.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)[..., None]
        return explained(explained.baseline + shown * (explained.frames - explained.baseline))

    away = _cells((explained.frames - explained.baseline).abs().sum(-1))
    step = torch.arange(relevance.shape[1], dtype=away.dtype).repeat_interleave(away.shape[1] // relevance.shape[1])
    controls = torch.stack([step.expand_as(away), away], -1)
    others = [shuffled() for _ in range(shuffles)]
    checks = check_map(model, _cells(relevance), others, rng, controls, skill=skill)
    return relevance, checks, check_frames(explained, relevance)


def _cells(relevance: Tensor) -> Tensor:
    """Relevance `[N, L, H, W]` summed over squares: `[N, F]`."""
    pooled: Tensor = nn.functional.avg_pool2d(relevance.detach(), CELL)
    return pooled.flatten(1) * CELL**2
