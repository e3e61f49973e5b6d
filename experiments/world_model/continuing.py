"""World models that continue another one: its backbone is kept, its memories are trained on with a new recording.

Dreams of the old memories may take a share of every batch (`clutr.world_model.replay`), from starts that each training
keeps in its directory: the old recording is not needed.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clutr.envs.randomness import named_generator
from clutr.experiments.plain_config import differences
from clutr.experiments.pretrained import unpacked
from clutr.experiments.storage import RunError, load_state, save_state
from clutr.experiments.world_model.config import WorldModelExperiment, to_plain
from clutr.experiments.world_model.loading import (
    BACKBONE_OPTIONS,
    MEMORIES,
    backbone_path,
    load_backbone,
    load_dreamer,
    made_with,
)
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.dataset import EpisodeDataset
from clutr.world_model.dream import Dreamer
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.replay import STARTS, STEPS, DreamReplay, DreamStarts, Replay

SHARED = ("backbone", "memory")
"""Options that a world model shares with the one that it continues."""
MOST_NUMBERS = 1_000_000
"""Of the states that are kept of a memory: one whose state is a map keeps fewer."""
FEWEST = 32


def starts_path(run: WorldModelRun) -> Path:
    """Where the latent states are kept at which dreams of a trained world model begin."""
    return run.path / "dream-starts.safetensors"


def previous(experiment: WorldModelExperiment, dataset: EpisodeDataset | None = None) -> WorldModelRun | None:
    """The world model that one continues, if any.

    Args:
        experiment: the one that may continue another.
        dataset: its recording, if it is there already.

    Raises:
        RunError: if it is not trained to its end, or backbone, memory or actions are others.
    """
    if not experiment.continues:
        return None
    old = WorldModelRun(experiment.continues)
    known, wanted = ({name: to_plain(each)[name] for name in SHARED} for each in (old.experiment, experiment))
    if changed := ", ".join(differences(known, wanted)):
        raise RunError(f"{old.path} can be continued with the same backbone and memory only; others are {changed}")
    if (shipped := unpacked(old.path)) is not None:
        raise RunError(f"{shipped.name} is a model that ships, without what continuing it takes: name one's own")
    if not starts_path(old).exists():
        raise RunError(f"{old.path} cannot be continued before it is trained: `clutr world train {old.path}` does it")
    if dataset is not None:
        actions = int(load_state(starts_path(old))["actions"])
        if dataset.action_width != actions:
            raise RunError(
                f"{old.path} cannot be continued with {dataset.path}: it was trained on actions of {actions} numbers, "
                + f"these have {dataset.action_width}"
            )
    return old


def keep_backbone(run: WorldModelRun, old: WorldModelRun, dataset: EpisodeDataset) -> Backbone:
    """The backbone of the world model that a run continues, copied into the run's directory."""
    backbone, fitting = load_backbone(old, dataset)
    if not backbone_path(run).exists():
        save_state(backbone_path(run), {**fitting.state_dict(), "config": made_with(run, BACKBONE_OPTIONS)})
    return backbone


def begin(run: WorldModelRun, old: WorldModelRun, dataset: EpisodeDataset, name: str) -> tuple[Dreamer, Replay | None]:
    """A memory, by its name in `MEMORIES`, as the world model left it that a run continues, and what is replayed of it.

    The memory may be trained on: a copy dreams.
    """
    dreamer, _ = load_dreamer(old, dataset, name)
    if not run.experiment.replay:
        return dreamer, None
    starts = DreamStarts.from_state(load_state(starts_path(old))[name])
    return dreamer, DreamReplay(copy.deepcopy(dreamer), starts, run.experiment.replay)


def keep_starts(run: WorldModelRun, dataset: EpisodeDataset, episodes: Sequence[LatentEpisode]) -> None:
    """Keep states at which dreams of a trained run may begin, so that it can be continued without its recording.

    Of a run that continues another one they begin in dreams of that, too, as often as those were replayed.

    Args:
        run: with trained memories.
        dataset: its recording.
        episodes: those that it was trained on.
    """
    kept: dict[str, Any] = {"actions": dataset.action_width}
    old, share = previous(run.experiment), run.experiment.replay
    for name in MEMORIES:
        dreamer, _ = load_dreamer(run, dataset, name)
        rng = named_generator(run.experiment.seed, "memory", "dream starts", name)
        replay = None if old is None else begin(run, old, dataset, name)[1]
        dreams: list[LatentEpisode] = []
        if replay is not None:
            count = round(len(episodes) * share / (1 - share))
            dreams = replay.episodes(count * STEPS, STEPS, rng)[:count]
        size = dreamer.memory.initial_state(1).shape[1]
        most = min(STARTS, max(FEWEST, MOST_NUMBERS // size))
        kept[name] = DreamStarts.recorded(dreamer, [*episodes, *dreams], rng, most).state_dict()
    save_state(starts_path(run), kept)
