"""Threads: few by default, as many as asked for, and they do not spin while they wait."""

import os
import resource
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


def _processor_time(run: Path, threads: int) -> float:
    """Seconds of user and system time of a short training."""
    code = "import sys; from clutr.experiments.cli.main import main; sys.exit(main())"
    options = ["--run", run, "--total-steps", "16384", "--evaluate-every", "0", "--threads", threads]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", code, "train", "maze-dr", *map(str, options)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_second_thread_does_not_spin(tmp_path: Path) -> None:
    assert _processor_time(tmp_path / "two", 2) < 1.5 * _processor_time(tmp_path / "one", 1)
