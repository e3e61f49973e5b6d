"""SIGKILL at random moments of every phase, then the same command again: all files are as if nothing had been.

In the suite each phase is killed twice. `CLUTR_KILLS=20 pytest -s` on this file kills each of them twenty times, and
says how often it was compared.
"""

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from killing import Command

from clutr.experiments.cli.main import main
from clutr.experiments.storage import load_state

KILLS = int(os.environ.get("CLUTR_KILLS", "2"))
IN_A_ROW = 2
"""Kills before the command may end and its files are compared."""
SHORT = "--record.episodes 48 --record.num-envs 8 --record.length 10"
"""Of the recording, in parts, and so of the training."""
PHASES = {
    "pretraining": "pretrain maze --preset debug --manifolds manifolds",
    "training": "train maze-clutr-debug --run run",
    "evaluation": "eval run --suite random --episodes 60",
    "report": "report run",
    "recording": f"world record --preset maze-debug --run world {SHORT}",
    "world training": "world train --run world",
}
DEPENDS_ON_THE_CLOCK = ("timing.csv", "events.")
"""Beginnings of names of files that no run reproduces."""


class Phase(NamedTuple):
    """A command that nobody disturbed."""

    command: list[str]
    before: Path
    """The folder that it began with."""
    after: Path
    """The folder that it left."""
    seconds: float


def again(folder: Path, phase: Phase) -> list[str]:
    """The command that continues a killed one."""
    begun = phase.command[0] == "train" and (folder / "run" / "config.yaml").exists()
    return ["resume", "run"] if begun else phase.command


def without_clocks(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: without_clocks(value) for key, value in state.items() if not str(key).endswith("seconds")}
    if isinstance(state, list | tuple):
        return [without_clocks(value) for value in state]
    return (state.dtype, state.tolist()) if isinstance(state, torch.Tensor) else repr(state)


def contents(folder: Path) -> dict[str, Any]:
    """Every file by its path: its bytes, or what a state file holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and not path.name.startswith(DEPENDS_ON_THE_CLOCK):
            is_state = path.suffix == ".safetensors"
            found[name] = without_clocks(load_state(path)) if is_state else path.read_bytes()
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Phase]]:
    """Of each phase what it does in this process, which also imports and compiles what the killed ones need."""
    folder, found = tmp_path_factory.mktemp("phases"), {}
    before = folder / "0"
    before.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUTR_MANIFOLDS", "manifolds")  # of the folder that a command runs in
        for number, (phase, line) in enumerate(PHASES.items(), 1):
            after, command = folder / str(number), line.split()
            shutil.copytree(before, after)
            patch.chdir(after)
            started = time.perf_counter()
            assert main(command) == 0
            found[phase] = Phase(command, before, after, time.perf_counter() - started)
            before = after
        yield found


@pytest.mark.parametrize("name", PHASES)
def test_a_killed_phase_ends_as_if_nothing_had_been(name: str, undisturbed: dict[str, Phase], tmp_path: Path) -> None:
    phase, rng, kills, compared = undisturbed[name], random.Random(name), 0, 0
    expected = contents(phase.after)
    assert contents(phase.before) != expected
    longest, attempt = phase.seconds, 0
    while kills < KILLS:
        folder = tmp_path / str(attempt)
        shutil.copytree(phase.before, folder)
        attempt += 1
        for _ in range(min(IN_A_ROW, KILLS - kills)):
            begun, moment = time.perf_counter(), rng.uniform(0, longest)
            if Command(folder, again(folder, phase)).wait(moment):
                longest = 0.9 * min(longest, time.perf_counter() - begun)  # it is quicker than it was thought to be
                break
            kills += 1
        assert Command(folder, again(folder, phase)).wait()
        assert contents(folder) == expected
        compared += 1
    print(f"{name}: killed {kills} times, {compared} times as undisturbed")
