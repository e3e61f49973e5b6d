import io
import math
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from clutr.experiments import display
from clutr.experiments.training.runner import UpdateReport
from clutr.experiments.training.train import training_display

Screen = Callable[..., io.StringIO]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    def make(*, terminal: bool) -> io.StringIO:
        stream = io.StringIO()
        console = Console(file=stream, width=80, highlight=False, force_terminal=terminal, color_system=None)
        monkeypatch.setattr(display, "console", console)
        return stream

    return make


def report(update: int, seconds: float, **metrics: float) -> UpdateReport:
    played = {"protagonist/mean_return": 0.25, "regret": 0.125, **metrics}
    return UpdateReport(update, 100 * update, 2_000, played, seconds)


def test_a_pipe_gets_one_plain_line_a_tenth_of_the_work(screen: Screen) -> None:
    stream = screen(terminal=False)
    with display.work_display("pretraining") as progress:
        for done in range(1, 101):
            progress(done, 100, {"loss": done / 10})
    lines = stream.getvalue().splitlines()
    assert [re.findall(r"\d+%", line)[0] for line in lines] == [f"{share}%" for share in range(10, 101, 10)]
    assert lines[0].startswith("pretraining 10% after 0:00:00")
    assert lines[0].endswith(": loss 1")
    assert "left" not in lines[-1]
    assert "\x1b" not in stream.getvalue()
    assert "━" not in stream.getvalue()


def test_what_would_take_forever_is_told_so() -> None:
    assert display._clock(3_723.9) == "1:02:03"
    assert display._clock(1e30) == display._clock(math.inf) == "more than a lifetime"


def test_slow_work_prints_after_half_a_minute_too(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = screen(terminal=False)
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with display.work_display("playing") as progress:
        for done in range(1, 9):
            now[0] += 10
            progress(done, 100, {})
    assert [line.split(" after")[0] for line in stream.getvalue().splitlines()] == ["playing 3%", "playing 6%"]


def test_a_second_part_of_the_work_is_told_again(screen: Screen) -> None:
    stream = screen(terminal=False)
    with display.work_display("playing") as progress:
        for done in (1, 2, 1, 2):
            progress(done, 2, {})
    assert re.findall(r"\d+%", stream.getvalue()) == ["50%", "100%", "50%", "100%"]


def test_training_tells_speed_return_regret_and_the_last_evaluation(screen: Screen) -> None:
    stream = screen(terminal=False)
    with training_display("run [1]", "protagonist") as show:
        show(report(2, 1.0, **{"evaluation/small/mean_solved": 0.5, "evaluation/small/Maze": 1.0}))
        show(report(4, 1.5))
    first, second = stream.getvalue().splitlines()
    assert first.startswith("run [1] 10% after")
    assert first.endswith(": return 0.25 · regret 0.12 · small solved 50%")
    assert second.endswith(": 400 steps/s · return 0.25 · regret 0.12 · small solved 50%")


def test_training_tells_returns_where_they_count(screen: Screen) -> None:
    stream = screen(terminal=False)
    with training_display("run", "protagonist", "return") as show:
        show(report(2, 1.0, **{"evaluation/f1/mean_solved": 0.5, "evaluation/f1/mean_return": 512.34}))
    assert stream.getvalue().rstrip().endswith("· f1 return 512.3")


def test_a_narrow_terminal_shows_every_number_whole(screen: Screen) -> None:
    stream = screen(terminal=True)
    with training_display("maze-clutr-flexible-s1", "protagonist") as show:
        show(report(2, 1.0, **{"evaluation/small/mean_solved": 0.5}))
        show(report(20, 2.0))
    last = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", stream.getvalue()).replace("\r", "").rstrip().splitlines()[-2:]
    assert last[0].lstrip().startswith("maze-clutr-flexible-s1 ━")
    assert "2000/2000" in last[0]
    assert "left 0:00:00" in last[0]
    assert last[1] == "  1,800 steps/s · return 0.25 · regret 0.12 · small solved 50%"
    assert all(len(line) <= 80 for line in last)
