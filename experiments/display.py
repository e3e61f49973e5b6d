"""What a person sees in the terminal while something runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from clutr.manifold.base import Progress as ManifoldProgress
from experiments.runner import UpdateReport

console = Console(highlight=False)


def _bar() -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
        transient=False,
    )


class TrainingDisplay:
    """A progress bar over environment steps with speed, mean return, regret and the last evaluation."""

    def __init__(self, bar: Progress, title: str, protagonist: str) -> None:
        self._bar = bar
        self._protagonist = protagonist
        self._task = bar.add_task(title, total=None, status="")
        self._evaluation = ""
        self._first: tuple[int, float] | None = None

    def __call__(self, report: UpdateReport) -> None:
        """Show one update."""
        metrics = report.metrics
        if self._first is None:
            self._first = (report.steps, report.seconds)
            self._bar.update(self._task, total=report.total_steps)
        parts = []
        steps, seconds = report.steps - self._first[0], report.seconds - self._first[1]
        if seconds > 0:
            parts.append(f"{steps / seconds:,.0f} steps/s")
        parts.append(f"return {metrics[f'{self._protagonist}/mean_return']:.2f}")
        if "regret" in metrics:
            parts.append(f"regret {metrics['regret']:.2f}")
        for name, value in metrics.items():
            if name.startswith("evaluation/") and name.endswith("/mean_solved"):
                self._evaluation = f"{name.split('/')[1]} solved {value:.0%}"
        if self._evaluation:
            parts.append(self._evaluation)
        self._bar.update(self._task, completed=min(report.steps, report.total_steps), status=" · ".join(parts))


@contextmanager
def training_display(title: str, protagonist: str) -> Iterator[TrainingDisplay]:
    """Show a progress bar while the body trains."""
    with _bar() as bar:
        yield TrainingDisplay(bar, title, protagonist)


@contextmanager
def work_display(title: str) -> Iterator[ManifoldProgress]:
    """Show a progress bar for work that reports `(done, total, metrics)`."""
    with _bar() as bar:
        task = bar.add_task(title, total=None, status="")

        def progress(done: int, total: int, metrics: Mapping[str, float]) -> None:
            status = " · ".join(f"{name} {value:.3g}" for name, value in metrics.items())
            bar.update(task, total=total, completed=done, status=status)

        yield progress


def say(line: str) -> None:
    """Print a line as it is: no markup, no wrapping of paths."""
    console.print(line, markup=False, soft_wrap=True)
