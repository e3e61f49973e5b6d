"""A world model whose VAE is fitted anew while the memory of another one is kept: what has to fit."""

from dataclasses import replace

from clutr.experiments.plain_config import differences
from clutr.experiments.storage import RunError
from clutr.experiments.world_model.config import RefitOptions, WorldModelExperiment, to_plain
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.world_model.backbones.base import BACKBONES
from clutr.world_model.backbones.vae import VAEConfig

KEPT = "domain", "memory"
"""Options that come with a memory."""


def refit_of(other: WorldModelRun) -> WorldModelExperiment:
    """A world model like another one, on its recording, that keeps its memory: the defaults of `clutr world refit`."""
    path, recording = str(other.path.absolute()), str(other.dataset_path.absolute())
    return replace(other.experiment, refit=RefitOptions(of=path), recording=recording, continues="")


def other_of(run: WorldModelRun) -> WorldModelRun | None:
    """The world model whose memory a run keeps; None if it trains its own.

    Raises:
        RunError: if there is no such world model, or its memory and the run's options do not fit.
    """
    if not run.experiment.refit.of:
        return None
    other = WorldModelRun(run.experiment.refit.of)
    if other.path.absolute() == run.path.absolute():
        raise RunError(f"{run.path} cannot keep the memory of itself: a refit needs another directory")
    require_fit(run.experiment, other)
    return other


def require_fit(experiment: WorldModelExperiment, other: WorldModelRun) -> None:
    """Raise `RunError` unless a backbone can be fitted to the latents of another world model and use its memory."""
    backbones = {f"the backbone of {other.path}": other.experiment.backbone, "the new backbone": experiment.backbone}
    for name, config in backbones.items():
        if not isinstance(config, VAEConfig):
            raise RunError(
                f"{name} is a {BACKBONES.name_of(type(config))}: only a vae can be fitted anew to the latents of a vae"
            )
    old, new = (config.latents for config in backbones.values() if isinstance(config, VAEConfig))
    if old != new:
        raise RunError(f"the memory of {other.path} knows {old} latents, and the new backbone has {new}")
    before, after = ({name: to_plain(each)[name] for name in KEPT} for each in (other.experiment, experiment))
    if changed := ", ".join(differences(before, after)):
        raise RunError(f"the memory of {other.path} is kept, so what belongs to it cannot change: {changed}")
