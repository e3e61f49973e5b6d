"""The films on the cards of models that ship, and the pictures of the gallery: `docs/gallery.md`, `docs/models.md`.

Run as `python -m clutr.experiments.studies.gallery [RUN ...]`. It renews what is not of the models that ship now, draws
the curriculum of each RUN over time, and writes both pages. Curricula that were drawn before stay.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import clutr
from clutr.envs.domain import Domain, LevelBatch
from clutr.envs.randomness import named_generator
from clutr.experiments.evaluation.runs import evaluate_run
from clutr.experiments.plots.charts import short_count
from clutr.experiments.plots.curves import students_in
from clutr.experiments.plots.gallery import order_by, spread
from clutr.experiments.plots.latent_map import principal_components
from clutr.experiments.plots.stills import Row, sheet, write_still
from clutr.experiments.plots.trajectories import Episode
from clutr.experiments.pretrained import Card, cards
from clutr.experiments.reports.film import make_dream_film, make_film
from clutr.experiments.reports.report_data import kind_of, recorded_episodes
from clutr.experiments.run_directory import ProposalRecord, RunDirectory
from clutr.experiments.storage import write_atomically
from clutr.experiments.studies.gallery_page import (
    SUITE,
    command_of_run,
    gallery_page,
    map_path,
    named,
    page_path,
    suite_path,
)
from clutr.experiments.studies.model_cards import FILM, MADE_FROM, PICTURES, models_page, picture_path

AGES, LEVELS = 5, 8
"""Rows and columns of a curriculum over time."""
TASKS, POINTS, THUMBNAILS = 7, 500, 16
"""Of a manifold: tasks in a row, points on its map, and those whose level is drawn."""
HARDNESS = {"maze": ("path_length", "cells to the goal"), "car": ("bends", "whole circles that a lap turns through")}
"""What colours the points of a map, by domain."""
SEED = 3


def make_card_picture(card: Card) -> None:
    """The film of a student or a world model, or the sheet of a manifold."""
    path = picture_path(card)
    if card.kind == "student":
        suite, levels, side, paths = FILM[card.domain]
        make_film([card.name], path, suite, levels, paths=paths, values=True, side=side)
    elif card.kind == "world-model":
        make_dream_film(card.name, path, side=128)
    else:
        write_still(_walk(card), path, f"Tasks, the same decoded, and a walk between two of them: {card.name}.")


def _walk(card: Card) -> Image.Image:
    """Random tasks, what the manifold makes of them, and the levels on a straight line between two of their points."""
    domain, manifold = RunDirectory(card.name).domain(), clutr.load_manifold(card.name)
    levels = domain.sample(TASKS, named_generator(SEED, "gallery", "tasks"))
    latents = manifold.encode(levels)
    share = torch.linspace(0, 1, TASKS).unsqueeze(1)
    line = manifold.decode(latents[:1] * (1 - share) + latents[-1:] * share)
    rows = {"tasks": levels, "decoded": manifold.decode(latents), "a walk": line}
    return sheet([Row(_drawn(domain, each), label=name) for name, each in rows.items()], 88)


def _drawn(domain: Domain, levels: LevelBatch) -> list[NDArray[np.uint8]]:
    return list(domain.render(levels).cpu().numpy())


def draw_map(card: Card) -> Image.Image:
    """Fresh tasks on the two principal components of a manifold's latents, some of them as pictures."""
    domain, manifold = RunDirectory(card.name).domain(), clutr.load_manifold(card.name)
    levels = domain.sample(POINTS, named_generator(SEED, "gallery", "map"))
    described = domain.describe(levels)
    levels = levels[described["solvable"].bool()]
    name, words = HARDNESS[card.domain]
    hardness = described[name][described["solvable"].bool()].numpy()
    points, shares = principal_components(manifold.encode(levels).double().numpy())
    figure = Figure(figsize=(7, 5.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = axes.scatter(points[:, 0], points[:, 1], c=hardness, s=12, cmap="viridis", linewidths=0)
    for index in farthest(torch.as_tensor(points), THUMBNAILS):
        level = domain.render(levels[[index]])[0].numpy()
        box = OffsetImage(level, zoom=36 / len(level))
        axes.add_artist(AnnotationBbox(box, points[index], pad=0.1, bboxprops={"linewidth": 0.4}))
    axes.margins(0.12)  # so that pictures of the outermost points stay inside
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(f"first component, {shares[0]:.0%} of the variance")
    axes.set_ylabel(f"second component, {shares[1]:.0%}")
    figure.colorbar(drawn, ax=axes, label=words, fraction=0.04, pad=0.02)
    figure.canvas.draw()
    canvas: Any = figure.canvas
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def farthest(points: Tensor, count: int) -> list[int]:
    """Indices of points `[N, 2]`, each the farthest from those before it, beginning with the one nearest the mean."""
    chosen = [int((points - points.mean(0)).norm(dim=1).argmin())]
    while len(chosen) < min(count, len(points)):
        chosen.append(int(torch.cdist(points, points[chosen]).amin(1).argmax()))
    return chosen


def draw_suite(card: Card) -> Image.Image:
    """The paths of a student on every level of a suite: a solved episode where there is one."""
    run, (suite, episodes, columns) = RunDirectory(card.name), SUITE[card.domain]
    evaluate_run(run, suite, episodes)
    kept = [each for each in run.evaluations() if each.suite == suite][-1:]
    found: dict[str, Episode] = {}
    for episode in recorded_episodes(run, kept).episodes:
        found.setdefault(episode.level, episode)  # solved ones come first
    shown = list(found.values())
    ends = [("" if e.solved else ": no") if e.value is None else f": {e.value:.0f}" for e in shown]
    words = [f"{episode.level}{end}" for episode, end in zip(shown, ends, strict=True)]
    rows = [slice(first, first + columns) for first in range(0, len(shown), columns)]
    return sheet([Row([e.image for e in shown[row]], words[row]) for row in rows], 156)


def draw_curriculum(run: RunDirectory) -> Image.Image:
    """What a curriculum proposed at several ages of a run, a row each."""
    records, students = run.proposals(), students_in(run.metrics())
    return sheet([_age(run.domain(), records[index], students) for index in spread(len(records), AGES)], 72)


def _age(domain: Domain, record: ProposalRecord, students: Sequence[str]) -> Row:
    described = {name: float(values.mean()) for name, values in domain.describe(record.levels).items()}
    words = [f"{short_count(record.steps)} steps"]
    words += [
        f"{described[n]:.3g} {word}" for n, word in (("wall_count", "obstacles"), ("bends", "bends")) if n in described
    ]
    words += [f"{described['solvable']:.0%} solvable"] if "wall_count" in described else []
    solved = record.scores.get(f"{students[0]}/solved") if students else None
    words += [] if solved is None or "wall_count" not in described else [f"{float(solved.mean()):.0%} solved"]
    score = record.scores.get("regret")
    order = order_by(None if score is None else score.double().cpu().numpy(), len(record.levels))
    chosen = torch.as_tensor(order[spread(len(order), LEVELS)])
    return Row(_drawn(domain, record.levels[chosen]), label="\n".join(words))


def caption_of_run(run: RunDirectory) -> str:
    """What a picture of a run's curriculum shows."""
    by = "from the lowest regret to the highest" if "regret" in run.metrics() else "some of each proposal"
    steps = min(int(run.metrics()["steps"][-1]), run.experiment.total_steps)
    return (
        f"{kind_of(run.config, 'curriculum')}: levels that it proposed over {short_count(steps)} steps of a student, "
        + f"{by}; one run, seed {run.config['seed']}: `{command_of_run(run.experiment, steps)}`."
    )


def renew(runs: Sequence[Path] = ()) -> None:
    """Renew the pictures that are not of the models that ship now, draw the runs' curricula, and write both pages."""
    known = cards()
    made_from: dict[str, str] = json.loads(MADE_FROM.read_text()) if MADE_FROM.exists() else {}
    for card in known.values():
        if made_from.get(card.name) == card.sha256 and picture_path(card).exists():
            continue
        make_card_picture(card)
        made_from[card.name] = card.sha256
        if card in named(known, "map"):
            write_still(draw_map(card), map_path(card), f"Fresh tasks on {card.name}.")
        if card in named(known, "suite"):
            write_still(draw_suite(card), suite_path(card), f"{card.name} on {SUITE[card.domain][0]}.")
        kept = {name: made_from[name] for name in sorted(made_from) if name in known}
        write_atomically(MADE_FROM, (json.dumps(kept, indent=1) + "\n").encode())
    for path in runs:
        run = RunDirectory(path)
        name = f"curriculum-{kind_of(run.config, 'domain')}-{kind_of(run.config, 'curriculum')}.png"
        write_still(draw_curriculum(run), PICTURES / "gallery" / name, caption_of_run(run))
    wanted = {function(card) for card in known.values() for function in (picture_path, map_path, suite_path)}
    for path in [*(PICTURES / "models").glob("*.*"), *(PICTURES / "gallery").glob("[ms]*.png")]:
        if path not in wanted and path != MADE_FROM:
            path.unlink()
    write_atomically(page_path("models"), models_page(known).encode())
    write_atomically(page_path("gallery"), gallery_page(known).encode())


if __name__ == "__main__":
    renew([Path(path) for path in sys.argv[1:]])
