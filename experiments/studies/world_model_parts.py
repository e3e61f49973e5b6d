"""Which backbone and which core: every combination of a list on one recording, judged alike.

    python -m clutr.experiments.studies.world_model_parts WORLD OUT.json [ROW ...]

WORLD is a directory that `clutr world record` made. Each row is fitted on its training split, validated on its
validation split and measured on its test split; rows that OUT.json has already are left alone. `table` draws it as
Markdown.
"""

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clutr.envs.capabilities import SIDE
from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.reports.world_model_report import pictures_of, read_out_of, rows_of
from clutr.experiments.storage import write_atomically
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.probes.latent_health import frame_health
from clutr.world_model.backbones.base import Backbone, BackboneConfig
from clutr.world_model.backbones.haar import HaarConfig
from clutr.world_model.backbones.patch_pca import PatchPCAConfig
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.backbones.residual import ResidualConfig
from clutr.world_model.backbones.vae import VAEConfig
from clutr.world_model.cores.base import CORES, CoreConfig
from clutr.world_model.cores.lstm_gru import LSTMConfig
from clutr.world_model.dataset import SPLITS, EpisodeDataset
from clutr.world_model.dream import Dreamer
from clutr.world_model.evaluation import (
    EvaluationOptions,
    LatentRollouts,
    Windows,
    cut_windows,
    fit_linear,
    latent_curves,
    one_step,
    physical_curves,
    roll_out,
)
from clutr.world_model.latents import LatentEpisode, encode_episodes
from clutr.world_model.linear_probe import LinearProbe
from clutr.world_model.memory import MemoryConfig
from clutr.world_model.metrics import mse, psnr, ssim
from clutr.world_model.training import MemoryTraining, MemoryTrainingOptions

SIZES = (12, 16, 32, 64)
CHANNELS = 16, 32, 64, 128
"""Of the VAE: that of the presets."""
TRAINING = MemoryTrainingOptions(epochs=15)
"""Half as many passes as the presets make, for every row alike."""
PICTURED = 1_000
"""Most test frames whose pictures are compared."""
AHEAD = (1, 5, 10, 20, 50, 100)
"""Steps at which the latent error is kept."""
TOLD = (1, 10, 50)
"""Steps at which the table tells the error of a dream's pictures."""
CONTROLS = {"trained": False, "untrained core": True}


@dataclass(frozen=True)
class Row:
    """A backbone and a core."""

    backbone: BackboneConfig
    core: CoreConfig


def _levels(latents: int) -> int:
    """Halvings of the pyramid after which its coarse field has no more numbers than there are latents."""
    return next(levels for levels in range(1, 7) if 3 * (SIDE >> levels) ** 2 <= latents)


def rows() -> dict[str, Row]:
    """All rows by name: backbones at equal numbers of latents under one core, then cores over one backbone."""
    found: dict[str, Row] = {}
    for k in SIZES:
        transparent: dict[str, BackboneConfig] = {
            "haar": HaarConfig(latents=k, levels=_levels(k)),
            "ppca": PPCAConfig(latents=k),
            "patch-pca": PatchPCAConfig(latents=k),
        }
        found |= {f"{name}-{k}": Row(config, LSTMConfig()) for name, config in transparent.items()}
        found[f"ppca-residual-{k}"] = Row(ResidualConfig(base=transparent["ppca"]), LSTMConfig())
        found[f"vae-{k}"] = Row(VAEConfig(latents=k, channels=CHANNELS), LSTMConfig())
    for core in CORES:
        if core not in ("lstm", "geometric", "conv-gru"):  # the latter two need latents that lie in a grid
            found[f"vae-32-{core}"] = Row(VAEConfig(latents=32, channels=CHANNELS), CORES[core]())
    return found


@dataclass(frozen=True)
class Seen:
    """A recording through a fitted backbone, which rows of different cores share."""

    backbone: Backbone
    splits: dict[str, list[LatentEpisode]]
    read_out: LinearProbe
    told: dict[str, Any]
    """Seconds of fitting, and what was measured of the pictures, of the read-out and of the latents' use."""


def look(config: BackboneConfig, dataset: EpisodeDataset, seed: int) -> Seen:
    """Fit a backbone, and encode and measure all splits."""
    started = time.perf_counter()
    backbone = config.build((SIDE, SIDE), seed)
    fitting = config.fitting(backbone, dataset.frames("train"), seed)
    fitting.run()
    seconds = time.perf_counter() - started
    splits = {split: encode_episodes(dataset, split, backbone.encode) for split in SPLITS}
    read_out, quality = read_out_of(dataset, splits["train"], splits["test"])
    told = {
        "fit_seconds": seconds,
        "backbone": {name: value for name, value in fitting.metrics.items() if isinstance(value, int | float)},
        "pictures": _pictures(backbone, dataset),
        "read_out_r2": dict(zip(dataset.quantities, quality.tolist(), strict=True)),
        "health": _health(backbone, dataset),
    }
    return Seen(backbone, splits, read_out, told)


def measure(
    core: CoreConfig, seen: Seen, dataset: EpisodeDataset, seed: int, options: EvaluationOptions
) -> dict[str, Any]:
    """Train and measure one row."""
    splits = seen.splits
    dreamers, seconds = {}, {}
    for name, frozen in CONTROLS.items():
        started = time.perf_counter()
        memory = MemoryConfig(core=core).build(seen.backbone.latents, dataset.action_width, seed)
        if frozen:
            memory.freeze_core()
        training = MemoryTraining(memory, TRAINING, splits["train"], splits["valid"], seed)
        training.run()
        seconds[name] = time.perf_counter() - started
        dreamers[name] = Dreamer(memory, training.scale)
    windows = cut_windows(splits["test"], options.context, options.horizon, options.windows)
    scale = dreamers["trained"].scale
    rollouts = roll_out(windows, dreamers, fit_linear(splits["train"]), options.context, scale)
    curves = latent_curves(windows, rollouts, options.context, scale)
    told = [horizon for horizon in AHEAD if horizon <= options.horizon]
    return seen.told | {
        "memory_seconds": seconds["trained"],
        "nll": {name: one_step(splits["test"], dreamer)["nll"] for name, dreamer in dreamers.items()},
        "valid_horizon": {name: curve["valid_horizon"] for name, curve in curves.items()},
        "nrmse_at": {name: {str(h): curve["nrmse"][h - 1] for h in told} for name, curve in curves.items()},
        "dream": _dream(seen, dataset, windows, rollouts, options),
    }


def _dream(
    seen: Seen, dataset: EpisodeDataset, windows: Windows, rollouts: LatentRollouts, options: EvaluationOptions
) -> dict[str, Any]:
    """Errors that all backbones share, by method: of pictures (`horizons`), and of the true state (at `AHEAD`)."""
    compared = {name: rollouts.latents[name] for name in (*CONTROLS, "copy last")}
    rollouts = rollouts._replace(latents=compared)
    rows = rows_of(dataset, windows, options)
    privileged_state = dataset.column("privileged_state", rows[options.context :].flatten())
    privileged_state = privileged_state.view(options.horizon, len(windows.episodes), -1)
    physical = physical_curves(rollouts, seen.read_out, privileged_state, dataset.quantities)
    pictures = pictures_of(seen.backbone, dataset, rollouts, rows, options)
    return {
        "horizons": options.horizons,
        "pictures": {
            method: {name: values for name, values in curves.items() if name != "spectrum"}
            for method, curves in pictures.items()
        },
        "physical": {
            method: {
                name: {str(h): values[h - 1] for h in AHEAD if h <= options.horizon} for name, values in curves.items()
            }
            for method, curves in physical.items()
        },
    }


def _health(backbone: Backbone, dataset: EpisodeDataset) -> dict[str, Any]:
    """How many latents of test frames are active, and how many the frames' spectrum predicts."""
    frames = dataset.column("frames", _spread_out(dataset))
    found = frame_health(backbone, frames, named_generator(0, "world parts", "health"))
    kept = ("variables", "active_dimensions", "predicted_active_dimensions", "kl", "noise")
    return {name: found[name] for name in kept}


def _spread_out(dataset: EpisodeDataset) -> Tensor:
    """`PICTURED` rows of the test split, or all."""
    rows = dataset.rows("test")
    return rows[torch.linspace(0, len(rows) - 1, min(PICTURED, len(rows))).long()]


def _pictures(backbone: Backbone, dataset: EpisodeDataset) -> dict[str, float]:
    """Reconstruction of test frames, whole and inside objects."""
    errors: dict[str, list[Tensor]] = {}
    for part in _spread_out(dataset).split(100):
        frames, masks = dataset.column("frames", part), dataset.column("masks", part)
        true = frames.float() / 255
        shown = backbone.decode(backbone.encode(frames)[0]).clamp(0, 1)
        found = {"mse": mse(shown, true), "psnr": psnr(shown, true), "ssim": ssim(shown, true)}
        for number, thing in enumerate(dataset.objects):
            found[f"mse_in/{thing}"] = mse(shown, true, masks == number)
        for name, values in found.items():
            errors.setdefault(name, []).append(values)
    means = {name: float(torch.cat(values).nanmean()) for name, values in errors.items()}
    return {name: value for name, value in means.items() if not math.isnan(value)}  # of objects that appear


def table(found: Mapping[str, Any]) -> str:
    """The rows as Markdown."""
    heads = ["row", "MSE", "SSIM", "MSE in car or agent", "R2 speed or goal ahead", "NLL (untrained core)"]
    heads += [f"dream's MSE at {horizon}" for horizon in TOLD]
    heads += ["valid horizon (untrained core)", "fit s", "memory s", "active (predicted)"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, row in found["rows"].items():
        pictures, read = row["pictures"], row["read_out_r2"]
        thing = pictures.get("mse_in/car", pictures.get("mse_in/agent", float("nan")))
        held = [f"{row['valid_horizon'][each]['value']:g}" for each in CONTROLS]
        cells = [
            name,
            f"{pictures['mse']:.5f}",
            f"{pictures['ssim']:.3f}",
            f"{thing:.4f}",
            f"{read.get('forward_speed', read.get('goal_ahead', float('nan'))):.2f}",
            f"{row['nll']['trained']:.3f} ({row['nll']['untrained core']:.3f})",
            *(_at(row["dream"], horizon) for horizon in TOLD),
            f"{held[0]} ({held[1]})",
            f"{row['fit_seconds']:.0f}",
            f"{row['memory_seconds']:.0f}",
            f"{row['health']['active_dimensions']} ({row['health']['predicted_active_dimensions']})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _at(dream: Mapping[str, Any], horizon: int) -> str:
    """The error of the trained memory's pictures at a horizon."""
    horizons = list(dream["horizons"])
    return f"{dream['pictures']['trained']['mse'][horizons.index(horizon)]:.5f}" if horizon in horizons else "-"


def main() -> None:
    """Measure the rows named on the command line, or all."""
    run, out = WorldModelRun(sys.argv[1]), Path(sys.argv[2])
    dataset, everything, seed = run.dataset(), rows(), run.experiment.seed
    known: dict[str, Any] = json.loads(out.read_text())["rows"] if out.exists() else {}
    wanted = [name for name in sys.argv[3:] or everything if name not in known]
    config: BackboneConfig | None = None
    for name in sorted(wanted, key=lambda name: repr(everything[name].backbone)):  # what sees alike, one after another
        if everything[name].backbone != config:
            config = everything[name].backbone
            seen = look(config, dataset, seed)
        known[name] = measure(everything[name].core, seen, dataset, seed, run.experiment.evaluation)
        print(name, known[name]["valid_horizon"]["trained"], f"{known[name]['nll']['trained']:.3f}", flush=True)
        ordered = {name: known[name] for name in everything if name in known}
        content = {"frames": len(dataset), "seed": seed, "machine": describe_machine(), "rows": ordered}
        write_atomically(out, json.dumps(content, indent=1).encode())
    write_atomically(out.with_suffix(".md"), table(json.loads(out.read_text())).encode())


if __name__ == "__main__":
    main()
