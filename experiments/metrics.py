"""Append-only CSV files whose rows belong to updates, so that a resumed run can drop what came after its checkpoint."""

import csv
import io
import itertools
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from clutr.experiments.files import RunError, warn_once, write_atomically

_TAIL = 65_536
"""Bytes at the end of a file in which its newest values are looked for."""


class MetricsFile:
    """A CSV file with the column `update` first; rows are appended, new columns are added to the right.

    A row is one `write` of a whole line, so a killed process leaves at most one partial last line, which reading
    ignores and `truncate` removes. What other programs made of the file is read as far as it can be: byte order marks,
    semicolons or tabs, decimal commas. The rest is logged in one line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns = self._read(rows=False)[0]

    def _read(self, *, rows: bool = True) -> tuple[list[str], list[dict[str, str]], str]:
        """The columns, the rows that belong to updates, and what could not be read (nothing if all could)."""
        try:
            with self.path.open("rb") as file:
                text = (file.read() if rows else file.readline()).decode("utf-8-sig", errors="replace")
        except FileNotFoundError:
            return [], [], ""
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {error.strerror or error}") from error
        header, *lines = text.replace("\r\n", "\n").split("\n")[:-1] or [""]  # what follows the last is incomplete
        delimiter = max(",;\t", key=header.count)
        columns = _cells(header, delimiter)
        if "update" not in columns:
            return [], [], "its first line does not name the column update" if text.strip() else ""
        found, strange = [], 0
        for line in lines:
            cells = _cells(line, delimiter)
            if delimiter == ";":
                cells = [cell.replace(",", ".") for cell in cells]
            row = dict(zip(columns, cells, strict=False))
            fits = len(cells) <= len(columns) and math.isfinite(_number(row.get("update", "")))
            if fits:
                found.append(row | {"update": str(int(float(row["update"])))})
            strange += not fits or any(cell and not _is_number(cell) for cell in cells)
        return columns, found, f"{strange} of its {len(lines)} rows do not fit its first line" if strange else ""

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
        _, rows, problem = self._read()
        if problem:
            warn_once(f"{self.path}: {problem}; what could be read is used")
        return rows

    def latest(self) -> dict[str, float]:
        """The newest value of every column, from the last rows alone: cheap enough to ask for again and again."""
        try:
            with self.path.open("rb") as file:
                header = file.readline()
                file.seek(max(len(header), os.fstat(file.fileno()).st_size - _TAIL))
                tail = file.read()
        except OSError:
            return {}
        lines = tail.decode("utf-8-sig", errors="replace").split("\n")[:-1]
        columns = _cells(header.decode("utf-8-sig", errors="replace").rstrip("\r\n"), ",")
        found: dict[str, float] = {}
        for line in lines:
            cells = _cells(line, ",")
            if len(cells) == len(columns):  # the first line may be cut
                values = {name: _number(cell) for name, cell in zip(columns, cells, strict=False)}
                found |= {name: value for name, value in values.items() if math.isfinite(value)}
        return found

    def replace(self, rows: Iterable[Mapping[str, float | int]]) -> None:
        """Write the whole file anew, with a column for every name. Raises `RunError` if it cannot be written."""
        found = list(rows)
        names = dict.fromkeys(name for row in found for name in row)
        self._rewrite([{name: _cell(value) for name, value in row.items()} for row in found], list(names))

    def truncate(self, update: int) -> None:
        """Drop every row after `update`, and a partial last line.

        What another program made of the file is kept beside it as `*.unread`, if not all of it could be read.
        """
        self.repair()
        columns, rows, _ = self._read()
        if columns:
            self._rewrite([row for row in rows if int(row["update"]) <= update], columns)

    def repair(self) -> None:
        """Leave what can be read, if that is not all, and keep the whole file beside it as `*.unread`."""
        columns, rows, problem = self._read()
        if problem:
            kept = _free(self.path.with_suffix(f"{self.path.suffix}.unread"))
            write_atomically(kept, self.path.read_bytes(), "resume")
            self._rewrite([{name: cell for name, cell in row.items() if _is_number(cell)} for row in rows], columns)
            warn_once(f"{self.path}: {problem}; what could be read is used, the whole file is kept as {kept.name}")

    def _rewrite(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        lines = [_line(columns), *(_line([row.get(name) or "" for name in columns]) for row in rows)]
        write_atomically(self.path, "".join(lines if columns else []).encode(), "resume")
        self._columns = columns

    def columns(self) -> dict[str, np.ndarray]:
        """The columns by name, as floats; NaN where a row lacks a value."""
        rows = self.rows()
        return {name: np.array([_number(row.get(name) or "") for row in rows]) for name in self._columns}


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _is_number(cell: str) -> bool:
    return cell == "nan" or not math.isnan(_number(cell))


def _free(path: Path) -> Path:
    """This path, or with a number behind it if it is taken."""
    others = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], others) if not each.exists())


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of one line; a quotation mark that is not closed ends with it."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _cell(value: float | int | None) -> str:
    return "" if value is None else repr(value)


def _line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
