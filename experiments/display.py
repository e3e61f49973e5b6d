"""What a person sees in the terminal while something runs, and what a file or pipe gets instead."""

import contextlib
import io
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from clutr.envs.progress import Progress as ProgressCallback


class Output(io.TextIOBase):
    """Standard output that never ends the work that it shows: what a terminal has no sign for becomes `?`.

    Once its reader has gone, as `head` does, or its disk is full, it swallows the rest.
    """

    broken = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of standard output: rich draws boxes that it has."""
        return getattr(sys.stdout, "encoding", None) or "utf-8"

    def fileno(self) -> int:
        """That of standard output, whose width rich asks for."""
        return sys.stdout.fileno()

    def isatty(self) -> bool:
        """Whether standard output is a terminal."""
        return sys.stdout is not None and not self.broken and sys.stdout.isatty()

    def write(self, text: str) -> int:
        """Write what can be written."""
        self._try(lambda: sys.stdout.write(text.encode(self.encoding, "replace").decode(self.encoding)))
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        if sys.stdout is not None:
            self._try(sys.stdout.flush)

    def _try(self, act: Callable[[], object]) -> None:
        if self.broken or sys.stdout is None:  # it was closed before we began
            return
        try:
            act()
        except (OSError, ValueError):  # a closed pipe, a full disk, a closed file
            self.broken = True
            with contextlib.suppress(OSError, ValueError):  # so that Python does not fail again at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def sign(wanted: str, plain: str) -> str:
    """A sign if standard output has it, else what says the same in ASCII."""
    try:
        wanted.encode(Output().encoding)
    except (UnicodeEncodeError, LookupError):
        return plain
    return wanted


def separator() -> str:
    """What stands between the parts of a status."""
    return sign(" · ", ", ")


console = Console(highlight=False, file=Output())  # type: ignore[arg-type]  # a text file as far as rich is concerned

NARROW, VERY_NARROW = 72, 50
"""Columns of a terminal below which a progress bar is shorter, and below which it is a percentage."""
A_LIFETIME = 100 * 365 * 86_400
"""Seconds, longer than which nothing is told to last."""
PLAIN_LINES = 10
PLAIN_EVERY_SECONDS = 30.0
"""Outside a terminal a line is printed as each tenth of the work is done, and after this time without one."""


class ProgressBar(Progress):
    """The progress of one task: in a terminal a bar with the status below it, elsewhere a plain line now and then."""

    def __init__(self, title: str) -> None:
        width = console.width
        done = [MofNCompleteColumn(), TimeElapsedColumn()] if width >= NARROW else [MofNCompleteColumn()]
        super().__init__(
            TextColumn("[bold]{task.description}", table_column=Column(no_wrap=False)),  # so the title gives way first
            *([TaskProgressColumn()] if width < VERY_NARROW else [BarColumn(bar_width=16), *done]),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self.add_task(title, total=None, status="")
        self._printed, self._printed_at = 0, time.monotonic()

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bar, and the status on a line of its own: in one line it would squeeze everything else."""
        for task in self.tasks:
            yield self.make_tasks_table([task])
            yield Text(f"  {task.fields['status']}", no_wrap=True, overflow="ellipsis")

    def show(self, done: int, total: int, status: str) -> None:
        """Set how much is done, and a few words about it."""
        self.update(self._task, completed=done, total=total, status=status)
        if self.disable:
            self._print_now_and_then(done, total)

    def _print_now_and_then(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < self._printed:  # another part of the work has begun
            self._printed = 0
        same_part = done * PLAIN_LINES // total == self._printed * PLAIN_LINES // total
        if done == self._printed or (same_part and now < self._printed_at + PLAIN_EVERY_SECONDS):
            return
        self._printed, self._printed_at = done, now
        task = self.tasks[0]
        left = "" if task.time_remaining is None or done == total else f", left {_clock(task.time_remaining)}"
        status = f": {task.fields['status']}" if task.fields["status"] else ""
        say(f"{task.description} {done / total:.0%} after {_clock(task.elapsed or 0)}{left}{status}")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds))) if seconds < A_LIFETIME else "more than a lifetime"


@contextmanager
def work_display(title: str) -> Iterator[ProgressCallback]:
    """Show progress of work that reports `(done, total, metrics)`."""
    with ProgressBar(title) as bar:

        def progress(done: int, total: int, metrics: Mapping[str, float]) -> None:
            status = separator().join(f"{name} {value:.3g}" for name, value in metrics.items())
            bar.show(done, total, status)

        yield progress


def say(line: str) -> None:
    """Print a line as it is, without markup; in a terminal it ends between words, and paths and commands stay whole."""
    console.print(wrapped(line, console.width) if console.is_terminal else line, markup=False, soft_wrap=True)


def wrapped(text: str, width: int) -> str:
    """Lines of at most `width` columns that end between words. What stands between backticks is one word."""
    kept = re.sub(r"`[^`\n]*`", lambda quoted: quoted[0].replace(" ", "\0"), text)
    lines = (
        textwrap.fill(
            line,
            max(20, width),
            drop_whitespace=True,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        )
        if len(line) > width
        else line
        for line in kept.split("\n")
    )
    return "\n".join(lines).replace("\0", " ")


@dataclass(frozen=True)
class Fitted:
    """A table as wide as the terminal allows: of columns that are too many the rest follows below, whole.

    Args:
        columns: what the table has columns for.
        make: makes the table of some of them, whose cells need no more width than they have to if the second argument
            is true; the third is whether these are the last.
    """

    columns: Sequence[str]
    make: Callable[[Sequence[str], bool, bool], Table]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Whole if it fits, else in as few parts as do."""
        unbounded = options.update(width=10_000)

        def fits(columns: Sequence[str], narrow: bool) -> bool:
            table = self.make(columns, narrow, True)
            table.title = table.caption = None  # they are wrapped
            return Measurement.get(console, unbounded, table).maximum <= options.max_width

        if fits(self.columns, False):
            yield self.make(self.columns, False, True)
            return
        rest = list(self.columns)
        while rest:
            count = next((n for n in range(len(rest), 1, -1) if fits(rest[:n], True)), 1)
            yield self.make(rest[:count], True, count == len(rest))
            rest = rest[count:]
