"""A curriculum under a person's hands: where tasks lie, what decodes from a point, how students do on any level."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from clutr.agents.student import Student
from clutr.envs.domain import LevelBatch
from clutr.envs.randomness import named_generator
from clutr.experiments.evaluation.runs import load_student
from clutr.experiments.live.run_watch import NOTHING_YET, RunWatch
from clutr.experiments.live.students import Play, SelectedTask, Trial, select_task, trial_of
from clutr.experiments.live.task_map import TaskMap
from clutr.experiments.plots.gallery import spread
from clutr.experiments.pretrained import in_words, unpacked
from clutr.experiments.reports.report_data import kind_of
from clutr.experiments.run_directory import ProposalRecord, RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.manifolds import prepare_manifold

Done = TypeVar("Done")
PROPOSED = "proposed"
"""The source of levels that the curriculum recorded; the others are the suites."""
MOST_PROPOSED = 40
"""Recorded levels that can be chosen by their names, evenly in time; on the map all can."""


class CurriculumSession:
    """See the module. A run of any curriculum, at any time of its training.

    Args:
        run: a curriculum run.
        manifolds: where pretrained manifolds are kept.
        seed: of the student's draws, and of random levels.

    Raises:
        RunError: if the run cannot be read.
    """

    def __init__(self, run: RunDirectory, manifolds: Path, seed: int = 1) -> None:
        self.run, self.seed = run, seed
        self.card = unpacked(run.path)
        """Of a student that ships."""
        self.domain = run.domain()
        self.curriculum = kind_of(run.config, "curriculum")
        self.suites = self.domain.suites()
        self.watch = RunWatch(run.path, "steps", run.experiment.total_steps)
        self.version = 0
        """Grows when levels or the student are new."""
        self._manifolds, self._records = manifolds, dict[Path, ProposalRecord]()
        self._rng = named_generator(seed, "inspect", "levels")
        self._checkpoint: Path | None = None
        self.map: TaskMap | None = None
        self.student: Student | None = None
        self.trained, self.missing = 0, ""
        self._reread()
        self._anchor = 0
        self.chosen = self._first()

    @property
    def progress(self) -> str:
        """How far the run is; of a student that ships, how far it was trained, and how good it is."""
        if self.card is None:
            return self.watch.words
        note = f" {self.card.note}" if self.card.note else ""
        return f"ships with this package, {self.card.steps:,} steps; {in_words(self.card.measured)}.{note}".rstrip(".")

    @property
    def why_no_curves(self) -> str:
        """Why there is no learning curve, or none yet."""
        if self.card is None:
            return NOTHING_YET
        return "A student that ships holds its weights alone, so there are no curves and no levels that were proposed."

    # --- what the run has written

    def look(self) -> bool:
        """Read what the run has written since. Returns whether there was something."""
        if not self.watch.look():
            return False
        self._reread()
        return True

    def _reread(self) -> None:
        fresh = self.run.new_proposals(self._records)
        if fresh:
            self._records |= fresh
            self._place()
        newest = next(reversed(self.run.checkpoints()), None)
        if self.student is None or newest != self._checkpoint:
            self._checkpoint = newest
            try:
                self.student, self.trained = load_student(self.run)
                self.missing = ""
            except RunError as error:
                self.missing = str(error)
        elif not fresh:
            return
        self.version += 1

    def _place(self) -> None:
        """Make the map anew."""
        records = list(self._records.values())
        if any(record.latents is not None for record in records):
            manifold = self.map.manifold if self.map else prepare_manifold(self.run, self._manifolds, lambda *_: None)
            self.map = TaskMap.of(self.run, records, self.watch.columns, manifold)

    def proposed(self) -> list[tuple[ProposalRecord, int]]:
        """Recorded levels that can be chosen, the newest first: each a record and a row of it."""
        rows = [(record, row) for record in self._records.values() for row in range(len(record.levels))]
        return [rows[place] for place in reversed(spread(len(rows), MOST_PROPOSED))]

    # --- levels

    def sources(self) -> dict[str, list[str]]:
        """Where levels come from, and how they are called there."""
        told = [f"{record.steps:,} steps, level {row + 1}" for record, row in self.proposed()]
        named = {name: [task.name for task in suite.tasks] for name, suite in self.suites.items()}
        return ({PROPOSED: told} if told else {}) | named

    def take(self, source: str, number: int) -> SelectedTask:
        """Choose a level of one of the `sources`: see `task`."""
        self.chosen = self.task(source, number)
        return self.chosen

    def task(self, source: str, number: int) -> SelectedTask:
        """A level of one of the `sources`; a random one is drawn anew each time.

        Raises:
            RunError: if there is none, or it cannot be made here.
        """
        if source == PROPOSED:
            record, row = self.proposed()[number]
            about = f"proposed at {record.steps:,} steps"
            return select_task(self.domain, record.levels[row], self.domain.engine, about)
        task = self.suites[source].tasks[number]
        try:
            levels = task.draw(1, self._rng)
        except Exception as error:  # a circuit that is not there, whatever a task of somebody else does
            raise RunError(f"{task.name} of {source}: {' '.join(str(error).split())[:300]}") from error
        return select_task(self.domain, levels, task.engine, f"{task.name} of the suite {source}")

    def _first(self) -> SelectedTask:
        if self.map is not None:
            return self.pick(len(self.map.places) - 1)
        for source in self.sources():
            try:
                return self.take(source, 0)
            except RunError:
                continue
        return self._choose(self.domain.sample(1, self._rng), "a random level")

    # --- the map

    def nearest(self, x: float, y: float) -> int:
        """The recorded point that is nearest to a place of the map."""
        return self._map().nearest(x, y)

    def pick(self, index: int) -> SelectedTask:
        """Look at a recorded task of the map."""
        tasks, self._anchor = self._map(), index
        return self._choose(tasks.levels[index], tasks.about(index), tasks.place(index))

    def move(self, x: float, y: float) -> SelectedTask:
        """Look at what decodes from a place of the map: see `TaskMap.decode`."""
        tasks = self._map()
        levels, place = tasks.decode(x, y, self._anchor)
        return self._choose(levels, f"decoded from a point near task {self._anchor + 1} of {len(tasks.places)}", place)

    def _map(self) -> TaskMap:
        if self.map is None:
            raise RunError(f"{self.run.path} has no map of tasks: its curriculum chooses no latents, or none yet")
        return self.map

    def _choose(self, levels: LevelBatch, about: str, place: tuple[float, float] | None = None) -> SelectedTask:
        self.chosen = select_task(self.domain, levels, self.domain.engine, about, place)
        return self.chosen

    # --- the student

    def play(self, task: SelectedTask | None = None) -> Play:
        """Let the student play a task, by default the chosen one. Raises `RunError` if it cannot."""
        return self._on(lambda student: Play(student, self.domain, task or self.chosen, self.seed))

    def trial(self, episodes: int, task: SelectedTask | None = None) -> Trial:
        """Let it play a task so many times, by default the chosen one. Raises `RunError` if it cannot."""
        return self._on(lambda student: trial_of(student, self.domain, task or self.chosen, episodes, self.seed))

    def _on(self, what: Callable[[Student], Done]) -> Done:
        if self.student is None:
            raise RunError(self.missing)
        try:
            return what(self.student)
        except RunError:
            raise
        except Exception as error:  # an engine that is not there, or one with other observations
            raise RunError(f"the student cannot play this level: {' '.join(str(error).split())[:300]}") from error
