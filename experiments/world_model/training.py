"""Training a world model: the backbone, the memory, and its untrained control."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from clutr.envs.capabilities import SIDE
from clutr.envs.progress import Progress
from clutr.experiments.storage import CorruptFileError, RunError, load_state, save_state
from clutr.experiments.training.runner import require_device
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training_log import TrainingLog
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.dataset import EpisodeDataset
from clutr.world_model.dream import Dreamer
from clutr.world_model.latents import LatentEpisode, encode_episodes
from clutr.world_model.memory import Memory, Scale
from clutr.world_model.training import SHOWN, Convergence, MemoryTraining
from clutr.world_model.views import View, view_of

SAVE_EVERY_SECONDS = 20.0
MEMORIES = ("trained", "untrained core")
"""The memory, and the control whose core stays as it was drawn: only its heads learn."""


class Resumable(Protocol):
    """A training that can be saved between two of its steps."""

    def run(self, progress: Progress) -> None:
        """Train to the end."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        ...


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


def _train(training: Resumable, path: Path, progress: Progress, log: TrainingLog | None) -> None:
    """Run a training from wherever an earlier one stopped, saving it now and then and at the end.

    What was measured is written first: after a kill between the two, it is measured again.

    Args:
        training: what is trained.
        path: where it is kept.
        progress: told of every step that the training tells of.
        log: keeps what it measures.
    """

    def save() -> None:
        if log is not None:
            log.write()
        save_state(path, training.state_dict())

    if path.exists():
        try:
            load_into(training, path)
        except CorruptFileError:
            path.unlink()  # it can be made again
    saved = time.monotonic()

    def report(done: int, total: int, metrics: dict[str, float]) -> None:
        nonlocal saved
        progress(done, total, metrics)
        if time.monotonic() - saved > SAVE_EVERY_SECONDS:
            save()
            saved = time.monotonic()

    training.run(report)
    save()


def load_into(part: Any, path: Path, state: Any = None) -> None:
    """Load what `path` holds, or `state` of it. Raises `RunError` naming both files if world.yaml was changed since."""
    state = load_state(path) if state is None else state
    try:
        part.load_state_dict(state)
    except Exception as error:  # whatever a part does with the state of another one
        raise RunError(
            f"{path} does not fit {path.with_name('world.yaml')}, which was changed since: "
            + f"{' '.join(str(error).split())[:200]}. Put the old values back, or remove {path.name} to train it again"
        ) from error


def torch_device(name: str) -> torch.device:
    """A device that torch has. Raises `RunError` if it knows none of that name, or has none."""
    try:
        return require_device(name)
    except RuntimeError as error:  # torch's own, for a name that it does not know
        if isinstance(error, RunError):
            raise
        raise RunError(f"torch knows no device {name!r}: {str(error).splitlines()[0]}") from None


def _logged(log: TrainingLog | None, part: str, progress: Progress) -> Progress:
    """`progress` of a part that is also kept in `log`; of a memory's losses a person is shown some."""

    def report(done: int, total: int, metrics: dict[str, float]) -> None:
        if log is not None and metrics:
            log.add(part, done, metrics)
        shown = {name: value for name, value in metrics.items() if name in SHOWN}
        progress(done, total, shown or metrics)

    return report


def fit_backbone(
    run: WorldModelRun,
    dataset: EpisodeDataset,
    progress: Progress = lambda *_: None,
    *,
    device: str = "cpu",
    log: TrainingLog | None = None,
) -> Backbone:
    """Fit the backbone on the training frames, unless that was done before.

    Args:
        run: whose backbone.
        dataset: the recording.
        progress: told of its steps.
        device: where a network is trained; what is fitted in closed form stays on the processor.
        log: keeps its measurements.

    Raises:
        RunError: if there is no such device.
    """
    experiment, place = run.experiment, torch_device(device)
    backbone: Any = experiment.backbone.build((SIDE, SIDE), experiment.seed)
    if isinstance(backbone, nn.Module):
        backbone.to(place)
    fitting = experiment.backbone.fitting(backbone, dataset.frames("train"), experiment.seed)
    _train(fitting, backbone_path(run), _logged(log, "backbone", progress), log)
    fitted: Backbone = backbone
    return fitted


def encoded(
    dataset: EpisodeDataset,
    backbone: Backbone,
    split: str,
    progress: Progress = lambda *_: None,
    view: View | None = None,
    most: int | None = None,
) -> list[LatentEpisode]:
    """The episodes of a split as the backbone sees them, all or `most`, with the true motion if a `view` tells it."""
    return encode_episodes(dataset, split, backbone.encode, progress, view, most)


def _memory(run: WorldModelRun, dataset: EpisodeDataset, name: str) -> Memory:
    experiment = run.experiment
    latents = int(getattr(experiment.backbone, "latents", 0)) or int(experiment.backbone.base.latents)  # type: ignore[attr-defined]
    memory = experiment.memory.build(latents, dataset.action_width, experiment.seed)
    if name != MEMORIES[0]:
        memory.freeze_core()
    return memory


def train_memories(
    run: WorldModelRun,
    dataset: EpisodeDataset,
    backbone: Backbone,
    progress_of: Callable[[str], Progress] = lambda _: lambda *_: None,
    *,
    device: str = "cpu",
    log: TrainingLog | None = None,
) -> dict[str, Convergence]:
    """Train the memory and its control, unless that was done before.

    Args:
        run: whose memories.
        dataset: the recording.
        backbone: fitted on it.
        progress_of: gives for each of `MEMORIES` what is told of its steps.
        device: where they are trained.
        log: keeps their losses.

    Returns:
        Of each memory, whether more passes would have helped.

    Raises:
        RunError: if there are no episodes to train or to validate on, or there is no such device.
    """
    place = torch_device(device)
    view = view_of(run.experiment.domain, dataset.quantities)
    train, valid = (encoded(dataset, backbone, split, view=view) for split in ("train", "valid"))
    found = {}
    for name in MEMORIES:
        memory = _memory(run, dataset, name).to(place)
        try:
            training = MemoryTraining(memory, run.experiment.training, train, valid, run.experiment.seed)
        except ValueError as error:
            raise RunError(str(error)) from None
        _train(training, memory_path(run, name), _logged(log, name, progress_of(name)), log)
        found[name] = training.convergence
    return found


def in_words(found: Convergence) -> str:
    """A training's convergence as a sentence."""
    kept = f"the weights of pass {found.best_epoch} of {found.epochs} are kept"
    gain = f"the last tenth of the passes brought {found.late_gain:.1%} of what validation gained"
    return f"converged; {kept}, {gain}" if found.converged else f"not converged, more passes would help; {kept}, {gain}"


def load_world_model(run: WorldModelRun) -> WorldModel:
    """The trained world model of a run. Raises `RunError` if it is not trained."""
    dataset, experiment = run.dataset(), run.experiment
    paths = [backbone_path(run), *(memory_path(run, name) for name in MEMORIES)]
    if not all(path.exists() for path in paths):
        raise RunError(f"{run.path} is not trained: `clutr world train {run.path}` does it")
    backbone = experiment.backbone.build((SIDE, SIDE), experiment.seed)
    fitting = experiment.backbone.fitting(backbone, dataset.frames("train"), experiment.seed)
    load_into(fitting, paths[0], {**fitting.state_dict(), **load_state(paths[0])})  # one that ships: weights alone
    metrics: dict[str, Any] = {"backbone": fitting.metrics}
    dreamers = {}
    for name in MEMORIES:
        memory = _memory(run, dataset, name)
        state = load_state(memory_path(run, name))
        load_into(memory, memory_path(run, name), state["best"])
        dreamers[name] = Dreamer(memory, Scale.from_state(state["scale"]))
        metrics[name] = {"history": state["history"], "best_epoch": state["best_epoch"]}
    return WorldModel(backbone, dreamers, metrics)
