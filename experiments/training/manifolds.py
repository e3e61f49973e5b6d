"""Task manifolds on disk: pretrained once, shared by every run that wants the same one."""

import time
from pathlib import Path
from typing import Any

from rich.table import Table

from clutr.envs.progress import Progress
from clutr.experiments.config import Experiment, manifold_id, to_plain
from clutr.experiments.plots.health_headlines import headlines
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import CorruptFileError, RunError, load_state, save_state, write_atomically
from clutr.manifold.base import Manifold

SAVE_EVERY_SECONDS = 10.0
MEANINGS = {"collapsed": "whether so few latents are active that most of the box's directions change nothing"}
"""Of numbers that are no headlines."""


def manifold_path(experiment: Experiment, manifolds: Path) -> Path:
    """Where the manifold of `experiment` is shared: its name tells world, kind, and a hash of all it depends on."""
    plain = to_plain(experiment)
    if plain["manifold"] is None:
        raise RunError("this experiment has no manifold")
    return manifolds / f"{plain['domain']['kind']}-{plain['manifold']['kind']}-{manifold_id(experiment)}.safetensors"


def pretrain(experiment: Experiment, manifolds: Path, progress: Progress) -> tuple[Path, dict[str, Any]]:
    """Pretrain the manifold of `experiment` unless it is there already; an interrupted pretraining goes on.

    Returns:
        Its file and its health.
    """
    path = manifold_path(experiment, manifolds)
    if path.exists():
        try:
            return path, load_state(path)["health"]
        except CorruptFileError:
            path.unlink()  # it can be made again
    assert experiment.manifold is not None
    manifold = experiment.manifold.build(experiment.domain, experiment.manifold_seed)
    pretraining = experiment.manifold.pretraining(manifold, experiment.domain, experiment.manifold_seed)
    unfinished = path.with_suffix(".unfinished")
    if unfinished.exists():
        try:
            pretraining.load_state_dict(load_state(unfinished))
        except CorruptFileError:
            unfinished.unlink()
    saved = time.monotonic()

    def report(done: int, total: int, metrics: dict[str, float]) -> None:
        nonlocal saved
        progress(done, total, metrics)
        if time.monotonic() - saved > SAVE_EVERY_SECONDS:
            save_state(unfinished, pretraining.state_dict())
            saved = time.monotonic()

    pretraining.run(report)
    save_state(path, manifold.state_dict())
    unfinished.unlink(missing_ok=True)
    return path, manifold.health()


def prepare_manifold(run: RunDirectory, manifolds: Path, progress: Progress) -> Manifold:
    """The pretrained manifold of a run: its own copy, else a shared one, else pretrained now.

    The run keeps a copy, so that it does not depend on anything outside its directory.
    """
    experiment = run.experiment
    if experiment.manifold is None:
        raise RunError(f"{run.path} has no manifold")
    if not run.manifold_path.exists():
        path, _ = pretrain(experiment, manifolds, progress)
        write_atomically(run.manifold_path, path.read_bytes())
    manifold = experiment.manifold.build(experiment.domain, experiment.manifold_seed)
    manifold.load_state_dict(load_state(run.manifold_path))
    return manifold


def health_table(health: dict[str, Any]) -> Table:
    """The headline numbers of a manifold's health with a sentence each; all others are left to the report.

    Plain numbers that are no known headline, such as those of somebody else's manifold, follow without a word.
    """
    table = Table(title="health of the task manifold", title_justify="left")
    for name in ("what", "value", "meaning"):
        table.add_column(name, justify="right" if name == "value" else "left", no_wrap=name != "meaning")
    known = headlines(health)
    for headline, value in known:
        table.add_row(headline.title, value, headline.meaning)
    shown = {headline.path for headline, _ in known}
    for name, value in health.items():
        if (name,) not in shown and isinstance(value, bool | int | float | str):
            said = f"{value:.4g}" if isinstance(value, float) else str(value)
            table.add_row(name.replace("_", " "), said, MEANINGS.get(name, ""))
    return table
