"""Training a world model: the backbone, the memory, and its untrained control."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from clutr.envs.capabilities import SIDE
from clutr.envs.progress import Progress
from clutr.experiments.files import warn_once
from clutr.experiments.plain_config import differences
from clutr.experiments.storage import CorruptFileError, RunError, load_state, save_state
from clutr.experiments.world_model.config import to_plain
from clutr.experiments.world_model.refit import other_of
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training_log import TrainingLog
from clutr.world_model.backbones.base import Backbone, Fitting
from clutr.world_model.backbones.compatible import Anchor, CompatibleVAETraining
from clutr.world_model.dataset import EpisodeDataset
from clutr.world_model.dream import Dreamer
from clutr.world_model.latents import LatentEpisode, encode_episodes
from clutr.world_model.memory import Memory, Scale
from clutr.world_model.training import SHOWN, Convergence, MemoryTraining, convergence
from clutr.world_model.views import View, view_of

SAVE_EVERY_SECONDS = 20.0
MEMORIES = ("trained", "untrained core")
"""The memory, and the control whose core stays as it was drawn: only its heads learn."""


BACKBONE_OPTIONS = ("domain", "seed", "backbone", "refit")
MEMORY_OPTIONS = (*BACKBONE_OPTIONS, "memory")
"""Options of world.yaml without which a part is another one; how long and how it is trained may change."""


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


def _made_with(run: WorldModelRun, names: Sequence[str]) -> dict[str, Any]:
    """The options of world.yaml that a part's file tells."""
    plain = to_plain(run.experiment)
    return {name: plain[name] for name in names}


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
    """Fit the backbone on the training frames, unless that was done before.

    If the memory of another world model is kept, its latents agree with those of that one's backbone.

    Args:
        run: whose backbone.
        dataset: the recording.
        progress: told of its steps.
        device: where a network is trained; what is fitted in closed form stays on the processor.
        log: keeps its measurements.

    Raises:
        RunError: if there is no such device, or the memory that is kept is not trained or fits no such backbone.
    """
    experiment, place = run.experiment, world_device(device)
    backbone: Any = experiment.backbone.build((SIDE, SIDE), experiment.seed)
    if isinstance(backbone, nn.Module):
        backbone.to(place)
    fitting = _fitting(run, backbone, dataset, place)
    _train(fitting, backbone_path(run), _made_with(run, BACKBONE_OPTIONS), _logged(log, "backbone", progress), log)
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
        RunError: if there are no episodes to train or to validate on, or there is no such device.
    """
    if run.experiment.refit.of:
        return {name: _taken_over(run, name) for name in MEMORIES}
    place = world_device(device)
    view = view_of(run.experiment.domain, dataset.quantities)
    train, valid = (encoded(dataset, backbone, split, view=view) for split in ("train", "valid"))
    found, options = {}, _made_with(run, (*MEMORY_OPTIONS, "training"))
    for name in MEMORIES:
        memory = _memory(run, dataset, name).to(place)
        try:
            training = MemoryTraining(memory, run.experiment.training, train, valid, run.experiment.seed)
        except ValueError as error:
            raise RunError(str(error)) from None
        _train(training, memory_path(run, name), options, _logged(log, name, progress_of(name)), log)
        found[name] = training.convergence
    return found


def _taken_over(run: WorldModelRun, name: str) -> Convergence:
    """Copy a memory from the world model whose memory is kept, unless that was done before; and how it was trained."""
    path, other = memory_path(run, name), other_of(run)
    if other is not None and not path.exists():
        state = load_state(memory_path(other, name))
        options = _made_with(run, MEMORY_OPTIONS) | {"training": _made_with(other, ("training",))["training"]}
        save_state(path, {**state, "config": options})
    return convergence([row["valid_loss"] for row in load_state(path)["history"]])


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
    kept = {**fitting.state_dict(), **load_state(paths[0])}  # one that ships: weights alone
    load_into(fitting, paths[0], _made_with(run, BACKBONE_OPTIONS), kept)
    metrics: dict[str, Any] = {"backbone": fitting.metrics}
    dreamers = {}
    for name in MEMORIES:
        memory = _memory(run, dataset, name)
        state = load_state(memory_path(run, name))
        load_into(memory, memory_path(run, name), _made_with(run, (*MEMORY_OPTIONS, "training")), state, "best")
        dreamers[name] = Dreamer(memory, Scale.from_state(state["scale"]))
        metrics[name] = {"history": state["history"], "best_epoch": state["best_epoch"]}
    return WorldModel(backbone, dreamers, metrics)
