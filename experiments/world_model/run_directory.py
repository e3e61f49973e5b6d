"""A world model's directory: configuration, dataset and trained parts; and the recording of the dataset."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from clutr.envs.capabilities import SIDE
from clutr.envs.domain import Domain, Engine, LevelBatch
from clutr.envs.progress import Progress
from clutr.experiments.directories import WORLD_KINDS, require_world_model
from clutr.experiments.evaluation.runs import load_student, student_of
from clutr.experiments.files import read_json, require_writable
from clutr.experiments.plain_config import differences
from clutr.experiments.pretrained import is_name, located, require_no_name
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import (
    CorruptFileError,
    RunError,
    as_directory,
    load_state,
    save_state,
    write_atomically,
)
from clutr.experiments.world_model.config import RecordOptions, WorldModelExperiment, read, to_plain, to_yaml
from clutr.world_model.dataset import SPLITS, DamagedDatasetError, EpisodeDataset, EpisodeInfo, describe, write_part
from clutr.world_model.policies import BehaviourPolicy, NoisyExpert, RandomWalk, StudentPolicy, shares_to_counts
from clutr.world_model.recorder import Recorder, part_path

FAR_TOO_LARGE = 10
"""A recording that may take so many times the free space of its disk is refused: episodes often end early."""


class WorldModelRun:
    """Reads and writes a world model's directory: `world.yaml`, `recording/`, and what training adds.

    Args:
        path: the directory.

    Raises:
        RunError: if it holds no world model.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = located(as_directory(path), *WORLD_KINDS)
        require_world_model(self.path)

    @classmethod
    def create(cls, path: Path | str, experiment: WorldModelExperiment) -> "WorldModelRun":
        """Begin a world model, or go on with the same one. Raises `RunError` if another one is there."""
        require_no_name(path)
        path, text = as_directory(path), to_yaml(experiment)
        known = path / "world.yaml"
        if known.exists() and to_yaml(read(known)) != text:
            raise RunError(f"{path} holds a world model with other options: name another directory with --run")
        if not known.exists():
            write_atomically(known, text.encode())
        return cls(path)

    @cached_property
    def experiment(self) -> WorldModelExperiment:
        """What was asked for."""
        return read(self.path / "world.yaml")

    @property
    def dataset_path(self) -> Path:
        """Where the dataset is."""
        elsewhere = self.experiment.recording
        return as_directory(elsewhere) if elsewhere else self.path / "recording"

    def dataset(self) -> EpisodeDataset:
        """The dataset. Raises `RunError` if there is none, or it is unfinished, damaged or another world model's."""
        try:
            found = EpisodeDataset(self.dataset_path)
        except FileNotFoundError as error:
            raise RunError(str(error)) from None
        except DamagedDatasetError as error:
            raise CorruptFileError(str(error)) from None
        if not self.experiment.recording:
            self.require_own(found.about)
        wanted = self.experiment.record.episodes
        if not self.experiment.recording and len(found.episodes) < wanted:
            raise RunError(
                f"{self.dataset_path} holds {len(found.episodes)} of {wanted} episodes: `clutr world record` goes on"
            )
        return found

    @property
    def made_with(self) -> dict[str, Any]:
        """The options without which a recording is another one."""
        plain = to_plain(self.experiment)
        return {name: json.loads(json.dumps(plain[name])) for name in ("domain", "seed")}  # as the file has them

    def require_own(self, about: Mapping[str, Any]) -> None:
        """Raise `RunError`, naming the fields, if world.yaml was changed since the recording that `about` tells of."""
        changed = ", ".join(differences(about.get("made_with", {}), self.made_with))
        if changed:
            raise RunError(
                f"{self.dataset_path} does not fit {self.path / 'world.yaml'}, which was changed since: {changed}. "
                + "Put the old values back, or begin another world model"
            )


def open_world_model(path: Path | str, display: Callable[[str], AbstractContextManager[Progress]]) -> WorldModelRun:
    """A world model by its directory, or by the name of one that ships: then a few episodes on new roads are recorded.

    Args:
        path: the directory or the name.
        display: shows the progress of what a title says.

    Raises:
        RunError: if there is no such world model, or its file is damaged.
    """
    run = WorldModelRun(path)
    if is_name(path):
        with display("recording a few episodes on new levels") as progress:
            record(run, progress)
    return run


def record(run: WorldModelRun, progress: Progress = lambda *_: None) -> EpisodeDataset:
    """Record what the run asks for, from wherever an earlier recording stopped.

    Nothing is recorded where the run uses a dataset that is there already.

    Raises:
        RunError: if a named run has no student, or proposed levels of another environment; or if the dataset that
            should be there is not.
    """
    if run.experiment.recording:
        return run.dataset()
    options, domain, folder = run.experiment.record, run.experiment.domain, run.dataset_path
    require_writable(folder, "Nothing was recorded.")
    folder.mkdir(exist_ok=True)
    students = [each for path in options.runs for each in _students(path)] if options.students else []
    recorder = Recorder(
        domain,
        min(options.num_envs, options.episodes),
        options.length,
        lambda engine: _policies(options, engine, students),
        run.experiment.seed,
        _level_source(options, domain),
    )
    about = _known(run, recorder)
    done = sum(len(part["episodes"]) for part in about["parts"])
    while done < options.episodes:
        number = len(about["parts"])
        found = recorder.round(number)
        write_part(part_path(folder, number), found.part)
        save_state(part_path(folder, number).with_suffix(".safetensors"), found.levels.tensors())
        episodes = [
            {"rows": rows, "key": key, "policy": policy}
            for rows, key, policy in zip(found.rows, found.levels.key(), found.policies, strict=True)
        ]
        about["parts"].append({"rows": sum(found.rows), "episodes": episodes})
        # only now does the part count: killed before, it is recorded again, to the same frames
        write_atomically(folder / "recording.json", json.dumps(about).encode())
        done += len(episodes)
        progress(
            min(done, options.episodes), options.episodes, {"frames": float(sum(p["rows"] for p in about["parts"]))}
        )
    return run.dataset()


def disk_use(experiment: WorldModelExperiment) -> int:
    """Bytes that the recording of a world model takes at most, if every episode is played to its end."""
    options, engine = experiment.record, experiment.domain.engine(1)
    numbers = len(experiment.domain.observer(engine).quantities) + int((engine.action_space.shape or (1,))[0])
    row = SIDE * SIDE * 4 + 4 * numbers + 13  # picture and mask; floats; reward, end and episode
    return options.episodes * (options.length + 1) * row


def require_space(run: Path, experiment: WorldModelExperiment) -> tuple[int, int]:
    """Bytes that a recording takes at most, and those that are free. Raises `RunError` if it can hardly be kept."""
    size, folder = disk_use(experiment), as_directory(run).absolute()
    begun = (folder / "recording" / "recording.json").exists()
    free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    if size > FAR_TOO_LARGE * free and not begun:
        raise RunError(
            f"the recording takes up to {size / 1e9:.2g} GB, and {free / 1e9:.3g} GB are free: ask for fewer "
            + "--record.episodes or a smaller --record.length"
        )
    return size, free


def _students(path: str) -> list[tuple[str, Any]]:
    """A run's student at each age of which a checkpoint is kept, and what to call it."""
    run = RunDirectory(path)
    load_student(run)  # one clear error if there is none
    found = []
    for checkpoint in run.checkpoints():
        try:
            student, steps = student_of(run, load_state(checkpoint))
        except CorruptFileError:
            continue  # the newest one that can be read is among the others
        found.append((f"{run.path.name} at {steps:,} steps", student))
    return found


def _known(run: WorldModelRun, recorder: Recorder) -> dict[str, Any]:
    """What an earlier recording left, or the beginning of one. Raises `RunError` if it is damaged or another's."""
    path = run.dataset_path / "recording.json"
    if path.exists():
        known = read_json(path, parts=list)
        run.require_own(known)
        return known
    space = recorder.engine.action_space
    numbers = int(space.shape[0]) if space.shape else 1
    discrete = int(getattr(space, "n", 0))
    observer, made_with = recorder.observer, run.made_with
    return describe(SIDE, numbers, observer.quantities, observer.objects, discrete=discrete, made_with=made_with)


def _policies(
    options: RecordOptions, engine: Engine, students: Sequence[tuple[str, Any]]
) -> list[tuple[BehaviourPolicy, int]]:
    """The behaviour policies, each with its number of environments."""
    n, space = engine.num_envs, engine.action_space
    everyone: list[tuple[BehaviourPolicy, float]] = [
        (RandomWalk(space, n), options.walk),
        (NoisyExpert(space, n, sticky_action_probability=options.sticky_action_probability), options.expert),
        *((StudentPolicy(name, student, n), options.students / len(students)) for name, student in students),
    ]
    chosen = [(policy, share) for policy, share in everyone if share > 0]
    counts = shares_to_counts([share for _, share in chosen], n)
    return [(policy, count) for (policy, _), count in zip(chosen, counts, strict=True)]


def _level_source(options: RecordOptions, domain: Domain) -> Callable[[int, torch.Generator], LevelBatch] | None:
    """Draws levels at random and from what curricula proposed."""
    if not options.proposed:
        return None
    proposed = [proposal.levels for path in options.runs for proposal in RunDirectory(path).proposals()]
    if not proposed or not all(isinstance(levels, domain.level_type) for levels in proposed):
        raise RunError(f"the runs {', '.join(options.runs)} hold no proposed levels of this environment")
    pool = domain.level_type.concatenate(proposed)

    def draw(n: int, rng: torch.Generator) -> LevelBatch:
        count = round(options.proposed * n)
        rows: Tensor = torch.randint(len(pool), (count,), generator=rng)
        return domain.level_type.concatenate([pool[rows], domain.sample(n - count, rng)])

    return draw


def dataset_table(dataset: EpisodeDataset) -> Table:
    """What a dataset holds, by split and by behaviour policy."""
    table = Table(title="recording", title_justify="left", title_style="bold")
    for heading in ("", "episodes", "frames", "mean return"):
        table.add_column(heading, justify="left" if not heading else "right")
    returns = dataset.column("rewards", torch.arange(len(dataset)))
    for split in SPLITS:
        _add_row(table, split, dataset.of_split(split), returns)
    table.add_section()
    for policy in sorted({episode.policy for episode in dataset.episodes}):
        _add_row(table, policy, [e for e in dataset.episodes if e.policy == policy], returns)
    return table


def _add_row(table: Table, name: str, episodes: Sequence[EpisodeInfo], rewards: Tensor) -> None:
    totals = [float(rewards[episode.first : episode.first + episode.rows].sum()) for episode in episodes]
    mean = f"{sum(totals) / len(totals):,.2f}" if totals else "-"
    table.add_row(name, str(len(episodes)), f"{sum(e.rows for e in episodes):,}", mean)
