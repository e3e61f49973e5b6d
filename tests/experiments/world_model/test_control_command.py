"""`clutr world control` at a tiny size: learns, drives in the package, is kept, goes on; and the study of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clutr.experiments.cli.main import main
from clutr.experiments.storage import CorruptFileError, RunError
from clutr.experiments.studies import car_control
from clutr.experiments.world_model import control as control_module
from clutr.experiments.world_model.config import WORLD_PRESETS, RecordOptions
from clutr.experiments.world_model.control import Control, ControlOptions, result, summary
from clutr.experiments.world_model.run_directory import WorldModelRun, record
from clutr.experiments.world_model.training import fit_backbone, train_memories
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.driving import dagger, drive
from clutr.world_model.driving.evolution import EvolutionOptions

SMALL = ["--rounds", "1", "--cars", "2", "--hidden", "3", "--max-frames", "24"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldModelRun:
    debug = replace(
        WORLD_PRESETS["car-debug"],
        backbone=PPCAConfig(latents=4),
        record=RecordOptions(episodes=60, num_envs=60, length=4),
    )
    run = WorldModelRun.create(tmp_path_factory.mktemp("control") / "world", debug)
    train_memories(run, dataset := record(run), fit_backbone(run, dataset))
    return run


def test_one_command_learns_and_drives_in_the_package(
    world: WorldModelRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["world", "control", str(world.path), *SMALL, "--roads", "2"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "memory-hidden-3-seed-1 in CarRacing-v3" in said
    assert "package" in said
    path = world.path / "control" / "memory-hidden-3-seed-1.json"
    kept = path.read_bytes()
    found: dict[str, Any] = json.loads(kept)
    assert found["weights"] == (4 + 24) * 3 + 3 + 3 * 2 + 2
    assert len(found["round_returns"]) == len(found["round_r2"]) == 1
    test = found["tests"]["package"]
    assert test["frames"] == [24, 24]
    assert test["laps"] == [False, False]
    weights = path.with_suffix(".safetensors").read_bytes()
    # nothing is done again, and a road more is driven by itself
    monkeypatch.setattr(control_module, "imitate_expert", None)
    assert main(arguments) == 0
    assert path.read_bytes() == kept
    capsys.readouterr()
    assert main([*arguments[:-1], "3", "--json"]) == 0
    more = json.loads(capsys.readouterr().out)
    assert more["tests"]["package"]["returns"][:2] == test["returns"]
    assert more["summary"]["package"]["roads"] == 3
    assert path.with_suffix(".safetensors").read_bytes() == weights
    # our engine moves as the package does
    assert main([*arguments[:-1], "3", "--engine", "fast", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)["tests"]
    assert both["fast"]["seeds"] == both["package"]["seeds"]
    assert both["fast"]["returns"] == pytest.approx(both["package"]["returns"], abs=8)
    with pytest.raises(RunError, match="was made with other options: use the same, another --seed, or remove it"):
        Control(world, ControlOptions(rounds=2, cars=2, hidden=3, max_frames=24))


def test_an_imitation_may_be_evolved(world: WorldModelRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_module, "EvolutionOptions", smallest)
    told: list[str] = []

    def progress_of(name: str) -> Callable[..., None]:
        told.append(name)
        return lambda *_: None

    options = ControlOptions("latent", rounds=1, cars=2, hidden=0, generations=2, max_frames=8, roads=2, engine="fast")
    control = Control(world, options, folder=tmp_path)
    control.controller(progress_of)
    assert told == ["imitation", "evolution"]
    assert len(control.found["generation_returns"]) == 2
    control.test()
    assert result(control)["summary"]["fast"]["frames"] == 8


def smallest(generations: int) -> EvolutionOptions:
    return EvolutionOptions(generations, population=2, roads=1, judged=1)


def test_a_summary_by_hand() -> None:
    told = summary({"returns": [800.0, 900.0, 1000.0], "frames": [1000, 900, 500], "laps": [False, True, True]})
    assert told["return_mean"] == 900
    assert told["return_std"] == pytest.approx(100)
    assert told["return_least"] == 800
    assert told["laps"] == pytest.approx(2 / 3)
    low, high = told["interval"]
    assert 800 <= low < 900 < high <= 1000


def test_a_comparison_by_hand() -> None:
    memory = np.array([[900.0, 910.0], [920.0, 930.0]])
    told = car_control.compare({"latent": memory - 100, "memory": memory, "untrained-memory": memory + 0.0})
    assert told["memory"]["mean"] == 915
    assert told["memory"]["seeds"] == [905, 925]
    assert told["memory beyond"]["latent"] == {"mean": 100, "interval": [100, 100]}, "paired: no spread is left"
    assert told["memory beyond"]["untrained-memory"] == {"mean": 0, "interval": [0, 0]}


def test_the_study_compares_three_kinds(world: WorldModelRun, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = [str(world.path), str(out), "--seeds", "1", *SMALL[:-1], "8", "--roads", "2", "--hidden", "0"]
    arguments += ["--package-roads", "2"]
    car_control.main(arguments)
    found = json.loads(out.read_text())
    assert list(found["controllers"]) == ["latent, seed 1", "memory, seed 1", "untrained-memory, seed 1"]
    assert set(found["package"]) == {"latent", "memory", "untrained-memory"}
    assert found["comparison"]["memory"]["interval"][0] <= found["comparison"]["memory"]["mean"]
    assert str(world.path) not in out.read_text()
    before = found["controllers"]["latent, seed 1"]
    del found["controllers"]["memory, seed 1"]
    out.write_text(json.dumps(found))
    car_control.main(arguments)
    again = json.loads(out.read_text())
    assert again["controllers"]["latent, seed 1"] == before
    assert len(again["controllers"]) == 3
    with pytest.raises(RunError, match="was made with the options"):
        car_control.main([*arguments, "--cars", "3"])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("[]", "it does not hold an object"),
        ("{", "it is not JSON"),
        ('{"options": 3, "tests": {}}', "'options' is missing or is not what it should be"),
        ('{"options": OPTIONS, "tests": []}', "'tests' is missing or is not what it should be"),
        ('{"options": OPTIONS, "tests": {"fast": 3}}', "'fast' does not tell seeds, returns, frames, laps of the same"),
        (
            '{"options": OPTIONS, "tests": {"fast": {"seeds": [1], "returns": [], "frames": [2], "laps": [false]}}}',
            "'fast' does not tell seeds, returns, frames, laps of the same roads",
        ),
        (
            '{"options": OPTIONS, "tests": {"fast": {"seeds": [1], "returns": ["x"], "frames": [2], "laps": [true]}}}',
            "'fast' tells something else than numbers of its roads",
        ),
    ],
)
def test_damaged_results_are_one_line_with_the_file(
    world: WorldModelRun, tmp_path: Path, found: str, said: str
) -> None:
    options = ControlOptions(rounds=1, cars=2, hidden=3, max_frames=24)
    before = Control(world, options, folder=tmp_path)
    before.path.write_text(found.replace("OPTIONS", json.dumps(before._learning())))
    with pytest.raises(CorruptFileError) as error:
        Control(world, options, folder=tmp_path)
    assert str(error.value).startswith(f"{before.path} is damaged: {said}")


def test_a_place_is_asked_for_before_anything_is_learnt(
    world: WorldModelRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_module, "imitate_expert", lambda *_: pytest.fail("something was learnt"))
    (tmp_path / "control").touch()
    control = Control(world, ControlOptions(), folder=tmp_path / "control")
    with pytest.raises(RunError, match=r"cannot write to .*control: Not a directory. Nothing was learnt."):
        control.controller()


def test_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str], world: WorldModelRun) -> None:
    with pytest.raises(ValueError, match="sees must be auto or latent or memory or untrained-memory, got 'all'"):
        ControlOptions(sees="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="roads must be at least 2, got 1"):
        ControlOptions(roads=1)
    maze = WorldModelRun.create(tmp_path, WORLD_PRESETS["maze-debug"])
    with pytest.raises(RunError, match="is no world model of cars: only those drive CarRacing-v3"):
        Control(maze, ControlOptions())
    assert main(["world", "control", str(world.path), "--sees", "everything"]) == 2
    assert "everything" in capsys.readouterr().err


def test_defaults_are_the_published_size() -> None:
    assert (ControlOptions().roads, ControlOptions().max_frames, ControlOptions().engine) == (100, 1000, "package")
    assert dagger.DaggerOptions().rounds == ControlOptions().rounds
    assert drive.LOST_FRAMES == 100
