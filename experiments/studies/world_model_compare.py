"""Which kind of world model at equal processor time: cores and backbones, seeds, the untrained control and the ceiling.

    python -m clutr.experiments.studies.world_model_compare WORLD OUT.json [ROW ...] [--seconds S] [--seeds 1,2,3]

WORLD is a directory that `clutr world record` made, of cars or mazes. Every memory, trained or with an untrained core,
is trained for so many seconds of processor time: one pass is measured, and as many are made as fit. A learned backbone
takes `--iterations` gradient steps. Measured are dreams of test levels: intersection over union of roads or walls,
which all backbones share, and the latents' error, which can be compared within a backbone only. What OUT.json has
already is left alone; OUT.md is its table.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from clutr.envs.capabilities import SIDE
from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.reports.world_model_report import rows_of, scene_of
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.world_model.config import WORLD_PRESETS
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.world_model.backbones.base import Backbone, BackboneConfig
from clutr.world_model.backbones.categorical import CategoricalConfig
from clutr.world_model.backbones.cells import CellsConfig
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.backbones.spatial_vae import SpatialVAEConfig
from clutr.world_model.backbones.vae import VAEConfig
from clutr.world_model.cores.base import CORES
from clutr.world_model.cores.conv_gru import ConvGRUConfig
from clutr.world_model.cores.geometric import GeometricConfig
from clutr.world_model.dataset import SPLITS, EpisodeDataset
from clutr.world_model.dream import Dreamer
from clutr.world_model.evaluation import EvaluationOptions, cut_windows, fit_linear, latent_curves, one_step, roll_out
from clutr.world_model.latents import LatentEpisode, encode_episodes
from clutr.world_model.memory import MemoryConfig
from clutr.world_model.scene_evaluation import carried_by_motion, with_ceiling
from clutr.world_model.training import MemoryTraining, MemoryTrainingOptions
from clutr.world_model.views import View, view_of

TRAINING = replace(WORLD_PRESETS["car"].training, length=32, streams=16, imagination_steps=12)
"""Of every memory, but for the number of passes."""
CONTROLS = {"trained": False, "untrained core": True}
KEPT = (*CONTROLS, "copy last", "ceiling")
"""Methods that are kept."""
COPIED = 5, 10
"""Horizons at which the table tells what copying the last frame is worth, drawn by the row's own backbone."""
GRIDS = "geometric", "conv-gru"
"""Cores over latents that lie in a grid."""


@dataclass(frozen=True)
class Row:
    """A kind of world model."""

    backbone: BackboneConfig
    memory: MemoryConfig


def rows(domain: Any, iterations: int) -> dict[str, Row]:
    """All rows by name, `BACKBONE CORE`, for the pictures of a domain."""
    if isinstance(domain, MazeDomain):
        side, tile = domain.view, SIDE // domain.view
        first = (SIDE - tile * side) // 2
        box = (first, first, first + tile * side, first + tile * side)
        grid = {"rows": side, "columns": side, "channels": 3}
        cells = CellsConfig(latents=3 * side * side, box=box, smooth=False, **grid)
        geometric = GeometricConfig(width=64, view="maze", map_cell=1.0, **grid)
    else:
        cells, grid = CellsConfig(latents=488), {"rows": 14, "columns": 16, "channels": 2}
        geometric = GeometricConfig()
    small = {"channels": (16, 32, 64, 128), "iterations": iterations}
    found = {
        "cells geometric": Row(cells, MemoryConfig(geometric, gaussians=1)),
        "cells conv-gru": Row(cells, MemoryConfig(ConvGRUConfig(width=12, **grid), gaussians=1)),
        "spatial-vae conv-gru": Row(
            SpatialVAEConfig(iterations=iterations), MemoryConfig(ConvGRUConfig(), gaussians=1)
        ),
        "categorical lstm": Row(CategoricalConfig(iterations=iterations), MemoryConfig(classes=16)),
        "vae lstm": Row(VAEConfig(**small), MemoryConfig()),  # type: ignore[arg-type]
    }
    cores = [name for name in CORES if name not in GRIDS]
    return found | {f"ppca {core}": Row(PPCAConfig(), MemoryConfig(CORES[core]())) for core in cores}


@dataclass(frozen=True)
class Recording:
    """A recording, and what all rows are compared with."""

    dataset: EpisodeDataset
    view: View
    options: EvaluationOptions


def fit(
    config: BackboneConfig, recording: Recording, seed: int
) -> tuple[Backbone, dict[str, list[LatentEpisode]], float]:
    """A fitted backbone, the episodes of all splits through it, and the seconds of processor time that fitting took."""
    started = time.process_time()
    backbone = config.build((SIDE, SIDE), seed)
    config.fitting(backbone, recording.dataset.frames("train"), seed).run()
    seconds = time.process_time() - started
    encoded = {
        split: encode_episodes(recording.dataset, split, backbone.encode, view=recording.view) for split in SPLITS
    }
    return backbone, encoded, seconds


def train_for(
    seconds: float, config: MemoryConfig, splits: Mapping[str, list[LatentEpisode]], seed: int, frozen: bool
) -> tuple[MemoryTraining, int]:
    """A training of as many passes as fit into `seconds` of processor time, at least one; and their number."""
    sample = splits["train"][0]

    def begin(options: MemoryTrainingOptions) -> MemoryTraining:
        memory = config.build(sample.mean.shape[1], sample.actions.shape[1], seed)
        if frozen:
            memory.freeze_core()
        return MemoryTraining(memory, options, splits["train"], splits["valid"], seed)

    training = begin(replace(TRAINING, epochs=1))
    started = time.process_time()
    training.run()
    passes = max(1, int(seconds / max(time.process_time() - started, 1e-6)))
    if passes > 1:
        training = begin(replace(TRAINING, epochs=passes, patience=passes))
        training.run()
    return training, passes


def measure(row: Row, recording: Recording, seed: int, seconds: float) -> dict[str, Any]:
    """Fit, train and measure one row with one seed."""
    dataset, options = recording.dataset, recording.options
    backbone, splits, fitted = fit(row.backbone, recording, seed)
    dreamers, passes = {}, {}
    for name, frozen in CONTROLS.items():
        training, passes[name] = train_for(seconds, row.memory, splits, seed, frozen)
        dreamers[name] = Dreamer(training.memory, training.scale)
    windows = cut_windows(splits["test"], options.context, options.horizon, options.windows)
    scale = dreamers["trained"].scale
    rollouts = roll_out(windows, dreamers, fit_linear(splits["train"]), options.context, scale)
    indices = rows_of(dataset, windows, options)
    carried = carried_by_motion(dataset, recording.view, indices, windows, options.context)
    rollouts = with_ceiling(rollouts, carried, backbone)
    rollouts = rollouts._replace(latents={name: rollouts.latents[name] for name in KEPT})
    scene = scene_of(backbone, dataset, recording.view, rollouts, indices, carried, options)
    curves = latent_curves(windows, rollouts, options.context, scale)
    surface = scene["surface"]
    return {
        "windows": len(windows.episodes),
        "surface": surface,
        "fit_seconds": fitted,
        "passes": passes,
        "nll": {name: one_step(splits["test"], dreamer)["nll"] for name, dreamer in dreamers.items()},
        "iou": {name: scene["methods"][name][f"iou/{surface}"] for name in KEPT},
        "iou_horizon": {name: scene["methods"][name]["iou_horizon"] for name in KEPT},
        "nrmse": {
            name: [curves[name]["nrmse"][h - 1] for h in options.horizons if h <= options.horizon] for name in KEPT
        },
        "valid_horizon": {name: curves[name]["valid_horizon"] for name in KEPT},
        "seen_agreement": scene["seen_agreement"].get("trained"),
    }


def table(found: Mapping[str, Any]) -> str:
    """Means over seeds as Markdown, with the least and the greatest where there are several."""
    horizons = found["horizons"]
    told = [k for k, horizon in enumerate(horizons) if horizon in (1, 5, 10, 20, 25, 50)]
    heads = ["backbone and core", "seeds", "passes", *(f"IoU at {horizons[k]}" for k in told)]
    heads += [f"copying: IoU at {horizons[k]}" for k in told if horizons[k] in COPIED]
    heads += ["IoU horizon", "untrained core's", "copying's", "fit s"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, seeds in found["rows"].items():
        each = list(seeds.values())

        def cell(values: list[float], digits: int) -> str:
            mean, low, high = sum(values) / len(values), min(values), max(values)
            more = f" [{low:.{digits}f}, {high:.{digits}f}]" if len(values) > 1 else ""
            return f"{mean:.{digits}f}{more}"

        cells = [name, str(len(each)), cell([row["passes"]["trained"] for row in each], 0)]
        cells += [cell([row["iou"]["trained"][k] for row in each], 2) for k in told]
        cells += [cell([row["iou"]["copy last"][k] for row in each], 2) for k in told if horizons[k] in COPIED]
        cells += [cell([row["iou_horizon"][m]["value"] for row in each], 1) for m in (*CONTROLS, "copy last")]
        lines.append("| " + " | ".join([*cells, cell([row["fit_seconds"] for row in each], 0)]) + " |")
    row = next(iter(next(iter(found["rows"].values())).values()))  # the ceiling is the same for all
    cells = ["ceiling", "", "", *(f"{row['iou']['ceiling'][k]:.2f}" for k in told)]
    cells += ["" for k in told if horizons[k] in COPIED]
    lines.append("| " + " | ".join([*cells, f"{row['iou_horizon']['ceiling']['value']:.1f}", "", "", ""]) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("world", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("row", nargs="*")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--iterations", type=int, default=1_000)
    parser.add_argument("--seeds", default="1,2,3")
    asked = parser.parse_args(arguments)
    run = WorldModelRun(asked.world)
    dataset, domain = run.dataset(), run.experiment.domain
    view = view_of(domain, dataset.quantities)
    if view is None:
        raise RunError(f"{run.path} holds a recording without true motion: only cars and mazes can be compared")
    everything = rows(domain, asked.iterations)
    if unknown := [name for name in asked.row if name not in everything]:
        raise RunError(f"no row is called {unknown[0]!r}; there are: {', '.join(everything)}")
    options = run.experiment.evaluation
    budget = {"seconds": asked.seconds, "iterations": asked.iterations}
    found: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {"budget": budget, "rows": {}}
    if found["budget"] != budget:
        raise RunError(f"{asked.out} has rows of the budget {found['budget']}: name another file")
    recorded = {"frames": len(dataset), "episodes": {split: len(dataset.played(split)) for split in SPLITS}}
    found |= {"machine": describe_machine(), "threads": torch.get_num_threads(), "recording": recorded}
    found["horizons"] = [horizon for horizon in options.horizons if horizon <= options.horizon]
    for seed in (int(each) for each in asked.seeds.split(",")):
        for name in asked.row or everything:
            known = found["rows"].setdefault(name, {})
            if str(seed) in known:
                continue
            known[str(seed)] = measure(everything[name], Recording(dataset, view, options), seed, asked.seconds)
            print(name, seed, known[str(seed)]["iou_horizon"]["trained"], flush=True)
            write_atomically(asked.out, json.dumps(found, indent=1).encode())
    write_atomically(asked.out.with_suffix(".md"), table(found).encode())


if __name__ == "__main__":
    main()
