"""Centre lines of real roads, read from GeoJSON and turned into tiles."""

import json
import math
from typing import Any, NoReturn

import numpy as np

from clutr.envs.car.road.crossings import crossings
from clutr.envs.car.road.track import Floats
from clutr.envs.domain import LevelError

EARTH_RADIUS = 6_371_008.8
"""Mean radius in metres."""
FEWEST, MOST = 4, 100_000
"""Points of a line that is read."""
_GAP = 1e-9
"""Points closer than this share of the line's length are one."""
_FINE = 20
"""Points on the spline for each point asked for, by which its length is measured."""


def parse_geojson(source: str) -> Floats:
    """The line of a GeoJSON document in metres about its middle, `[n, 2]`, x to the east and y to the north.

    A `LineString` of WGS-84 longitudes and latitudes, or a `MultiLineString` or `Polygon` of one part, by itself, in a
    `Feature`, or in a `FeatureCollection` or `GeometryCollection` with exactly one line. It is projected on the plane
    that touches the globe at its middle (local equirectangular): over the 5 km of a race track, lengths are off by less
    than a thousandth.

    Raises:
        LevelError: the source is no such document; the message names line and reason.
    """
    document = load_json(source)
    try:
        lines = _line_strings(document)
    except RecursionError:
        fail(1, "features are nested too deeply")
    if len(lines) != 1:
        fail(1, f"a centre line needs exactly one LineString, found {len(lines)}")
    degrees = _pairs(lines[0], "coordinates")
    if len(degrees) == 0:
        fail(1, "the LineString has no coordinates")
    longitude, latitude = degrees[:, 0], degrees[:, 1]
    if np.abs(longitude).max() > 180 or np.abs(latitude).max() > 89:
        fail(1, "coordinates must be longitude and latitude in degrees (WGS-84), no nearer to a pole than 1 degree")
    middle = (latitude.min() + latitude.max()) / 2
    # measured from the first point and reduced, so that a line may cross the date line
    east = (longitude - longitude[0] + 180) % 360 - 180
    metres = np.stack([np.radians(east) * math.cos(math.radians(middle)), np.radians(latitude - middle)], axis=1)
    return close(metres * EARTH_RADIUS, 1)


def load_json(source: str) -> Any:
    """The value of a JSON document. Raises `LevelError` naming line and reason."""
    try:
        return json.loads(source)
    except json.JSONDecodeError as error:
        fail(error.lineno, f"not valid JSON: {error.msg}")
    except RecursionError:
        fail(1, "not valid JSON: nested too deeply")
    except ValueError as error:  # a number with thousands of digits
        fail(1, f"not valid JSON: {error}")


def _line_strings(document: Any) -> list[Any]:
    if not isinstance(document, dict):
        fail(1, "a GeoJSON document is an object with a `type`")
    kind = document.get("type")
    if kind == "LineString":
        return [document.get("coordinates")]
    if kind in ("MultiLineString", "Polygon"):
        parts = document.get("coordinates")
        if not isinstance(parts, list):
            fail(1, f"`coordinates` of a {kind} must be a list of lines")
        return parts
    if kind == "Feature":
        return _line_strings(document.get("geometry") or {"type": "nothing"})
    if kind in ("FeatureCollection", "GeometryCollection"):
        name = "features" if kind == "FeatureCollection" else "geometries"
        features = document.get(name)
        if not isinstance(features, list):
            fail(1, f"`{name}` of a {kind} must be a list")
        return [line for feature in features if isinstance(feature, dict) for line in _line_strings(feature)]
    return []


def _pairs(values: Any, name: str) -> Floats:
    """Numbers `[n, 2]` from a list of lists of two or more; anything else is an error."""
    if not isinstance(values, list):
        fail(1, f"`{name}` must be a list of pairs of numbers")
    for index, pair in enumerate(values):
        numbers = isinstance(pair, list) and len(pair) >= 2 and all(is_number(value) for value in pair[:2])
        if not numbers:
            fail(1, f"`{name}`[{index}] is not a pair of numbers")
    return np.array([pair[:2] for pair in values], dtype=np.float64).reshape(-1, 2)


def is_number(value: Any) -> bool:
    """Whether a value read from JSON is a finite number of sensible size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def close(points: Floats, line: int) -> Floats:
    """A closed line without repeated points. Raises `LevelError` naming `line` if it is none."""
    if len(points) > MOST:
        fail(line, f"a centre line has at most {MOST:,} points, this one {len(points):,}")
    if len(points):
        gaps = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
        points = points[gaps > _GAP * max(gaps.sum(), 1e-300)]
    if len(points) < FEWEST:
        fail(line, f"a closed centre line needs at least {FEWEST} different points, this one has {len(points)}")
    return points


def resample(points: Floats, count: int) -> Floats:
    """`count` points at equal distances along the periodic cubic spline through `points` `[n, 2]`, from its start."""
    closed = np.concatenate([points, points[:1]])
    chord = np.concatenate([[0.0], np.linalg.norm(np.diff(closed, axis=0), axis=1).cumsum()])
    from scipy.interpolate import CubicSpline  # noqa: PLC0415  # takes half a second

    spline = CubicSpline(chord, closed, bc_type="periodic")
    fine = np.linspace(0.0, chord[-1], _FINE * max(count, len(points)) + 1)
    steps = np.linalg.norm(np.diff(spline(fine), axis=0), axis=1)
    along = np.concatenate([[0.0], steps.cumsum()])
    positions = np.interp(np.arange(count) * along[-1] / count, along, fine)
    line: Floats = spline(positions)
    return line


def fit(points: Floats, length: float, count: int, most_crossings: int = 0) -> Floats:
    """`count` equally spaced points of a line of the wanted length, its bounding box centred on the origin.

    Raises:
        LevelError: the line crosses itself more than `most_crossings` times.
    """
    line = resample(points, count)
    line *= length / np.linalg.norm(np.roll(line, -1, axis=0) - line, axis=1).sum()
    line -= (line.min(axis=0) + line.max(axis=0)) / 2
    found = int(crossings(line))
    if found > most_crossings:
        allowed = "once, as a figure of eight does" if most_crossings else "nowhere"
        fail(1, f"the centre line crosses itself {found} times; it may {allowed}: more looks like a wrong file")
    return line


def signed_area(points: Floats) -> float:
    """Area inside a closed line, positive if it runs counter-clockwise with y upwards."""
    x, y = points[:, 0], points[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def fail(line: int, reason: str) -> NoReturn:
    """Raise the `LevelError` that names line and reason."""
    raise LevelError(f"line {line}: {reason}")
