"""What dreams are worth where it matters: objects of the world, seen or not, beside the most that can be known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clutr.envs.progress import Progress
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.dataset import EpisodeDataset
from clutr.world_model.evaluation import LatentRollouts, Pictures, Windows
from clutr.world_model.metrics import valid_horizon
from clutr.world_model.scene import Palette, among, split_error, surface_iou
from clutr.world_model.views import Carried, View, carry, trajectory

CEILING = "ceiling"
"""The baseline that knows the true motion and all that was seen, and nothing else."""
IOU_LIMIT = 0.65
"""Mean IoU below which a dream is no longer valid."""
PALETTE_FRAMES = 500
"""Training frames from which the usual colours are taken."""


def palette_of(dataset: EpisodeDataset, view: View) -> Palette:
    """The usual colours of the world in the training frames."""
    rows = dataset.rows("train")
    rows = rows[torch.linspace(0, len(rows) - 1, min(PALETTE_FRAMES, len(rows))).long()]
    left_out = [number for number, name in enumerate(dataset.objects) if name in view.moving]
    return Palette.of(dataset.column("frames", rows), dataset.column("masks", rows), left_out)


def carried_by_motion(
    dataset: EpisodeDataset,
    view: View,
    rows: Tensor,
    windows: Windows,
    context: int,
    progress: Progress = lambda *_: None,
) -> Carried:
    """What was seen from each episode's beginning to its context's end, carried along with the true motion.

    Args:
        dataset: where the frames are.
        view: their geometry.
        rows: `[C + H, E]` of the windows.
        windows: of E episodes.
        context: C.
        progress: told of windows.

    Returns:
        Pictures `[H, E, ...]` and masks of what was seen.
    """
    found = []
    for column, start in enumerate(windows.starts):
        future = rows[context:, column]
        past = torch.arange(int(rows[0, column]) - start, int(rows[context - 1, column]) + 1)
        states = dataset.column("privileged_state", torch.cat([past, future]))[:, None]
        poses = trajectory(view.motion(states, dataset.quantities))
        frames, masks = (dataset.column(name, past)[:, None] for name in ("frames", "masks"))
        found.append(carry(view, frames, masks, dataset.objects, poses[: len(past)], poses[len(past) :]))
        progress(column + 1, len(windows.starts), {})
    return Carried(torch.cat([each.pictures for each in found], 1), torch.cat([each.seen for each in found], 1))


def with_ceiling(rollouts: LatentRollouts, carried: Carried, backbone: Backbone) -> LatentRollouts:
    """The rollouts, and what the backbone makes of the ceiling's pictures."""
    horizon, count = carried.pictures.shape[:2]
    flat = carried.pictures.flatten(0, 1)
    latents = torch.cat([backbone.encode(part)[0] for part in flat.split(500)]).view(horizon, count, -1)
    return rollouts._replace(latents={**rollouts.latents, CEILING: latents})


@dataclass(frozen=True)
class Scene:
    """What came, at K horizons of P windows."""

    view: View
    palette: Palette
    objects: Sequence[str]
    horizons: Sequence[int]
    frames: Tensor
    """`[K, P, H, W, 3]` uint8."""
    masks: Tensor
    """`[K, P, H, W]` uint8."""
    carried: Carried
    """`[K, P, ...]`."""


def scene_curves(rollouts: LatentRollouts, decode: Pictures, scene: Scene) -> dict[str, Any]:
    """How much of the world dreams get right, by horizon.

    Args:
        rollouts: latents of at least P windows, by method; the ceiling's pictures are taken as they are.
        decode: the backbone's.
        scene: what came.

    Returns:
        By method: `iou/SURFACE`, means over windows; `mse_seen` and `mse_unseen`, None where there is no such pixel;
        `iou_horizon`, how many steps the first surface's mean IoU stays at or above 0.65, with a 95 % interval over
        windows, at the precision of the horizons. And `seen_share`, the share of pixels that had been seen, with
        `seen_agreement` of the methods that tell.
    """
    real, pictured = scene.frames.float() / 255, scene.frames.shape[1]
    world = ~among(scene.masks, scene.objects, scene.view.moving)
    main = next(iter(scene.view.surfaces))
    methods = {}
    for name in (*rollouts.latents, *([] if CEILING in rollouts.latents else [CEILING])):
        if name == CEILING:
            shown = scene.carried.pictures.float() / 255
        else:
            chosen = rollouts.latents[name][[horizon - 1 for horizon in scene.horizons]][:, :pictured]
            shown = decode(chosen.flatten(0, 1)).clamp(0, 1).view(real.shape)
        areas = surface_iou(shown, scene.masks, scene.palette, scene.view, scene.objects)
        seen, unseen = split_error(shown, real, scene.carried.seen, world)
        wrong = (1 - areas[main]).T.double().numpy()
        held = valid_horizon(wrong, np.full_like(wrong, np.inf), 1 - IOU_LIMIT)
        ends = [_steps(scene.horizons, value) for value in held]
        methods[name] = {
            **{f"iou/{surface}": _means(area) for surface, area in areas.items()},
            "mse_seen": _means(seen),
            "mse_unseen": _means(unseen),
            "iou_horizon": {"value": ends[0], "interval": ends[1:]},
        }
    picked = [horizon - 1 for horizon in scene.horizons]
    agreement = {
        name: seen_agreement(told[picked][:, :pictured], scene.carried.seen, scene.view)
        for name, told in rollouts.seen.items()
    }
    shares = _means(_share(scene.carried.seen, world))
    return {"methods": methods, "surface": main, "seen_share": shares, "seen_agreement": agreement}


def seen_agreement(told: Tensor, seen: Tensor, view: View) -> list[float | None] | None:
    """How often a model is right about which cells had been seen, by horizon: a share of all cells.

    Args:
        told: `[K, P, rows, columns]`: how much of each cell the model says it had seen.
        seen: `[K, P, H, W]` bool: which pixels had been.
        view: whose world the cells divide.

    Returns:
        `[K]`; None if the cells are no whole pixels.
    """
    rows, columns = told.shape[-2:]
    height, width = view.geometry.rows, view.geometry.columns
    if height % rows or width % columns:
        return None
    area = seen[..., :height, :width].unflatten(-1, (columns, -1)).unflatten(-3, (rows, -1)).float().mean((-1, -3))
    return _means(((told > 0.5) == (area > 0.5)).float().mean((-1, -2)))


def ordinary_driving(states: Tensor, quantities: Sequence[str]) -> Tensor | None:
    """`[E]` bool: cars with at least two wheels on the road that do not spin, in states `[E, Q]`; None for others."""
    if not {"wheels_on_road", "yaw_rate"} <= set(quantities):
        return None
    wheels, turning = (states[:, list(quantities).index(name)] for name in ("wheels_on_road", "yaw_rate"))
    return (wheels >= 2) & (turning.abs() < 2.5)


def _steps(horizons: Sequence[int], held: float) -> int:
    """The last horizon of so many that were held."""
    return int(horizons[int(held) - 1]) if held >= 1 else 0


def _share(area: Tensor, world: Tensor) -> Tensor:
    return (area & world).sum((-1, -2)) / world.sum((-1, -2)).clamp(min=1)


def _means(values: Tensor) -> list[float | None]:
    """Means `[K]` over windows of `[K, P]`; None where there is nothing."""
    return [None if math.isnan(value) else round(value, 6) for value in values.nanmean(1).tolist()]
