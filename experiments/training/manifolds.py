"""Task manifolds on disk: pretrained once, shared by every run of this user that wants the same one.

A file is named after a hash of all that the manifold depends on (`manifold_id`), so nothing in the cache ever goes out
of date, and removing it costs no more than the time to pretrain again.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clutr.envs.progress import Progress
from clutr.experiments.config import Experiment, manifold_id, to_plain
from clutr.experiments.files import as_directory, require_writable
from clutr.experiments.pretrained import caches, shipped_manifold, user_cache
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import (
    CorruptFileError,
    RunError,
    load_state,
    save_state,
    write_atomically,
)
from clutr.manifold.base import Manifold

SAVE_EVERY_SECONDS = 10.0


CACHE_VARIABLE = "CLUTR_MANIFOLDS"


def manifold_cache() -> Path:
    """Where pretrained manifolds are shared: `$CLUTR_MANIFOLDS`, else `clutr/manifolds` in the user's cache.

    That cache is `$XDG_CACHE_HOME`, or `~/.cache` where it is not set or is no absolute path; where these cannot be
    written, a folder for temporary files. Raises `RunError` if there is none.
    """
    return user_cache(CACHE_VARIABLE, "manifolds")


def manifold_path(experiment: Experiment, manifolds: Path) -> Path:
    """Where the manifold of `experiment` is shared: named after domain, kind, and a hash of all it depends on."""
    plain = to_plain(experiment)
    if plain["manifold"] is None:
        raise RunError("this experiment has no manifold")
    return manifolds / f"{plain['domain']['kind']}-{plain['manifold']['kind']}-{manifold_id(experiment)}.safetensors"


def require_room(experiment: Experiment, manifolds: Path) -> Path:
    """The path of an experiment's manifold, if it is there or can be written; it is asked before any work.

    Args:
        experiment: whose manifold.
        manifolds: where it is shared.

    Raises:
        RunError: if it can be neither read nor written.
    """
    manifolds = as_directory(manifolds)
    path = manifold_path(experiment, manifolds)
    if manifolds == manifold_cache():  # which may be in another place than it usually is
        known = (each / path.name for each in caches(CACHE_VARIABLE, "manifolds"))
        path = next((each for each in known if each.exists()), path)
    if not path.exists():
        require_writable(
            manifolds, f"Nothing was pretrained; name another folder with --manifolds or the variable {CACHE_VARIABLE}."
        )
    return path


def pretrain(
    experiment: Experiment, manifolds: Path, progress: Progress, say: Callable[[str], None] = lambda _: None
) -> tuple[Path, dict[str, Any]]:
    """Pretrain the manifold of `experiment` unless it is there already; an interrupted pretraining goes on.

    One that ships with the package is copied: it is what this pretraining gave, rounded where its card says so.

    Args:
        experiment: whose manifold.
        manifolds: where it is shared.
        progress: is told how far the pretraining is.
        say: receives a line for the user where a damaged file is made again.

    Returns:
        Its file and its health.

    Raises:
        RunError: before any work, if it could not be written.
    """
    path = require_room(experiment, manifolds)
    if path.exists():
        try:
            return path, load_state(path)["measured"]
        except (CorruptFileError, KeyError):
            say(f"{path} is damaged; the manifold is pretrained again")
            path.unlink()
    if (shipped := shipped_manifold(path.name)) is not None:
        save_state(path, shipped)
        say("this manifold ships with the package: nothing is pretrained")
        return path, shipped["measured"]
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


def prepare_manifold(
    run: RunDirectory, manifolds: Path, progress: Progress, say: Callable[[str], None] = lambda _: None
) -> Manifold:
    """The pretrained manifold of a run: its own copy, else a shared one, else pretrained now.

    The run keeps a copy, so that it does not depend on anything outside its directory.
    """
    experiment = run.experiment
    if experiment.manifold is None:
        raise RunError(f"{run.path} has no manifold")
    if not run.manifold_path.exists():
        path, _ = pretrain(experiment, manifolds, progress, say)
        write_atomically(run.manifold_path, path.read_bytes())
    return load_manifold(experiment, run.manifold_path)


def load_manifold(experiment: Experiment, path: Path) -> Manifold:
    """The pretrained manifold of `experiment`, whose state is in `path`. Raises `RunError` if it cannot be read."""
    assert experiment.manifold is not None
    manifold = experiment.manifold.build(experiment.domain, experiment.manifold_seed)
    state = load_state(path)
    try:
        manifold.load_state_dict(state)
    except Exception as error:  # whatever a manifold does with the state of another one
        raise RunError(
            f"{path} does not fit the options `domain` and `manifold` of the run, which were changed since: "
            + f"{' '.join(str(error).split())[:200]}. Put the old values back, or remove the file to pretrain again"
        ) from error
    return manifold
