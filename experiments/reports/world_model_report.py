"""What a world model's dreams are worth: the numbers as JSON, and a page that shows them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.experiments.plots.dreams import certainty, player
from clutr.experiments.plots.page import render_page
from clutr.experiments.plots.world_model import coverage, curves_panel, strips
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, WorldModel, encoded, load_world_model
from clutr.world_model.backbones.base import Backbone, to_uint8
from clutr.world_model.dataset import EpisodeDataset
from clutr.world_model.evaluation import (
    EvaluationOptions,
    LatentRollouts,
    Windows,
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

SHOWN = 3
"""Dreams that are shown frame by frame."""


def evaluate_world_model(run: WorldModelRun) -> tuple[dict[str, Any], list[NDArray[np.uint8]]]:
    """Measure the dreams on episodes of levels that nobody trained on, and keep the numbers as `dreams.json`.

    Returns:
        The numbers, and of a few dreams the frames `[4, T, side, side, 3]`: reality, reconstruction, dream and error.

    Raises:
        RunError: if the run is not trained, or its test episodes are too short.
    """
    model, dataset, options = load_world_model(run), run.dataset(), run.experiment.evaluation
    train, test = (encoded(dataset, model.backbone, split) for split in ("train", "test"))
    try:
        windows = cut_windows(test, options.context, options.horizon, options.windows)
    except ValueError as error:
        raise RunError(f"{error}. Record longer episodes, or ask for less with --evaluation.horizon") from None
    scale = model.dreamers[MEMORIES[0]].scale
    rollouts = roll_out(windows, model.dreamers, fit_linear(train), options.context, scale)
    rows = rows_of(dataset, windows, options)
    read_out, quality = read_out_of(dataset, train, test)
    privileged_state = dataset.column("privileged_state", rows[options.context :].flatten()).view(
        options.horizon, len(windows.episodes), -1
    )
    found: dict[str, Any] = {
        "run": str(run.path),
        "split": "test",
        "windows": len(windows.episodes),
        "context": options.context,
        "horizons": list(options.horizons),
        "latents": latent_curves(windows, rollouts, options.context, scale),
        "outcomes": outcome_curves(windows, rollouts),
        "pictures": pictures_of(model.backbone, dataset, rollouts, rows, options),
        "physical": physical_curves(rollouts, read_out, privileged_state, dataset.quantities),
        "read_out_r2": dict(zip(dataset.quantities, quality.tolist(), strict=True)),
        "one_step": {name: one_step(test, dreamer) for name, dreamer in model.dreamers.items()},
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
    dataset: EpisodeDataset, train: Sequence[LatentEpisode], test: Sequence[LatentEpisode]
) -> tuple[LinearProbe, Tensor]:
    """The true state from latents of single frames, fitted on training frames; and R^2 on test frames, by quantity."""

    def pairs(split: str, episodes: Sequence[LatentEpisode]) -> tuple[Tensor, Tensor]:
        rows = torch.cat([episode.indices for episode in dataset.played(split)])
        return torch.cat([episode.mean for episode in episodes]), dataset.column("privileged_state", rows)

    read_out = fit_read_out(*pairs("train", train))
    latents, privileged_state = pairs("test", test)
    return read_out, r2(read_out(latents), privileged_state)


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
        *curves_panel(found, source),
        certainty(found, source),
        coverage(_coverage(dataset), source),
    ]
    path = run.path / "report.html"
    lead = "What students see, compressed and predicted; judged on levels that were never trained on."
    page = render_page(run.path.name, "World model", lead, panels, _headlines(found, dataset))
    write_atomically(path, page.encode())
    return path


def _coverage(dataset: EpisodeDataset) -> Mapping[str, NDArray[np.float64]]:
    """The two true numbers whose coverage matters, over all frames: curvature by speed, or where an agent was."""
    pair = ("curvature_ahead", "forward_speed") if "forward_speed" in dataset.quantities else ("column", "row")
    privileged_state = dataset.column("privileged_state", torch.arange(len(dataset))).double().numpy()
    return {name: privileged_state[:, dataset.quantities.index(name)] for name in pair}


def _headlines(found: Mapping[str, Any], dataset: EpisodeDataset) -> list[tuple[str, str, str]]:
    """What was recorded, and for how long a dream holds."""
    held, control = (found["latents"][name]["valid_horizon"] for name in MEMORIES)
    step = found["one_step"][MEMORIES[0]]
    return [
        ("Valid horizon", f"{held['value']:g}", f"95 %: {held['interval'][0]:g} to {held['interval'][1]:g} steps"),
        ("Untrained core", f"{control['value']:g}", "the control: only its heads learnt"),
        ("Next step", f"{step['nll']:.2f}", f"nats a dimension; {step['gaussian_nll']:.2f} knowing nothing"),
        ("Frames", f"{len(dataset):,}", f"{len(dataset.episodes)} episodes"),
        ("Dreams", str(found["windows"]), "one a test episode"),
    ]
