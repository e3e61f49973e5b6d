"""Roads as text, JSON, CSV and GeoJSON."""

import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longer import examples

from clutr.envs.car.domain import CarDomain
from clutr.envs.car.road.level import BezierLevels, CentreLineLevels
from clutr.envs.car.road.text import LIMIT, MOST_POINTS, TILE, UNITS_A_METRE, collinear, format_levels, parse
from clutr.envs.domain import LevelBatch, LevelError, SeedLevels

SQUARE = "0 0\n100 0\n100 100\n0 100\n"
RING = [(1000 * math.cos(angle), 1000 * math.sin(angle)) for angle in np.linspace(0, 2 * math.pi, 80, endpoint=False)]
"""In metres."""

coordinates = st.floats(-LIMIT, LIMIT, width=32)
roads = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9)


def levels_of(batch: list[list[tuple[float, float]]]) -> BezierLevels:
    points = torch.zeros(len(batch), max(map(len, batch)), 2)
    for row, road in zip(points, batch, strict=True):
        row[: len(road)] = torch.tensor(road)
    return BezierLevels(points, torch.tensor([len(road) for road in batch]))


def same(one: LevelBatch, other: LevelBatch) -> bool:
    tensors = zip(one.tensors().values(), other.tensors().values(), strict=True)
    return type(one) is type(other) and all(torch.equal(a, b) for a, b in tensors)


def geojson(line: list[tuple[float, float]]) -> dict[str, Any]:
    """A line in metres as degrees about a place on the equator."""
    degree = math.radians(1) * 6_371_008.8
    return {"type": "LineString", "coordinates": [[10 + x / degree, y / degree] for x, y in line]}


@given(st.lists(roads, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_control_points_come_back_bit_for_bit_or_are_refused(batch: list[list[tuple[float, float]]]) -> None:
    batch = [road[:-1] if len(road) > 3 and road[0] == road[-1] else road for road in batch]
    levels = levels_of(batch)
    double = any(len(set(road)) < len(road) for road in batch)
    if double or any(collinear(np.array(road)) for road in batch):
        with pytest.raises(LevelError, match=r"two control points are the same|all control points lie on one line"):
            parse(format_levels(levels))
    else:
        back = parse(format_levels(levels))
        assert same(back, levels)
        assert back.key() == levels.key()


@pytest.mark.parametrize("sampler", ["grid", "continuous"])
def test_samples_come_back_as_they_were(sampler: str) -> None:
    domain = CarDomain(sampler=sampler)  # type: ignore[arg-type]
    levels = domain.sample(50, torch.Generator().manual_seed(0))
    assert same(domain.parse(domain.format(levels)), levels)


def test_centre_lines_come_back_as_they_were() -> None:
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(-500, 500, (3, 20, 2))).float()
    count = torch.tensor([20, 7, 4])
    points[torch.arange(20)[None] >= count[:, None]] = 0
    levels = CentreLineLevels(points, count)
    assert same(parse(format_levels(levels)), levels)
    one = parse(json.dumps({"centre_line": points[0].double().tolist()}))
    assert same(one, levels[0])


def test_text_is_read_as_documented() -> None:
    written = (
        "\ufeff# two roads\r\n\r\n0 0 # home\r\n1e2\t0\r\n  100 100.0\r\n\r\n \r\n# the other\r\n-1 0\r\n2 0\r\n0 .5"
    )
    levels = parse(written)
    assert isinstance(levels, BezierLevels)
    assert levels.count.tolist() == [3, 3]
    expected = [[[0, 0], [100, 0], [100, 100]], [[-1, 0], [2, 0], [0, 0.5]]]
    assert levels.points.tolist() == expected
    assert same(parse(json.dumps([{"points": road} for road in expected])), levels)
    assert same(parse(json.dumps({"points": expected[1]})), levels[1])
    uneven = parse(SQUARE + "\n1 2\n3 5\n4 4\n")
    assert uneven.tensors()["count"].tolist() == [4, 3]
    assert not uneven.tensors()["points"][1, 3].any()


@pytest.mark.parametrize(
    "source",
    [
        "\n".join(f"{x},{y}" for x, y in RING),
        "# x_m,y_m,w_tr_right_m,w_tr_left_m\n" + "\n".join(f"{x},{y},5.5,6.1" for x, y in RING),
        "x; y; width\n\n" + "\r\n".join(f" {x}; {y}; wide" for x, y in RING),
        "# f00d\n# s_m; x_m; y_m; psi_rad\n" + "\n".join(f"{i}; {x}; {y}; 0.1" for i, (x, y) in enumerate(RING)),
        "# a track\n\nY [m],s,X [m]\n" + "\n".join(f"{y},7,{x}" for x, y in RING),
        "\n".join(f"{x}; {y}; 5,5".replace(".", ",") for x, y in RING),
        "\n".join(f"{x} {y}".replace(".", ",") for x, y in RING),
        "x_m\ty_m\n" + "\n".join(f"{x}\t{y}" for x, y in RING),
        "# x_m\ty_m\n" + "\n".join(f"{x:.6f}\t{y:.6f}".replace(".", ",") for x, y in RING),
        "\n".join(f"{x}\t{y}\t5\t5" for x, y in [*RING, RING[0]]),
        "x y\n" + "\n".join(f"{x} {y}" for x, y in RING),
        json.dumps({"type": "MultiLineString", "coordinates": [geojson(RING)["coordinates"]]}),
        json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [geojson(RING)["coordinates"]]}}),
        json.dumps({"type": "GeometryCollection", "geometries": [geojson(RING)]}),
        "\ufeff" + json.dumps(geojson(RING)),
        json.dumps({"type": "Feature", "properties": {}, "geometry": geojson([*RING, RING[0]])}),
        json.dumps(
            {
                "type": "FeatureCollection",
                "features": [
                    {"type": "Feature", "geometry": {"type": "Point", "coordinates": [0, 0]}},
                    {"type": "Feature", "geometry": geojson(RING)},
                    {"type": "Feature", "geometry": None},
                ],
            },
            indent=1,
        ),
    ],
    ids=[
        *("csv", "TUMFTM", "semicolons", "raceline", "columns by name", "decimal commas", "and spaces", "tabs"),
        *("commented tabs", "four columns by tabs", "spaces", "one part", "polygon", "geometries"),
        *("geojson", "feature", "collection"),
    ],
)
def test_real_roads_become_tiles(source: str) -> None:
    levels = parse(source)
    assert isinstance(levels, CentreLineLevels)
    track = levels.tracks()[0]
    assert track.length == pytest.approx(2 * math.pi * 1000 * UNITS_A_METRE, rel=2e-3)
    assert len(track) == round(track.length / TILE)
    radii = np.linalg.norm(track.points, axis=1)
    assert radii == pytest.approx(np.full(len(track), 1000 * UNITS_A_METRE), rel=2e-3)
    assert track.points[0] == pytest.approx([1000 * UNITS_A_METRE, 0], abs=1)
    assert track.points[1, 1] > 0, "driven in the file's order"


METRES = "0,0\n100,0\n100,100\n0,100\n"


def road(**fields: Any) -> str:
    return json.dumps(fields)


TRIANGLE = [[0, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "line 1: no road found: the source is empty"),
        (" \n# nothing\n", "line 1: no road found: the source is empty"),
        ("0 0\n1 0\n2\n", "line 3: expected two numbers, x and y, got '2'"),
        ("0 0\n1 0 5\n", "line 2: expected two numbers, x and y, got '1 0 5'"),
        ("0 0\none two\n", "line 2: expected two numbers, x and y, got 'one two'"),
        ("0 " + "x" * 500, "line 1: expected two numbers, x and y, got '0 " + "x" * 38 + "'"),
        ("0 0\n1 1\n", "line 1: a road has 3 to 100 control points, this one 2"),
        (SQUARE + "\n\n0 0\n1 1\n", "line 7: a road has 3 to 100 control points, this one 2"),
        ("\n".join(f"{i} {i * i % 7}" for i in range(MOST_POINTS + 1)), "line 1: a road has 3 to 100 control points"),
        ("nan 0\n1 0\n0 1", "line 1: control points must be numbers from -1000 to 1000"),
        ("1e999 0\n1 0\n0 1", "line 1: control points must be numbers from -1000 to 1000"),
        ("1000.1 0\n1 0\n0 1", "line 1: control points must be numbers from -1000 to 1000"),
        ("5 5\n1 0\n5 5\n0 1", "line 1: two control points are the same"),
        ("1 1\n1.000000001 1\n0 1", "line 1: two control points are the same"),
        (SQUARE + "\n0 0\n1 2\n2 4\n", "line 6: all control points lie on one line"),
        ("[ " * 5000, "line 1: not valid JSON: nested too deeply"),
        ("{\n\n", "line 3: not valid JSON: "),
        ('{"points": 1' + "0" * 5000 + "}", "line 1: not valid JSON: "),
        ("[]", "line 1: no road found: the list is empty"),
        ("[1]", "line 1: road 0: expected an object with `points` or `centre_line`"),
        ("{}", "line 1: road 0: expected an object with `points` or `centre_line`"),
        (f'[{road(points=TRIANGLE)}, {{"centre_line": []}}]', "line 1: roads of one source must all have"),
        (road(points=3), "line 1: road 0: `points` must be a list of pairs of numbers"),
        (road(points=[]), "line 1: a road has 3 to 100 control points, this one 0"),
        (road(points=[[0, 0], [1]]), "line 1: road 0: `points`[1] is not a pair of numbers"),
        (road(points=[[0, 0, 0]]), "line 1: road 0: `points`[0] is not a pair of numbers"),
        (road(points=[[True, 0]]), "line 1: road 0: `points`[0] is not a pair of numbers"),
        (road(points=[["1", 0]]), "line 1: road 0: `points`[0] is not a pair of numbers"),
        (road(points=[[math.nan, 0]]), "line 1: road 0: `points`[0] is not a pair of numbers"),
        (road(points=[[10**400, 0]]), "line 1: road 0: `points`[0] is not a pair of numbers"),
        (road(points=[*TRIANGLE, [1e6, 0]]), "line 1: control points must be numbers from -1000 to 1000"),
        (road(points=[[0, 0], [1, 1], [2, 2]]), "line 1: all control points lie on one line"),
        (road(centre_line=None), "line 1: road 0: `centre_line` must be a list of pairs of numbers"),
        (road(centre_line=TRIANGLE), "line 1: road 0: a centre line has 4 to 100000 points"),
        (road(centre_line=[*TRIANGLE, [1e5, 0]]), "none farther than 20000 units from the origin"),
        (road(centre_line=[*TRIANGLE, [0, 1], [-1, 0]]), "line 1: road 0: two successive points are the same"),
        (SQUARE + "0 0\n0 0\n", "line 1: two control points are the same"),
        (road(centre_line=[[0, 0]] * 5), "line 1: road 0: two successive points are the same"),
        ("0,0\n1,0\n1,1\n", "line 1: a closed centre line needs at least 4 different points, this one has 3"),
        ("5,5\n" * 9, "line 1: a closed centre line needs at least 4 different points, this one has 0"),
        ("0,0\n1,x\n", "line 2: expected two numbers, x and y in metres, got '1,x'"),
        ("0,0\n1,\n", "line 2: expected two numbers, x and y in metres, got '1,'"),
        ("0,0\n7\n", "line 2: expected two numbers, x and y in metres, got '7'"),
        ("0,0\nx,y\n", "line 2: expected two numbers, x and y in metres, got 'x,y'"),
        ("0,0\ninf,1\n", "line 2: x and y must be finite, got 'inf,1'"),
        ("nan;0\n", "line 1: x and y must be finite, got 'nan;0'"),
        ("0,0\n" + "1" * 200_000 + ",1\n", "line 2: expected two numbers, x and y in metres, got '111"),
        ("0,0\n1,0\n1,1\n0,1\n", "line 1: the centre line is 4 m long; a road has 24 to 20000 units"),
        ("0,0\n1e6,0\n1e6,1e6\n0,1e6\n", "line 1: the centre line is 4e+06 m long"),
        (
            "0,300\n176,-243\n-285,93\n285,93\n-176,-243\n",
            "line 1: the centre line crosses itself 5 times; it may once",
        ),
        (road(type="Polygon"), "line 1: `coordinates` of a Polygon must be a list of lines"),
        (
            road(type="Polygon", coordinates=[[[0, 0]], [[0, 0]]]),
            "line 1: a centre line needs exactly one LineString, found 2",
        ),
        (road(type="GeometryCollection"), "line 1: `geometries` of a GeometryCollection must be a list"),
        ("3OO.0,0.0\n" + METRES, "line 1: expected two numbers, x and y in metres, got '3OO.0,0.0'"),
        ("x,y\n3OO.0,0.0\n" + METRES, "line 2: expected two numbers, x and y in metres, got '3OO.0,0.0'"),
        ("x,y\n", "line 1: the table has a header and no numbers"),
        ("s_m,y_m\n" + METRES, "line 1: the header names no x in metres: 's_m, y_m'; it may be called x, x_m or x [m]"),
        ("# lon, lat\n" + METRES, "line 1: the header names no x in metres: 'lon, lat'; it may be called"),
        ("lon,lat\n" + METRES, "degrees are read from GeoJSON"),
        ("x_km,y_km\n" + METRES, "line 1: the header names no x in metres: 'x_km, y_km'"),
        ("x,y,x_m\n" + METRES, "line 1: the header names x more than once: 'x, y, x_m'"),
        ("# s,x,y\n" + METRES, "line 2: expected two numbers"),
        ("# x,y,w\n" + METRES, "line 2: the row has 2 columns, the header in line 1 names 3"),
        (METRES + "1,2,3\n", "line 5: the row has 3 columns, line 1 has 2"),
        ("1,5;2.5\n", "line 1: decimal points and decimal commas in one file"),
        ("1,234.5;2\n", "line 1: expected two numbers, x and y in metres, got '1,234.5;2'"),
        ("1_0,2\n", "line 1: expected two numbers"),
        ("\n".join(f"{i} {i * i % 7}" for i in range(MOST_POINTS + 1)), "commas, or a header `x y`"),
        (road(type=["LineString"]), "line 1: a centre line needs exactly one LineString, found 0"),
        (road(type="Feature", geometry=None), "line 1: a centre line needs exactly one LineString, found 0"),
        (road(type="Feature", geometry=[1]), "line 1: a GeoJSON document is an object with a `type`"),
        (road(type="FeatureCollection"), "line 1: `features` of a FeatureCollection must be a list"),
        (
            road(type="FeatureCollection", features=[geojson(RING), geojson(RING)]),
            "line 1: a centre line needs exactly one LineString, found 2",
        ),
        (road(type="LineString"), "line 1: `coordinates` must be a list of pairs of numbers"),
        (road(type="LineString", coordinates=[]), "line 1: the LineString has no coordinates"),
        (road(type="LineString", coordinates=[[0, 0], [1]]), "line 1: `coordinates`[1] is not a pair of numbers"),
        (road(type="LineString", coordinates=[[0, None]]), "line 1: `coordinates`[0] is not a pair of numbers"),
        (road(type="LineString", coordinates=[[200, 0]] * 5), "line 1: coordinates must be longitude and latitude"),
        (road(type="LineString", coordinates=[[0, 89.5]] * 5), "no nearer to a pole than 1 degree"),
        (road(type="LineString", coordinates=TRIANGLE), "line 1: a closed centre line needs at least 4 different"),
    ],
)
def test_bad_sources_get_one_clear_error(source: str, message: str) -> None:
    with pytest.raises(LevelError, match=r"^line \d+: ") as caught:
        parse(source)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_deep_features_are_refused_whatever_stands_in_the_way() -> None:
    for depth in range(300, 1200, 60):
        nested = '{"type":"Feature","geometry":' * depth + road(type="LineString") + "}" * depth
        with pytest.raises(LevelError, match=r"line 1: (not valid JSON|features are nested|`coordinates` must)"):
            parse(nested)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
shapes = st.one_of(
    st.fixed_dictionaries({"points": json_values}),
    st.fixed_dictionaries({"centre_line": json_values | st.lists(st.lists(st.floats(), min_size=2, max_size=2))}),
    st.fixed_dictionaries({"type": st.sampled_from(["LineString"]), "coordinates": json_values}),
    st.fixed_dictionaries({"type": st.just("LineString"), "coordinates": st.lists(st.lists(st.floats(-180, 180)))}),
    st.fixed_dictionaries({"type": st.just("FeatureCollection"), "features": json_values}),
    json_values,
)


@given(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="0123456789.,;eE+-# \n\"[]{}:'naifx", max_size=80),
        shapes.map(json.dumps),
        st.lists(st.lists(st.floats(), min_size=1, max_size=3), max_size=8).map(
            lambda rows: "\n".join(",".join(map(str, row)) for row in rows)
        ),
    )
)
@pytest.mark.mutations
@settings(max_examples=examples(60), deadline=None)
def test_whatever_is_read_is_a_road_or_a_level_error(source: str) -> None:
    try:
        levels = parse(source)
    except LevelError:
        return
    for track in levels.tracks():
        assert np.isfinite(track.quads()).all()
    assert same(parse(format_levels(levels)), levels)


def test_seeds_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="roads can be written, not SeedLevels"):
        format_levels(SeedLevels(torch.tensor([1])))
    with pytest.raises(TypeError, match="the car domain works on BezierLevels, got SeedLevels"):
        CarDomain().format(SeedLevels(torch.tensor([1])))


def test_rings_may_be_closed_by_their_first_point() -> None:
    assert same(parse(SQUARE + "0 0\n"), parse(SQUARE))
    square = [[0, 0], [100, 0], [100, 100], [0, 100]]
    for kind in ("points", "centre_line"):
        assert same(parse(json.dumps({kind: [*square, square[0]]})), parse(json.dumps({kind: square})))


def test_a_figure_of_eight_is_a_road_with_a_crossing() -> None:
    angles = np.linspace(0.1, 2 * math.pi + 0.1, 200, endpoint=False)
    (track,) = parse("\n".join(f"{800 * math.sin(a)},{400 * math.sin(2 * a)}" for a in angles)).tracks()
    assert track.crossings() == 1


VALID = {
    "control points": SQUARE,
    "table": "# s_m; x_m; y_m\n" + "\n".join(f"{i};{x:.1f};{y:.1f}" for i, (x, y) in enumerate(RING[::8])),
    "geojson": json.dumps(geojson([*RING[::8], RING[0]])),
    "json": json.dumps([{"points": [[0, 0], [100, 0], [100, 100]]}]),
}
edits = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from([*'0129.,;-eE# \t\n"[]{}:x', "\0", "nan", "é"])),
    min_size=1,
    max_size=4,
)


NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"


def plain_points(source: str) -> list[list[list[float]]] | None:
    """Roads of lines of two numbers with blank lines between them; None if something else is there, too."""
    roads: list[list[list[float]]] = [[]]
    for line in source.split("\n"):
        pair = re.fullmatch(rf"\s*{NUMBER}[ \t]+{NUMBER}\s*", line.partition("#")[0])
        if pair:
            roads[-1].append([float(pair[1]), float(pair[2])])
        elif not line.strip():
            roads += [[]]
        else:
            return None
    return [road[: -1 if len(road) > 3 and road[0] == road[-1] else None] for road in roads if road]


@given(st.sampled_from(sorted(VALID)), edits)
@pytest.mark.mutations
@settings(max_examples=examples(60), deadline=None)
def test_a_damaged_file_is_a_road_or_a_level_error(kind: str, changes: list[tuple[int, int, str]]) -> None:
    source = VALID[kind]
    for position, removed, added in changes:
        place = position % (len(source) + 1)
        source = source[:place] + added + source[place + removed :]
    refusal = ""
    try:
        levels = parse(source)
    except LevelError as error:
        refusal = str(error)
    if refusal:
        number = re.match(r"line (\d+): .{,250}$", refusal)
        assert number, refusal
        assert 1 <= int(number[1]) <= source.count("\n") + 1
        return
    assert all(np.isfinite(track.quads()).all() for track in levels.tracks())
    assert same(parse(format_levels(levels)), levels)
    written = plain_points(source)
    if written is not None and isinstance(levels, BezierLevels):
        read = [road[:count].tolist() for road, count in zip(levels.points, levels.count, strict=True)]
        assert read == [np.array(road, np.float32).tolist() for road in written]
