"""What training a world model measures, kept in its directory: `metrics.csv`, and events for TensorBoard."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from clutr.experiments.metrics import MetricsFile
from clutr.experiments.training.events import Write, event_file

WRITE_EVERY_SECONDS = 5.0


class TrainingLog:
    """A table with a row for each number of steps that a part has made, and a column `PART/NAME` for each measurement.

    The parts of a world model are trained one after the other, and each counts from its own beginning. A part that is
    picked up at an earlier step than it had reached replaces its old rows, so the table is kept whole and rewritten.

    Args:
        path: the file.
        write_events: also receives every measurement.
    """

    def __init__(self, path: Path, write_events: Write) -> None:
        self._path, self._write_events = path, write_events
        self._rows: dict[int, dict[str, float]] = {}
        file = MetricsFile(path)
        file.repair()  # what another program wrote into it is no number, and would be lost with the next writing
        for row in file.rows():
            values = {name: float(cell) for name, cell in row.items() if cell and name != "update"}
            self._rows[int(row["update"])] = values
        self._begun: set[str] = set()
        self._written = time.monotonic()

    def add(self, part: str, step: int, values: Mapping[str, float]) -> None:
        """Keep what `part` measured after `step` of its steps."""
        named = {f"{part}/{name}": float(value) for name, value in values.items()}
        if part not in self._begun:
            self._begun.add(part)
            for known in [each for each in self._rows if each >= step]:
                kept = {name: cell for name, cell in self._rows[known].items() if not name.startswith(f"{part}/")}
                self._rows[known] = kept
        self._rows[step] = self._rows.get(step, {}) | named
        self._write_events(named, step)
        if time.monotonic() - self._written > WRITE_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        """Rewrite the file. Raises `RunError` if that cannot be done."""
        if not self._begun:
            return
        rows = {step: values for step, values in sorted(self._rows.items()) if values}
        MetricsFile(self._path).replace({"update": step} | values for step, values in rows.items())
        self._written = time.monotonic()


@contextmanager
def training_log(directory: Path, say: Callable[[str], None]) -> Iterator[TrainingLog]:
    """The log of a world model's directory, written at the end whatever happens. `say` receives lines for the user."""
    with event_file(directory, None, say) as write_events:
        log = TrainingLog(directory / "metrics.csv", write_events)
        try:
            yield log
        finally:
            log.write()
