"""The picture at the top of the README: the method from random tasks to zero-shot results, from the runs of a demo.

Run as `python -m clutr.experiments.studies.overview DEMO docs/images/overview.png`, where DEMO is the directory that
`clutr demo --runs DEMO` filled.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from clutr.envs.car.domain import CarDomain
from clutr.experiments.evaluation.selection import own_evaluations
from clutr.experiments.plots.latent_map import principal_components
from clutr.experiments.reports.report_data import latent_map_data, recorded_episodes
from clutr.experiments.run_directory import RunDirectory

METHODS = {"untrained": "untrained", "dr": "domain\nrandomisation", "clutr": "CLUTR"}
SUITE = "small"


def _sheet(part: SubFigure, title: str, images: Sequence[NDArray[np.uint8]], columns: int) -> None:
    """Pictures in rows under a title."""
    part.suptitle(title, fontsize=11)
    rows = -(-len(images) // columns)
    for axes in part.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.06, "hspace": 0.06}).flat:
        axes.axis("off")
    for axes, image in zip(part.axes, images, strict=False):
        axes.imshow(image, interpolation="lanczos")


def _map(part: SubFigure, run: RunDirectory) -> None:
    """The proposed latents in two dimensions by regret."""
    found = latent_map_data(run, run.proposals(), run.metrics())
    assert found is not None, "the demo's CLUTR run proposes latents"
    points, _ = principal_components(found.latents)
    part.suptitle("2  a task VAE makes them points;\nthe teacher seeks regret", fontsize=11)
    axes = part.subplots()
    low, high = np.nanquantile(found.scores, [0.05, 0.95])
    dots = axes.scatter(points[:, 0], points[:, 1], c=found.scores, s=9, cmap="viridis", vmin=low, vmax=high)
    axes.set(xticks=[], yticks=[], xlabel="two principal components of the latents")
    part.colorbar(dots, ax=axes, orientation="horizontal", fraction=0.05, pad=0.12, label="regret")


def _bars(part: SubFigure, results: dict[str, dict[str, Any]]) -> None:
    """Mean solve rates with their intervals."""
    part.suptitle("5  and are judged\nzero-shot", fontsize=11)
    axes = part.subplots()
    for position, name in enumerate(METHODS):
        summary = results[name]["summary"]
        low, high = summary["mean_solved_interval"]
        mean = summary["mean_solved"]
        error = [[mean - low], [high - mean]]
        axes.bar(position, mean, yerr=error, capsize=4, color=("#bbbbbb", "#4477aa", "#ee6677")[position], width=0.65)
        axes.text(position, high + 0.02, f"{mean:.0%}", ha="center", fontsize=10)
    axes.set_xticks(range(len(METHODS)), list(METHODS.values()), fontsize=8)
    axes.set_ylim(0, 1)
    axes.set_xlabel("one demo run, one seed", fontsize=8)
    axes.set_yticks([0, 0.5, 1], ["0", "50 %", "solved"], fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw(demo: Path, path: Path) -> None:
    """Draw the overview of the demo's runs in `demo` and write it to `path` as PNG."""
    run, other = RunDirectory(demo / "clutr"), RunDirectory(demo / "dr")
    domain, rng = run.domain(), torch.Generator().manual_seed(3)
    kept = {each.name: each for each in run.evaluations()}  # the newest of each name
    results: dict[str, Any] = {"clutr": kept[SUITE].result, "untrained": kept[f"{SUITE}-untrained"].result}
    results["dr"] = own_evaluations(other, SUITE)[-1].result
    records = run.proposals()
    chosen = [record.levels[row] for record in (records[0], records[-1]) for row in range(4)]
    proposed = [domain.render(level)[0].numpy() for level in chosen]
    paths = [episode.image for episode in recorded_episodes(run, [kept[SUITE]]).episodes if episode.solved]

    figure = Figure(figsize=(15, 4.9), dpi=110)
    FigureCanvasAgg(figure)
    rows = figure.add_gridspec(2, 1, height_ratios=(3.4, 1.5))
    top, bottom = figure.add_subfigure(rows[0]), figure.add_subfigure(rows[1])
    columns = top.add_gridspec(1, 5, width_ratios=(1, 1.15, 1.25, 1.15, 1.05))
    parts = [top.add_subfigure(columns[column]) for column in range(5)]
    _sheet(parts[0], "1  random tasks\n", list(domain.render(domain.sample(9, rng)).numpy()), 3)
    _map(parts[1], run)
    _sheet(parts[2], "3  the curriculum:\nfirst levels, last levels", proposed, 4)
    _sheet(parts[3], "4  students train on it,\nplay mazes never seen", paths[:4], 2)
    _bars(parts[4], results)
    cars = CarDomain()
    _sheet(bottom, "the same for CarRacing: tracks as tasks", list(cars.render(cars.sample(12, rng)).numpy()), 12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
