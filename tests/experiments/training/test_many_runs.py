"""Several runs at once: each a run directory, resumable as a whole, whatever becomes of single ones."""

import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from clutr.experiments.cli.main import main
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training import many_display, many_runs
from clutr.experiments.training.many_runs import (
    Status,
    is_finished,
    last_words,
    prepare_runs,
    require_runs,
    run_command,
    train_many,
)
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.train import train

DEBUG = replace(PRESETS["maze-dr-debug"], evaluate_every=0, total_steps=256)


class Here:
    """A process that has trained in this one before anybody asks; one that is to fail writes why and ends with 2."""

    def __init__(self, run: RunDirectory, fails: bool, log: list[str]) -> None:
        self.status, self._log, self._run = (2 if fails else 0), log, run
        log.append(f"start {run.path.name}")
        if fails:
            (run.path / many_runs.LOG).write_text("first\nclutr: the disk is full\n")
        else:
            train(run, Path(), lambda _: None, lambda _: None)

    def poll(self) -> int | None:
        self._log.append(f"end {self._run.path.name}")
        return self.status

    def interrupt(self) -> None:
        self._log.append(f"interrupt {self._run.path.name}")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_runs, "POLL_SECONDS", 0.02)


def made(root: Path, count: int) -> list[RunDirectory]:
    return prepare_runs({root / f"dr-s{seed}": replace(DEBUG, seed=seed) for seed in range(1, count + 1)}, print)


def test_at_most_so_many_train_at_once_and_one_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    runs, log = made(tmp_path, 3), list[str]()
    seen: list[int] = []

    def launch(run: RunDirectory) -> Here:
        return Here(run, run.path.name == "dr-s2", log)

    statuses = train_many(runs, 2, launch, lambda now: seen.append(sum(each.state == "training" for each in now)))
    assert [(each.state, each.steps) for each in statuses] == [("done", 256), ("failed", 0), ("done", 256)]
    assert log == ["start dr-s1", "start dr-s2", "end dr-s1", "end dr-s2", "start dr-s3", "end dr-s3"]
    assert max(seen) <= 2
    assert last_words(runs[1]) == "the disk is full"
    assert [is_finished(run) for run in runs] == [True, False, True]

    log.clear()
    again = train_many(
        prepare_runs({run.path: run.experiment for run in runs}, print), 2, lambda r: Here(r, False, log)
    )
    assert [each.state for each in again] == ["done"] * 3
    assert log == ["start dr-s2", "end dr-s2"], "what has finished is left alone"
    with pytest.raises(RunError, match="jobs must be at least 1, got 0"):
        train_many(runs, 0, launch)


def test_an_interrupt_reaches_what_trains_and_starts_nothing_else(tmp_path: Path) -> None:
    runs, log = made(tmp_path, 2), list[str]()

    class Patient(Here):
        def poll(self) -> int | None:
            return self.status if any(line.startswith("interrupt") for line in log) else None

    def launch(run: RunDirectory) -> Here:
        process = Patient(run, True, log)
        process.status = 0
        signal.raise_signal(signal.SIGINT)
        return process

    statuses = train_many(runs, 1, launch)
    assert log == ["start dr-s1", "interrupt dr-s1"]
    assert [each.state for each in statuses] == ["stopped", "waiting"]


def test_what_does_not_fit_is_refused_before_anything_begins(tmp_path: Path) -> None:
    made(tmp_path, 1)
    wanted = {tmp_path / "new": DEBUG, tmp_path / "dr-s1": replace(DEBUG, seed=1, num_envs=4)}
    with pytest.raises(RunError, match=r"dr-s1 holds a run with other options: num_envs \(8, now 4\)"):
        prepare_runs(wanted, print)
    assert not (tmp_path / "new").exists()
    with pytest.raises(RunError, match="this cannot be trained"):
        require_runs({tmp_path / "no": replace(DEBUG, curriculum=PRESETS["maze-clutr-debug"].curriculum)})


def test_the_table_fits_a_narrow_terminal_and_says_what_is_not_shown(tmp_path: Path) -> None:
    runs = made(tmp_path, 3)
    statuses = [Status(runs[0], "done", 256), Status(runs[1], "training", 128), Status(runs[2])]
    statuses[1].metrics = {"antagonist/mean_return": 0.25, "evaluation/small/mean_solved": 0.5, "steps": 128.0}
    wide = Console(width=80)
    with wide.capture() as captured:
        wide.print(many_display.status_table(statuses))
        wide.print(many_display.status_table(statuses, 1))
    printed = captured.get()
    assert max(map(len, printed.splitlines())) <= 80
    assert re.search(r"dr-s2 +training +50% +128 +0\.25 +50%", printed)
    assert "runs: 1 training, 1 waiting, 1 done; 1 of 3 shown" in printed
    assert printed.count("dr-s1") == 1


def test_the_newest_values_are_read_from_the_end_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clutr.experiments.metrics._TAIL", 40)
    file = RunDirectory.create(tmp_path, DEBUG).metrics_file
    assert file.latest() == {}
    for update in range(50):
        file.append({"update": update, "steps": 10 * update, **({"solved": 0.5} if update == 47 else {})})
    with file.path.open("a") as half:
        half.write("50,9")
    assert file.latest() == {"update": 49.0, "steps": 490.0, "solved": 0.5}


def test_a_command_in_a_process_of_its_own_writes_its_log_and_ends_with_its_status(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['WORD']); sys.exit(3)"
    assert run_command([sys.executable, "-c", code], str(tmp_path), {"WORD": "hello"}) == 3
    assert (tmp_path / many_runs.LOG).read_text() == "hello\n"


STOPPABLE = (
    "import signal, sys, time\n"
    + "signal.signal(signal.SIGINT, lambda *_: (print('ended'), sys.exit(5)))\n"
    + "open('stop', 'w').close()\ntime.sleep(60)"
)


def test_a_command_is_interrupted_once_there_is_a_file_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command([sys.executable, "-c", STOPPABLE], str(tmp_path), {}) == 5
    assert (tmp_path / many_runs.LOG).read_text() == "ended\n"
    assert run_command([sys.executable, "-c", "print('begun')"], str(tmp_path), {}) == 130, "the file is still there"
    assert (tmp_path / many_runs.LOG).read_text() == "ended\n"


def in_this_process(fails: bool = False) -> Callable[[int], Callable[[RunDirectory], Here]]:
    return lambda _threads: lambda run: Here(run, fails, [])


def test_the_same_command_goes_on_with_all_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_runs, "on_this_machine", in_this_process())
    arguments = ["train", "maze-dr-debug", "--seeds", "1,3", "--run", str(tmp_path / "dr"), "--evaluate-every", "0"]
    assert main([*arguments, "--total-steps", "256"]) == 0
    printed = capsys.readouterr().out
    assert "runs: 2 done" in printed
    assert f"done: `clutr compare {tmp_path}/dr-s* --evaluate`" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dr-s1", "dr-s3"]
    assert [RunDirectory(tmp_path / f"dr-s{seed}").experiment.seed for seed in (1, 3)] == [1, 3]
    before = (tmp_path / "dr-s1" / "metrics.csv").stat().st_mtime_ns
    assert main([*arguments, "--total-steps", "256", "--jobs", "2"]) == 0
    assert (tmp_path / "dr-s1" / "metrics.csv").stat().st_mtime_ns == before
    assert main([*arguments, "--total-steps", "512"]) == 2
    assert "total_steps (256, now 512)" in capsys.readouterr().err


def test_a_process_of_this_machine_is_interrupted_and_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert many_runs.command(RunDirectory.create(tmp_path / "run", DEBUG), 2)[-4:-2] == ["resume", f"{tmp_path}/run"]
    code = (
        "import time\nprint('begun', flush=True)\ntry:\n  time.sleep(60)\nexcept KeyboardInterrupt:\n  print('ended')"
    )
    monkeypatch.setattr(many_runs, "command", lambda *_: [sys.executable, "-c", code])
    run = RunDirectory(tmp_path / "run")
    # a shell's background jobs ignore it, and so would what they start
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = many_runs.on_this_machine(1)(run)
    finally:
        signal.signal(signal.SIGINT, previous)
    while last_words(run) != "begun":
        assert process.poll() is None
        time.sleep(0.02)
    process.interrupt()
    while (status := process.poll()) is None:
        time.sleep(0.02)
    assert (status, last_words(run)) == (0, "ended")


def test_what_a_failed_process_said_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_runs, "on_this_machine", in_this_process(fails=True))
    assert main(["train", "maze-dr-debug", "--seeds", "1", "--run", str(tmp_path / "dr")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("clutr: 1 of 1 runs failed; of ")
    assert "the last line is: the disk is full. The same command goes on with them" in error
