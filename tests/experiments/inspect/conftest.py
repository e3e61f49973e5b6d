"""Two small world models and a curriculum run, which all tests of the live page share."""

from dataclasses import replace
from pathlib import Path

import pytest

from clutr.world.backbones.modes import ModesConfig
from experiments.cli import main
from experiments.world_config import WORLD_PRESETS
from experiments.world_run import WorldRun, record
from experiments.world_train import fit_backbone, train_memories


def _world(path: Path, preset: str) -> WorldRun:
    run = WorldRun.create(path, replace(WORLD_PRESETS[preset], backbone=ModesConfig(latents=6)))
    recording = record(run)
    train_memories(run, recording, fit_backbone(run, recording))
    return run


@pytest.fixture(scope="session")
def maze_world(tmp_path_factory: pytest.TempPathFactory) -> WorldRun:
    return _world(tmp_path_factory.mktemp("inspect") / "mazes", "maze-debug")


@pytest.fixture(scope="session")
def car_world(tmp_path_factory: pytest.TempPathFactory) -> WorldRun:
    return _world(tmp_path_factory.mktemp("inspect") / "cars", "car-debug")


@pytest.fixture(scope="session")
def curriculum_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    arguments = ["--run", str(folder / "tasks")]
    assert main(["train", "maze-clutr-debug", *arguments]) == 0
    return folder / "tasks"
