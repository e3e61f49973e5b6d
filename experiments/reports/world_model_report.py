"""What a world model's dreams are worth: the numbers as JSON, and a page that shows them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.experiments.files import as_output
from clutr.experiments.plots.dreams import certainty, player
from clutr.experiments.plots.page import render_page
from clutr.experiments.plots.world_model import coverage, curves_panel, scene_panel, strips
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, WorldModel, encoded, load_world_model
from clutr.world_model.backbones.base import Backbone, to_uint8
from clutr.world_model.dataset import EpisodeDataset
from clutr.world_model.evaluation import (
    EvaluationOptions,
    LatentRollouts,
    Windows,
    calibration_ahead,
    cut_windows,
    fit_linear,
    latent_curves,
    one_step,
    outcome_curves,
    physical_curves,
    picture_curves,
    predict_terminations,
    roll_out,
)
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe, fit_read_out, r2
from clutr.world_model.memory import Scale
from clutr.world_model.scene import visible_quantities
from clutr.world_model.scene_evaluation import (
    CEILING,
    Scene,
    carried_by_motion,
    ordinary_driving,
    palette_of,
    scene_curves,
    with_ceiling,
)
from clutr.world_model.views import Carried, View, view_of

SHOWN = 3
"""Dreams that are shown frame by frame."""


def evaluate_world_model(run: WorldModelRun) -> tuple[dict[str, Any], list[NDArray[np.uint8]]]:
    """Measure the dreams on episodes of levels that nobody trained on, and keep the numbers as `dreams.json`.

    Returns:
        The numbers, and of a few dreams the frames `[4, T, side, side, 3]`: reality, reconstruction, dream and error.

    Raises:
        RunError: if the run is not trained, or its test episodes are too short.
    """
    as_output(run.path / "dreams.json", "Nothing was measured.")
    model, dataset, options = load_world_model(run), run.dataset(), run.experiment.evaluation
    train, test = (encoded(dataset, model.backbone, split) for split in ("train", "test"))
    try:
        windows = cut_windows(test, options.context, options.horizon, options.windows)
    except ValueError as error:
        raise RunError(f"{error}. Record longer episodes, or ask for less with --evaluation.horizon") from None
    scale = model.dreamers[MEMORIES[0]].scale
    rollouts = roll_out(windows, model.dreamers, fit_linear(train), options.context, scale)
    rows = rows_of(dataset, windows, options)
    view = view_of(run.experiment.domain, dataset.quantities)
    read_out, quality = read_out_of(dataset, train, test, view)
    privileged_state = dataset.column("privileged_state", rows[options.context :].flatten()).view(
        options.horizon, len(windows.episodes), -1
    )
    visible, scene = None, {}
    if view is not None:
        carried = carried_by_motion(dataset, view, rows, windows, options.context)
        rollouts = with_ceiling(rollouts, carried, model.backbone)
        scene = scene_of(model.backbone, dataset, view, rollouts, rows, carried, options)
        visible = visible_rows(dataset, view, rows[options.context :].flatten()).view(privileged_state.shape)
    found: dict[str, Any] = {
        "run": str(run.path),
        "split": "test",
        "windows": len(windows.episodes),
        "context": options.context,
        "horizons": list(options.horizons),
        "latents": latent_curves(windows, rollouts, options.context, scale),
        "outcomes": outcome_curves(windows, rollouts),
        "pictures": pictures_of(model.backbone, dataset, rollouts, rows, options),
        "scene": scene,
        "ordinary": _ordinary(dataset, windows, rollouts, rows, options, scale),
        "physical": physical_curves(rollouts, read_out, privileged_state, dataset.quantities, visible),
        "read_out_r2": dict(zip(dataset.quantities, quality.tolist(), strict=True)),
        "one_step": {name: one_step(test, dreamer) for name, dreamer in model.dreamers.items()},
        "calibration_ahead": {
            name: calibration_ahead(windows, dreamer, options.context) for name, dreamer in model.dreamers.items()
        },
        "termination": {name: predict_terminations(test, dreamer) for name, dreamer in model.dreamers.items()},
        "training": model.metrics,
    }
    write_atomically(run.path / "dreams.json", json.dumps(found, indent=1).encode())
    return found, [
        _video(model, dataset, rollouts, rows, options, window) for window in range(min(SHOWN, rows.shape[1]))
    ]


def rows_of(dataset: EpisodeDataset, windows: Windows, options: EvaluationOptions) -> Tensor:
    """The recording's rows of all frames of the windows, `[C + H, E]`."""
    episodes = dataset.played("test")
    length = options.context + options.horizon
    firsts = [episodes[n].first + start for n, start in zip(windows.episodes, windows.starts, strict=True)]
    return torch.tensor(firsts) + torch.arange(length)[:, None]


def read_out_of(
    dataset: EpisodeDataset,
    train: Sequence[LatentEpisode],
    test: Sequence[LatentEpisode],
    view: View | None = None,
) -> tuple[LinearProbe, Tensor]:
    """The true state from latents of single frames, fitted on training frames; and R^2 on test frames, by quantity.

    With a `view`, both only where a quantity can be seen.
    """

    def parts(split: str, episodes: Sequence[LatentEpisode]) -> tuple[Tensor, Tensor, Tensor | None]:
        rows = torch.cat([episode.indices for episode in dataset.played(split)])
        visible = None if view is None else visible_rows(dataset, view, rows)
        return torch.cat([episode.mean for episode in episodes]), dataset.column("privileged_state", rows), visible

    read_out = fit_read_out(*parts("train", train))
    latents, privileged_state, visible = parts("test", test)
    return read_out, r2(read_out(latents), privileged_state, visible)


def visible_rows(dataset: EpisodeDataset, view: View, rows: Tensor) -> Tensor:
    """`[n, Q]` bool: which quantities can be seen in the frames of `rows` `[n]`."""
    pieces = [
        visible_quantities(dataset.column("masks", part), dataset.objects, dataset.quantities, view.needs)
        for part in rows.split(2_000)
    ]
    return torch.cat(pieces)


def scene_of(
    backbone: Backbone,
    dataset: EpisodeDataset,
    view: View,
    rollouts: LatentRollouts,
    rows: Tensor,
    carried: Carried,
    options: EvaluationOptions,
) -> dict[str, Any]:
    """How much of the world dreams get right, at some horizons; `rows` as `rows_of` gives them."""
    told = [horizon for horizon in options.horizons if horizon <= options.horizon]
    wanted = rows[[options.context - 1 + horizon for horizon in told], : options.pictured]
    frames, masks = (dataset.column(name, wanted.flatten()).unflatten(0, wanted.shape) for name in ("frames", "masks"))
    picked = [horizon - 1 for horizon in told]
    part = Carried(*(each[picked][:, : options.pictured] for each in (carried.pictures, carried.seen)))
    scene = Scene(view, palette_of(dataset, view), dataset.objects, told, frames, masks, part)
    return {"horizons": told} | scene_curves(rollouts, backbone.decode, scene)


def _ordinary(
    dataset: EpisodeDataset,
    windows: Windows,
    rollouts: LatentRollouts,
    rows: Tensor,
    options: EvaluationOptions,
    scale: Scale,
) -> dict[str, Any] | None:
    """Latent errors of the windows whose dreams begin in ordinary driving; None where nothing drives, or none does."""
    states = dataset.column("privileged_state", rows[options.context - 1])
    chosen = ordinary_driving(states, dataset.quantities)
    if chosen is None or not chosen.any():
        return None
    mine = windows._replace(latents=windows.latents[:, chosen])
    latents = {name: found[:, chosen] for name, found in rollouts.latents.items()}
    curves = latent_curves(mine, rollouts._replace(latents=latents), options.context, scale)
    return {"windows": int(chosen.sum()), "latents": curves}


def pictures_of(
    backbone: Backbone, dataset: EpisodeDataset, rollouts: LatentRollouts, rows: Tensor, options: EvaluationOptions
) -> dict[str, Any]:
    """How the dreams look, at some horizons; `rows` as `rows_of` gives them."""
    wanted = rows[[options.context - 1 + horizon for horizon in options.horizons], : options.pictured]
    frames, masks = (dataset.column(name, wanted.flatten()) for name in ("frames", "masks"))
    return picture_curves(
        rollouts,
        backbone.decode,
        frames.view(*wanted.shape, *frames.shape[1:]),
        masks.view(*wanted.shape, *masks.shape[1:]),
        dataset.objects,
        options.horizons,
    )


def _video(
    model: WorldModel,
    dataset: EpisodeDataset,
    rollouts: LatentRollouts,
    rows: Tensor,
    options: EvaluationOptions,
    window: int,
) -> NDArray[np.uint8]:
    """Reality, what the backbone makes of it, the dream, and the difference of the two: `[4, C + H, side, side, 3]`."""
    real = dataset.column("frames", rows[:, window])
    means = model.backbone.encode(real)[0]
    dreamt = torch.cat([means[: options.context], rollouts.latents[MEMORIES[0]][:, window]])
    shown = [to_uint8(model.backbone.decode(part)) for part in (means, dreamt)]
    wrong = (shown[1].int() - real.int()).abs().to(torch.uint8)
    return torch.stack([real, *shown, wrong]).numpy()


def build_world_model_report(run: WorldModelRun) -> Any:
    """Measure, and write `report.html` in the run's directory. Returns its path.

    Raises:
        RunError: as `evaluate_world_model`.
    """
    found, videos = evaluate_world_model(run)
    dataset, experiment = run.dataset(), run.experiment
    source = f"{run.path.name}: seed {experiment.seed}"
    panels = [
        player(videos, found["context"], source),
        strips(videos, found["context"], source),
        *scene_panel(found, source),
        *curves_panel(found, source),
        certainty(found, source),
        *([coverage(_coverage(dataset), source)] if len(dataset.quantities) > 1 else []),
    ]
    path = run.path / "report.html"
    lead = "What students see, compressed and predicted; judged on levels that were never trained on."
    page = render_page(run.path.name, "World model", lead, panels, _headlines(found, dataset))
    write_atomically(path, page.encode())
    return path


def _coverage(dataset: EpisodeDataset) -> Mapping[str, NDArray[np.float64]]:
    """The two true numbers whose coverage matters, over all frames: curvature by speed, or where an agent was."""
    known = (("curvature_ahead", "forward_speed"), ("column", "row"), tuple(dataset.quantities[:2]))
    pair = next(names for names in known if set(names) <= set(dataset.quantities))
    privileged_state = dataset.column("privileged_state", torch.arange(len(dataset))).double().numpy()
    return {name: privileged_state[:, dataset.quantities.index(name)] for name in pair}


def _headlines(found: Mapping[str, Any], dataset: EpisodeDataset) -> list[tuple[str, str, str]]:
    """What was recorded, and for how long a dream holds."""
    held, control = (found["latents"][name]["valid_horizon"] for name in MEMORIES)
    step, scene = found["one_step"][MEMORIES[0]], found["scene"]
    return [
        *_scene_headline(scene),
        ("Valid horizon", f"{held['value']:g}", f"95 %: {held['interval'][0]:g} to {held['interval'][1]:g} steps"),
        ("Untrained core", f"{control['value']:g}", "the control: only its heads learnt"),
        ("Next step", f"{step['nll']:.2f}", f"nats a dimension; {step['gaussian_nll']:.2f} knowing nothing"),
        ("Frames", f"{len(dataset):,}", f"{len(dataset.episodes)} episodes"),
        ("Dreams", str(found["windows"]), "one a test episode"),
    ]


def _scene_headline(scene: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """For how long the world's main surface is where it should be, beside the ceiling."""
    if not scene:
        return []
    held, most = (scene["methods"][name]["iou_horizon"] for name in (MEMORIES[0], CEILING))
    low, high = held["interval"]
    told = f"steps with IoU of .65 or more; 95 %: {low} to {high}; ceiling {most['value']}"
    return [(f"{scene['surface'].capitalize()} horizon", str(held["value"]), told)]
