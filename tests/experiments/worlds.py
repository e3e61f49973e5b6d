"""World models that the command line has recorded and trained: each once, for all tests and all of their processes."""

import fcntl
import io
import json
import os
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from clutr.experiments.cli.main import main
from clutr.experiments.world_model.config import WORLD_PRESETS, RecordOptions
from clutr.experiments.world_model.run_directory import WorldModelRun, record

FEW_MAZES = RecordOptions(episodes=36, num_envs=12, length=12)
"""Short episodes, of which there are enough for all splits: for what takes long on each frame."""


class Made(NamedTuple):
    """A trained world model, to be read or copied, not changed."""

    path: Path
    recorded: str
    """What `clutr world record` printed."""
    trained: str
    """What `clutr world train` printed."""

    def copy(self, path: Path, *without: str) -> WorldModelRun:
        """One's own. `without`: patterns of files that are left out."""
        shutil.copytree(self.path, path, ignore=shutil.ignore_patterns(*without), dirs_exist_ok=True)
        return WorldModelRun(path)


def made(preset: str, temporary: pytest.TempPathFactory) -> Made:
    """The world model of a preset, as `clutr world record` and `clutr world train` make it."""
    base = temporary.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "worlds"
    folder.mkdir(exist_ok=True)
    run, said = folder / preset, folder / f"{preset}.json"
    with (folder / f"{preset}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be making it
        if not said.exists():
            commands = ["record", "--preset", preset, "--run", str(run)], ["train", "--run", str(run)]
            said.write_text(json.dumps([_printed("world", *command) for command in commands]))
        return Made(run, *json.loads(said.read_text()))


def few_mazes(temporary: pytest.TempPathFactory) -> WorldModelRun:
    """A recording of `FEW_MAZES`, and nothing trained."""
    options = replace(WORLD_PRESETS["maze-debug"], record=FEW_MAZES)
    run = WorldModelRun.create(temporary.mktemp("few") / "mazes", options)
    record(run)
    return run


def _printed(*command: str) -> str:
    with redirect_stdout(io.StringIO()) as printed:
        assert main(list(command)) == 0
    return printed.getvalue()
