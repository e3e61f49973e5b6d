"""Completion in a shell, lists as wide as the terminal, and colours where they belong."""

import multiprocessing
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import clutr
from clutr.experiments.cli.arguments import UsageError, asking
from clutr.experiments.cli.completion import completion
from clutr.experiments.cli.main import COMMANDS, main

Complete = Callable[..., list[str]]


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Complete:
    """What bash offers for the last of some words."""
    script = tmp_path_factory.mktemp("completion") / "clutr.bash"
    with pytest.MonkeyPatch.context() as patch, script.open("w") as file:
        patch.setattr("sys.stdout", file)
        completion(["bash"])
    code = (
        f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_clutr; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )

    def offered(*words: str) -> list[str]:
        done = subprocess.run(["bash", "-c", code, "_", "clutr", *words], capture_output=True, text=True, check=True)
        return done.stdout.split()

    return offered


def test_commands_names_and_options_are_offered(complete: Complete) -> None:
    assert set(complete("")) >= set(COMMANDS)
    assert complete("tra") == ["train"]
    assert complete("train", "maze-a") == [name for name in clutr.PRESETS if name.startswith("maze-a")]
    assert complete("train", "maze-dr", "--student", "sb3-d") == ["sb3-dqn"]
    assert complete("train", "maze-dr", "--student.learning-rate-") == ["--student.learning-rate-schedule"]
    assert complete("train", "maze-plr", "--curriculum.capac") == ["--curriculum.capacity"]
    assert complete("eval", "runs/x", "--suite", "accel") == ["accel12"]
    assert complete("eval", "--tru") == ["--trust"]
    assert complete("world", "re") == ["record", "refit", "report"]
    assert complete("world", "refit", "--fro") == ["--from"]
    assert complete("list", "world-") == ["world-presets"]


def test_a_switch_takes_no_value(complete: Complete) -> None:
    assert complete("eval", "--deterministic", "--suite", "small") == ["small"]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_script_that_names_all_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    completion([shell])
    script = capsys.readouterr().out
    assert all(name in script for name in [*COMMANDS, "maze-clutr", "accel12"])


def test_unknown_shells_are_refused() -> None:
    with pytest.raises(UsageError, match="no shell is called 'fish'; there are: bash, zsh, tcsh"):
        completion(["fish"])


def test_the_options_that_are_offered_are_those_of_the_parser(
    complete: Complete, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "maze-clutr-debug", "--help"])
    parsed = set(re.findall(r"(?<![\w`])--[a-z][\w.-]*", re.sub(r"│ *\n│ *", "", capsys.readouterr().out)))
    offered = set(complete("train", "maze-clutr-debug", "--"))
    assert len(parsed) > 40
    assert parsed - {"--address", "--runners", "--learners"} <= offered


def test_a_command_that_is_asked_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with asking() as told:
        COMMANDS["train"](["maze-dr-debug"])
    assert [set(defaults) for _, defaults in told] == [{"options"}]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "args", [["--help"], ["train"], ["list", "--help"], ["list", "curricula"], ["world", "--help"]]
)
@pytest.mark.parametrize("columns", [80, 200])
def test_lists_are_as_wide_as_the_terminal(
    args: list[str], columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with suppress(SystemExit):
        main(args)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    if args == ["--help"]:
        assert any(line.startswith(" " * 14) for line in lines) == (columns == 80), "long descriptions go on below"


def in_a_terminal(*args: str, **environment: str) -> bytes:
    """What a command prints in a terminal of 80 columns."""
    child, terminal = pty.fork()
    if not child:
        code = f"import sys; from clutr.experiments.cli.main import main; sys.exit(main({list(args)}))"
        os.execve(sys.executable, [sys.executable, "-c", code], {**os.environ, "COLUMNS": "80", **environment})
    said = b""
    while True:
        try:
            said += (read := os.read(terminal, 65536))
        except OSError:  # the other end was closed
            break
        if not read:
            break
    os.waitpid(child, 0)
    return said


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours_stay_where_they_belong(environment: dict[str, str], coloured: bool) -> None:
    said = in_a_terminal("resume", "--help", **environment)
    assert b"total-steps" in said
    assert bool(re.search(rb"\x1b\[[\d;]*m", said)) == coloured


def _print_to(pipe: int) -> None:
    os.dup2(pipe, 1)
    os.dup2(pipe, 2)
    with open(1, "w") as sys.stdout, open(2, "w") as sys.stderr:
        main(["list", "domains"])


def test_a_pipe_gets_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    ours, theirs = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_print_to, args=(theirs,))
    process.start()
    os.close(theirs)
    with open(ours, "rb") as pipe:  # noqa: PTH123
        said = pipe.read()
    process.join()
    assert process.exitcode == 0
    assert b"maze" in said
    assert b"\x1b" not in said
