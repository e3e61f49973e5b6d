"""The experiment: one loop that reads like the paper, and what is needed to stop and resume it anywhere."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.agents.student import EpisodeStatistics, Scheduled, Student, Trajectories, as_evaluated
from clutr.curricula.base import Context, Curriculum, Measuring, Outcome
from clutr.envs.domain import Engine, LevelBatch, Suite
from clutr.envs.randomness import derive_seed, named_generator
from clutr.envs.workers import run_parts
from clutr.experiments.config import Experiment, fixed_config, require_device_name
from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.evaluation.runs import require_suite
from clutr.experiments.run_directory import ProposalRecord, RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.events import Write, event_file
from clutr.experiments.training.update_watch import UpdateWatch
from clutr.manifold.base import Manifold


@dataclass(frozen=True)
class UpdateReport:
    """The state of a training after an update."""

    update: int
    steps: int
    """Environment steps of one student so far."""
    total_steps: int
    metrics: Mapping[str, float]
    seconds: float
    """Training time of this run so far, over all its processes, without evaluations."""


def require_device(name: str) -> torch.device:
    """A device that is there. Raises `RunError`, which says what to do instead, if it is not."""
    try:
        require_device_name(name)
    except ValueError as error:
        raise RunError(str(error)) from None
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RunError(
            f"the experiment asks for device {name}, but torch finds no GPU. Start it with --device cpu, or, to go on "
            + "with a run, write `device: cpu` into its config.yaml"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RunError(f"the experiment asks for device {name}, but there are {torch.cuda.device_count()} GPUs")
    return device


def require_trainable(experiment: Experiment) -> None:
    """Build what can fail, small and untrained: a refusal comes before anything is written or pretrained.

    Raises:
        RunError: if the device or an extra is missing, or parts do not fit each other.
    """
    device, domain, seed = require_device(experiment.device), experiment.domain, experiment.seed
    try:
        options = experiment.manifold
        manifold = None if options is None else options.build(domain, experiment.manifold_seed)
        curriculum = experiment.curriculum.build(Context(domain, derive_seed(seed, "curriculum"), manifold))
        experiment.backend.require_fit(experiment.student, device)
        engine = domain.engine(1, device)
        spaces = engine.observation_space, engine.action_space
        student = experiment.student.build(*spaces, seed, curriculum.students[0], device)
        if isinstance(curriculum, Measuring):
            curriculum.require_student(student)
    except (ValueError, ImportError) as error:  # options that do not fit each other, an extra that is not installed
        raise RunError(f"this cannot be trained: {error}") from error


def evaluated_suite(run: RunDirectory) -> Suite | None:
    """The suite that is evaluated in training; None for none. Raises `RunError` if config.yaml names an unknown one."""
    experiment = run.experiment
    if not experiment.evaluate_every:
        return None
    try:
        return require_suite(experiment.domain, experiment.evaluate_suite)
    except RunError as error:
        raise RunError(f"{run.path / 'config.yaml'}: evaluate_suite: {error}") from None


class Runner:
    """Trains one experiment in its run directory, from the newest checkpoint there if there is one.

    Args:
        run: where the run lives; its config.yaml says what to train.
        manifold: the pretrained task manifold, for curricula that choose latents.
        say: receives a line whenever there is something that the user should know.
    """

    def __init__(
        self, run: RunDirectory, manifold: Manifold | None = None, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.run = run
        self.experiment: Experiment = run.experiment
        domain, seed = self.experiment.domain, self.experiment.seed
        self.suite = evaluated_suite(run)
        device = require_device(self.experiment.device)
        self.engine: Engine = domain.engine(self.experiment.num_envs, device)
        context = Context(domain, derive_seed(seed, "curriculum"), manifold)
        self.curriculum: Curriculum = self.experiment.curriculum.build(context)
        self.students: dict[str, Student] = self.experiment.backend.students(
            self.experiment.student, self.curriculum.students, domain, self.engine, seed, device
        )
        if isinstance(self.curriculum, Measuring):
            for student in self.students.values():
                self.curriculum.require_student(student)
        self.update, self.steps, self.seconds, self.evaluation_seconds = 0, 0, 0.0, 0.0
        self.stop_requested = False
        self._say = say
        self._watch = UpdateWatch(say)
        self._resume()

    def _resume(self) -> None:
        state, problems = self.run.load_checkpoint()
        for problem in problems:
            self._say(f"{problem}; falling back to the checkpoint before")
        if state is None and self.run.checkpoints():
            self._say("no checkpoint can be read; starting from the beginning")
        if state is not None:
            if "curriculum" not in state:
                raise RunError(f"{self.run.path.name} is a model that ships: without its curriculum it cannot train on")
            with self.run.loading(state):
                self.load_state_dict(state)
            if changed := self.run.changes(state):
                config = self.run.path / "config.yaml"
                self._say(f"{config} was changed since update {self.update}, and holds from here on: {changed}")
            self._say(f"resuming {self.run.path} after update {self.update} ({self.steps:,} steps)")

    def state_dict(self) -> dict[str, Any]:
        """The complete state between two updates. Every rollout starts new episodes, so engines hold none of it."""
        return {
            "update": self.update,
            "steps": self.steps,
            "seconds": self.seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "config": fixed_config(self.run.config),
            "curriculum": self.curriculum.state_dict(),
            "students": {name: student.state_dict() for name, student in self.students.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.update, self.steps, self.seconds = state["update"], state["steps"], state["seconds"]
        self.evaluation_seconds = state.get("evaluation_seconds", 0.0)
        self.curriculum.load_state_dict(state["curriculum"])
        for name, student in self.students.items():
            student.load_state_dict(state["students"][name])

    @property
    def protagonist(self) -> Student:
        """The student that is evaluated, with the weights that it is evaluated with."""
        return as_evaluated(self.students[self.curriculum.students[0]])

    def train(self, report: Callable[[UpdateReport], None] = lambda _: None) -> bool:
        """Run until the step budget is spent or `stop_requested` is set. Returns whether the budget is spent."""
        with (
            self.run.lock(),
            event_file(self.run.path, self.steps + 1 if self.update else None, self._say) as write_events,
        ):
            self.run.drop_after(self.update)  # not before the lock: another process may be writing
            while self.steps < self.experiment.total_steps and not self.stop_requested:
                started, steps_before, evaluated_before = time.perf_counter(), self.steps, self.evaluation_seconds
                metrics = self._step()
                elapsed = time.perf_counter() - started - (self.evaluation_seconds - evaluated_before)
                self.seconds += elapsed
                speed = (self.steps - steps_before) / elapsed
                self._watch(metrics)
                self._write(metrics, speed, write_events)
                report(UpdateReport(self.update, self.steps, self.experiment.total_steps, metrics, self.seconds))
            self._checkpoint()
        return self.steps >= self.experiment.total_steps

    def _step(self) -> dict[str, float]:
        """One update: propose, roll out, observe, learn, now and then evaluate."""
        for student in self.students.values():
            if isinstance(student, Scheduled):
                student.schedule(self.steps / self.experiment.total_steps)
        proposal = self.curriculum.propose(self.experiment.num_envs)
        played = {}
        for index, (name, student) in enumerate(self.students.items()):
            played[name] = student.rollout(self.engine, proposal.levels[proposal.assignment[index]])
        statistics = {name: each.statistics(proposal.levels_per_rollout) for name, each in played.items()}
        if isinstance(self.curriculum, Measuring):
            for name, student in self.students.items():
                statistics[name].scores.update(self.curriculum.measure(student, played[name]))
        outcome = Outcome.stack(proposal, list(statistics.values()))
        observed = self.curriculum.observe(outcome)
        # all levels of one environment are learnt on, or none
        train = {name: proposal.train[row] for name, row in zip(played, proposal.first, strict=True)}
        learned = self._learn(played, train)
        self.update += 1
        self.steps += next(iter(played.values())).rewards.numel()

        metrics = {name: float(value.float().mean()) for name, value in observed.items()}
        metrics |= {f"levels/{k}": float(v.mean()) for k, v in self._describe(proposal.levels).items()}
        metrics["trained"] = float(proposal.train[proposal.first].float().mean())
        for name in self.students:
            metrics |= {f"{name}/{k}": v for k, v in _episode_metrics(statistics[name]).items()}
            metrics |= {f"{name}/{k}": v for k, v in learned[name].items()}
        if self.suite is not None and self._due(self.experiment.evaluate_every):
            metrics |= self._evaluate()
        if self._due(self.experiment.record_every):
            self._record(outcome, observed)
        return metrics

    def _learn(self, played: Mapping[str, Trajectories], train: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        """Let each student learn from what it has played; at the same time if nothing is shared between them."""

        def learn(name: str) -> dict[str, float]:
            return self.students[name].learn(played[name], train[name])

        if all(getattr(student, "learns_alone", False) for student in self.students.values()):
            return dict(zip(played, run_parts(learn, list(played)), strict=True))
        return {name: learn(name) for name in played}

    def _due(self, every: int) -> bool:
        return self.update % every == 0 or self.update == 1 or self.steps >= self.experiment.total_steps

    def _describe(self, levels: LevelBatch) -> dict[str, Tensor]:
        return self.experiment.domain.describe(levels)

    def _evaluate(self) -> dict[str, float]:
        assert self.suite is not None
        started = time.perf_counter()
        rng = named_generator(self.experiment.seed, "evaluation", self.update, device=self.experiment.device)
        result = evaluate(self.protagonist, self.suite, self.experiment.evaluate_episodes, rng)
        self.evaluation_seconds += time.perf_counter() - started
        means = {"mean_solved": result.mean_solved, "mean_return": result.mean_return}
        return {f"evaluation/{self.suite.name}/{name}": v for name, v in {**means, **result.by_level()}.items()}

    def _record(self, outcome: Outcome, observed: Mapping[str, Tensor]) -> None:
        proposal = outcome.proposal
        scores = {name: value for name, value in observed.items() if value.ndim == 1}
        for index, name in enumerate(self.students):
            result = outcome.by_level(index)
            assert result.steps is not None
            played = result.steps > 0
            for quantity in ("mean_return", "solved", "episodes"):
                scores[f"{name}/{quantity}"] = torch.where(played, getattr(result, quantity), torch.nan)
        self.run.save_proposal(ProposalRecord(self.update, self.steps, proposal.levels, proposal.latents, scores))

    def _write(self, metrics: Mapping[str, float], speed: float, write_events: Write) -> None:
        self.run.metrics_file.append({"update": self.update, "steps": self.steps, **metrics})
        timing = {"seconds": self.seconds, "evaluation_seconds": self.evaluation_seconds, "steps_per_second": speed}
        self.run.timing_file.append({"update": self.update, **timing})
        write_events({**metrics, "timing/steps_per_second": speed}, self.steps)
        if self.update % self.experiment.checkpoint_every == 0:
            self._checkpoint()

    def _checkpoint(self) -> None:
        self.run.save_checkpoint(self.update, self.state_dict())


def _episode_metrics(statistics: EpisodeStatistics) -> dict[str, float]:
    """Means over environments; counts are summed."""
    return {
        "mean_return": float(statistics.mean_return.mean()),
        "solved": float(statistics.solved.mean()),
        "length": float(statistics.length.mean()),
        "episodes": float(statistics.episodes.sum()),
    }
