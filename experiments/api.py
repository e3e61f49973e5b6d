"""What the command line does, one call each, for scripts and notebooks: `import clutr` offers these functions.

Wherever a run is asked for, its directory will do as well, and so will the name of a model that ships. What a user can
mend is raised as a `RunError`.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clutr.agents.onnx_export import export as export_onnx
from clutr.agents.predictor import Predictor
from clutr.agents.student import Policy, Student
from clutr.envs import level_files
from clutr.envs.capabilities import Text, require
from clutr.envs.domain import DOMAINS, Domain, LevelBatch, Suite
from clutr.envs.progress import Progress
from clutr.experiments.config import Experiment, to_yaml
from clutr.experiments.display import say, work_display
from clutr.experiments.evaluation import compare as comparing
from clutr.experiments.evaluation.compare import Comparison
from clutr.experiments.evaluation.evaluate import evaluate as evaluate_policy
from clutr.experiments.evaluation.own_policy import as_policy
from clutr.experiments.evaluation.runs import evaluate_missing, evaluate_run, require_not_too_many, require_suite
from clutr.experiments.evaluation.runs import load_student as newest_student
from clutr.experiments.evaluation.selection import require_different
from clutr.experiments.evaluation_files import require_seed
from clutr.experiments.files import as_directory, as_output, expanded
from clutr.experiments.pretrained import Card, cards
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, write_atomically
from clutr.experiments.training import manifolds as manifold_files
from clutr.experiments.training.extend import extend
from clutr.experiments.training.lookup import entry, manifold_experiment, named_experiment, override
from clutr.experiments.training.runner import UpdateReport, require_trainable
from clutr.experiments.training.trackers import Tracker, trackers_of
from clutr.experiments.training.train import left_if_begun
from clutr.experiments.training.train import train as train_run
from clutr.experiments.world_model.run_directory import open_world_model
from clutr.experiments.world_model.training import WorldModel
from clutr.experiments.world_model.training import load_world_model as load_trained
from clutr.manifold.base import Manifold

if TYPE_CHECKING:
    from clutr.experiments.plots.paper import Format

RUNS = Path("runs")
"""Where runs are kept unless told otherwise."""

Run = RunDirectory | Path | str


# --- training


def train(
    experiment: Experiment | Path | str,
    *,
    run: Path | str | None = None,
    progress: bool | Callable[[UpdateReport], None] = False,
    trackers: Sequence[Tracker | str] = (),
    **overrides: Any,
) -> RunDirectory:
    """Train a curriculum experiment: `clutr.train("maze-clutr", seed=2, run="runs/mine", progress=True)`.

    Ctrl-C ends the update in hand and writes a checkpoint, from which `resume` continues.

    Args:
        experiment: the name of a preset, an experiment, or the path of a file like a run's `config.yaml`.
        run: the directory of the new run; by default `runs/PRESET-sSEED`, or with the name of the file or its folder.
        progress: True shows progress as the command line does; a function is called after each update.
        trackers: are told about every update, too: `wandb`, `mlflow`, or objects with `begin`, `update` and `end`.
        overrides: fields of the experiment. A part such as `student` is a value, the name of a registered one, or a
            mapping with the options that change: `student={"learning_rate": 1e-3}`.

    Raises:
        RunError: if a name or an option is unknown or does not fit, or the directory holds a run already.
        KeyboardInterrupt: if it was stopped.
    """
    name, chosen = ("run", experiment) if isinstance(experiment, Experiment) else named_experiment(experiment)
    chosen, told = override(chosen, **overrides), _trackers(trackers)
    made = new_run(chosen, run or RUNS / f"{name}-s{chosen.seed}")
    with left_if_begun(made):
        return resume(made, progress=progress, trackers=told)


def _trackers(trackers: Sequence[Tracker | str]) -> list[Tracker]:
    return [each for one in trackers for each in (trackers_of([one]) if isinstance(one, str) else [one])]


def new_run(experiment: Experiment, path: Path | str) -> RunDirectory:
    """A run that has not begun. Raises `RunError` if it cannot be trained or `path` holds a run already."""
    if experiment.evaluate_every:
        require_suite(experiment.domain, experiment.evaluate_suite)
    require_trainable(experiment)
    cache = manifold_files.manifold_cache()
    if experiment.manifold is not None:
        manifold_files.require_room(experiment, cache)
    return RunDirectory.create(path, experiment)


def resume(
    run: Run,
    *,
    total_steps: int | None = None,
    progress: bool | Callable[[UpdateReport], None] = False,
    trackers: Sequence[Tracker | str] = (),
) -> RunDirectory:
    """Continue a run from its newest checkpoint to the end of its budget; see `train` for `progress` and interrupts.

    Args:
        run: the run.
        total_steps: another budget, in environment steps of one student: a run that has finished goes on.
        progress: as in `train`.
        trackers: as in `train`.

    Raises:
        RunError: if the run has played as many steps already, or cannot go on.
        KeyboardInterrupt: if it was stopped.
    """
    run = load_run(run)
    if total_steps is not None:
        run = extend(run, total_steps, say if progress else lambda _: None)
    report = {True: None, False: lambda _: None}[progress] if isinstance(progress, bool) else progress
    line, cache = say if progress else lambda _: None, manifold_files.manifold_cache()
    if not train_run(run, cache, line, report, _trackers(trackers)):
        raise KeyboardInterrupt
    return run


def pretrain(
    domain: str = "maze",
    preset: str = "fast",
    *,
    seed: int = 1,
    manifolds: Path | str | None = None,
    progress: bool | Progress = False,
) -> Manifold:
    """Pretrain a task manifold, or load it if it is kept already; runs that want the same one share it.

    Args:
        domain: the name of a domain.
        preset: one of its manifold presets.
        seed: of the pretraining.
        manifolds: where they are kept; by default in the user's cache, where runs look for them.
        progress: True shows a bar; a function is called as `progress(done, total, metrics)`.

    Raises:
        RunError: if a name is unknown, or, before any work, if the manifold could not be written.
    """
    experiment = override(manifold_experiment(domain, preset), manifold_seed=seed)
    with _shown(progress, f"pretraining {domain} ({preset})") as told:
        shared = manifold_files.manifold_cache() if manifolds is None else as_directory(manifolds)
        path, _ = manifold_files.pretrain(experiment, shared, told, say if progress else lambda _: None)
    return manifold_files.load_manifold(experiment, path)


def _shown(progress: bool | Progress, title: str) -> AbstractContextManager[Progress]:
    if progress is True:
        return work_display(title)
    return nullcontext((lambda *_: None) if progress is False else progress)


# --- evaluation


def evaluate(
    player: Run | Policy | Callable[..., Any] | Any,
    suite: str | Suite | None = None,
    episodes: int = 100,
    *,
    domain: str | Domain = "maze",
    seed: int = 1,
    deterministic: bool = False,
    checkpoint: int | None = None,
    cvar_levels: int = 0,
    progress: bool | Progress = False,
) -> dict[str, Any]:
    """Zero-shot transfer of a run's student, or of a policy of one's own, to a suite of levels.

    The result of a run is also kept in its directory, for `compare` and `report`.

    Args:
        player: a run; a policy with `initial_state` and `act` (`clutr.agents.student.Policy`), such as a student; a
            model of Stable-Baselines3, or anything else with `predict(observation, deterministic=...)`, which gives
            actions first; or a function of the observation. An observation is a batch, `[N, ...]` by name, and so are
            the actions.
        suite: a suite or its name; by default the domain's first.
        episodes: on each level.
        domain: whose suites they are, for all players but runs, which have their own.
        seed: of levels and actions.
        deterministic: take the most probable action instead of sampling.
        checkpoint: for runs: environment steps of the checkpoint that plays; by default the newest.
        cvar_levels: for runs on the suite `random`: also the solve rate on the worst of this many levels.
        progress: True shows a bar; a function is called as `progress(done, total, metrics)`.

    Returns:
        What `clutr eval --json` prints: `run`, `suite`, `levels` (a row each) and `summary`.

    Raises:
        RunError: if the suite is unknown, the run has no checkpoint, or the policy does not fit.
    """
    if isinstance(player, RunDirectory | Path | str):
        run = load_run(player)
        name = suite.name if isinstance(suite, Suite) else require_suite(run.domain(), suite).name
        with _shown(progress, f"{run.path.name}: playing {name}") as told:
            return evaluate_run(run, name, episodes, seed, deterministic, cvar_levels, told, checkpoint)
    require_seed(seed)
    if episodes < 1:
        raise RunError(f"episodes must be at least 1, got {episodes}")
    require_not_too_many(episodes)
    chosen = suite if isinstance(suite, Suite) else require_suite(_domain(domain), suite)
    policy, rng = as_policy(player, chosen.tasks[0].engine(1)), torch.Generator().manual_seed(seed)
    with _shown(progress, f"playing {chosen.name}") as told:
        found = evaluate_policy(policy, chosen, episodes, rng, deterministic=deterministic, progress=told)
    return found.to_json(type(player).__name__)


def compare(
    runs: Iterable[Run],
    suite: str | None = None,
    *,
    deterministic: bool = False,
    any_steps: bool = False,
    evaluate: bool = False,
    progress: bool | Progress = False,
) -> Comparison:
    """Methods side by side on a suite, with confidence intervals. Runs that differ in their seed alone are one method.

    Of each run's evaluations those are used that match: of the newest steps, then the most episodes, that all have.

    Args:
        runs: the first one's method is the baseline.
        suite: by default the first suite of the first run's domain.
        deterministic: compare evaluations of the most probable actions, else of sampled ones.
        any_steps: compare each run's newest evaluation, though their steps differ.
        evaluate: evaluate runs first whose newest checkpoint has not been.
        progress: of these evaluations, as in `evaluate`.

    Raises:
        RunError: if there is nothing to compare, a run is named twice, or evaluations are missing or do not match.
    """
    directories = [load_run(run) for run in runs]
    if evaluate and directories:
        require_different(directories)
        name = require_suite(directories[0].domain(), suite).name
        with _shown(progress, f"playing {name}") as told:
            evaluate_missing(directories, name, deterministic=deterministic, any_steps=any_steps, progress=told)
    methods = comparing.group_by_method(directories, suite, deterministic=deterministic, any_steps=any_steps)
    return comparing.compare(methods, torch.Generator().manual_seed(0))


def write_figures(
    comparison: Comparison,
    folder: Path | str,
    *,
    formats: "Sequence[Format]" = ("pdf", "svg", "png"),
    command: str = "clutr.write_figures",
) -> list[Path]:
    """Write figures and tables of a comparison for papers: aggregates, profiles, improvement, curves, risk.

    Args:
        comparison: what `compare` gives.
        folder: where the files go; its `captions.md` says what they show.
        formats: of the figures.
        command: what made them; it goes into the files' metadata.

    Raises:
        RunError: if a file cannot be written.
    """
    from clutr.experiments.reports.paper_figures import write_paper_figures  # noqa: PLC0415  # takes long to import

    return write_paper_figures(comparison, as_directory(folder), command, formats)


def film(runs: Iterable[Run], output: Path | str, suite: str | None = None, **options: Any) -> Path:
    """A film (GIF, WebP, MP4) of the students of some runs on a suite, side by side.

    Args:
        runs: the runs, whose domain is the same.
        output: the file.
        suite: its name; by default the first of the domain.
        options: `levels`, `paths`, `values`, `saliency`, `side`, `fps` and `seed` of `clutr film`.

    Raises:
        RunError: if a name is unknown, a run has no student, or the film cannot be written.
    """
    from clutr.experiments.reports.film import make_film  # noqa: PLC0415  # takes long to import

    output = expanded(output)
    make_film([load_run(run) for run in runs], output, suite, **options)
    return output


def report(run: Run, beside: Iterable[Run] = ()) -> Path:
    """Write one self-contained HTML file that shows a run, with others `beside` it in the same curves and tables."""
    from clutr.experiments.reports.run_report import build_report  # noqa: PLC0415  # takes long to import

    return build_report(load_run(run), [load_run(other) for other in beside])


# --- loading


def load_run(path: Run) -> RunDirectory:
    """A run by its directory: configuration, metrics, evaluations. Raises `RunError` if it is none."""
    return path if isinstance(path, RunDirectory) else RunDirectory(path)


def load_student(run: Run) -> Student:
    """The evaluated student of a run as of its newest checkpoint. Raises `RunError` if it has none."""
    student, _ = newest_student(load_run(run))
    return student


def load_predictor(run: Run, seed: int = 0) -> Predictor:
    """The evaluated student of a run with the `predict` of Stable-Baselines3, for one environment or a batch.

    Args:
        run: the run, or the name of a student that ships (`maze-dr@best`).
        seed: of actions that are sampled.

    Raises:
        RunError: if it has no student.
    """
    run = load_run(run)
    spaces = run.domain().engine(1).observation_space
    return Predictor(load_student(run), {name: len(space.shape or ()) for name, space in spaces.items()}, seed)


def export(run: Run, output: Path | str) -> Path:
    """Write the evaluated student of a run as an ONNX file, checked against the student on onnxruntime.

    Args:
        run: the run, or the name of a student that ships; of `ppo`, `pixel-ppo` or `recurrent-pixel-ppo`.
        output: the file.

    Raises:
        RunError: if the run has no student, it cannot be exported, an extra is missing, or the file cannot be written.
    """
    name, run, output = run, load_run(run), as_output(output, "Nothing was exported.")
    student, steps = newest_student(run)
    about = {"run": run.path.name, "steps": str(steps), "config": to_yaml(run.experiment)}
    try:
        content = export_onnx(student, run.domain().engine(1).observation_space, about)
    except (ValueError, ImportError) as error:
        called = name if isinstance(name, str | Path) else run.path
        raise RunError(f"{called} cannot be exported: {error}") from error
    write_atomically(output, content)
    return output


def load_manifold(run: Run) -> Manifold:
    """The pretrained task manifold of a run. Raises `RunError` if it has none."""
    run = load_run(run)
    if not run.manifold_path.exists():
        raise RunError(f"{run.path} has no pretrained manifold")
    return manifold_files.load_manifold(run.experiment, run.manifold_path)


def load_world_model(path: Path | str) -> WorldModel:
    """The trained world model of a directory that `clutr world` made, or of one that ships (`car-world@best`).

    Raises:
        RunError: if it is not trained, or no model has this name.
    """
    return load_trained(open_world_model(path, lambda title: _shown(False, title)))


def models() -> dict[str, Card]:
    """The models that ship, by name: what each is, how it was trained and how good it is.

    Their names stand for runs: `clutr.load_student("maze-dr@best")`, `clutr.evaluate("car-dr@best", "f1")`.
    """
    return cards()


# --- levels


def _domain(domain: str | Domain) -> Domain:
    return entry("domain", DOMAINS, domain)() if isinstance(domain, str) else domain


def suites(domain: str | Domain = "maze") -> dict[str, Suite]:
    """The zero-shot suites of a domain by name. Raises `RunError` for an unknown domain."""
    return _domain(domain).suites()


def sample_levels(n: int, domain: str | Domain = "maze", seed: int = 1) -> LevelBatch:
    """N random levels of a domain, as domain randomisation draws them. Raises `RunError` if one does not fit."""
    require_seed(seed)
    return _domain(domain).sample(n, torch.Generator().manual_seed(seed))


def read_levels(source: Path | str, domain: str | Domain = "maze") -> LevelBatch:
    """Levels from a file (a path, or its name) or from text. Raises `LevelError` naming file, line and reason."""
    return level_files.read_levels(source, require(_domain(domain), Text, "reading levels"))


def draw_levels(levels: LevelBatch, domain: str | Domain | None = None) -> Tensor:
    """Pictures of levels, `[B, height, width, 3]` uint8. Raises `RunError` if no domain has such levels.

    Args:
        levels: B levels.
        domain: whose they are; by default the first registered domain with levels of this type.
    """
    known = (DOMAINS[name]() for name in DOMAINS) if domain is None else iter([_domain(domain)])
    found = next((each for each in known if isinstance(levels, each.level_type)), None)
    if found is None:
        raise RunError(f"no domain draws {type(levels).__name__}")
    return found.render(levels)
