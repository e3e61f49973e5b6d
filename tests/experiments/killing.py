"""Commands in processes of their own that can be killed. They begin where this one is, with everything imported."""

import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from clutr.experiments.cli.main import main

PATIENCE = 300.0
"""Seconds after which a command is said to hang."""


def _play(folder: Path, command: list[str]) -> None:
    os.chdir(folder)
    with (folder / ".log").open("w") as log, (folder / ".errors").open("w") as errors:
        os.dup2(log.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        sys.stdout, sys.stderr = log, errors
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            status = main(command)
        except BaseException:
            traceback.print_exc()
            status = 1
        log.flush()
        errors.flush()
        os._exit(status)


class Command:
    """A command of `clutr` that runs in a folder, in another process, where `.log` and `.errors` keep its output."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.log, self.errors = folder / ".log", folder / ".errors"
        self.process = multiprocessing.get_context("fork").Process(target=_play, args=(folder, command))
        self.process.start()

    def wait(self, seconds: float = math.inf) -> bool:
        """Whether it came to its end. After that many seconds it is killed.

        Raises:
            AssertionError: with what it printed, if it failed or hangs.
        """
        self.process.join(min(seconds, PATIENCE))
        if self.process.is_alive():
            assert seconds < PATIENCE, f"it hangs:\n{self.said()}"
            self.process.kill()
            self.process.join()
        assert self.process.exitcode in (0, -signal.SIGKILL), self.said()
        return self.process.exitcode == 0

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until something is ready, or it has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.process.is_alive() and not ready():
            assert time.monotonic() < deadline, f"it hangs:\n{self.said()}"
            self.process.join(0.002)

    def said(self) -> str:
        """What it has printed, errors last."""
        return self.log.read_text() + self.errors.read_text()
