"""Training a world model: the backbone, the memory, and its untrained control."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from clutr.envs.capabilities import SIDE
from clutr.envs.progress import Progress
from clutr.experiments.storage import CorruptFileError, RunError, load_state, save_state
from clutr.experiments.world_model.continuing import begin, keep_backbone, keep_starts, previous
from clutr.experiments.world_model.loading import (
    BACKBONE_OPTIONS,
    MEMORIES,
    MEMORY_OPTIONS,
    WorldModel,
    backbone_path,
    load_into,
    load_world_model,
    made_with,
    memory_path,
    new_memory,
)
from clutr.experiments.world_model.refit import other_of
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training_log import TrainingLog
from clutr.world_model.backbones.base import Backbone, Fitting
from clutr.world_model.backbones.compatible import Anchor, CompatibleVAETraining
from clutr.world_model.dataset import EpisodeDataset
from clutr.world_model.latents import LatentEpisode, encode_episodes
from clutr.world_model.training import SHOWN, Convergence, MemoryTraining, convergence
from clutr.world_model.views import View, view_of

__all__ = [
    "MEMORIES",
    "WorldModel",
    "backbone_path",
    "encoded",
    "fit_backbone",
    "in_words",
    "load_world_model",
    "memory_path",
    "train_memories",
    "world_device",
]

SAVE_EVERY_SECONDS = 20.0


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


def _train(
    training: Resumable, path: Path, options: Mapping[str, Any], progress: Progress, log: TrainingLog | None
) -> None:
    """Run a training from wherever an earlier one stopped, saving it now and then and at the end.

    What was measured is written first: after a kill between the two, it is measured again.

    Args:
        training: what is trained.
        path: where it is kept.
        options: those of world.yaml that it is made with.
        progress: told of every step that the training tells of.
        log: keeps what it measures.
    """

    def save() -> None:
        if log is not None:
            log.write()
        save_state(path, {**training.state_dict(), "config": options})

    if path.exists():
        try:
            load_into(training, path, options)
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


def world_device(name: str) -> torch.device:
    """Any device of torch that a number can be sent to and back. Raises `RunError` if this is none, or not here."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, NotImplementedError, AssertionError, ImportError):
        raise RunError(f"torch cannot train on device {name!r} here. Train it with --device cpu") from None
    return device


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
    """Fit the backbone on the training frames, unless that was done before; or keep that of a model that is continued.

    If the memory of another world model is kept, its latents agree with those of that one's backbone.

    Args:
        run: whose backbone.
        dataset: the recording.
        progress: told of its steps.
        device: where a network is trained; what is fitted in closed form stays on the processor.
        log: keeps its measurements.

    Raises:
        RunError: if there is no such device, the memory that is kept is not trained or fits no such backbone, or the
            model that is continued does not fit.
    """
    experiment, place = run.experiment, world_device(device)
    if (old := previous(experiment, dataset)) is not None:
        return keep_backbone(run, old, dataset)
    backbone: Any = experiment.backbone.build((SIDE, SIDE), experiment.seed)
    if isinstance(backbone, nn.Module):
        backbone.to(place)
    fitting = _fitting(run, backbone, dataset, place)
    _train(fitting, backbone_path(run), made_with(run, BACKBONE_OPTIONS), _logged(log, "backbone", progress), log)
    fitted: Backbone = backbone
    return fitted


def _fitting(run: WorldModelRun, backbone: Any, dataset: EpisodeDataset, place: torch.device) -> Fitting:
    """The backbone's fitting."""
    experiment, frames, other = run.experiment, dataset.frames("train"), other_of(run)
    if other is None:
        return experiment.backbone.fitting(backbone, frames, experiment.seed)
    known = load_world_model(other)
    old: Any = known.backbone
    anchor = Anchor(old.to(place), known.dreamers[MEMORIES[0]].scale.latent_std, experiment.refit.weight)
    config: Any = experiment.backbone
    return CompatibleVAETraining(backbone, config, frames, experiment.seed, anchor)


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


def train_memories(
    run: WorldModelRun,
    dataset: EpisodeDataset,
    backbone: Backbone,
    progress_of: Callable[[str], Progress] = lambda _: lambda *_: None,
    *,
    device: str = "cpu",
    log: TrainingLog | None = None,
) -> dict[str, Convergence]:
    """Train the memory and its control, or take over those that are kept, unless that was done before.

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
        RunError: if there are no episodes to train or to validate on, there is no such device, or the model that is
            continued does not fit.
    """
    if run.experiment.refit.of:
        found = {name: _taken_over(run, name) for name in MEMORIES}
        keep_starts(run, dataset, encoded(dataset, backbone, "train"))
        return found
    place = world_device(device)
    view = view_of(run.experiment.domain, dataset.quantities)
    train, valid = (encoded(dataset, backbone, split, view=view) for split in ("train", "valid"))
    experiment, old = run.experiment, previous(run.experiment, dataset)
    options = made_with(run, (*MEMORY_OPTIONS, "training", "continues", "replay"))
    found = {}
    for name in MEMORIES:
        memory, scale, replay = new_memory(run, dataset, name), None, None
        if old is not None:
            dreamer, replay = begin(run, old, dataset, name)
            memory, scale = dreamer.memory, dreamer.scale
        memory.to(place)
        try:
            training = MemoryTraining(memory, experiment.training, train, valid, experiment.seed, scale, replay)
        except ValueError as error:
            raise RunError(str(error)) from None
        _train(training, memory_path(run, name), options, _logged(log, name, progress_of(name)), log)
        found[name] = training.convergence
    keep_starts(run, dataset, train)
    return found


def _taken_over(run: WorldModelRun, name: str) -> Convergence:
    """Copy a memory from the world model whose memory is kept, unless that was done before; and how it was trained."""
    path, other = memory_path(run, name), other_of(run)
    if other is not None and not path.exists():
        state = load_state(memory_path(other, name))
        options = made_with(run, MEMORY_OPTIONS) | {"training": made_with(other, ("training",))["training"]}
        save_state(path, {**state, "config": options})
    return convergence([row["valid_loss"] for row in load_state(path)["history"]])


def in_words(found: Convergence) -> str:
    """A training's convergence as a sentence."""
    kept = f"the weights of pass {found.best_epoch} of {found.epochs} are kept"
    gain = f"the last tenth of the passes brought {found.late_gain:.1%} of what validation gained"
    return f"converged; {kept}, {gain}" if found.converged else f"not converged, more passes would help; {kept}, {gain}"
