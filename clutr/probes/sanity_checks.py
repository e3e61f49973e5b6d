"""Sanity checks of attribution maps.

A map passes if deleting what it calls relevant changes the prediction more than deletion in random order, by two
standard errors over the explained predictions, and if the map of a model with shuffled weights is different (Adebayo et
al. 2018). The other numbers are reported without a threshold. Deletion: Petsiuk et al. 2018; the area between the
orders is one number (ABPC). Infidelity and sensitivity: Yeh et al. 2019. Agreement with masks as in Quantus and in gaze
research.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from scipy import stats
from torch import Tensor, nn

from clutr.probes.attribution import AttributionInput, Explain, Target
from clutr.probes.pixel_attribution import ExplainPixels, PixelAttributionInput, differentiable
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.cores.lstm_gru import LSTMCore
from clutr.world_model.memory import Memory

SIMILAR = 0.5
"""Rank correlation above which a map of a model with shuffled weights counts as the same map."""
ERRORS = 2.0
"""Standard errors by which a map has to beat random order."""
CELL = 4
"""Pixels along the side of the squares that deletion removes."""
NUDGE, PIXEL_NUDGE = 0.05, 2.0
"""Size of the disturbances of sensitivity: in standard deviations of latents, and of 255."""


Model = Callable[[Tensor], Tensor]
"""A target `[N]` from inputs `[N, F]`."""


def deletion(model: Model, inputs: Tensor, order: Tensor, baseline: Tensor, steps: int = 20) -> Tensor:
    """Targets `[steps + 1, N]` while features are replaced by a baseline in some order.

    Args:
        model: what is explained.
        inputs: `[N, F]`.
        order: `[N, F]` int64: numbers of features, the first to go first.
        baseline: `[N, F]` or what broadcasts to it.
        steps: stages from nothing to everything replaced.
    """
    features = inputs.shape[1]
    place = torch.empty_like(order).scatter_(1, order, torch.arange(features).expand_as(order))
    values = baseline.expand_as(inputs)
    curve = []
    for stage in range(steps + 1):
        gone = place < round(stage / steps * features)
        curve.append(model(torch.where(gone, values, inputs)))
    return torch.stack(curve)


class Perturbation(NamedTuple):
    """Mean targets over stages of deletion, for three orders; each `[steps + 1]`."""

    most_first: Tensor
    least_first: Tensor
    random: Tensor
    abpc: float
    """Area between least-relevant-first and most-relevant-first, per stage: above 0 if relevance tells what matters."""
    random_gap: float
    """Area between random order and most-relevant-first: above 0 if it tells more than chance."""
    gap_error: float
    """Standard error of that area over inputs; NaN for a single one."""


def perturb(model: Model, inputs: Tensor, relevance: Tensor, baseline: Tensor, rng: torch.Generator) -> Perturbation:
    """Delete by falling relevance `[N, F]`, by rising relevance and at random."""
    falling = relevance.argsort(dim=1, descending=True, stable=True)
    chance = torch.rand(relevance.shape, generator=rng).argsort(1)
    curves = [deletion(model, inputs, order, baseline) for order in (falling, falling.flip(1), chance)]
    gaps = (curves[2] - curves[0]).mean(0)
    error = float(gaps.std() / len(gaps) ** 0.5) if len(gaps) > 1 else float("nan")
    most, least, random = (curve.mean(1) for curve in curves)
    return Perturbation(most, least, random, float((least - most).mean()), float(gaps.mean()), error)


def infidelity(
    model: Model,
    inputs: Tensor,
    relevance: Tensor,
    baseline: Tensor,
    rng: torch.Generator,
    share: float = 0.2,
    draws: int = 20,
) -> float:
    """Infidelity of relevance against a baseline: what removing random features does, and should do by the map.

    Args:
        model: what is explained.
        inputs: `[N, F]`.
        relevance: `[N, F]`: of each feature for the difference from the baseline.
        baseline: `[N, F]` or what broadcasts to it.
        rng: chooses the features.
        share: of them that go.
        draws: how often.

    Returns:
        The mean squared difference over the mean square of what it really does: 0 for a perfect map,
        1 for one that says nothing.
    """
    before, values, wrong, size = model(inputs), baseline.expand_as(inputs), 0.0, 0.0
    for _ in range(draws):
        gone = torch.rand(inputs.shape, generator=rng) < share
        made = before - model(torch.where(gone, values, inputs))
        wrong += float((relevance.masked_fill(~gone, 0).sum(1) - made).square().mean())
        size += float(made.square().mean())
    return wrong / max(size, 1e-30)


class Randomisation(NamedTuple):
    """How similar the maps of the trained model and of one with random weights are."""

    similarity: float
    """Mean rank correlation of absolute relevance over inputs."""
    passed: bool
    """Whether that is low."""


def randomisation(trained: Tensor, random: Tensor, limit: float = 0.5) -> Randomisation:
    """Compare relevances `[N, F]` of the trained model and of the model with weights drawn anew."""
    pairs = zip(trained.abs().double(), random.abs().double(), strict=True)
    # a constant map has no ranks
    known = [float(stats.spearmanr(a, b).statistic) for a, b in pairs if a.std() > 0 and b.std() > 0]
    similarity = sum(known) / len(known) if known else 0.0
    return Randomisation(similarity, abs(similarity) < limit)


class Agreement(NamedTuple):
    """How a map agrees with the simulator's mask of an object."""

    mass: float
    """Share of positive relevance inside the mask."""
    rank: float
    """Share of the mask's pixels among as many pixels of the most relevance."""
    pointing: bool
    """Whether the greatest relevance lies inside."""
    nss: float
    """Mean inside the mask of the map standardised over the picture: 0 is chance."""
    chance: float
    """Share of the picture that the mask covers: what `mass` and `rank` would be by chance."""


def agreement(relevance: Tensor, mask: Tensor) -> Agreement:
    """Of a map `[H, W]` with a mask `[H, W]` bool. Raises `ValueError` for an empty mask."""
    size = int(mask.sum())
    if not size:
        raise ValueError("the mask is empty: the object is not on this picture")
    flat, inside = relevance.flatten().double(), mask.flatten()
    positive = flat.clamp(min=0)
    top = flat.argsort(dim=0, descending=True, stable=True)[:size]
    spread = flat.std(correction=0)
    standard = (flat - flat.mean()) / spread if spread > 0 else torch.zeros_like(flat)
    return Agreement(
        mass=float(positive[inside].sum() / positive.sum()) if positive.sum() > 0 else 0.0,
        rank=float(inside[top].double().mean()),
        pointing=bool(inside[flat.argmax()]),
        nss=float(standard[inside].mean()),
        chance=size / len(flat),
    )


@dataclass(frozen=True)
class SanityChecks:
    """The checks of one map, over N predictions."""

    passed: bool
    why: str
    """In words: what it passed, or what it failed."""
    abpc: float
    """Area between least- and most-relevant-first deletion, as a share of what the explained inputs do."""
    random_gap: float
    """The same between random order and most-relevant-first: the worth of the map."""
    gap_error: float
    """Its standard error over predictions."""
    infidelity: float | None
    """Share of the effect of removing a fifth of the features that the map does not predict: 0 is perfect, 1 says
    nothing; None for maps without a sign."""
    sensitivity: float | None
    """Largest relative change of the map under small disturbances, mean over predictions; None if it was not
    measured."""
    similarity: dict[str, float]
    """Rank correlation with the map of a model of which this part was shuffled."""
    predictions: int
    """N."""

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@torch.no_grad()
def check_map(
    model: Callable[[Tensor], Tensor],
    relevance: Tensor,
    shuffled: Mapping[str, Tensor],
    rng: torch.Generator,
    moved: Sequence[Tensor] = (),
    signed: bool = True,
) -> SanityChecks:
    """Check a map.

    Args:
        model: the prediction `[N]` when features are present where `[N, F]` is 1 and at their baseline where it is 0.
        relevance: `[N, F]`.
        shuffled: the relevance of models of which a part was shuffled; "everything" is among them, and decides.
        rng: orders and draws at random.
        moved: the relevance for slightly disturbed inputs.
        signed: whether relevance says the direction. If not, it stands for the prediction's absolute change.
    """
    present, nothing = torch.ones_like(relevance), torch.zeros_like(relevance)
    whole, empty = model(present), model(nothing)
    size = max(float((whole - empty).abs().mean()), 1e-12)

    def prediction(features: Tensor) -> Tensor:
        return model(features) / size if signed else -(model(features) - whole).abs() / size

    found = perturb(prediction, present, relevance, nothing, rng)
    similarity = {part: randomisation(relevance, other, SIMILAR).similarity for part, other in shuffled.items()}
    matters = found.random_gap > ERRORS * found.gap_error and found.random_gap > 0
    differs = abs(similarity["everything"]) < SIMILAR
    failures = [] if matters else ["what it calls relevant matters no more than chance"]
    if not differs:
        failures.append(
            f"it looks much the same for shuffled weights (rank correlation {similarity['everything']:.2f})"
        )
    scale = relevance.flatten(1).norm(dim=1).clamp(min=1e-12)
    worst = [(other - relevance).flatten(1).norm(dim=1) / scale for other in moved]
    return SanityChecks(
        passed=not failures,
        why=" and ".join(failures) or "what it calls relevant matters, and it depends on what was learnt",
        abpc=found.abpc,
        random_gap=found.random_gap,
        gap_error=found.gap_error if math.isfinite(found.gap_error) else 0.0,
        infidelity=infidelity(prediction, present, relevance / size, nothing, rng) if signed else None,
        sensitivity=float(torch.stack(worst).amax(0).mean()) if worst else None,
        similarity=similarity,
        predictions=len(relevance),
    )


def _shuffle(weights: Tensor, rng: torch.Generator) -> None:
    """Put the numbers of a tensor in random order: of the same sizes, and without what was learnt."""
    weights.data = weights.data.flatten()[torch.randperm(weights.numel(), generator=rng)].view_as(weights)


def parts_of(memory: Memory) -> tuple[str, ...]:
    """The parts of a memory that are shuffled one by one, and all of them together."""
    inner = ("candidate", "gates") if isinstance(memory.core, LSTMCore) else ("core",)
    return ("head", *inner, "everything")


def shuffle_memory(memory: Memory, part: str, rng: torch.Generator) -> Memory:
    """A copy of a memory with one of its parts shuffled (`parts_of`)."""
    other = copy.deepcopy(memory)
    if part in ("head", "everything"):
        for head in (other.mixture, other.outcome):
            _shuffle(head.weight, rng)
    core: Any = other.core
    if isinstance(other.core, LSTMCore):
        for weights in (core.lstm.weight_ih_l0, core.lstm.weight_hh_l0):
            rows = list(weights.data.chunk(4))  # torch's order: i, f, g, o
            for number, each in enumerate(rows):
                if part in ("everything", "candidate" if number == 2 else "gates"):
                    _shuffle(each, rng)
                    rows[number] = each
            weights.data = torch.cat(rows)
    elif part in ("core", "everything"):
        for weights in core.parameters():
            _shuffle(weights, rng)
    return other


def shuffle_backbone(backbone: Backbone, rng: torch.Generator) -> Backbone:
    """A copy of a backbone with shuffled weights: those of a network, or of what a closed form found."""
    other = copy.deepcopy(backbone)
    for weights in other.parameters():
        if weights.ndim > 1:
            _shuffle(weights, rng)
    return other


def check_latents(
    explained: AttributionInput, explain: Explain, rng: torch.Generator, nudges: int = 2
) -> tuple[Tensor, SanityChecks]:
    """Explain a prediction by past latents and actions, and check the map. Relevance `[N, T, I]` and its checks."""
    past, memory = explained.past, explained.memory
    relevance = explain(explained)
    others = {
        part: explain(AttributionInput(shuffle_memory(memory, part, rng), _shuffled_target(explained, part, rng), past))
        for part in parts_of(memory)
    }
    moved = [
        explain(explained.over(past.inputs + NUDGE * (2 * torch.rand(past.inputs.shape, generator=rng) - 1)))
        for _ in range(nudges)
    ]

    def model(present: Tensor) -> Tensor:
        shown = present.view_as(past.inputs)
        return explained(past.baseline + shown * (past.inputs - past.baseline))

    flat = {part: other.flatten(1) for part, other in others.items()}
    return relevance, check_map(model, relevance.flatten(1), flat, rng, [other.flatten(1) for other in moved])


def _shuffled_target(explained: AttributionInput, part: str, rng: torch.Generator) -> Target:
    return explained.target.shuffled(rng) if part in ("head", "everything") else explained.target


def check_steps(
    explained: AttributionInput, explain: Callable[[AttributionInput], Tensor], rng: torch.Generator
) -> tuple[Tensor, SanityChecks]:
    """The same for maps without a sign over whole steps, such as attention: relevance `[N, T]`."""
    past, memory = explained.past, explained.memory
    relevance = explain(explained)
    others = {
        part: explain(AttributionInput(shuffle_memory(memory, part, rng), _shuffled_target(explained, part, rng), past))
        for part in parts_of(memory)
    }

    def model(present: Tensor) -> Tensor:
        return explained(past.baseline + present[..., None] * (past.inputs - past.baseline))

    return relevance, check_map(model, relevance, others, rng, signed=False)


def check_pixels(
    explained: PixelAttributionInput, backbone: Backbone, explain: ExplainPixels, rng: torch.Generator, nudges: int = 1
) -> tuple[Tensor, SanityChecks]:
    """Explain a prediction by the present frame's pixels, and check the map. Relevance `[N, H, W]` and its checks."""
    relevance = explain(explained)
    inner = explained.latents_input
    others = {}
    for part in (*parts_of(inner.memory)[:-1], "encoder", "everything"):
        memory = inner.memory if part == "encoder" else shuffle_memory(inner.memory, part, rng)
        target = _shuffled_target(inner, part, rng)
        encode = explained.encode
        if part in ("encoder", "everything"):
            encode = differentiable(shuffle_backbone(backbone, rng))
        others[part] = explain(explained.put_to(AttributionInput(memory, target, inner.past), encode))
    noise = [2 * torch.rand(explained.frames.shape, generator=rng) - 1 for _ in range(nudges)]
    moved = [explain(explained.over(explained.frames + PIXEL_NUDGE * each)) for each in noise]
    rows, columns = (size // CELL for size in relevance.shape[1:])

    def model(present: Tensor) -> Tensor:
        shown = present.view(-1, rows, columns).repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)[..., None]
        return explained(explained.baseline + shown * (explained.frames - explained.baseline))

    cells = {part: _cells(other) for part, other in others.items()}
    return relevance, check_map(model, _cells(relevance), cells, rng, [_cells(other) for other in moved])


def _cells(relevance: Tensor) -> Tensor:
    """Relevance `[N, H, W]` summed over squares: `[N, F]`."""
    return nn.functional.avg_pool2d(relevance[:, None], CELL).flatten(1) * CELL**2


def mask_agreement(relevance: Tensor, masks: Tensor, objects: Sequence[str]) -> dict[str, dict[str, float]]:
    """How sizes of relevance `[N, H, W]` agree with each object's mask, mean over the frames that show it.

    Args:
        relevance: of pixels.
        masks: `[N, H, W]` uint8.
        objects: names of the numbers in `masks`.

    Returns:
        By object `mass`, `rank`, `pointing`, `nss`, `chance` (see `Agreement`) and `frames`; objects that
        are never seen, or fill every frame, are missing.
    """
    found = {}
    for number, name in enumerate(objects):
        inside = masks == number
        seen = [n for n in range(len(masks)) if 0 < int(inside[n].sum()) < inside[n].numel()]
        if not seen:
            continue
        rows = torch.tensor([[float(each) for each in agreement(relevance[n].abs(), inside[n])] for n in seen])
        names = ("mass", "rank", "pointing", "nss", "chance")
        found[name] = dict(zip(names, rows.mean(0).tolist(), strict=True)) | {"frames": float(len(seen))}
    return found
