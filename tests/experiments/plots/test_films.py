"""Films: who is shown, for how long, and files that other programs read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import clutr
from clutr.experiments.cli.main import main
from clutr.experiments.evaluation.filming import FilmedEpisode, FilmOptions, film
from clutr.experiments.plots.films import compose, compose_dream, write_film
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.train import train
from clutr.probes.student_saliency import occlusion_saliency


def episode(steps: int, name: str = "dr") -> FilmedEpisode:
    frames = np.zeros((steps + 1, 16, 16, 3), np.uint8)
    frames[np.arange(steps + 1), np.arange(steps + 1) % 16] = (232, 93, 47)
    return FilmedEpisode(name, "Maze", frames, True, 0.5, 10.0)


def test_who_has_ended_waits_for_the_others() -> None:
    frames = list(compose([[episode(3), episode(5)], [episode(1), episode(1)]], 32))
    assert len(frames) == 6 + 10 + 2 + 10, "the longest of each level, and a second of rest"
    assert len({frame.shape for frame in frames}) == 1
    assert not np.array_equal(frames[0], frames[1])
    assert np.array_equal(frames[6], frames[15])


@pytest.mark.parametrize("kind", ["gif", "webp", "mp4"])
def test_films_are_files_that_others_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "out" / f"film.{kind}"
    frames = [np.full((21, 33, 3), 12 * number, np.uint8) for number in range(6)]
    write_film(frames, path, 5.0)
    if kind == "mp4":
        ffmpeg = pytest.importorskip("imageio_ffmpeg")
        assert ffmpeg.count_frames_and_secs(str(path)) == (6, pytest.approx(1.2))
        assert next(ffmpeg.read_frames(str(path)))["size"] == (34, 22)
        return
    with Image.open(path) as image:
        assert (image.n_frames, image.size) == (6, (34, 22))  # type: ignore[attr-defined]
        image.seek(1)
        image.load()
        assert image.info["duration"] == 200


def test_a_webp_of_drawings_is_kept_as_it_is_and_one_of_many_colours_is_compressed(tmp_path: Path) -> None:
    drawn = np.zeros((64, 64, 3), np.uint8)
    many = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name, frame, chunk in (("drawn", drawn, b"VP8L"), ("many", many, b"VP8 ")):
        write_film([frame, 255 - frame], tmp_path / f"{name}.webp", 5.0)
        assert chunk in (tmp_path / f"{name}.webp").read_bytes()


def test_a_dream_is_told_from_what_was_watched_and_its_end_is_held() -> None:
    pictures = np.zeros((2, 5, 16, 16, 3), np.uint8)
    pictures[1] = 100
    frames = list(compose_dream(pictures, ["reality", "dream 1"], 3, 64, 4.0))
    assert len(frames) == 5 + 4
    assert np.array_equal(frames[4], frames[8])
    red = [bool(((frame[..., 0] > 150) & (frame[..., 1] < 90)).any()) for frame in frames[:5]]
    assert red == [False, False, False, True, True]


def test_a_gif_keeps_the_colour_of_something_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = np.repeat(rng.integers(200, 256, (64, 64, 1), np.uint8), 3, 2)
    frame[3, 4] = (232, 93, 47)
    write_film([frame], tmp_path / "film.gif", 5.0)
    with Image.open(tmp_path / "film.gif") as image:
        shown = np.asarray(image.convert("RGB"), np.int64)
    assert np.abs(shown[3, 4] - frame[3, 4]).max() <= 16


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    experiment = replace(PRESETS["maze-dr-debug"], evaluate_every=0, total_steps=256)
    made = RunDirectory.create(tmp_path_factory.mktemp("film") / "dr-s1", experiment)
    train(made, Path(), lambda _: None, lambda _: None)
    return made


def test_a_film_shows_what_evaluation_plays_with_values_and_saliency(run: RunDirectory) -> None:
    student, domain = clutr.load_student(run), run.domain()
    task = domain.suites()["small"].tasks[0]
    level = task.draw(1, torch.Generator().manual_seed(1))
    shown = FilmOptions(paths=True, values=True, saliency=True)
    found = film("dr", student, domain, task, level, torch.Generator().manual_seed(2), shown)
    steps = len(found.frames) - 1
    assert found.expected is not None
    assert found.saliency is not None
    assert len(found.expected) == len(found.saliency) == steps + 1
    assert found.saliency.shape[1:] == (5, 5)
    again = film("dr", student, domain, task, level, torch.Generator().manual_seed(2), FilmOptions())
    assert (len(again.frames), again.value) == (steps + 1, found.value), "what is shown changes nothing"


def test_saliency_is_the_total_variation_that_hiding_a_cell_makes() -> None:
    class Network:
        """Goes right with probability 0.9 if cell (1, 0) is seen, else 0.5."""

        def step(self, observation: dict[str, torch.Tensor], state: torch.Tensor) -> tuple[object, None, None]:
            del state
            right = torch.where(observation["image"][:, 1, 0, 0] > 0, 0.9, 0.5)

            class Actions:
                log_probs = torch.stack([1 - right, right], -1).log()

            return Actions(), None, None

    observation = {"image": torch.ones(1, 2, 2, 3, dtype=torch.uint8)}
    found = occlusion_saliency(Network(), observation, torch.zeros(1, 0))
    assert found.tolist() == [[0, 0], [pytest.approx(0.4), 0]]


def test_the_command_films_runs_or_says_what_is_wrong(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, other = str(run.path), str(tmp_path / "out.gif")
    level = run.domain().suites()["small"].tasks[0].name
    assert main(["film", path, "--suite", "small", "--levels", level, "--output", other, "--side", "64"]) == 0
    assert f"open {other}: " in capsys.readouterr().out
    for arguments, said in (
        (["--output", "film.avi"], "a film ends with .gif, .webp, .mp4, got 'film.avi'"),
        (["--suite", "small", "--levels", "Moon"], "small has no level 'Moon'; there are: "),
        (["--side", "3"], "side must be at least 32"),
    ):
        assert main(["film", path, *arguments]) == 2
        assert said in capsys.readouterr().err
    assert main(["film"]) == 2
