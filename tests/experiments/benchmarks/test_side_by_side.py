"""Two runs beside one: speeds are counted between updates that were seen, and the middle round is told."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from clutr.experiments.benchmarks import side_by_side
from clutr.experiments.metrics import MetricsFile
from clutr.experiments.storage import RunError


def test_the_speed_lies_between_the_first_and_the_last_update() -> None:
    assert side_by_side.rate([(10.0, 500.0), (11.0, 900.0), (14.0, 1300.0)]) == 200


def test_the_middle_round_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([100.0, 95.0, 100.0, 60.0, 50.0, 49.0])  # ratios 0.95, 0.6, 0.98
    monkeypatch.setattr(side_by_side, "steps_per_second", lambda _: next(speeds))
    said: list[str] = []
    (figure,) = side_by_side.run(said.append)
    assert (figure.value, figure.peer_value, figure.ratio) == (95, 100, 0.95)
    assert said[:2] == ["round 1 of 3: 1 at once", "round 1 of 3: 2 at once"]


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> "subprocess.Popen[bytes]":
    """Stands for a run; it is killed at the measurement's end."""
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def test_updates_count_once_every_run_has_made_two(
    sleeper: "subprocess.Popen[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wait of the watcher is an update of one of two runs; a clock stands still in between."""
    clock, written = [0.0], [0, 0]
    order = iter([0, 0, 0, 1, 0, 1, 1, 0, 1])

    def wait(_: float) -> None:
        clock[0] += 1
        run = next(order)
        written[run] += 1
        (tmp_path / str(run)).mkdir(exist_ok=True)
        MetricsFile(tmp_path / str(run) / "metrics.csv").append({"update": written[run], "steps": 10 * written[run]})

    monkeypatch.setattr(time, "sleep", wait)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(side_by_side, "WINDOW", 3.0)
    try:
        samples = side_by_side.watch([tmp_path / "0", tmp_path / "1"], [sleeper, sleeper])
    finally:
        sleeper.kill()
        sleeper.communicate()
    assert samples == [[(5.0, 40.0), (8.0, 50.0)], [(6.0, 20.0), (7.0, 30.0), (9.0, 40.0)]]


def test_a_run_that_ends_is_said(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    sleeper.communicate()  # at the end of its input it ends with an error
    with pytest.raises(RunError, match=r"a run ended with status \d while it was measured"):
        side_by_side.watch([tmp_path], [sleeper])
