"""A training in an interpreter that begins and ends with it: what it imports, and what it does without.

One process for all tests: its imports take seconds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import clutr

SLOW = ("torch._dynamo", "sympy", "matplotlib")
TRAINED = f"""
import json, sys, time
import clutr.experiments.api
from clutr.experiments.cli.main import main

folder = sys.argv[1]
status = main(["train", "maze-dr-debug", "--evaluate-every", "0", "--run", f"{{folder}}/run"])
imported = [name for name in {SLOW} if name in sys.modules]

def seconds(threads):
    options = ["--run", f"{{folder}}/{{threads}}", "--total-steps", "1", "--evaluate-every", "0"]
    before = time.process_time()
    assert main(["train", "maze-dr", *options, "--threads", str(threads)]) == 0
    return time.process_time() - before

with open(f"{{folder}}/told.json", "w") as file:
    json.dump({{"imported": imported, "seconds": [seconds(1), seconds(2)]}}, file)
sys.exit(status)
"""
"""Trains, and tells what that has imported; then how much processor time an update takes with one thread and with two,
which need not import or compile anything."""


class Fresh(NamedTuple):
    """What became of such a process."""

    run: Path
    errors: str
    imported: list[str]
    seconds: tuple[float, float]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """From a shell, whose reader has seen enough after a line."""
    folder = tmp_path_factory.mktemp("fresh")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$0" -c "$1" "$2" | head -1', sys.executable, TRAINED, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env=environment,
    )
    told = json.loads((folder / "told.json").read_text())
    return Fresh(folder / "run", done.stderr, told["imported"], tuple(told["seconds"]))


def test_training_survives_a_reader_who_has_seen_enough(fresh: Fresh) -> None:
    assert fresh.errors == ""
    assert clutr.load_run(fresh.run).metrics()["update"][-1] == 6


def test_training_starts_without_compiler_algebra_and_charts(fresh: Fresh) -> None:
    assert fresh.imported == []


def test_a_second_thread_does_not_spin(fresh: Fresh) -> None:
    one, two = fresh.seconds
    assert two < 1.5 * one
