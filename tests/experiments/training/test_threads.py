"""Threads: few by default, as many as asked for, and they do not spin while they wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clutr.envs.workers import use_workers, worker_count
from clutr.experiments.storage import RunError
from clutr.experiments.training.threads import use_cores, use_threads


def test_one_by_default_and_as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    use_threads()
    monkeypatch.delenv("OMP_NUM_THREADS")
    use_threads()
    use_threads(5)
    assert asked == [1, 5]
    with pytest.raises(RunError, match="threads must be at least 1, got 0"):
        use_threads(0)


def test_students_use_the_cores_and_torch_one_thread_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    before = worker_count()
    use_cores(before + 3)
    assert worker_count() == before + 3
    use_cores()
    assert worker_count() == before
    assert asked == [1, 1]
    with pytest.raises(RunError, match="threads must be at least 1, got 0"):
        use_cores(0)
    use_workers(None)


TRAINED = """
import sys, time
from clutr.experiments.cli.main import main

def seconds(preset, threads):
    options = ["--run", f"{sys.argv[1]}/{preset}-{threads}", "--total-steps", "1", "--evaluate-every", "0"]
    before = time.process_time()
    assert main(["train", preset, *options, "--threads", str(threads)]) == 0
    return time.process_time() - before

seconds("maze-dr-debug", 1)  # what is imported and compiled once
print("seconds:", seconds("maze-dr", 1), seconds("maze-dr", 2))
"""
"""Trains an update with one thread, and with two, and tells the processor time of both."""


def test_a_second_thread_does_not_spin(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    command = [sys.executable, "-c", TRAINED, str(tmp_path)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    one, two = map(float, done.stdout.rpartition("seconds: ")[2].split())
    assert two < 1.5 * one
