"""What a run has measured so far: read again when its files change, so that a page follows a training."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from clutr.experiments.metrics import MetricsFile

NOTHING_YET = "Nothing is measured yet; curves appear as the run writes them."
TRAINING_SECONDS = 60.0
"""A run that has written within so many seconds, and is not at its end, is called training."""


class RunWatch:
    """Looks at a run's files; it takes no lock and writes nothing.

    Args:
        folder: of the run.
        counted: the column of metrics.csv that counts how far it is.
        total: how far it goes, if that is known.
    """

    def __init__(self, folder: Path, counted: str, total: int | None) -> None:
        self._folder, self._counted, self.total = folder, counted, total
        self._seen: Any = None
        self.columns: dict[str, np.ndarray] = {}
        self.version = 0
        """Grows when there is something new."""
        self.look()

    def _stamp(self) -> Any:
        """Changes when the run has written something that a page shows."""
        names = [self._folder / "metrics.csv", *(self._folder / name for name in ("checkpoints", "levels"))]
        found: list[tuple[int, int] | None] = []
        for path in names:
            try:
                stat = path.stat()
            except OSError:
                found.append(None)
                continue
            found.append((stat.st_mtime_ns, stat.st_size))
        return found

    def look(self) -> bool:
        """Read what is new. Returns whether anything is."""
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        self.columns = MetricsFile(self._folder / "metrics.csv").columns()
        self.version += 1
        return True

    @property
    def steps(self) -> int:
        """How far the run is."""
        counted = self.columns.get(self._counted, np.empty(0))
        known = counted[np.isfinite(counted)]
        return int(known[-1]) if len(known) else 0

    @property
    def age(self) -> float | None:
        """Seconds since it last measured something; None if it never did."""
        try:
            return max(0.0, time.time() - (self._folder / "metrics.csv").stat().st_mtime)
        except OSError:
            return None

    @property
    def training(self) -> bool:
        """Whether it seems to be training now."""
        age = self.age
        return age is not None and age < TRAINING_SECONDS and (self.total is None or self.steps < self.total)

    @property
    def words(self) -> str:
        """How far it is, and how old that is."""
        age = self.age
        if age is None:
            return "nothing measured yet"
        far = (
            f"{self.steps:,}" + (f" of {self.total:,}" if self.total else "") + f" {self._counted}s".replace("ss", "s")
        )
        if self.total is not None and self.steps >= self.total:
            return f"{far}: finished"
        return f"{far}: {'training now' if self.training else 'not training'}, last written {_ago(age)} ago"


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds / size)
            return f"{count} {unit}{'s' * (count != 1)}"
    return f"{seconds:.0f} s"
