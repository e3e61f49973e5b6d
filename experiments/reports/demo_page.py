"""The page that the demo ends with: everything to see at once, and where to go from there."""

import base64
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clutr.experiments.plots.html import number, text
from clutr.experiments.plots.latent_map import latent_map
from clutr.experiments.plots.page import Panel, join_caption, render_page
from clutr.experiments.plots.solve_table import solve_table
from clutr.experiments.pretrained import Card, cards
from clutr.experiments.reports.dream_report import DreamOptions, dream_panel
from clutr.experiments.reports.film import make_film
from clutr.experiments.reports.report_data import curriculum_gallery, latent_map_data
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import write_atomically
from clutr.experiments.world_model.run_directory import open_world_model

FILMED = 2
"""Levels of the film."""
SIDE = 240
"""Pixels of a player's picture in it."""
DREAM = DreamOptions(start=10, horizon=40, branches=2)


def build_demo_page(
    runs: Mapping[str, RunDirectory],
    results: Mapping[str, Mapping[str, Any]],
    path: Path,
    suite: str,
    shipped: Card | None = None,
) -> Path:
    """Write one self-contained page about the runs of the demo.

    Args:
        runs: by method; the first one's curriculum and latents are shown. They lie beside the page.
        results: evaluations on the suite by method.
        path: of the page.
        suite: what was played.
        shipped: a student that ships, which plays in the film, too.

    Raises:
        RunError: if a run cannot be read, or the page cannot be written.
    """
    run = next(iter(runs.values()))
    source = "; ".join(f"{name}: seed {each.config['seed']}" for name, each in runs.items())
    columns, records = run.metrics(), run.proposals()
    panels = [
        solve_table({suite: list(results.items())}, source),
        _film(runs, suite, source, shipped),
        curriculum_gallery(run, records, columns, source),
        latent_map(latent_map_data(run, records, columns), source),
        *_dream(),
        _onward(runs),
    ]
    lead = (
        "Two students of the same size have trained on mazes for the same number of steps: one on random mazes (dr), "
        + "one on those that a teacher chose on a task manifold because they promised regret (clutr). Then both played "
        + "mazes that nobody trained on. One seed each: which is ahead may be luck."
    )
    if shipped is not None:
        lead += (
            f" {shipped.name} is a student that ships, after {shipped.steps / 1e6:.1f} million steps on larger mazes."
        )
    write_atomically(path, render_page("CLUTR in minutes", "Demo", lead, panels).encode())
    return path


def _film(runs: Mapping[str, RunDirectory], suite: str, source: str, shipped: Card | None) -> Panel:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.gif"
        chosen = next(iter(runs.values())).domain().suites()[suite].tasks[:FILMED]
        names = [task.name for task in chosen]
        players: list[RunDirectory | Path | str] = [*runs.values(), *([] if shipped is None else [shipped.name])]
        make_film(players, path, suite, names, paths=True, values=True, side=SIDE)
        encoded = base64.b64encode(path.read_bytes()).decode()
    body = (
        f'<img src="data:image/gif;base64,{encoded}" alt="the students play {text(", ".join(names))}" loading="lazy">'
    )
    caption = join_caption(
        "The students side by side on the same mazes, with the way so far and the return that each expects.",
        f"n = {number(len(names))} mazes, one episode each, not chosen; split: test; {source}.",
    )
    return Panel("film", "The students at play", body, caption)


def _dream() -> list[Panel]:
    """A dream of the first world model that ships; nothing where none does."""
    name = next((name for name, card in cards().items() if card.kind == "world-model"), None)
    if name is None:
        return []
    return [dream_panel(open_world_model(name, lambda _: nullcontext(lambda *_: None)), DREAM)]


def _onward(runs: Mapping[str, RunDirectory]) -> Panel:
    first, *others = (each.path for each in runs.values())
    commands = {
        f"clutr report {first}": f'curves, paths and every option: <a href="{first.name}/report.html">the report</a>',
        f"clutr inspect {first}": "move on the task manifold and watch the student, live",
        "clutr levels play small/Labyrinth11": "try what the students face",
        f"clutr film {first} {' '.join(map(str, others))} --suite dcd7": "a film on harder mazes",
        "clutr train maze-clutr --seeds 1-3": "the full-size experiment",
        "clutr list": "everything else that there is",
    }
    items = "".join(f"<li><code>{text(command)}</code><br>{about}</li>" for command, about in commands.items())
    return Panel("onward", "Where to go from here", f"<ul>{items}</ul>", "")
