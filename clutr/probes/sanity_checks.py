"""Sanity checks of attribution maps: whether a map may be believed.

A map passes if it tells what matters and depends on what was learnt:

1. deleting what it calls relevant changes the prediction more than deletion in random order, by two standard errors,
   and it predicts what removing a fifth of the inputs does better than an empty map does, beyond its interval
   (infidelity);
2. maps of models with shuffled weights are different (`clutr.probes.randomisation`);
3. the prediction is worth explaining: on held-out levels it tells something that takes learning (`Skill`).

`clutr.probes.calibration` shows on models whose true attributions are known that right maps pass and wrong ones do not.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clutr.probes.attribution import AttributionInput, Explain, Past, Target
from clutr.probes.faithfulness import infidelity, perturb
from clutr.probes.intervals import Interval
from clutr.probes.pixel_attribution import ExplainPixels, PixelAttributionInput, differentiable
from clutr.probes.randomisation import (
    SHUFFLES,
    SIMILAR,
    parts_of,
    randomisation,
    shuffle_backbone,
    shuffle_memory,
    similarity,
)
from clutr.world_model.backbones.base import Backbone

ERRORS = 2.0
"""Standard errors by which a map has to beat random order."""
CELL = 4
"""Pixels along the side of the squares that deletion removes."""
NUDGE, PIXEL_NUDGE = 0.05, 2.0
"""Size of the disturbances of sensitivity: in standard deviations of latents, and of 255."""
COMPARED = 8
"""Predictions whose maps are compared with those of shuffled models: what varies is the shuffle."""
SKILL = 0.02
"""R^2 above which, with its whole interval, a prediction is worth explaining."""


class Skill(NamedTuple):
    """How good the prediction is that a map explains."""

    score: Interval
    of: str = "its R^2 on held-out levels"
    """What was measured, in words."""

    @property
    def enough(self) -> bool:
        """Whether there is something to explain."""
        return self.score.low > SKILL


@dataclass(frozen=True)
class SanityChecks:
    """The checks of one map, over N predictions."""

    passed: bool
    why: str
    """In words, with numbers: what it passed, or what it failed."""
    abpc: float
    """Area between least- and most-relevant-first deletion, as a share of what the explained inputs do."""
    random_gap: float
    """The same between random order and most-relevant-first: the worth of the map."""
    gap_error: float
    """Its standard error over predictions."""
    infidelity: Interval
    """Share of the effect of removing a fifth of the features that the map does not predict: 0 is perfect, 1 an empty
    map's; for maps without a sign an even one's."""
    sensitivity: float | None
    """Largest relative change of the map under small disturbances, mean over predictions; None if it was not
    measured."""
    alike: Interval
    """Similarity to the maps of models with everything shuffled, and its interval over shuffles."""
    similarity: dict[str, float]
    """The same for one shuffle of each part."""
    predictions: int
    """N."""
    shuffles: int

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {name: list(getattr(self, name)) for name in ("infidelity", "alike")}


@torch.no_grad()
def check_map(
    model: Callable[[Tensor], Tensor],
    relevance: Tensor,
    shuffled: Sequence[Tensor],
    rng: torch.Generator,
    controls: Tensor | None = None,
    parts: Mapping[str, Tensor] | None = None,
    moved: Sequence[Tensor] = (),
    signed: bool = True,
    skill: Skill | None = None,
) -> SanityChecks:
    """Check a map.

    Args:
        model: the prediction `[N]` when features are present where `[N, F]` is 1 and at their baseline where it is 0.
        relevance: `[N, F]`.
        shuffled: the relevance `[M, F]` of the first M predictions by models of which everything was shuffled, at
            least two; they decide.
        rng: orders and draws at random.
        controls: `[N, F, C]`: what any map may follow; see `similarity`.
        parts: the relevance `[M, F]` by models of which one part was shuffled.
        moved: the relevance for slightly disturbed inputs.
        signed: whether relevance says the direction. If not, it stands for the prediction's absolute change.
        skill: of the prediction itself; None: it is known to be good.
    """
    present, nothing = torch.ones_like(relevance), torch.zeros_like(relevance)
    whole, empty = model(present), model(nothing)
    size = max(float((whole - empty).abs().mean()), 1e-12)

    def prediction(features: Tensor) -> Tensor:
        return model(features) / size if signed else -(model(features) - whole).abs() / size

    found = perturb(prediction, present, relevance, nothing, rng)
    error = found.gap_error if math.isfinite(found.gap_error) else 0.0
    left = infidelity(prediction, present, relevance / size, nothing, rng, signed=signed)
    few = len(shuffled[0])
    known = None if controls is None else controls[:few]
    random = randomisation(relevance[:few], shuffled, known)
    failures = []
    if skill is not None and not skill.enough:
        failures.append(f"the prediction itself tells too little to be explained: {skill.of} is {skill.score}")
    if not (found.random_gap > ERRORS * error and found.random_gap > 0):
        failures.append(f"what it calls relevant matters no more than chance ({found.random_gap:.2f} ± {error:.2f})")
    if not left.high < 1:
        other = "an empty map's" if signed else "an even map's"
        failures.append(f"it predicts the effect of removing inputs no better than {other} 1.00 (infidelity {left})")
    if not random.passed:
        failures.append(f"shuffled weights give much the same map (similarity {random.similarity}, limit {SIMILAR})")
    good = (
        f"what it calls relevant matters (by {found.random_gap:.2f} ± {error:.2f} more than chance), it misses "
        + f"{left} of the effect of removing inputs (an empty map 1), and shuffled weights give another map "
        + f"(similarity {random.similarity})"
    )
    scale = relevance.flatten(1).norm(dim=1).clamp(min=1e-12)
    worst = [(other - relevance).flatten(1).norm(dim=1) / scale for other in moved]
    return SanityChecks(
        passed=not failures,
        why="; ".join(failures) or good,
        abpc=found.abpc,
        random_gap=found.random_gap,
        gap_error=error,
        infidelity=left,
        sensitivity=float(torch.stack(worst).amax(0).mean()) if worst else None,
        alike=random.similarity,
        similarity={
            part: float(similarity(relevance[:few], other, known).mean()) for part, other in (parts or {}).items()
        },
        predictions=len(relevance),
        shuffles=len(shuffled),
    )


def recency_and_size(past: Past) -> Tensor:
    """What any recurrent model's relevance follows, `[N, T, I, 2]`: each input's step, and its size."""
    away = (past.inputs - past.baseline).abs()
    step = torch.arange(away.shape[1], dtype=away.dtype)[:, None].expand_as(away)
    return torch.stack([step, away], -1)


def _shuffled_target(target: Target, part: str, rng: torch.Generator) -> Target:
    return target.shuffled(rng) if part in ("head", "everything") else target


def _shuffled_inputs(explained: AttributionInput, part: str, rng: torch.Generator) -> AttributionInput:
    """The same predictions, of the first `COMPARED` pasts, by a memory of which a part was shuffled."""
    memory = shuffle_memory(explained.memory, part, rng)
    return AttributionInput(memory, _shuffled_target(explained.target, part, rng), explained.past.first(COMPARED))


def check_latents(
    explained: AttributionInput,
    explain: Explain,
    rng: torch.Generator,
    nudges: int = 2,
    shuffles: int = SHUFFLES,
    skill: Skill | None = None,
) -> tuple[Tensor, SanityChecks]:
    """Explain a prediction by past latents and actions, and check the map. Relevance `[N, T, I]` and its checks."""
    past = explained.past
    relevance = explain(explained)
    shuffled = [explain(_shuffled_inputs(explained, "everything", rng)).flatten(1) for _ in range(shuffles)]
    parts = {
        part: explain(_shuffled_inputs(explained, part, rng)).flatten(1) for part in parts_of(explained.memory)[:-1]
    }
    moved = [
        explain(explained.over(past.inputs + NUDGE * (2 * torch.rand(past.inputs.shape, generator=rng) - 1)))
        for _ in range(nudges)
    ]

    def model(present: Tensor) -> Tensor:
        shown = present.view_as(past.inputs)
        return explained(past.baseline + shown * (past.inputs - past.baseline))

    controls = recency_and_size(past).flatten(1, 2)
    flat = [other.flatten(1) for other in moved]
    return relevance, check_map(model, relevance.flatten(1), shuffled, rng, controls, parts, flat, skill=skill)


def check_steps(
    explained: AttributionInput,
    explain: Callable[[AttributionInput], Tensor],
    rng: torch.Generator,
    shuffles: int = SHUFFLES,
    skill: Skill | None = None,
) -> tuple[Tensor, SanityChecks]:
    """The same for maps without a sign over whole steps, such as attention: relevance `[N, T]`."""
    past = explained.past
    relevance = explain(explained)
    shuffled = [explain(_shuffled_inputs(explained, "everything", rng)) for _ in range(shuffles)]
    parts = {part: explain(_shuffled_inputs(explained, part, rng)) for part in parts_of(explained.memory)[:-1]}

    def model(present: Tensor) -> Tensor:
        return explained(past.baseline + present[..., None] * (past.inputs - past.baseline))

    controls = recency_and_size(past)
    controls = torch.stack([controls[..., 0, 0], controls[..., 1].norm(dim=-1)], -1)
    return relevance, check_map(model, relevance, shuffled, rng, controls, parts, signed=False, skill=skill)


def check_pixels(
    explained: PixelAttributionInput,
    backbone: Backbone,
    explain: ExplainPixels,
    rng: torch.Generator,
    nudges: int = 1,
    shuffles: int = SHUFFLES,
    skill: Skill | None = None,
) -> tuple[Tensor, SanityChecks]:
    """Explain a prediction by the present frame's pixels, and check the map. Relevance `[N, H, W]` and its checks."""
    relevance = explain(explained)
    few = explained.first(COMPARED)

    def shuffled(part: str) -> Tensor:
        inner, encode = few.latents_input, few.encode
        if part != "encoder":
            inner = _shuffled_inputs(inner, part, rng)
        if part in ("encoder", "everything"):
            encode = differentiable(shuffle_backbone(backbone, rng))
        return _cells(explain(few.put_to(inner, encode)))

    everything = [shuffled("everything") for _ in range(shuffles)]
    parts = {part: shuffled(part) for part in (*parts_of(few.latents_input.memory)[:-1], "encoder")}
    noise = [2 * torch.rand(explained.frames.shape, generator=rng) - 1 for _ in range(nudges)]
    moved = [_cells(explain(explained.over(explained.frames + PIXEL_NUDGE * each))) for each in noise]
    rows, columns = (size // CELL for size in relevance.shape[1:])

    def model(present: Tensor) -> Tensor:
        shown = present.view(-1, rows, columns).repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)[..., None]
        return explained(explained.baseline + shown * (explained.frames - explained.baseline))

    away = _cells((explained.frames - explained.baseline).abs().sum(-1))[..., None]
    return relevance, check_map(model, _cells(relevance), everything, rng, away, parts, moved, skill=skill)


def _cells(relevance: Tensor) -> Tensor:
    """Relevance `[N, H, W]` summed over squares: `[N, F]`."""
    return nn.functional.avg_pool2d(relevance[:, None], CELL).flatten(1) * CELL**2
