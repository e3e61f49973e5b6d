"""One table for several runs that train."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from clutr.experiments.display import console, say, sign
from clutr.experiments.training.many_runs import Show, Status

PLAIN_EVERY_SECONDS = 30.0
SHOWN = 16
"""Rows of the table while runs train: those of most interest, so that it fits a terminal."""
COLUMNS = (
    ("state", "progress", "steps", "return", "zero-shot"),
    ("state", "progress", "return", "zero-shot"),
    ("state", "progress"),
    ("progress",),
)
"""Of the table, from a wide terminal to a narrow one."""
_ORDER = ("training", "failed", "stopped", "waiting", "done")


def status_table(statuses: Sequence[Status], shown: int | None = None) -> Group:
    """The runs, of which at most `shown`, with their progress and newest results."""
    counts = {state: sum(each.state == state for each in statuses) for state in _ORDER}
    title = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    rows = list(statuses)
    if shown is not None and len(rows) > shown:
        rows = sorted(rows, key=lambda status: _ORDER.index(status.state))[:shown]
        title += f"; {shown} of {len(statuses)} shown"
    return Group(Text(f"runs: {title}", style="bold"), _Rows(rows))  # a table's own title is as narrow as the table


@dataclass(frozen=True)
class _Rows:
    """The runs with as many columns as the terminal has room for: the most important ones stay."""

    statuses: Sequence[Status]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        for names in COLUMNS:
            table = Table(box=None, pad_edge=False)
            table.add_column("run", overflow="fold")
            for name in names:
                table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
            for status in self.statuses:
                figures = _figures(status)
                table.add_row(status.run.path.name, *(figures[name] for name in names))
            if names == COLUMNS[-1] or console.measure(table, options=options.update(width=10_000)).maximum <= (
                options.max_width
            ):
                yield table
                return


def _figures(status: Status) -> dict[str, str]:
    metrics, nothing = status.metrics or {}, sign("\u2013", "-")
    own = (value for name, value in metrics.items() if name.count("/") == 1 and name.endswith("/mean_return"))
    returns = next(own, None)
    solved = next((f"{value:.0%}" for name, value in metrics.items() if name.endswith("/mean_solved")), nothing)
    done = min(1.0, status.steps / status.run.experiment.total_steps)
    return {
        "state": status.state,
        "progress": f"{done:.0%}",
        "steps": f"{status.steps:,}",
        "return": nothing if returns is None else f"{returns:.2f}",
        "zero-shot": solved,
    }


@contextmanager
def many_display() -> Iterator[Show]:
    """Show runs while the body trains them: a table in a terminal, elsewhere a line now and then."""
    if console.is_terminal and not console.quiet:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda statuses: live.update(status_table(statuses, SHOWN))
        return
    states: dict[str, str] = {}
    told = time.monotonic()

    def lines(statuses: Sequence[Status]) -> None:
        nonlocal told
        for status in statuses:
            name = str(status.run.path)
            if status.state not in ("waiting", states.get(name)):
                states[name] = status.state
                say(f"{status.run.path.name}: {status.state}, {status.steps:,} steps")
                told = time.monotonic()
        if time.monotonic() - told > PLAIN_EVERY_SECONDS:
            told = time.monotonic()
            done = sum(min(1.0, each.steps / each.run.experiment.total_steps) for each in statuses) / len(statuses)
            finished = sum(each.state == "done" for each in statuses)
            say(f"{done:.0%} of all steps, {finished} of {len(statuses)} runs done")

    yield lines
