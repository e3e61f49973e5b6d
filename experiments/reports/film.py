"""A film of the students of several runs on the levels of a suite."""

from collections.abc import Sequence
from pathlib import Path

from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.experiments.evaluation.filming import FilmedEpisode, FilmOptions, film
from clutr.experiments.evaluation.runs import load_student, require_suite
from clutr.experiments.plots.films import compose, require_kind, write_film
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError

LEVELS = 3
"""How many of a suite's levels a film shows unless they are named."""


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
    require_kind(output)
    if side < 32 or (fps is not None and fps <= 0):
        raise RunError(f"side must be at least 32 and fps above 0, got {side} and {fps}")
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
