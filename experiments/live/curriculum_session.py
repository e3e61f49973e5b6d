"""A curriculum under a person's hands: where tasks lie, what decodes from a point, how the student does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.capabilities import PathDrawing, PrivilegedState
from clutr.envs.domain import LevelBatch
from clutr.envs.randomness import named_generator
from clutr.experiments.evaluation.runs import load_student
from clutr.experiments.plots.latent_map import LatentMapData, Plane, principal_plane
from clutr.experiments.reports.report_data import latent_map_data
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.manifolds import prepare_manifold
from clutr.manifold.base import Manifold


@dataclass(frozen=True)
class SelectedTask:
    """A task that a person looks at."""

    levels: LevelBatch
    """One level."""
    key: str
    picture: NDArray[np.uint8]
    """`[H, W, 3]`."""
    about: str
    """In a line: where it comes from, and what it is."""
    place: tuple[float, float]
    """On the map."""


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


class CurriculumSession:
    """See the module.

    Args:
        run: a curriculum run.
        manifolds: where pretrained manifolds are kept.
        seed: of the student's draws.

    Raises:
        RunError: if the run recorded no latents.
    """

    def __init__(self, run: RunDirectory, manifolds: Path, seed: int = 1) -> None:
        self.run, self.seed = run, seed
        self.domain = run.domain()
        self.records = [record for record in run.proposals() if record.latents is not None]
        data = latent_map_data(run, self.records, run.metrics())
        if data is None:
            raise RunError(f"{run.path} has no map of tasks: its curriculum chooses no latents, or recorded none yet")
        self.map_data: LatentMapData = data
        self.plane: Plane = principal_plane(data.latents)
        self.places = self.plane.project(data.latents)
        self.levels = type(self.records[0].levels).concatenate([record.levels for record in self.records])
        self.manifold: Manifold = prepare_manifold(run, manifolds, lambda *_: None)
        self.student, self.trained = load_student(run)
        self.chosen = self.pick(len(self.places) - 1)

    def nearest(self, x: float, y: float) -> int:
        """The recorded point that is nearest to a place of the map."""
        return int(((self.places - (x, y)) ** 2).sum(1).argmin())

    def pick(self, index: int) -> SelectedTask:
        """Look at a recorded task."""
        score, steps = self.map_data.scores[index], self.map_data.steps[index]
        told = f", {self.map_data.score_name} {score:.2f}" if np.isfinite(score) else ""
        place = (float(self.places[index, 0]), float(self.places[index, 1]))
        self._anchor = index
        return self._choose(self.levels[index], f"proposed at {steps:,.0f} steps{told}", place)

    def move(self, x: float, y: float) -> SelectedTask:
        """Look at what decodes from a place of the map.

        The map shows two dimensions; in all others the latent stays that of the recorded task that was picked last.
        """
        anchor = self.map_data.latents[self._anchor]
        shift = (np.array([x, y]) - self.places[self._anchor]) @ self.plane.directions
        low, high = self.manifold.bounds
        latent = torch.from_numpy(np.clip(anchor + shift, low, high)).float()[None]
        levels = self.manifold.decode(latent)
        at = self.plane.project(latent.double().numpy())[0]
        about = f"decoded from a point near task {self._anchor + 1} of {len(self.places)}"
        return self._choose(levels, about, (float(at[0]), float(at[1])))

    def _choose(self, levels: LevelBatch, about: str, place: tuple[float, float]) -> SelectedTask:
        numbers = {name: float(value[0]) for name, value in self.domain.describe(levels).items()}
        told = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in numbers.items())
        picture = self.domain.render(levels)[0].cpu().numpy()
        self.chosen = SelectedTask(levels, levels.key()[0], picture, f"{about}: {told}", place)
        return self.chosen

    def play(self) -> "Play":
        """Let the student play the chosen task."""
        return Play(self)


class Play:
    """An episode of the student, step by step.

    Args:
        session: whose student and task.
    """

    def __init__(self, session: CurriculumSession) -> None:
        self._session, self.levels = session, session.chosen.levels
        self._engine = session.domain.engine(1)
        self._observer = session.domain.observer(self._engine) if isinstance(session.domain, PrivilegedState) else None
        self._observation = self._engine.reset(self.levels)
        if self._observer is not None:
            self._observer.reset()
        self._state = session.student.initial_state(1)
        self._rng = named_generator(session.seed, "inspect", "student")
        self._places: list[Tensor] = [self._engine.agent_position.clone()]
        self._step, self._total, self._over, self._solved = 0, 0.0, False, False

    @torch.no_grad()
    def step(self) -> StudentStep:
        """One action further, until the episode is over."""
        if not self._over:
            student = self._session.student
            action, self._state = student.act(self._observation, self._state, self._rng)
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
        path = None
        domain = self._session.domain
        if self._over and isinstance(domain, PathDrawing):
            drawn = domain.draw_paths(self.levels, torch.stack(self._places, 1))
            path = None if drawn is None else drawn.pictures[0].cpu().numpy()
        shown = self._session.chosen.picture if self._observer is None else self._observer.pictures()[0].numpy()
        return StudentStep(shown, path, self._step, self._total, self._over, self._solved)
