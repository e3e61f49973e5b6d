"""What is printed fits the terminal: lines end between words, and paths, options and figures stay whole."""

import io
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from rich.console import Console

from clutr.experiments import display
from clutr.experiments.cli.main import main
from clutr.experiments.evaluation.tables import cvar_table, evaluation_table
from clutr.experiments.training.many_display import COLUMNS, _Rows
from clutr.experiments.training.many_runs import Status
from clutr.experiments.training.runner import UpdateReport
from clutr.experiments.training.train import training_display

Capture = pytest.CaptureFixture[str]
Printed = Callable[..., str]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Printed:
    """What a command prints in a terminal so many columns wide."""

    def run(width: int, *arguments: str) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(display.console, "_width", width)
        with nullcontext() if "--help" not in arguments[1:] else pytest.raises(SystemExit, match="0"):
            assert main([*arguments]) == 0
        return capsys.readouterr().out

    return run


def too_long(text: str, width: int) -> list[str]:
    """Lines that are longer than a terminal although they could have ended earlier."""
    return [line for line in text.splitlines() if len(line.rstrip()) > width and " " in line.strip()]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "presets"], ["models"], ["models", "maze-dr@best"]], ids=" ".join
)
@pytest.mark.parametrize("width", [80, 40])
def test_lists_fit_and_no_word_is_broken(width: int, arguments: list[str], printed: Printed) -> None:
    text = printed(width, *arguments)
    assert not too_long(text, width)
    assert text.split() == printed(500, *arguments).split()
    assert "\x1b" not in text, "no colours where nobody sees them"


@pytest.mark.parametrize("arguments", [["train", "maze-clutr", "--help"], ["film", "--help"]], ids=" ".join)
def test_help_fits_and_shows_every_option_whole(arguments: list[str], printed: Printed) -> None:
    text = printed(80, *arguments)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    options = [set(re.findall(r"--[a-z][\w.-]*", each)) for each in (text, printed(300, *arguments))]
    assert options[0] == options[1]
    assert len(options[0]) > 5


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_errors_end_their_lines_between_words_in_a_terminal_and_are_one_line_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = "runs/a/rather/long/path/that/is/longer/than/forty/columns"
    assert main(["report", path]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) > 80
    for width in (80, 40):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        assert main(["report", path]) == 2
        said = terminal.getvalue()
        assert said.split() == line.split()
        assert path in said
        quoted = re.sub(r"`[^`]*`", lambda command: command[0].replace(" ", "_"), said)
        assert not too_long(quoted, width)


def test_wrapped_text_keeps_paths_and_commands_whole() -> None:
    text = "open runs/maze-clutr/with-a-name.html, or: `clutr eval runs/x --suite small`\n\n  two  spaces"
    assert display.wrapped(text, 30).splitlines() == [
        "open",
        "runs/maze-clutr/with-a-name.html,",
        "or:",
        "`clutr eval runs/x --suite small`",
        "",
        "  two  spaces",
    ]
    assert display.wrapped("short", 80) == "short"


def text_of(shown: Any, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(shown)
    return stream.getvalue()


def result(solved: float) -> dict[str, Any]:
    rows = [{"level": f"SimpleCrossingS9N{i}", "episodes": 4, "solved": solved} for i in range(2)]
    figures = {f"{name}_solved": solved for name in ("mean", "iqm")}
    intervals = {f"{name}_solved_interval": [solved - 0.125, solved + 0.125] for name in ("mean", "iqm")}
    return {"suite": "small", "levels": rows, "summary": {**figures, **intervals, "uncertainty": "Bootstrap."}}


@pytest.mark.parametrize(("width", "tables"), [(120, 1), (80, 2), (40, 5)])
def test_columns_of_an_evaluation_that_do_not_fit_follow_below(width: int, tables: int) -> None:
    names = ["clutr", "dr", "untrained", "maze-dr@best", "maze-clutr@best"]
    text = text_of(evaluation_table({name: result(0.5) for name in names}), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("zero-shot") == tables
    assert [text.count(f" {name} ") for name in names] == [1] * 5
    assert text.count("SimpleCrossingS9N1") == tables
    assert text.count("[37.5%, 62.5%]") == 2 * 5
    assert text.count("Bootstrap.") == 1


def test_the_worst_levels_fit_too() -> None:
    found = {"levels": 10_000, "mean": 0.5, "worst": {"0.01": 0.1, "0.1": 0.2, "0.5": 0.3}}
    text = text_of(cvar_table({"maze-clutr": found}), 40)
    assert max(map(len, text.splitlines())) <= 40
    for whole in ("10,000", "worst 1%", "worst 50%", "30.0%"):
        assert text.count(whole) == 1


class Run:
    def __init__(self, name: str) -> None:
        self.path, self.experiment = (
            type("Path", (), {"name": name}),
            type("Experiment", (), {"total_steps": 4_000_000}),
        )


@pytest.mark.parametrize(("width", "shown"), [(80, 0), (60, 1), (40, 2), (30, 3)])
def test_the_table_of_many_runs_drops_what_there_is_no_room_for(width: int, shown: int) -> None:
    status: Any = Status(Run("maze-clutr-s1"), "training", 1_000_000)  # type: ignore[arg-type]
    status.metrics = {"protagonist/mean_return": 0.25, "evaluation/small/mean_solved": 0.5}
    head, row = text_of(_Rows([status]), width).splitlines()
    assert head.split() == ["run", *COLUMNS[shown]]
    assert row.split()[0] == "maze-clutr-s1"
    assert "25%" in row
    assert max(len(head), len(row)) <= width


@pytest.mark.parametrize("width", [80, 40])
def test_the_progress_of_a_training_fits(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, force_terminal=True, color_system=None)
    monkeypatch.setattr(display, "console", console)
    metrics = {"protagonist/mean_return": 0.25, "regret": 0.125, "evaluation/small/mean_solved": 0.5}
    with training_display("maze-clutr-s1", "protagonist") as show:
        show(UpdateReport(2, 1_000_000, 20_000_000, metrics, 1.0))
        show(UpdateReport(20, 10_000_000, 20_000_000, metrics, 2.0))
    lines = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", stream.getvalue()).replace("\r", "").splitlines()
    assert max(map(len, lines)) <= width
    assert "maze-clutr-s1" in lines[-2]
    assert ("50%" if width == 40 else "10000000/20000000") in lines[-2]
