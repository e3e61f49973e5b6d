"""A student at play on one level, step by step: any level of any suite, or one that a curriculum proposed."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.agents.student import Student
from clutr.envs.capabilities import PathDrawing, PrivilegedState
from clutr.envs.domain import Domain, Engine, LevelBatch, Task
from clutr.envs.randomness import named_generator
from clutr.experiments.evaluation.evaluate import play_in_batches
from clutr.experiments.evaluation.statistics import Interval, proportion
from clutr.experiments.plots.html import percent
from clutr.experiments.storage import RunError

DRAWN = 8
"""Episodes of a trial whose paths are drawn."""


@dataclass(frozen=True)
class SelectedTask:
    """A task that a person looks at."""

    levels: LevelBatch
    """One level."""
    engine: Callable[[int], Engine]
    """What it is played in."""
    picture: NDArray[np.uint8]
    """`[H, W, 3]`."""
    about: str
    """In a line: where it comes from, and what it is."""
    place: tuple[float, float] | None = None
    """On the map, if it lies there."""

    @property
    def key(self) -> str:
        """Of the level."""
        return self.levels.key()[0]


@dataclass(frozen=True)
class StudentStep:
    """One step of the student's play."""

    picture: NDArray[np.uint8]
    """`[side, side, 3]`: what the student sees, or what is around it."""
    path: NDArray[np.uint8] | None
    """`[H, W, 3]`: where it has been on the level; only when the episode is over."""
    step: int
    total: float
    """Return so far."""
    over: bool
    solved: bool

    @property
    def words(self) -> str:
        """A line about it."""
        end = " It solved the task." if self.solved else " The episode is over." if self.over else ""
        return f"Step {self.step}, return {self.total:.2f}.{end}"


@dataclass(frozen=True)
class Trial:
    """Many episodes of one student on one level."""

    solved: Interval
    """The share that it solved, with its 95 % interval."""
    mean_return: float
    mean_length: float
    paths: NDArray[np.uint8] | None
    """`[H, W, 3]`: where it went in the first `DRAWN` episodes, laid over each other; None where none can be drawn."""
    episodes: int

    @property
    def words(self) -> str:
        """A line about it."""
        low, high = percent(self.solved.low), percent(self.solved.high)
        return (
            f"{self.episodes} episodes: solved {percent(self.solved.value)} [{low}, {high}], mean return "
            + f"{self.mean_return:.2f}, mean length {self.mean_length:,.0f} steps."
        )


def trial_of(student: Student, domain: Domain, task: SelectedTask, episodes: int, seed: int) -> Trial:
    """Let a student play a level so many times, with sampled actions; each time from its start."""
    levels = task.levels[torch.zeros(episodes, dtype=torch.int64)]
    one = Task(task.about, lambda *_: levels, task.engine)
    played = play_in_batches(student, one, levels, named_generator(seed, "inspect", "trial"), record=DRAWN)
    paths = None
    if isinstance(domain, PathDrawing):
        drawn = domain.draw_paths(levels[: len(played.positions)], played.positions)
        paths = None if drawn is None else drawn.pictures.float().mean(0).round().to(torch.uint8).numpy()
    solved = proportion(int(played.solved.sum()), episodes)
    return Trial(solved, float(played.returns.mean()), float(played.lengths.float().mean()), paths, episodes)


def select_task(
    domain: Domain, levels: LevelBatch, engine: Callable[[int], Engine], about: str, place: Any = None
) -> SelectedTask:
    """Look at a level. One that the domain cannot describe or draw, such as a foreign seed, is drawn by its engine.

    Raises:
        RunError: in a line, if neither can.
    """
    with suppress(Exception):  # numbers are for levels of the domain's own kind and size
        numbers = {name: float(value[0]) for name, value in domain.describe(levels).items()}
        about += ": " + ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in numbers.items())
    try:
        picture = domain.render(levels)[0].cpu().numpy() if isinstance(levels, domain.level_type) else None
        if picture is None:
            playing: Any = engine(1)
            playing.reset(levels)
            picture = _drawn(playing)
    except Exception as error:  # an extra that is not installed, a circuit that is not there, whatever an engine does
        raise RunError(f"this level cannot be shown: {' '.join(str(error).split())[:300]}") from error
    return SelectedTask(levels, engine, picture, about, place)


def _drawn(engine: Any) -> NDArray[np.uint8]:
    """The engine's picture of its only environment; grey if it draws none."""
    if not hasattr(engine, "render"):
        return np.full((64, 64, 3), 128, np.uint8)
    picture: NDArray[np.uint8] = np.asarray(engine.render())[0]
    return picture


class Play:
    """An episode of a student.

    Args:
        student: who plays.
        domain: the environment that it was trained in.
        task: what it plays.
        seed: of its draws.
    """

    def __init__(self, student: Student, domain: Domain, task: SelectedTask, seed: int) -> None:
        self._student, self._domain, self.task, self.levels = student, domain, task, task.levels
        self._engine: Any = task.engine(1)
        self._observation = self._engine.reset(self.levels)
        self._observer = None
        if isinstance(domain, PrivilegedState):
            try:
                self._observer = domain.observer(self._engine)
                self._observer.reset()
            except TypeError:  # another kind of engine than the one it was trained in
                self._observer = None
        self._state = student.initial_state(1)
        self._rng = named_generator(seed, "inspect", "student")
        self._places: list[Tensor] = [self._engine.agent_position.clone()]
        self._step, self._total, self._over, self._solved = 0, 0.0, False, False

    @torch.no_grad()
    def step(self) -> StudentStep:
        """One action further, until the episode is over."""
        if not self._over:
            action, self._state = self._student.act(self._observation, self._state, self._rng)
            step = self._engine.step(action)
            self._observation = step.observation
            self._places.append(self._engine.agent_position.clone())
            self._step += 1
            self._total += float(step.reward[0])
            self._over = bool((step.terminated | step.truncated)[0])
            self._solved = self._over and bool(self._engine.solved[0])
        return self.scene()

    def scene(self) -> StudentStep:
        """The present step."""
        shown = _drawn(self._engine) if self._observer is None else self._observer.pictures()[0].numpy()
        path = self._path() if self._over else None
        return StudentStep(shown, path, self._step, self._total, self._over, self._solved)

    def _path(self) -> NDArray[np.uint8] | None:
        if not isinstance(self._domain, PathDrawing):
            return None
        drawn = self._domain.draw_paths(self.levels, torch.stack(self._places, 1))
        return None if drawn is None else drawn.pictures[0].cpu().numpy()
