"""`clutr levels`: files are listed, checked, drawn, converted, exported and played."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

import clutr
from clutr.experiments.cli.main import main
from clutr.experiments.reports.levels import OneAfterAnother, levels_of, play_levels
from clutr.experiments.run_directory import ProposalRecord, RunDirectory
from clutr.experiments.training.presets import PRESETS

MAZE = "#####\n#>..#\n#.#.#\n#..G#\n#####\n"


@pytest.fixture
def mazes(tmp_path: Path) -> Path:
    path = tmp_path / "mazes.txt"
    path.write_text(f"{MAZE}\n{MAZE}")
    return path


def test_a_file_is_listed_with_what_its_levels_are_like(mazes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["levels", "list", str(mazes)]) == 0
    header, first, second = capsys.readouterr().out.strip().splitlines()
    assert "wall count" in header
    assert first.split() == second.split()
    names = header.replace("wall count", "walls").replace("path length", "path").split()
    values = dict(zip(names, first.split(), strict=False))
    assert values["level"] == clutr.read_levels(MAZE).key()[0]
    assert (values["walls"], values["path"]) == ("1", "4")


def test_files_are_checked_with_line_and_reason(
    mazes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    road = tmp_path / "road.txt"
    road.write_text("0 0\n700 0\n700 700\n0 700\n")
    assert main(["levels", "validate", str(mazes), str(road)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{mazes}: 2 levels of maze", f"{road}: 1 level of car"]
    bad = tmp_path / "bad.txt"
    bad.write_text(MAZE.replace("G", "?"))
    assert main(["levels", "validate", str(bad), "--domain", "maze"]) == 2
    assert f"clutr: {bad}: line 4" in capsys.readouterr().err
    assert main(["levels", "validate", str(bad), str(mazes)]) == 2
    captured = capsys.readouterr()
    assert "1 of 2 files are wrong" in captured.err
    assert "as maze: " in captured.out
    assert main(["levels", "validate", "nowhere.txt"]) == 2
    assert capsys.readouterr().err == "clutr: nowhere.txt: no such file\n"
    assert main(["levels", "list", str(mazes), "--domain", "moon"]) == 2


@pytest.mark.parametrize("source", ["small/Labyrinth11", "mazes", "road"])
def test_what_is_converted_is_the_same_levels(source: str, tmp_path: Path) -> None:
    given = tmp_path / source
    if source == "mazes":
        given.write_text(MAZE)
    elif source == "road":
        given.write_text("0 0\n700 0\n700 700.5\n0 700\n")
    text, as_json = tmp_path / "out.txt", tmp_path / "out.json"
    origin = source if "/" in source else str(given)
    name, before = levels_of(origin)
    assert main(["levels", "convert", origin, str(as_json)]) == 0
    json.loads(as_json.read_text())
    assert main(["levels", "convert", str(as_json), str(text)]) == 0
    for path in (text, as_json):
        again, levels = levels_of(str(path))
        assert (again, levels.key()) == (name, before.key())


def test_levels_are_drawn_in_rows(mazes: Path, tmp_path: Path) -> None:
    assert main(["levels", "draw", str(mazes), "--output", str(tmp_path / "m.png"), "--columns", "1"]) == 0
    one = clutr.draw_levels(clutr.read_levels(MAZE))[0].numpy()
    drawn = np.asarray(Image.open(tmp_path / "m.png"))
    height, width, _ = one.shape
    assert drawn.shape == (2 * (height + 8) + 8, width + 16, 3)
    np.testing.assert_array_equal(drawn[8 : 8 + height, 8 : 8 + width], one)
    assert main(["levels", "draw", str(mazes), "--columns", "0"]) == 2


def test_a_curriculum_becomes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory.create(tmp_path / "run", PRESETS["maze-dr-debug"])
    assert main(["levels", "export", str(run.path)]) == 2
    assert "has recorded no proposed levels" in capsys.readouterr().err
    levels = run.domain().sample(3, torch.Generator().manual_seed(1))
    run.save_proposal(ProposalRecord(1, 256, levels, None, {}))
    assert main(["levels", "export", str(run.path), "--output", str(tmp_path / "out")]) == 0
    assert levels_of(str(tmp_path / "out" / "steps-000000256.txt"))[1].key() == levels.key()


def test_what_is_no_level_of_a_suite_is_said() -> None:
    with pytest.raises(clutr.LevelError, match="small has no level 'Moon'; there are: "):
        levels_of("small/Moon")


def test_levels_are_played_one_after_another(mazes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = pytest.importorskip("pygame")
    _, levels = levels_of(str(mazes))
    directions: list[int] = []

    def callback(_before: Any, after: Any, *_: Any) -> None:
        directions.append(int(after["direction"]))
        if len(directions) == 3:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    pygame.init()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_d))
    play_levels("maze", levels, callback=callback)
    assert directions == [1, 2, 3], "d turns right, as long as it is pressed"


def test_every_reset_begins_the_next_level(mazes: Path) -> None:
    mazes.write_text(f"{MAZE}\n{MAZE.replace('>', 'v')}")
    _, levels = levels_of(str(mazes))
    environment = OneAfterAnother(gymnasium.make("clutr/Maze-v0"), levels)
    assert [int(environment.reset()[0]["direction"]) for _ in range(3)] == [0, 1, 0]
