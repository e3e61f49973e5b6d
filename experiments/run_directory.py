"""A run's directory: everything known about one experiment, and nothing outside it."""

import fcntl
import json
import logging
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clutr.envs.domain import Domain, LevelBatch
from clutr.experiments.config import REGISTRIES, Experiment, from_plain, read, to_plain, to_yaml
from clutr.experiments.directories import RUN_KINDS, require_no_run, require_run
from clutr.experiments.evaluation_files import (
    EvaluationJson,
    KeptEvaluation,
    file_name,
    keep_more,
    read_evaluations,
)
from clutr.experiments.files import require_writable, warn_once
from clutr.experiments.metrics import MetricsFile
from clutr.experiments.plain_config import differences
from clutr.experiments.pretrained import located
from clutr.experiments.storage import CorruptFileError, RunError, as_directory, load_state, save_state, write_atomically

DEFINING = ("seed", "manifold_seed", "domain", "manifold")
"""Fields without which a run is another one: with others it would pass for what it is not."""
KEPT_CHECKPOINTS = 3
"""Older ones are removed: the newest, one to fall back to, and one more."""


@dataclass(frozen=True)
class ProposalRecord:
    """What the curriculum proposed at one update, and how it went."""

    update: int
    steps: int
    levels: LevelBatch
    latents: Tensor | None
    scores: dict[str, Tensor]
    """`[B]` by name: the curriculum's own ("regret") and the students' ("protagonist/mean_return", ...)."""


def count_students(columns: Iterable[str]) -> int:
    """How many students the columns of a metrics.csv are about."""
    return sum(name.count("/") == 1 and name.endswith("/mean_return") for name in columns)


class RunDirectory:
    """Reads and writes a run's directory; the name of a model that ships, such as `maze-dr@best`, is one, too.

    `config.yaml` (complete), `metrics.csv` (bit-exact across resumes), `timing.csv`, `events.*` (TensorBoard),
    `levels/` (what the curriculum proposed, sampled), `checkpoints/`, `manifold.safetensors`, `evaluations/`,
    `report.html`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = located(as_directory(path), *RUN_KINDS)
        require_run(self.path)

    @classmethod
    def create(cls, path: Path | str, experiment: Experiment) -> "RunDirectory":
        """Start a new run at `path`.

        Raises:
            RunError: if there is one already, an option does not fit its field, or it cannot be written.
        """
        path = require_no_run(path)
        write_atomically(path / "config.yaml", to_yaml(from_plain(to_plain(experiment))).encode())
        return cls(path)

    def lock(self) -> Any:
        """Claim the run for this process until the returned file is closed. Raises `RunError` if it is taken."""
        try:
            file = (self.path / ".lock").open("w")
        except OSError as error:
            raise RunError(f"cannot write to {self.path}: {error.strerror or error}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise RunError(f"another process is training {self.path}") from None
        return file

    # --- what the run is

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment, from config.yaml."""
        return read(self.path / "config.yaml")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The experiment as nested plain data."""
        return to_plain(self.experiment)

    def domain(self) -> Domain:
        """The domain of the run."""
        return self.experiment.domain

    # --- metrics

    @cached_property
    def metrics_file(self) -> MetricsFile:
        """metrics.csv, for writing."""
        return MetricsFile(self.path / "metrics.csv")

    @cached_property
    def timing_file(self) -> MetricsFile:
        """timing.csv, for writing: what depends on the clock is kept apart from what a resume reproduces."""
        return MetricsFile(self.path / "timing.csv")

    def metrics(self) -> dict[str, np.ndarray]:
        """The columns of metrics.csv; NaN where a row lacks a value."""
        return MetricsFile(self.path / "metrics.csv").columns()

    def students(self) -> int:
        """How many students have trained: each of them has played the steps that metrics.csv counts."""
        return max(1, count_students(self.metrics()))

    def timing(self) -> dict[str, np.ndarray]:
        """The columns of timing.csv: update, seconds and evaluation_seconds so far, steps_per_second in training."""
        return MetricsFile(self.path / "timing.csv").columns()

    # --- checkpoints

    def save_checkpoint(self, update: int, state: Mapping[str, Any]) -> Path:
        """Write the checkpoint of `update`, then remove all but the newest few."""
        path = self.path / "checkpoints" / f"update-{update:06d}.safetensors"
        save_state(path, state, "resume")
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            old.unlink(missing_ok=True)
        return path

    def checkpoints(self) -> list[Path]:
        """Checkpoint files, oldest first."""
        return sorted((self.path / "checkpoints").glob("update-*.safetensors"), key=_update_of)

    def load_checkpoint(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest checkpoint that can be read (None if there is none), and what was wrong with newer ones."""
        problems: list[str] = []
        for path in reversed(self.checkpoints()):
            try:
                return load_state(path), problems
            except CorruptFileError as error:
                problems.append(str(error))
        return None, problems

    @contextmanager
    def loading(self, state: Mapping[str, Any]) -> Iterator[None]:
        """The body loads the checkpoint `state`.

        Raises:
            RunError: if config.yaml names other kinds of parts than it was made with, another seed or another domain,
                or the body fails: naming the checkpoint, and the fields that differ.
        """
        made_with, config = state.get("config", {}), self.config
        parts = [name for name in REGISTRIES if isinstance(config[name], Mapping) and name in made_with]
        changed = [n for n in parts if not made_with[n] or made_with[n]["kind"] != config[n]["kind"]]
        changed += [n for n in DEFINING if n in made_with and any(differences({n: made_with[n]}, {n: config[n]}))]
        reason: Exception | None = None
        if not changed:
            try:
                yield
            except RunError:
                raise
            except Exception as error:  # whatever a student does with the state of another one
                reason = error
            else:
                return
        checkpoint = self.path / "checkpoints" / f"update-{state.get('update', 0):06d}.safetensors"
        fields = ", ".join(differences(made_with, config))
        why = fields or " ".join(str(reason).split())[:200]
        raise RunError(
            f"{checkpoint} does not fit {self.path / 'config.yaml'}, which was changed since: {why}. "
            + "Put the old values back, or begin a new run"
        ) from reason

    def changes(self, state: Mapping[str, Any]) -> str:
        """Which options of config.yaml were changed since the checkpoint `state`; the budget, which is shown, aside."""
        made_with = {name: value for name, value in state.get("config", {}).items() if name != "total_steps"}
        return ", ".join(differences(made_with, self.config))

    def checkpoint_at(self, steps: int) -> dict[str, Any]:
        """The checkpoint at so many environment steps. Raises `RunError` naming those that there are."""
        there = []
        for path in self.checkpoints():
            state = _readable(path)
            if state is not None and state["steps"] == steps:
                return state
            there += [] if state is None else [f"{state['steps']:,}"]
        known = f"it has those at {', '.join(there)} steps" if there else "it has none"
        raise RunError(f"{self.path} has no checkpoint at {steps:,} steps (any more): {known}")

    def drop_after(self, update: int) -> None:
        """Forget what an interrupted run wrote after its checkpoint of `update`; it will be written again."""
        self.metrics_file.truncate(update)
        self.timing_file.truncate(update)
        if update and not self.metrics_file.rows():
            logging.getLogger("clutr").warning("%s has no rows up to update %d", self.metrics_file.path, update)
        for directory in ("levels", "checkpoints"):
            for path in (self.path / directory).glob("update-*.safetensors"):
                if _update_of(path) > update:
                    path.unlink()

    # --- levels

    def save_proposal(self, record: ProposalRecord) -> None:
        """Write what the curriculum proposed under `levels/`."""
        save_state(
            self.path / "levels" / f"update-{record.update:06d}.safetensors",
            {
                "update": record.update,
                "steps": record.steps,
                "levels": record.levels.tensors(),
                "latents": record.latents,
                "scores": record.scores,
            },
            "resume",
        )

    def proposals(self) -> list[ProposalRecord]:
        """The recorded proposals, oldest first."""
        return list(self.new_proposals(()).values())

    def new_proposals(self, known: Container[Path]) -> dict[Path, ProposalRecord]:
        """The recorded proposals, oldest first, by their files, without those whose files are `known`."""
        level_type = self.domain().level_type
        records = {}
        for path in sorted((self.path / "levels").glob("update-*.safetensors"), key=_update_of):
            state = None if path in known else _readable(path)
            if state is None:
                continue
            records[path] = ProposalRecord(**{**state, "levels": level_type.from_tensors(state["levels"])})
        return records

    # --- the manifold

    @property
    def manifold_path(self) -> Path:
        """Where the run's pretrained manifold is."""
        return self.path / "manifold.safetensors"

    def manifold_health(self) -> dict[str, Any] | None:
        """The health measured after pretraining, if the run has a manifold."""
        if not self.manifold_path.exists():
            return None
        health: dict[str, Any] = load_state(self.manifold_path)["measured"]
        return health

    # --- evaluations

    def save_evaluation(
        self,
        result: EvaluationJson,
        recordings: Sequence[Mapping[str, Any]] = (),
        videos: Sequence[Mapping[str, Any]] = (),
        name: str | None = None,
    ) -> Path:
        """Write an evaluation's JSON and, where it has any, the paths that the student took and what it saw.

        One of other steps, seed, mode or number of episodes is another file, `NAME/steps-...-100.json`.

        Args:
            result: what `SuiteEvaluation.to_json` gives, with `steps` in its summary.
            recordings: what `SuiteEvaluation.recordings` gives.
            videos: what `SuiteEvaluation.videos` gives.
            name: what it is called; by default its suite, which is for the run's own student.
        """
        path = self.path / "evaluations" / (name or str(result["suite"])) / f"{file_name(result)}.json"
        write_atomically(path, json.dumps(keep_more(result, path), indent=1).encode())
        if recordings or videos:
            packed = [
                {**entry, "kind": type(entry["levels"]).__name__, "levels": entry["levels"].tensors()}
                for entry in recordings
            ]
            state = {"recordings": packed, "videos": [dict(video) for video in videos]}
            try:
                save_state(path.with_suffix(".safetensors"), state)
            except RunError as error:  # the disk is full: the numbers are kept, and no older pictures beside them
                path.with_suffix(".safetensors").unlink(missing_ok=True)
                logging.getLogger("clutr").warning("%s The evaluation is kept without paths and videos.", error)
        return path

    def evaluations(self) -> list[KeptEvaluation]:
        """The evaluations by name, weakest first: fewest steps, then episodes. What is broken is logged."""
        return read_evaluations(self.path / "evaluations")

    def require_writable(self, suite: str) -> None:
        """Raise `RunError` unless an evaluation on `suite` can be written: it is asked before anything is played."""
        require_writable(self.path / "evaluations" / suite, "Nothing was played.")

    def recordings(self, chosen: Sequence[KeptEvaluation]) -> list[dict[str, Any]]:
        """Recorded episodes of some evaluations, as `SuiteEvaluation.recordings` gives them, and their `suite`."""
        self.domain()  # imports the domain, whose kinds of levels are then known by name
        return [
            {**entry, "suite": suite, "levels": LevelBatch.kind(entry["kind"]).from_tensors(entry["levels"])}
            for suite, state in _recorded(chosen)
            for entry in state["recordings"]
        ]

    def videos(self, chosen: Sequence[KeptEvaluation]) -> list[dict[str, Any]]:
        """Videos of some evaluations' episodes, as `SuiteEvaluation.videos` gives them, and their `suite`."""
        return [{**video, "suite": suite} for suite, state in _recorded(chosen) for video in state.get("videos", [])]


def _recorded(chosen: Sequence[KeptEvaluation]) -> list[tuple[str, dict[str, Any]]]:
    paths = [(kept.suite, kept.path.with_suffix(".safetensors")) for kept in chosen]
    states = [(suite, _readable(path)) for suite, path in paths if path.exists()]
    return [(suite, state) for suite, state in states if state is not None]


def _readable(path: Path) -> dict[str, Any] | None:
    """What a file holds; None, and a line in the log, if it is damaged."""
    try:
        return load_state(path)
    except CorruptFileError as error:
        warn_once(f"{error}; it is left out")
        return None


def _update_of(path: Path) -> int:
    match = re.search(r"update-(\d+)", path.name)
    return int(match.group(1)) if match else -1
