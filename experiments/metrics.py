"""Append-only CSV files whose rows belong to updates, so that a resumed run can drop what came after its checkpoint."""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clutr.experiments.storage import RunError, write_atomically


class MetricsFile:
    """A CSV file with the column `update` first; rows are appended, new columns are added to the right.

    A row is one `write` of a whole line, so a killed process leaves at most one partial last line, which reading
    ignores and `truncate` removes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] = self._header()

    def _header(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            first = file.readline()
        return next(csv.reader([first])) if first.endswith("\n") else []

    def append(self, row: Mapping[str, float | int]) -> None:
        """Add a row. Raises `RunError` if the file cannot be written."""
        new = [name for name in row if name not in self._columns]
        if new:
            self._rewrite(self.rows(), [*self._columns, *new])
        try:
            with self.path.open("a", newline="") as file:
                file.write(_line([_cell(row.get(name)) for name in self._columns]))
                file.flush()
                os.fsync(file.fileno())  # no checkpoint may outlive the rows before it
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror or error}. Free space, then resume.") from error

    def rows(self) -> list[dict[str, str]]:
        """All complete rows as text."""
        if not self._columns:
            return []
        text = self.path.read_text()
        complete = text[: text.rfind("\n") + 1]
        return list(csv.DictReader(io.StringIO(complete, newline="")))

    def truncate(self, update: int) -> None:
        """Drop every row after `update`, and a partial last line."""
        if self._columns:
            self._rewrite([row for row in self.rows() if int(row["update"]) <= update], self._columns)

    def _rewrite(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        lines = [_line(columns), *(_line([row.get(name) or "" for name in columns]) for row in rows)]
        write_atomically(self.path, "".join(lines).encode())
        self._columns = columns

    def columns(self) -> dict[str, np.ndarray]:
        """The columns by name, as floats; NaN where a row lacks a value."""
        rows = self.rows()
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in self._columns}


def _cell(value: float | int | None) -> str:
    return "" if value is None else repr(value)


def _line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
