"""Tables of centre lines: CSV and its relatives, and which of their columns are x and y."""

import csv
import re
from typing import NamedTuple

import numpy as np

from clutr.envs.car.road.centre_line import close, fail, is_number
from clutr.envs.car.road.track import Floats

_METRES = r"(?:_(?:ref|cent(?:er|re)))?[_ ]*[\[(]?(?:m|met(?:er|re)s?)?[\])]?"
_NAMES = {"x": re.compile(f"(?:x{_METRES}|easting)"), "y": re.compile(f"(?:y{_METRES}|northing)")}
_DEGREES = re.compile(r"(?:lon|lng|long|longitude|lat|latitude)\b.*")


class _Row(NamedTuple):
    line: int
    text: str
    """Without its comment."""


def is_table(source: str) -> bool:
    """Whether text is a table rather than control points: commas, semicolons, a header, or three columns by tabs."""
    rows, comments = _rows(source)
    if not rows:
        return False
    marked = any(mark in row.text for row in rows for mark in ",;")
    in_metres = any(_column(_names(text), "x") is not None and "_m" in text for _, text in comments)
    return marked or _is_header(rows[0]) or in_metres or any(row.text.count("\t") > 1 for row in rows)


def parse_table(source: str) -> Floats:
    """The line of a table in metres, `[n, 2]`, closed.

    Columns stand between semicolons, tabs, commas or spaces; numbers may have decimal commas unless commas separate
    them. A header says which columns are x and y (`x_m`, `y [m]`, `x_ref_m`, `easting`, ...): the first row or, as in
    files of the TUM racetrack database, a comment above it. Without one they are the first two. Other columns are
    ignored, and so is what follows a `#`.

    Raises:
        LevelError: the source is no such table, or it contradicts its header; the message names line and reason.
    """
    rows, comments = _rows(source)
    header = rows.pop(0) if _is_header(rows[0]) else None
    if not rows:
        fail(1, "the table has a header and no numbers")
    separator = _separator(rows)
    columns = len(_cells(rows[0], separator))
    if header is None:
        above = [row for row in comments if row.line < rows[0].line and _names_columns(_names(row.text), columns)]
        header = above[-1] if above else None
    x_column, y_column, wanted = 0, 1, f"line {rows[0].line} has {columns}"
    if header is not None:
        names = _names(header.text)
        x_column, y_column = _place(header, "x"), _place(header, "y")
        columns, wanted = len(names), f"the header in line {header.line} names {len(names)}"
    points: list[tuple[float, float]] = []
    marks: set[str] = set()
    for row in rows:
        cells = _cells(row, separator)
        try:
            pair = cells[x_column].strip(), cells[y_column].strip()
            x, y = (_number(cell) for cell in pair)
        except (ValueError, IndexError):
            fail(row.line, f"expected two numbers, x and y in metres, got {row.text.strip()[:40]!r}")
        if not (is_number(x) and is_number(y)):
            fail(row.line, f"x and y must be finite, got {row.text.strip()[:40]!r}")
        if len(cells) != columns:
            fail(row.line, f"the row has {len(cells)} columns, {wanted}")
        marks |= {mark for mark in ".," if mark in "".join(pair)}
        if len(marks) > 1:
            fail(row.line, "decimal points and decimal commas in one file")
        points.append((x, y))
    return close(np.array(points, dtype=np.float64).reshape(-1, 2), 1)


def _rows(source: str) -> tuple[list[_Row], list[_Row]]:
    """The rows that hold anything, and the comments."""
    rows, comments = [], []
    for number, line in enumerate(source.splitlines(), start=1):
        text, mark, comment = line.partition("#")
        if text.strip():
            rows.append(_Row(number, text))
        elif mark:
            comments.append(_Row(number, comment))
    return rows, comments


def _names(text: str) -> list[str]:
    """The cells of a header, in small letters."""
    text = text.strip().rstrip(";,\t ")
    cells = re.split(r"[;,\t]", text) if re.search(r"[;,\t]", text) else text.split()
    return [cell.strip().strip("\"'").strip().lower() for cell in cells]


def _is_header(row: _Row) -> bool:
    return all(name[:1].isalpha() or name[:1] == "_" for name in _names(row.text))


def _names_columns(names: list[str], columns: int) -> bool:
    """Whether a comment is a header: it names x and y, or one of them or degrees and as many columns as there are."""
    found = [_column(names, axis) is not None for axis in _NAMES]
    degrees = any(_DEGREES.fullmatch(name) for name in names)
    return all(found) or ((any(found) or degrees) and len(names) == columns)


def _column(names: list[str], axis: str) -> int | None:
    found = [index for index, name in enumerate(names) if _NAMES[axis].fullmatch(name)]
    return found[0] if found else None


def _place(header: _Row, axis: str) -> int:
    names = _names(header.text)
    if sum(bool(_NAMES[axis].fullmatch(name)) for name in names) > 1:
        fail(header.line, f"the header names {axis} more than once: {', '.join(names)[:60]!r}")
    found = _column(names, axis)
    if found is None:
        hint = "; degrees are read from GeoJSON" if any(_DEGREES.fullmatch(name) for name in names) else ""
        allowed = f"it may be called {axis}, {axis}_m or {axis} [m]{hint}"
        fail(header.line, f"the header names no {axis} in metres: {', '.join(names)[:60]!r}; {allowed}")
    return found


def _separator(rows: list[_Row]) -> str | None:
    """What stands between columns; None: spaces."""
    for mark in ";\t":
        if any(mark in row.text.strip() for row in rows):
            return mark
    # a space between two numbers separates, and the commas are decimal ones
    spaced = any(re.search(r"\d\s+[-+.\d]", row.text) for row in rows)
    return "," if not spaced and any("," in row.text for row in rows) else None


def _cells(row: _Row, separator: str | None) -> list[str]:
    if separator is None:
        return row.text.split()
    try:
        cells = next(csv.reader([row.text.strip()], delimiter=separator))
    except csv.Error:  # a cell of many thousand characters
        return [row.text]
    while cells and not cells[-1].strip():
        cells.pop()
    return cells


def _number(cell: str) -> float:
    """A number with a decimal point or a decimal comma. Raises `ValueError`."""
    if "_" in cell or ("," in cell and "." in cell):
        raise ValueError(cell)
    return float(cell.replace(",", "."))
