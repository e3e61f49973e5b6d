"""Circuits: read, projected, mirrored, scaled, found and fetched."""

import functools
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clutr.envs.car.road.centre_line import EARTH_RADIUS, parse_geojson, resample, signed_area
from clutr.envs.car.road.circuits import (
    CIRCUITS,
    TILES,
    VARIABLE,
    Circuit,
    CircuitError,
    centre_line,
    circuit_level,
    download,
    find,
    use_tracks,
)
from clutr.envs.domain import LevelError

MONACO = next(circuit for circuit in CIRCUITS if circuit.name == "Monaco")


def geojson(points: NDArray[np.float64], kind: str = "FeatureCollection") -> str:
    line = {"type": "LineString", "coordinates": points.tolist()}
    feature = {"type": "Feature", "properties": {}, "geometry": line}
    documents = {
        "LineString": line,
        "Feature": feature,
        "FeatureCollection": {"type": "FeatureCollection", "features": [feature]},
    }
    return json.dumps(documents[kind])


def ring(latitude: float = 50.0, longitude: float = 7.0, radius: float = 800.0, n: int = 120) -> NDArray[np.float64]:
    """A closed ellipse-like line of degrees, counter-clockwise on the map, the first point to the east."""
    angles = np.linspace(0, 2 * np.pi, n + 1)
    east, north = radius * np.cos(angles), 0.6 * radius * np.sin(angles)
    metres = np.stack([east / np.cos(np.radians(latitude)), north], axis=1)
    degrees: NDArray[np.float64] = np.degrees(metres / EARTH_RADIUS) + np.array([longitude, latitude])
    return degrees


def haversine(points: NDArray[np.float64]) -> float:
    """Length of a line of degrees on the globe, in metres."""
    longitude, latitude = np.radians(points).T
    steps = np.sin(np.diff(latitude) / 2) ** 2
    steps += np.cos(latitude[1:]) * np.cos(latitude[:-1]) * np.sin(np.diff(longitude) / 2) ** 2
    return float((2 * EARTH_RADIUS * np.arcsin(np.sqrt(steps))).sum())


@pytest.mark.parametrize("kind", ["LineString", "Feature", "FeatureCollection"])
@pytest.mark.parametrize(("latitude", "longitude"), [(50.0, 7.0), (-34.0, 179.999), (0.0, 0.0)])
def test_projected_lengths_are_those_on_the_globe(kind: str, latitude: float, longitude: float) -> None:
    points = ring(latitude, longitude)
    points[:, 0] = (points[:, 0] + 180) % 360 - 180  # may cross the date line
    metres = parse_geojson(geojson(points, kind))
    assert len(metres) == 120, "the last point repeats the first"
    length = np.linalg.norm(np.roll(metres, -1, axis=0) - metres, axis=1).sum()
    assert length == pytest.approx(haversine(points), rel=1e-3)
    assert signed_area(metres) > 0, "east is to the right and north is up"


def test_a_circuit_is_mirrored_scaled_turned_and_centred() -> None:
    for clockwise in (True, False):
        circuit = replace(MONACO, length=1000.0, clockwise=clockwise)
        line = centre_line(circuit, geojson(ring()))
        assert line.shape == (TILES, 2)
        steps = np.linalg.norm(np.roll(line, -1, axis=0) - line, axis=1)
        assert steps.sum() == pytest.approx(1000)
        assert steps == pytest.approx(np.full(TILES, 1000 / TILES), rel=1e-3)
        assert (signed_area(line) < 0) == clockwise
        assert line.min(axis=0) == pytest.approx(-line.max(axis=0))
        assert line[0, 0] == pytest.approx(line[:, 0].max(), rel=1e-3), "it begins where the file does"
    lopsided = ring()
    lopsided[:60, 1] += 0.3 * (lopsided[:60, 1] - 50)  # the northern half reaches farther
    lopsided[-1] = lopsided[0]
    line = centre_line(MONACO, geojson(lopsided))
    expected = parse_geojson(geojson(lopsided)) * np.array([1, -1])
    expected *= MONACO.length / np.linalg.norm(np.roll(expected, -1, axis=0) - expected, axis=1).sum()
    expected -= (expected.min(axis=0) + expected.max(axis=0)) / 2
    nearest = np.linalg.norm(line[None] - expected[:, None], axis=2).min(axis=1)
    assert nearest.max() < 2, "the drawings of the original test are mirror images"


def test_resampling_goes_through_the_points() -> None:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = np.stack([100 * np.cos(angles), 60 * np.sin(angles)], axis=1)
    line = resample(points, 4000)
    nearest = np.linalg.norm(line[None] - points[:, None], axis=2).min(axis=1)
    assert nearest.max() < 0.1
    assert line[0] == pytest.approx(points[0])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{", "line 1: not valid JSON: "),
        ("[" * 5000, "line 1: not valid JSON: nested too deeply"),
        ("[]", "line 1: a GeoJSON document is an object with a `type`"),
        ('{"type": "FeatureCollection"}', "line 1: `features` of a FeatureCollection must be a list"),
        (
            '{"type": "FeatureCollection", "features": []}',
            "line 1: a centre line needs exactly one LineString, found 0",
        ),
        ('{"type": "LineString"}', "line 1: `coordinates` must be a list of pairs of numbers"),
        ('{"type": "LineString", "coordinates": []}', "line 1: the LineString has no coordinates"),
        ('{"type": "LineString", "coordinates": [[1' + "0" * 5000 + ", 1]]}", "line 1: not valid JSON: "),
        ('{"type": "LineString", "coordinates": [[0, 1], [0]]}', "line 1: `coordinates`[1] is not a pair of numbers"),
        ('{"type": "LineString", "coordinates": [[0, "1"]]}', "line 1: `coordinates`[0] is not a pair of numbers"),
        ('{"type": "LineString", "coordinates": [[500000, 5600000]]}', "line 1: coordinates must be longitude and"),
        (
            '{"type": "LineString", "coordinates": [[0, 0], [0, 1], [0, 0]]}',
            "line 1: a closed centre line needs at least",
        ),
    ],
)
def test_malformed_circuits_are_named(source: str, message: str) -> None:
    with pytest.raises(LevelError, match="^" + re.escape(message)):
        centre_line(MONACO, source)


def test_a_line_that_crosses_itself_is_refused() -> None:
    angles = np.linspace(0.1, 2 * np.pi + 0.1, 80)
    eight = np.stack([0.01 * np.sin(angles), 0.01 * np.sin(2 * angles)], axis=1)
    with pytest.raises(LevelError, match="the centre line crosses itself 1 times"):
        centre_line(MONACO, geojson(eight))


def test_a_directory_of_circuits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(CircuitError, match="is no directory; give the one that holds the GeoJSON files"):
        use_tracks(tmp_path / "nowhere")
    for circuit in CIRCUITS[1:]:
        (tmp_path / f"{circuit.file}.geojson").write_text(geojson(ring()))
    with pytest.raises(CircuitError, match=r"lacks 1 of 20 circuits: au-1953\.geojson"):
        use_tracks(tmp_path)
    (tmp_path / "au-1953.geojson").write_text("rubbish")
    use_tracks(tmp_path)
    assert find(CIRCUITS[1]) == tmp_path / "at-1969.geojson"
    assert circuit_level(CIRCUITS[1]).count.tolist() == [TILES]
    with pytest.raises(CircuitError, match=r"au-1953\.geojson: line 1: not valid JSON"):
        circuit_level(CIRCUITS[0])
    (tmp_path / "au-1953.geojson").unlink()
    with pytest.raises(CircuitError, match=f"does not exist; {VARIABLE} must name a directory"):
        find(CIRCUITS[0])


def test_without_a_network_the_user_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)

    def fetch(_: Circuit) -> Path:
        raise OSError("no route")

    with pytest.raises(CircuitError, match="the circuit Monaco is not on this machine") as caught:
        find(MONACO, fetch)
    for word in ("OSError", "Run once with a network connection", "--tracks DIR", VARIABLE, "bacinger/f1-circuits"):
        assert word in str(caught.value)


def test_a_spoilt_download_tells_the_user_the_same() -> None:
    def fetch(_: Circuit) -> Path:
        raise ValueError("another checksum")

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        with pytest.raises(CircuitError, match=r"Monaco is not on this machine and cannot be fetched \(ValueError\)"):
            find(MONACO, fetch)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)  # it waits for seconds before it tries again
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "mc-1929.geojson").write_text(geojson(ring()))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/"
        served.shutdown()


def test_circuits_are_fetched_once_and_checked(server: str, tmp_path: Path) -> None:
    content = (tmp_path / "served" / "mc-1929.geojson").read_bytes()
    circuit = replace(MONACO, sha256=hashlib.sha256(content).hexdigest())
    file = download(circuit, server, tmp_path / "cache")
    assert file.read_bytes() == content
    (tmp_path / "served" / "mc-1929.geojson").unlink()
    assert download(circuit, server, tmp_path / "cache") == file, "from the cache"
    with pytest.raises(OSError, match="404"):
        download(circuit, server, tmp_path / "elsewhere")


def test_another_file_than_expected_is_refused(server: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not match the known hash"):
        download(MONACO, server, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.geojson"))


@pytest.mark.skipif(not Path(os.environ[VARIABLE]).is_dir(), reason="the circuits are not on this machine")
@pytest.mark.parametrize("circuit", CIRCUITS, ids=lambda circuit: circuit.name)
def test_every_circuit_has_the_published_length_and_direction(circuit: Circuit) -> None:
    assert hashlib.sha256(find(circuit).read_bytes()).hexdigest() == circuit.sha256
    track = circuit_level(circuit).tracks()[0]
    assert len(track) == TILES
    assert track.length == pytest.approx(circuit.length, rel=1e-4)
    assert (signed_area(track.points) < 0) == circuit.clockwise
    assert track.crossings() == 0
    assert np.abs(track.quads()).max() < 400, "well within the playfield of 500"
