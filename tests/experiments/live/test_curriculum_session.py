"""A curriculum under a person's hands: its map, what decodes from a point, and the student at play on any level."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clutr.envs.domain import SeedLevels
from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.live.curriculum_session import PROPOSED, CurriculumSession
from clutr.experiments.live.run_watch import RunWatch
from clutr.experiments.live.students import select_task
from clutr.experiments.live.task_map import TaskMap
from clutr.experiments.plots.latent_map import Canvas
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError


@pytest.fixture
def session(curriculum_run: Path) -> CurriculumSession:
    return CurriculumSession(RunDirectory(curriculum_run), curriculum_run.parent / "manifolds")


@pytest.fixture
def plain(plain_run: Path) -> CurriculumSession:
    return CurriculumSession(RunDirectory(plain_run), plain_run)


def map_of(session: CurriculumSession) -> TaskMap:
    assert session.map is not None
    return session.map


def test_picking_shows_what_was_proposed(session: CurriculumSession) -> None:
    tasks = map_of(session)
    x, y = tasks.places[3]
    index = session.nearest(x, y)
    assert index == 3
    chosen = session.pick(index)
    assert chosen.key == tasks.levels[3].key()[0]
    assert chosen.place == (x, y)
    assert "proposed at" in chosen.about
    assert "wall count" in chosen.about
    assert torch.equal(torch.from_numpy(chosen.picture), session.domain.render(tasks.levels[3])[0])


def test_moving_decodes_the_point_in_the_plane_through_the_task_picked_last(session: CurriculumSession) -> None:
    tasks = map_of(session)
    session.pick(5)
    still = session.move(*tasks.places[5])
    latent = torch.from_numpy(tasks.data.latents[[5]]).float()
    assert still.key == tasks.manifold.decode(latent).key()[0]
    step = 0.1
    session.move(tasks.places[5][0] + step, tasks.places[5][1])
    low, high = tasks.manifold.bounds
    expected = np.clip(tasks.data.latents[5] + step * tasks.plane.directions[0], low, high)
    shown = tasks.manifold.decode(torch.from_numpy(expected[None]).float())
    assert session.chosen.key == shown.key()[0]
    far = session.move(1e6, 0.0)
    assert far.place is not None
    assert abs(far.place[0]) < 1e3, "no latent leaves the manifold's box"


def test_the_student_plays_the_chosen_task_to_its_end(session: CurriculumSession) -> None:
    session.pick(0)
    play = session.play()
    assert play.levels.key()[0] == session.chosen.key
    first = play.scene()
    assert (first.step, first.over, first.path) == (0, False, None)
    scene = first
    for _ in range(400):
        scene = play.step()
        if scene.over:
            break
    assert scene.over
    assert scene.path is not None
    assert play.step().step == scene.step, "nothing happens behind the end"


def test_many_episodes_say_how_often_a_level_is_solved(plain: CurriculumSession) -> None:
    plain.take("dcd7", 0)
    found = plain.trial(12)
    assert found.episodes == 12
    assert found.solved.low <= found.solved.value <= found.solved.high
    assert found.words.startswith("12 episodes: solved ")
    assert found.paths is not None
    assert found.paths.shape == plain.chosen.picture.shape
    assert (found.mean_return > 0) == (found.solved.value > 0), "mazes reward the goal alone"
    other = plain.task("dcd7", 1)
    assert plain.trial(2, other).episodes == 2
    assert plain.chosen.key != other.key, "the chosen level stays"
    with pytest.raises(RunError, match="the student cannot play this level: no such engine"):
        plain.trial(2, replace(other, engine=no_engine))


def no_engine(_: int) -> Any:
    raise ImportError("no such engine")


def test_a_canvas_is_inverted() -> None:
    points = np.random.default_rng(1).normal(size=(20, 2))
    canvas = Canvas.around(points)
    np.testing.assert_allclose(canvas.back(canvas.place(points)), points)
    assert canvas.place(points)[points[:, 1].argmax(), 1] == canvas.place(points)[:, 1].min(), "up is up"


def test_a_run_without_latents_has_no_map_but_a_student_to_watch(plain: CurriculumSession) -> None:
    assert plain.map is None
    with pytest.raises(RunError, match="has no map of tasks: its curriculum chooses no latents"):
        plain.pick(0)
    assert plain.curriculum == "dr"
    assert plain.play().step().step == 1


def test_students_play_any_level_of_any_suite(plain: CurriculumSession) -> None:
    sources = plain.sources()
    suites = plain.domain.suites()
    assert list(sources) == [PROPOSED, *suites]
    for name, suite in suites.items():
        assert sources[name] == [task.name for task in suite.tasks]
        chosen = plain.take(name, len(suite.tasks) - 1)
        assert chosen.picture.shape[2] == 3
        assert f"{suite.tasks[-1].name} of the suite {name}" in chosen.about
        assert plain.play().step().picture.ndim == 3
    fixed = suites["dcd7"].tasks[0]
    assert plain.take("dcd7", 0).key == fixed.draw(1, torch.Generator()).key()[0]
    newest = plain.take(PROPOSED, 0)
    last = plain.run.proposals()[-1]
    assert newest.key == last.levels[-1].key()[0]
    assert newest.place is None, "it lies on no map"


def test_a_level_that_cannot_be_made_is_told_in_a_line() -> None:
    domain, levels = MazeDomain(), SeedLevels(torch.tensor([3]))

    class Silent:
        def reset(self, levels: Any) -> None:
            assert int(levels.seed) == 3

    seen = select_task(domain, levels, lambda _: Silent(), "a seed")  # type: ignore[arg-type, return-value]
    assert seen.about == "a seed"
    assert (seen.picture == 128).all(), "an engine that draws nothing is shown as grey"

    def missing(_: int) -> Any:
        raise ImportError("no such\nextra")

    with pytest.raises(RunError, match=r"^this level cannot be shown: no such extra$"):
        select_task(domain, levels, missing, "a seed")


def test_a_run_in_training_is_followed(plain_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "training"
    shutil.copytree(plain_run, path)
    kept = {each: each.read_bytes() for folder in ("checkpoints", "levels") for each in (path / folder).iterdir()}
    whole = (path / "metrics.csv").read_text()
    for each in kept:
        each.unlink()
    (path / "metrics.csv").write_text("")
    session = CurriculumSession(RunDirectory(path), path)
    assert (session.student, session.watch.steps) == (None, 0)
    assert PROPOSED not in session.sources()
    with pytest.raises(RunError, match="it has no checkpoint yet"):
        session.play()
    assert not session.look(), "nothing is new"
    for each, content in kept.items():
        each.write_bytes(content)
    (path / "metrics.csv").write_text(whole)
    assert session.look()
    assert session.trained == session.watch.steps > 0
    assert session.sources()[PROPOSED]
    assert session.play().step().step == 1
    assert not session.look()


def test_a_watch_tells_how_far_a_run_is(tmp_path: Path) -> None:
    watch = RunWatch(tmp_path, "steps", 100)
    assert watch.words == "nothing measured yet"
    file = tmp_path / "metrics.csv"
    file.write_text("update,steps\n1,50\n")
    assert watch.look()
    assert watch.training
    assert watch.words == "50 of 100 steps: training now, last written 0 s ago"
    old = time.time() - 7_300
    os.utime(file, (old, old))
    assert not watch.training
    assert watch.words == "50 of 100 steps: not training, last written 2 hours ago"
    file.write_text("update,steps\n1,50\n2,100\n")
    assert watch.look()
    assert watch.words == "100 of 100 steps: finished"
