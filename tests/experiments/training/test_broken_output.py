"""Output that breaks does not end a training; a full disk ends it in one line, and it goes on where it was.

A reader who has seen enough is in `test_fresh_process.py`.
"""

import errno
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import TextIO

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import clutr
from clutr.experiments.cli.main import main

TRAIN = ["train", "maze-dr-debug", "--evaluate-every", "0", "--run"]


def _print_to(stream: TextIO | None, args: list[str], errors: Path) -> None:
    sys.stdout, sys.stderr = stream, errors.open("w")  # None if there is no output
    os.dup2(sys.stderr.fileno(), 2)
    status = main(args)
    for each in (sys.stdout, sys.stderr):
        if each is not None:
            each.flush()  # as the interpreter does at its end
    os._exit(status)


def _survives(stream: TextIO | None, run: Path) -> bool:
    """Whether a training in another process ends well and says nothing of its output being what it is."""
    errors = run.with_name("errors")
    process = multiprocessing.get_context("fork").Process(target=_print_to, args=(stream, [*TRAIN, str(run)], errors))
    process.start()
    process.join(300)
    return process.exitcode == 0 and errors.read_text() == "" and clutr.load_run(run).metrics()["update"][-1] == 6


def test_training_survives_a_full_disk_behind_its_output(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        assert _survives(full, tmp_path / "run")


def test_training_survives_without_an_output(tmp_path: Path) -> None:
    assert _survives(None, tmp_path / "run")


def test_a_terminal_without_our_signs_is_no_reason_to_stop(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        assert _survives(stream, tmp_path / "rün")
    printed = (tmp_path / "out").read_text(encoding="ascii")
    assert "r?n: `clutr resume" not in printed
    assert "steps/s, return" in printed


def test_events_are_what_tensorboard_reads(tmp_path: Path) -> None:
    run = clutr.train("maze-dr-debug", run=tmp_path / "run", evaluate_every=0)
    events = EventAccumulator(str(run.path)).Reload()
    returns = [(event.step, event.value) for event in events.Scalars("protagonist/mean_return")]
    metrics = run.metrics()
    assert returns == [
        (step, pytest.approx(value))
        for step, value in zip(metrics["steps"], metrics["protagonist/mean_return"], strict=True)
    ]


def test_training_does_without_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("clutr.experiments.training.events.RecordWriter.write", full)
    assert main([*TRAIN, str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("TensorBoard's events cannot be written from here on: No space left on device") == 1
    assert printed.err == ""


@pytest.mark.parametrize("writes", range(3, 20, 5))
def test_a_full_disk_is_one_line_and_the_run_goes_on(
    writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left, sync = writes, os.fsync

    def fill(file: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    run = tmp_path / "run"
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fill)
        assert main([*TRAIN, str(run)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "No space left on device" in errors
    assert main(["resume", str(run)]) == 0
    assert list(clutr.load_run(run).metrics()["update"]) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("writes", "kept"), [(0, []), (1, ["json"])])
def test_a_disk_that_fills_while_an_evaluation_is_played_loses_no_result(
    writes: int,
    kept: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, sync = tmp_path / "run", os.fsync
    assert main([*TRAIN, str(run)]) == 0
    capsys.readouterr()
    left = writes

    def fill(file: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(os, "fsync", fill)
    assert main(["eval", str(run), "--suite", "small", "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suite"] == "small", "what was played is shown"
    (said,) = [record.getMessage() for record in caplog.records]
    assert "No space left on device" in said
    ending = "The evaluation is kept without paths and videos." if kept else "The result is returned all the same."
    assert said.endswith(ending)
    assert [path.suffix[1:] for path in (run / "evaluations" / "small").iterdir()] == kept
