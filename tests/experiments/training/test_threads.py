"""Threads: few by default, and as many as asked for. That they do not spin is in `test_fresh_process.py`."""

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
