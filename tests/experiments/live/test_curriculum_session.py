"""A curriculum under a person's hands: its map, what decodes from a point, and the student at play."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clutr.experiments.cli.main import main
from clutr.experiments.live.curriculum_session import CurriculumSession
from clutr.experiments.plots.latent_map import Canvas
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError


@pytest.fixture
def session(curriculum_run: Path) -> CurriculumSession:
    return CurriculumSession(RunDirectory(curriculum_run), curriculum_run.parent / "manifolds")


def test_picking_shows_what_was_proposed(session: CurriculumSession) -> None:
    x, y = session.places[3]
    index = session.nearest(x, y)
    assert index == 3
    chosen = session.pick(index)
    assert chosen.key == session.levels[3].key()[0]
    assert chosen.place == (x, y)
    assert "proposed at" in chosen.about
    assert "wall count" in chosen.about
    assert torch.equal(torch.from_numpy(chosen.picture), session.domain.render(session.levels[3])[0])


def test_moving_decodes_the_point_in_the_plane_through_the_task_picked_last(session: CurriculumSession) -> None:
    session.pick(5)
    still = session.move(*session.places[5])
    latent = torch.from_numpy(session.map_data.latents[[5]]).float()
    assert still.key == session.manifold.decode(latent).key()[0]
    step = 0.1
    session.move(session.places[5][0] + step, session.places[5][1])
    low, high = session.manifold.bounds
    expected = np.clip(session.map_data.latents[5] + step * session.plane.directions[0], low, high)
    shown = session.manifold.decode(torch.from_numpy(expected[None]).float())
    assert session.chosen.key == shown.key()[0]
    far = session.move(1e6, 0.0)
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


def test_a_canvas_is_inverted() -> None:
    points = np.random.default_rng(1).normal(size=(20, 2))
    canvas = Canvas.around(points)
    np.testing.assert_allclose(canvas.back(canvas.place(points)), points)
    assert canvas.place(points)[points[:, 1].argmax(), 1] == canvas.place(points)[:, 1].min(), "up is up"


def test_a_run_without_latents_has_no_map(tmp_path: Path) -> None:
    assert main(["train", "maze-dr-debug", "--run", str(tmp_path / "dr")]) == 0
    with pytest.raises(RunError, match="has no map of tasks: its curriculum chooses no latents"):
        CurriculumSession(RunDirectory(tmp_path / "dr"), tmp_path)
