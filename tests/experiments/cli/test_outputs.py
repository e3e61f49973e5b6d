"""Where results go is asked before any work, and `~` is the home in every option that names a path."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import clutr
from clutr.envs.car.road import circuits
from clutr.experiments import files
from clutr.experiments.cli.arguments import run
from clutr.experiments.cli.main import main
from clutr.experiments.files import write_atomically
from clutr.experiments.reports import student_probes
from clutr.experiments.training import manifolds
from clutr.experiments.world_model.config import WORLD_PRESETS
from clutr.experiments.world_model.run_directory import WorldModelRun

LONG = "x" * 300
NONE = "No such file or directory"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a file and an empty home."""
    (tmp_path / "file").touch()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("pretrain maze --preset debug --manifolds file", "file is a file, not a directory"),
        (f"pretrain maze --preset debug --manifolds {LONG}", "cannot be a directory: File name too long"),
        (
            "pretrain maze --preset debug --manifolds /proc/x",
            f"cannot write to /proc/x: {NONE}. Nothing was pretr",
        ),
        ("film maze-dr@best --output /proc/x.gif", f"cannot write /proc/x.gif: {NONE}. Nothing was filmed."),
        (f"film maze-dr@best --output {LONG}.gif", "xxx.gif: File name too long. Nothing was filmed."),
        ("export maze-dr@best --output /proc/x", f"cannot write /proc/x: {NONE}. Nothing was exported."),
        ("compare maze-dr@best --output /proc/x", f"cannot write /proc/x: {NONE}. Nothing was compared."),
        ("compare maze-dr@best --figures file", "file is a file, not a directory"),
        ("compare maze-dr@best --figures /proc/x", f"cannot write to /proc/x: {NONE}. Nothing was compared."),
        ("levels draw small --output /proc/x", f"cannot write /proc/x: {NONE}. Nothing was drawn."),
        ("levels convert small /proc/x", f"cannot write /proc/x: {NONE}. Nothing was written."),
        ("train maze-dr-debug --seeds 1,2 --run /proc/x", f"cannot write to /proc/x-s1: {NONE}. Nothing was trained."),
        ("film maze-dr@best --output=~nobody-is-called-so/x.gif", "'~nobody-is-called-so/x.gif' is no path: Could not"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(
    command: str, said: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    works = ("reports.film.film", "api.export_onnx", "api.comparing.compare", "reports.levels.sheet")
    for work in (*(f"experiments.{each}" for each in works), "manifold.pretrain.NetworkPretraining.run"):
        monkeypatch.setattr(f"clutr.{work}", lambda *_, **__: pytest.fail("work was done"))
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(each.name for each in here.iterdir()) == ["file", "home"]


@pytest.mark.parametrize(
    ("part", "in_the_way", "said"),
    [
        ("report", "dreams.json/x", "dreams.json is a directory, not a file. Nothing was measured."),
        ("dream", "dreams", "dreams: Not a directory. Nothing was dreamt."),
        ("probe", "probes", "probes: Not a directory. Nothing was probed."),
        ("record --preset maze-debug", "recording", "recording: Not a directory. Nothing was recorded."),
    ],
)
def test_a_world_model_is_asked_for_a_place_before_any_work(
    part: str, in_the_way: str, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = WorldModelRun.create(here / "world", WORLD_PRESETS["maze-debug"])
    write_atomically(run.path / in_the_way, b"")
    command, *options = part.split()
    assert main(["world", command, str(run.path), *options]) == 2
    assert said in capsys.readouterr().err


def test_on_a_read_only_disk_nothing_is_trained_or_probed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    world = WorldModelRun.create(here / "world", WORLD_PRESETS["maze-debug"])
    student = clutr.train("maze-dr-debug", run=here / "run", total_steps=1)
    monkeypatch.setattr(files, "TemporaryFile", read_only)
    monkeypatch.setattr(student_probes, "probe_student", lambda *_: pytest.fail("a student was probed"))
    for command, said in (
        (f"world train {world.path}", f"cannot write to {world.path}: Read-only file system. Nothing was trained."),
        (f"probe {student.path}", f"cannot write to {student.path}/probes: Read-only file system. Nothing was probed."),
    ):
        assert main(command.split()) == 2
        error = capsys.readouterr().err
        assert said in error.replace("\n", " ")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (f"train {LONG}.yaml", f"cannot read {LONG}.yaml: File name too long"),
        (f"sweep {LONG}.yaml", f"cannot read {LONG}.yaml: File name too long"),
        (f"levels list {LONG}.txt", "cannot be read: File name too long"),
        (f"eval --sb3 {LONG}.zip --trust", "File name too long"),
        (f"eval {LONG}", "cannot be a directory: File name too long"),
        (f"film {LONG}", "cannot be a directory: File name too long"),
        (f"world train {LONG}", "cannot be a directory: File name too long"),
    ],
)
def test_a_name_that_is_too_long_is_one_line(command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@dataclass(frozen=True)
class Options:
    """Options of a command."""

    output: Path = Path("film.gif")
    """A path."""
    name: str = "~/name"
    """No path."""


def test_every_path_of_a_command_has_its_home(here: Path) -> None:
    told: dict[str, Any] = {}

    def command(
        runs: tuple[Path, ...], /, options: Options, figures: Path | None = None, tracks: tuple[Path, ...] = ()
    ) -> None:
        told.update(runs=runs, options=options, figures=figures, tracks=tracks)

    arguments = ["~/a", "b", "--output=~/x.gif", "--figures=~/y", "--tracks", "~/z", "w~"]
    run("test", command, arguments, options=Options())
    home = here / "home"
    assert told == {
        "runs": (home / "a", Path("b")),
        "options": Options(home / "x.gif", "~/name"),
        "figures": home / "y",
        "tracks": (home / "z", Path("w~")),
    }


def test_calls_and_variables_know_the_home_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = here / "home"
    clutr.pretrain("maze", "combinatorial", manifolds="~/manifolds")
    assert len(list((home / "manifolds").iterdir())) == 1
    (home / "level.txt").write_text(clutr.MazeDomain().format(clutr.sample_levels(1)))
    played: Any = gymnasium.make("clutr/Maze-v0", level="~/level.txt").unwrapped
    for read in (clutr.read_levels("~/level.txt"), played._adapter.fixed):
        assert read.key() == clutr.sample_levels(1).key()
    with pytest.raises(clutr.LevelError, match=r"^~nobody-is-called-so/x: no such file$"):
        clutr.read_levels("~nobody-is-called-so/x")
    (home / "tracks").mkdir()
    circuit = circuits.CIRCUITS[0]
    file = home / "tracks" / f"{circuit.file}.geojson"
    file.touch()
    monkeypatch.setenv(circuits.VARIABLE, "~/tracks")
    assert circuits.find(circuit) == file
    with pytest.raises(circuits.CircuitError, match=rf"^{home}/tracks lacks"):
        circuits.use_tracks("~/tracks")
    monkeypatch.setenv(manifolds.CACHE_VARIABLE, "~/kept")
    assert manifolds.manifold_cache() == home / "kept"
    assert sorted(each.name for each in here.iterdir()) == ["file", "home"]
