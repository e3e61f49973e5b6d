"""Films: students of several runs on the levels of a suite, and a world model that dreams beside reality."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.experiments.evaluation.filming import FilmedEpisode, FilmOptions, film
from clutr.experiments.evaluation.runs import load_student, require_suite
from clutr.experiments.files import as_output
from clutr.experiments.plots.films import compose, compose_dream, require_kind, write_film
from clutr.experiments.reports.dream_report import DreamOptions, branches
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.world_model.run_directory import open_world_model

Display = Callable[[str], AbstractContextManager[Progress]]

LEVELS = 3
"""How many of a suite's levels a film shows unless they are named."""
WATCHED = 15
"""Most frames that a world model watches before it dreams; of a short episode a quarter."""
DREAM = DreamOptions(horizon=60, branches=2)
"""What a film of a world model shows: two dreams on from the beginning of the longest episode of the test split."""


def make_film(
    runs: Sequence[RunDirectory | Path | str],
    output: Path,
    suite: str | None = None,
    levels: Sequence[str] = (),
    *,
    paths: bool = False,
    values: bool = False,
    saliency: bool = False,
    side: int = 240,
    fps: float | None = None,
    seed: int = 1,
    progress: Progress | None = None,
) -> int:
    """Film the newest students of some runs side by side, one level after another. Returns the number of pictures.

    Args:
        runs: the runs, whose domain is the same.
        output: the file, which ends with .gif, .webp or .mp4.
        suite: its name; by default the first of the domain.
        levels: names of its levels; by default the first three.
        paths: show the way so far.
        values: show the return that the student expects.
        saliency: show which parts of the observation matter to the next action.
        side: height of a player's picture in pixels.
        fps: steps a second; by default those of the environment.
        seed: of levels and actions; all runs play the same levels.
        progress: called after each episode.

    Raises:
        RunError: if a name is unknown, a run has no student, or the film cannot be written.
    """
    _require(output, side, fps)
    directories = [run if isinstance(run, RunDirectory) else RunDirectory(run) for run in runs]
    chosen = require_suite(directories[0].domain(), suite)
    names = [task.name for task in chosen.tasks]
    if unknown := [level for level in levels if level not in names]:
        raise RunError(f"{chosen.name} has no level {unknown[0]!r}; there are: {', '.join(names)}")
    players = [(run, load_student(run)[0]) for run in directories]
    for run in directories:
        require_suite(run.domain(), chosen.name)
    shots: list[list[FilmedEpisode]] = []
    wanted, show = list(levels or names[:LEVELS]), FilmOptions(paths, values, saliency)
    for name in wanted:
        shots.append([])
        for run, student in players:
            task = require_suite(run.domain(), chosen.name)[name]
            level = task.draw(1, named_generator(seed, "film", name))
            rng = named_generator(seed, "film", name, "actions")
            shot = film(run.path.name, student, run.domain(), task, level, rng, show)
            shots[-1].append(shot)
            if progress is not None:
                progress(sum(map(len, shots)), len(wanted) * len(players), {"return": shot.value})
    frames = list(compose(shots, side))
    write_film(frames, output, fps or shots[0][0].fps)
    return len(frames)


def make_dream_film(
    world: Path | str,
    output: Path,
    *,
    side: int = 240,
    fps: float | None = None,
    seed: int = 1,
    display: Display | None = None,
) -> int:
    """Film a world model's dreams beside reality, under the recorded actions. Returns the number of pictures.

    Args:
        world: the world model's directory, or the name of one that ships.
        output: the file, which ends with .gif, .webp or .mp4.
        side: height of a picture in pixels.
        fps: steps a second; by default those of the environment.
        seed: of the draws of latents.
        display: shows the progress of what a title says; nothing by default.

    Raises:
        RunError: if it is not trained, its test episodes are too short, or the film cannot be written.
    """
    _require(output, side, fps)
    run = open_world_model(world, display or (lambda _: nullcontext(lambda *_: None)))
    lengths = [episode.rows for episode in run.dataset().played(DREAM.split)]
    longest = max(lengths, default=0)
    start = max(2, min(WATCHED, longest // 4))
    options = replace(DREAM, seed=seed, start=start, episode=lengths.index(longest) if lengths else 0)
    found = branches(run, options)
    speed = fps or float(getattr(run.experiment.domain.engine(1), "render_fps", 10.0))
    titles = ["reality", "what the model keeps", *(f"dream {number + 1}" for number in range(options.branches))]
    frames = list(compose_dream(found.video, titles, options.start, side, speed))
    write_film(frames, output, speed)
    return len(frames)


def _require(output: Path, side: int, fps: float | None) -> None:
    require_kind(output)
    as_output(output, "Nothing was filmed.")
    if side < 32 or (fps is not None and fps <= 0):
        raise RunError(f"side must be at least 32 and fps above 0, got {side} and {fps}")
