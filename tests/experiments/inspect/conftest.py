"""Two small world models and a curriculum run, which all tests of the live page share."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from clutr.world.backbones.modes import ModesConfig
from experiments.cli import main
from experiments.world_config import WORLD_PRESETS
from experiments.world_probe import probe_world
from experiments.world_probe_bench import ProbeOptions
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
def probed_world(maze_world: WorldRun, tmp_path_factory: pytest.TempPathFactory) -> WorldRun:
    """The world model of mazes, with a probe report of a few predictions."""
    path = tmp_path_factory.mktemp("inspect") / "probed"
    shutil.copytree(maze_world.path, path)
    few = ProbeOptions(
        past=5, predictions=4, pictured=2, quantities=1, ahead=3, moments=300, frames=40, sweeps=2, exponents=2,
        steps=30, warm_up=5, starts=2, search=20, beyond=3,
    )  # fmt: skip
    probe_world(WorldRun(path), few)
    return WorldRun(path)


@pytest.fixture(scope="session")
def car_world(tmp_path_factory: pytest.TempPathFactory) -> WorldRun:
    return _world(tmp_path_factory.mktemp("inspect") / "cars", "car-debug")


@pytest.fixture(scope="session")
def curriculum_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    arguments = ["--run", str(folder / "tasks")]
    assert main(["train", "maze-clutr-debug", *arguments]) == 0
    return folder / "tasks"
