"""Roads as text and as JSON, read and written without loss.

Text is one control point a line, x and y in units with a space between; `#` begins a comment; blank lines
separate roads. JSON is one object, or a list of them, with `points` (control points) or `centre_line` (one point a
tile), each a list of pairs. A ring may repeat its first point at its end. A centre line of a real road is a table of
x and y in metres (`clutr.envs.car.road.table`) or GeoJSON; it is closed, resampled to tiles, and shrunk by
`UNITS_A_METRE`.

A real road may cross itself once, as the figure of eight of Suzuka does. Its bridge becomes a crossing on the level, as
roads through control points have them: who drives straight on reaches a few tiles of the other branch, and lacks none
at the end.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from clutr.envs.car.road.centre_line import MOST, fail, fit, is_number, load_json, parse_geojson
from clutr.envs.car.road.level import BezierLevels, CentreLineLevels, RoadLevels
from clutr.envs.car.road.table import is_table, parse_table
from clutr.envs.car.road.track import Floats
from clutr.envs.domain import LevelBatch

LIMIT = 1000.0
"""Control points lie no farther from the origin than this along either axis, in units."""
MOST_POINTS = 100
"""Control points of a road."""
UNITS_A_METRE = 0.45
"""About the mean scale of the circuits in the published F1 test."""
TILE = 2.4
"""Length of the tiles of a centre line read from CSV or GeoJSON, in units: about that of Bezier roads."""
LONGEST = 20_000.0
"""Of such a line, in units."""
MOST_CROSSINGS = 1
"""Of such a line with itself."""


def parse(source: str) -> RoadLevels:
    """Read roads from text, JSON, a table or GeoJSON.

    Raises:
        LevelError: the source is no valid road; the message names line and reason. Nothing else is raised.
    """
    source = source.removeprefix("\ufeff")
    if source.lstrip()[:1] in ("{", "["):
        return _parse_json(source)
    lines = [line.partition("#")[0] for line in source.splitlines()]
    filled = [line for line in lines if line.strip()]
    if not filled:
        fail(1, "no road found: the source is empty")
    if is_table(source):
        return _real_road(parse_table(source))
    roads: list[Floats] = []
    points: list[list[float]] = []
    for number, line in enumerate([*lines, ""], start=1):
        cells = line.split()
        if cells:
            points.append(_numbers(cells, number))
        elif points:
            roads.append(_control_points(np.array(points), number - len(points)))
            points = []
    return _bezier(roads)


def _numbers(cells: list[str], line: int) -> list[float]:
    try:
        x, y = (float(cell) for cell in cells)
    except ValueError:
        fail(line, f"expected two numbers, x and y, got {' '.join(cells)[:40]!r}")
    return [x, y]


def _control_points(points: Floats, line: int) -> Floats:
    """Points `[n, 2]` that a road can go through, or an error."""
    points = _opened(points)
    if not 3 <= len(points) <= MOST_POINTS:
        table = "; a centre line in metres has commas, or a header `x y`" if len(points) > MOST_POINTS else ""
        fail(line, f"a road has 3 to {MOST_POINTS} control points, this one {len(points)}{table}")
    if not np.isfinite(points).all() or np.abs(points).max() > LIMIT:
        fail(line, f"control points must be numbers from -{LIMIT:.0f} to {LIMIT:.0f}")
    points = points.astype(np.float32).astype(np.float64)
    if len(np.unique(points, axis=0)) < len(points):
        fail(line, "two control points are the same")
    if collinear(points):
        fail(line, "all control points lie on one line")
    return points


def _opened(points: Floats) -> Floats:
    """Points `[n, 2]` without the repetition of the first that closes a ring."""
    return points[:-1] if len(points) > 3 and bool((points[0] == points[-1]).all()) else points


def collinear(points: Floats) -> bool:
    """Whether no three of the points `[n, 2]` span a triangle."""
    if len(points) < 3:
        return True
    away = points - points[0]
    far = away[np.abs(away).sum(axis=1).argmax()]
    areas = np.abs(away[:, 0] * far[1] - away[:, 1] * far[0])
    return bool(areas.max() <= 1e-6 * max(1.0, float(np.square(far).sum())))


def _bezier(roads: Sequence[Floats]) -> BezierLevels:
    most = max(len(road) for road in roads)
    points = torch.zeros(len(roads), most, 2)
    for row, road in zip(points, roads, strict=True):
        row[: len(road)] = torch.from_numpy(road).float()
    return BezierLevels(points, torch.tensor([len(road) for road in roads]))


def _centre_lines(lines: Sequence[Floats]) -> CentreLineLevels:
    bezier = _bezier(lines)
    return CentreLineLevels(bezier.points, bezier.count)


def _real_road(metres: Floats) -> CentreLineLevels:
    """A closed line in metres as a level."""
    length = UNITS_A_METRE * float(np.linalg.norm(np.roll(metres, -1, axis=0) - metres, axis=1).sum())
    if not 10 * TILE <= length <= LONGEST:
        metres_long = length / UNITS_A_METRE
        fail(1, f"the centre line is {metres_long:.3g} m long; a road has {10 * TILE:.0f} to {LONGEST:.0f} units")
    return _centre_lines([fit(metres, length, round(length / TILE), MOST_CROSSINGS)])


def _parse_json(source: str) -> RoadLevels:
    document = load_json(source)
    if isinstance(document, dict) and "type" in document:
        return _real_road(parse_geojson(source))
    roads = document if isinstance(document, list) else [document]
    if not roads:
        fail(1, "no road found: the list is empty")
    kinds = {_kind(index, road) for index, road in enumerate(roads)}
    if len(kinds) > 1:
        fail(1, "roads of one source must all have `points` or all have `centre_line`")
    kind = kinds.pop()
    pairs = [_pairs(road[kind], f"road {index}: `{kind}`") for index, road in enumerate(roads)]
    if kind == "points":
        return _bezier([_control_points(road, 1) for road in pairs])
    return _centre_lines([_given_line(index, road) for index, road in enumerate(pairs)])


def _given_line(index: int, points: Floats) -> Floats:
    """Points `[n, 2]` of a centre line, one a tile, or an error."""
    points = _opened(points)
    if not 4 <= len(points) <= MOST or np.abs(points).max() > LONGEST:
        limits = f"a centre line has 4 to {MOST} points, none farther than {LONGEST:.0f} units from the origin"
        fail(1, f"road {index}: {limits}")
    points = points.astype(np.float32).astype(np.float64)
    if (points == np.roll(points, 1, axis=0)).all(axis=1).any():
        fail(1, f"road {index}: two successive points are the same")
    return points


def _kind(index: int, road: Any) -> str:
    if not isinstance(road, dict) or not {"points", "centre_line"} & set(road):
        fail(1, f"road {index}: expected an object with `points` or `centre_line`")
    return "points" if "points" in road else "centre_line"


def _pairs(values: Any, where: str) -> Floats:
    if not isinstance(values, list):
        fail(1, f"{where} must be a list of pairs of numbers")
    for index, pair in enumerate(values):
        if not (isinstance(pair, list) and len(pair) == 2 and all(is_number(value) for value in pair)):
            fail(1, f"{where}[{index}] is not a pair of numbers")
    return np.array(values, dtype=np.float64).reshape(-1, 2)


def format_levels(levels: LevelBatch) -> str:
    """Write roads: control points as text, centre lines as JSON. `parse` reads them back without loss.

    Raises:
        TypeError: the levels are neither.
    """
    if isinstance(levels, BezierLevels):
        return "\n".join("".join(f"{x} {y}\n" for x, y in road) for road in _written(levels))
    if isinstance(levels, CentreLineLevels):
        lines = [json.dumps({"centre_line": [[float(x), float(y)] for x, y in road]}) for road in _written(levels)]
        return "[\n" + ",\n".join(lines) + "\n]\n"
    raise TypeError(f"roads can be written, not {type(levels).__name__}")


def _written(levels: BezierLevels | CentreLineLevels) -> list[list[tuple[str, str]]]:
    """The used points of each road, with just as many digits as single precision needs."""
    rows = levels.points.cpu().numpy()
    return [[(str(x), str(y)) for x, y in row[:count]] for row, count in zip(rows, levels.count.tolist(), strict=True)]
