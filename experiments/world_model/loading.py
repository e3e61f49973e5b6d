"""The trained parts of a world model in its directory: where they are, what they were made with, and their loading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clutr.envs.capabilities import SIDE
from clutr.experiments.files import warn_once
from clutr.experiments.plain_config import differences
from clutr.experiments.storage import RunError, load_state
from clutr.experiments.world_model.config import to_plain
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.dataset import EpisodeDataset
from clutr.world_model.dream import Dreamer
from clutr.world_model.memory import Memory, Scale

MEMORIES = ("trained", "untrained core")
"""The memory, and the control whose core stays as it was drawn: only its heads learn."""
BACKBONE_OPTIONS = ("domain", "seed", "backbone", "refit")
MEMORY_OPTIONS = (*BACKBONE_OPTIONS, "memory")
"""Options of world.yaml without which a part is another one; how long and how it is trained may change."""


@dataclass(frozen=True)
class WorldModel:
    """A trained world model and its control."""

    backbone: Backbone
    dreamers: dict[str, Dreamer]
    """By the names in `MEMORIES`."""
    metrics: dict[str, Any]
    """Metrics of fitting and training: `backbone`, and the history of each memory."""


def backbone_path(run: WorldModelRun) -> Path:
    """Where the fitted backbone is kept."""
    return run.path / "backbone.safetensors"


def memory_path(run: WorldModelRun, name: str) -> Path:
    """Where a trained memory is kept."""
    return run.path / f"memory-{name.replace(' ', '-')}.safetensors"


def made_with(run: WorldModelRun, names: Sequence[str]) -> dict[str, Any]:
    """The options of world.yaml that a part's file tells."""
    plain = to_plain(run.experiment)
    return {name: plain[name] for name in names}


def _require_same(path: Path, state: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Compare the options that a part was made with to those of world.yaml; one of training alone is only told.

    Raises:
        RunError: if others differ, naming both files and the fields.
    """
    changed = list(differences(state.get("config", {}), options))
    training = [each for each in changed if each.startswith("training.")]
    if changed != training:
        raise RunError(
            f"{path} does not fit {path.with_name('world.yaml')}, which was changed since: {', '.join(changed)}. "
            + f"Put the old values back, or remove {path.name} to train it again"
        )
    if training:
        warn_once(f"{path.with_name('world.yaml')} was changed since its memories were trained: {', '.join(training)}")


def load_into(part: Any, path: Path, options: Mapping[str, Any], found: Any = None, inside: str | None = None) -> None:
    """Load a part from its file.

    Args:
        part: what is loaded.
        path: its file.
        options: those of world.yaml that it is made with.
        found: what the file holds, if it was read before.
        inside: the entry with the part's state; None if everything is.

    Raises:
        RunError: if world.yaml was changed since, naming both files.
    """
    found = load_state(path) if found is None else found
    _require_same(path, found, options)
    state = found if inside is None else found[inside]
    try:
        part.load_state_dict(state)
    except Exception as error:  # whatever a part does with the state of another one
        raise RunError(
            f"{path} does not fit {path.with_name('world.yaml')}, which was changed since: "
            + f"{' '.join(str(error).split())[:200]}. Put the old values back, or remove {path.name} to train it again"
        ) from error


def new_memory(run: WorldModelRun, dataset: EpisodeDataset, name: str) -> Memory:
    """A memory as it was drawn, by its name in `MEMORIES`, for the actions of a recording."""
    experiment = run.experiment
    latents = int(getattr(experiment.backbone, "latents", 0)) or int(experiment.backbone.base.latents)  # type: ignore[attr-defined]
    memory = experiment.memory.build(latents, dataset.action_width, experiment.seed)
    if name != MEMORIES[0]:
        memory.freeze_core()
    return memory


def load_backbone(run: WorldModelRun, dataset: EpisodeDataset) -> tuple[Backbone, Any]:
    """The fitted backbone of a run, and its fitting; `dataset` may be another one than it was fitted on."""
    experiment, path = run.experiment, backbone_path(run)
    backbone = experiment.backbone.build((SIDE, SIDE), experiment.seed)
    fitting: Any = experiment.backbone.fitting(backbone, dataset.frames("train"), experiment.seed)
    kept = {**fitting.state_dict(), **load_state(path)}  # one that ships: weights alone
    load_into(fitting, path, made_with(run, BACKBONE_OPTIONS), kept)
    return backbone, fitting


def load_dreamer(run: WorldModelRun, dataset: EpisodeDataset, name: str) -> tuple[Dreamer, dict[str, Any]]:
    """A trained memory of a run with its best weights, and what its file holds; `dataset` tells the actions."""
    memory, path = new_memory(run, dataset, name), memory_path(run, name)
    state = load_state(path)
    load_into(memory, path, made_with(run, (*MEMORY_OPTIONS, "training")), state, "best")
    return Dreamer(memory, Scale.from_state(state["scale"])), state


def load_world_model(run: WorldModelRun) -> WorldModel:
    """The trained world model of a run. Raises `RunError` if it is not trained."""
    dataset = run.dataset()
    paths = [backbone_path(run), *(memory_path(run, name) for name in MEMORIES)]
    if not all(path.exists() for path in paths):
        raise RunError(f"{run.path} is not trained: `clutr world train {run.path}` does it")
    backbone, fitting = load_backbone(run, dataset)
    metrics: dict[str, Any] = {"backbone": fitting.metrics}
    dreamers = {}
    for name in MEMORIES:
        dreamers[name], state = load_dreamer(run, dataset, name)
        metrics[name] = {"history": state["history"], "best_epoch": state["best_epoch"]}
    return WorldModel(backbone, dreamers, metrics)
