"""In which layer of a backbone an object is lost: linear probes of each layer for the object's mask.

At every position of a layer a ridge regression on the activations predicts which of the pixels under it show the
object. The threshold is chosen on the same training frames, and the overlap with the mask (intersection over union)
is measured pixel by pixel on frames of other levels, so that layers can be compared. From the latents, which have no
position, the whole mask is predicted. Chance is the overlap of the average mask.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.world_model.backbones.base import Backbone, visible
from clutr.world_model.backbones.patch_pca import PatchPCABackbone
from clutr.world_model.backbones.vae import VAEBackbone
from clutr.world_model.linear_probe import fit_probe

PENALTY = 1e-3
LOST = 0.5
"""An object counts as lost where less than this share is left of the best overlap so far."""
ROWS = 40_000
"""Most places that a layer's regression is fitted on."""
DEAD = 1e-6
"""A channel whose mean square is below this share of the layer's largest is dead."""


@torch.no_grad()
def layers_of(backbone: Backbone, frames: Tensor) -> dict[str, Tensor]:
    """Activations `[N, h, w, channels]` of each layer that has places, for frames `[N, H, W, 3]` uint8.

    The pixels come first. A backbone of one linear map (PPCA, Haar wavelets) has no more layers.
    """
    inner: Any = backbone
    while hasattr(inner, "base"):
        inner = inner.base
    pictures = visible(frames, inner.masked_rows)
    found = {"pixels": pictures}
    if isinstance(inner, VAEBackbone):
        field = pictures.permute(0, 3, 1, 2)
        number = 0
        for layer in inner.down:
            field = layer(field)
            if isinstance(layer, torch.nn.ReLU):
                number += 1
                found[f"conv{number}"] = field.permute(0, 2, 3, 1)
    elif isinstance(inner, PatchPCABackbone):
        for number in range(1, len(inner.kernels) + 1):
            found[f"patches{number}"] = inner.lift(pictures, number)
    return found


def under(masks: Tensor, rows: int, columns: int) -> Tensor:
    """The pixels of a mask `[N, H, W]` bool under each of `rows` x `columns` places: `[N, rows, columns, pixels]`."""
    n, height, width = masks.shape
    cells = masks.view(n, rows, height // rows, columns, width // columns)
    return cells.transpose(2, 3).flatten(3)


def overlap(scores: Tensor, masks: Tensor, threshold: float) -> float:
    """Intersection over union of scores above a threshold with masks `[...]` bool, over all of them together."""
    said = scores > threshold
    union = int((said | masks).sum())
    return float((said & masks).sum()) / union if union else 0.0


def best_threshold(scores: Tensor, masks: Tensor, tried: int = 30) -> float:
    """The threshold with the best overlap."""
    chosen: list[float] = torch.linspace(float(scores.min()), float(scores.max()), tried + 1)[:-1].tolist()
    return max(chosen, key=lambda threshold: overlap(scores, masks, threshold))


@dataclass(frozen=True)
class LayerOverlap:
    """How well an object is seen in one layer."""

    layer: str
    places: tuple[int, int]
    channels: int
    overlap: float
    """Intersection over union on held-out levels, pixel by pixel."""
    contrast: float
    """Of the channel that tells most: mean inside less mean outside, in standard deviations."""
    best_channel: int
    chance: float
    """Overlap of a mask that is everywhere what it is on average at that pixel."""


@dataclass(frozen=True)
class Visibility:
    """What becomes of an object on its way to the latents."""

    thing: str
    layers: list[LayerOverlap]
    lost_in: str | None
    """The first layer from which on less than `LOST` of the best overlap before is left; None if it survives."""
    sentence: str

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def _read_mask(features: Tensor, masks: Tensor, new_features: Tensor, new_masks: Tensor) -> float:
    """Overlap of masks `[..., pixels]` bool read from features `[..., C]`; regression and threshold from the first."""
    flat, wanted = features.flatten(0, -2), masks.flatten(0, -2)
    rows = torch.linspace(0, len(flat) - 1, min(len(flat), ROWS)).long()
    read = fit_probe(flat[rows], wanted[rows].float(), PENALTY)
    threshold = best_threshold(read(flat[rows]), wanted[rows])
    return overlap(read(new_features), new_masks, threshold)


def _average_overlap(masks: Tensor, new_masks: Tensor) -> float:
    """Overlap of the average training mask, cut at its best threshold, with new masks `[N, H, W]` bool."""
    average = masks.float().mean(0)
    limit = best_threshold(average.expand(masks.shape), masks)
    return overlap(average.expand(new_masks.shape), new_masks, limit)


def _contrast(features: Tensor, inside: Tensor) -> tuple[float, int]:
    """The channel with the largest difference between inside and outside, in standard deviations."""
    flat, mask = features.flatten(0, -2), inside.flatten()
    if not mask.any() or mask.all():
        return 0.0, 0
    difference = (flat[mask].mean(0) - flat[~mask].mean(0)) / flat.std(0).clamp(min=1e-6)
    best = int(difference.abs().argmax())
    return float(difference[best]), best


@torch.no_grad()
def visibility(
    backbone: Backbone,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    objects: Sequence[str],
) -> list[Visibility]:
    """For each object, what is visible of it layer by layer, and where it is lost.

    Args:
        backbone: whose layers are probed.
        train: frames `[N, H, W, 3]` uint8 and masks `[N, H, W]` uint8 to fit on.
        test: those of other levels.
        objects: names of the numbers in masks; those that are in no training or no test frame are left out.
    """
    frames, masks = train
    new_frames, new_masks = test
    layers, new_layers = layers_of(backbone, frames), layers_of(backbone, new_frames)
    latents, new_latents = (backbone.encode(each)[0] for each in (frames, new_frames))
    found = []
    for number, thing in enumerate(objects):
        here, there = masks == number, new_masks == number
        if not here.any() or not there.any():
            continue
        chance, seen = _average_overlap(here, there), []
        for name, features in layers.items():
            rows, columns = features.shape[1:3]
            mine, new = under(here, rows, columns), under(there, rows, columns)
            value = _read_mask(features, mine, new_layers[name], new)
            contrast, channel = _contrast(new_layers[name], new.float().mean(-1) >= 0.5)
            seen.append(LayerOverlap(name, (rows, columns), features.shape[-1], value, contrast, channel, chance))
        value = _read_mask(latents, here.flatten(1), new_latents, there.flatten(1))
        seen.append(LayerOverlap("z", (1, 1), latents.shape[1], value, 0.0, 0, chance))
        lost_in, sentence = tell(thing, seen)
        found.append(Visibility(thing, seen, lost_in, sentence))
    return found


def tell(thing: str, seen: Sequence[LayerOverlap]) -> tuple[str | None, str]:
    """In which layer a thing is lost, and a sentence that says so."""
    best, lost, last_good, end = max(each.overlap for each in seen[:-1]), None, seen[-1], seen[-1]
    for place in range(len(seen) - 1, 0, -1):  # back from the end, as long as it is gone
        if seen[place].overlap >= LOST * best:
            break
        lost, last_good = seen[place], seen[place - 1]
    constant = end.overlap - end.chance < 0.05
    if best < 0.1:
        return None, f"{thing} is hardly visible from the first layer on (IoU {best:.2f})"
    if lost is None:
        note = f", but an average mask does as well ({end.chance:.2f})" if constant else ""
        return None, f"{thing} survives to z (IoU {end.overlap:.2f}){note}"
    where = "the bottleneck loses it" if lost is end else f"{lost.layer} loses it"
    until = f"visible to {last_good.layer} (IoU {last_good.overlap:.2f})"
    return lost.layer, f"{thing} is {until}, gone in {lost.layer} ({lost.overlap:.2f}): {where}"


@torch.no_grad()
def channel_statistics(backbone: Backbone, frames: Tensor) -> dict[str, dict[str, Any]]:
    """Of each layer `energies`, the mean squares of its channels, the largest first, and how many are `dead`."""
    found = {}
    for name, features in layers_of(backbone, frames).items():
        energies = features.square().mean((0, 1, 2)).sort(descending=True).values
        dead = int((energies < DEAD * energies[0].clamp(min=1e-30)).sum())
        found[name] = {"energies": energies.tolist(), "dead": dead, "channels": len(energies)}
    return found


@torch.no_grad()
def thumbnails(backbone: Backbone, frame: Tensor, most: int = 8) -> dict[str, Tensor]:
    """Of each layer its most energetic channels for one frame `[H, W, 3]` uint8: `[K, h, w]` in 0..1.

    They are scaled a layer at a time: channel by channel, dead ones would look alive.
    """
    found = {}
    for name, features in layers_of(backbone, frame[None]).items():
        channels = features[0].permute(2, 0, 1)
        order = channels.square().mean((1, 2)).argsort(descending=True)[:most]
        low, high = float(channels.min()), float(channels.max())
        found[name] = (channels[order] - low) / max(high - low, 1e-9)
    return found
