"""Bezier roads: by hand, and by the statistics that the reference gives."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clutr.envs.car.domain import CarDomain
from clutr.envs.car.road.bezier import HANDLE, OUTGOING, SEGMENT_POINTS, bezier_tracks
from clutr.envs.car.road.track import Track

SQUARE = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 100.0], [0.0, 100.0]])


def track_of(points: NDArray[np.float64]) -> Track:
    return bezier_tracks(points[None], np.array([len(points)]))[0]


def area(track: Track) -> float:
    x, y = track.points.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def naive_line(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The road as the reference words it, one point at a time, in clockwise order and not centred."""
    middle = points.mean(axis=0)
    order = sorted(points.tolist(), key=lambda p: -np.arctan2(p[1] - middle[1], p[0] - middle[0]))
    n = len(order)

    def angle(i: int) -> float:
        (x0, y0), (x1, y1) = order[i % n], order[(i + 1) % n]
        return float(np.arctan2(y1 - y0, x1 - x0) % (2 * np.pi))

    line = []
    for i in range(n):
        tangents = []
        for k in (i, i + 1):
            outgoing, incoming = angle(k), angle(k - 1)
            mean = OUTGOING * outgoing + (1 - OUTGOING) * incoming
            tangents.append(mean + (np.pi if abs(outgoing - incoming) > np.pi else 0))
        start, end = np.array(order[i]), np.array(order[(i + 1) % n])
        reach = HANDLE * np.linalg.norm(end - start)
        first = start + reach * np.array([np.cos(tangents[0]), np.sin(tangents[0])])
        last = end - reach * np.array([np.cos(tangents[1]), np.sin(tangents[1])])
        for t in np.linspace(0, 1, SEGMENT_POINTS)[:-1]:
            s = 1 - t
            line.append(s**3 * start + 3 * t * s**2 * first + 3 * t**2 * s * last + t**3 * end)
    return np.array(line)


def test_a_road_is_the_curve_that_the_reference_describes() -> None:
    for points in (SQUARE, np.random.default_rng(0).uniform(0, 300, (12, 2))):
        track, line = track_of(points), naive_line(points)
        assert len(track) == len(points) * (SEGMENT_POINTS - 1)
        line -= (line.min(axis=0) + line.max(axis=0)) / 2
        assert track.points == pytest.approx(np.concatenate([line[:1], line[:0:-1]]), abs=1e-9)
    assert area(track_of(SQUARE)) > 9000, "driven counter-clockwise"


def test_a_road_is_centred_and_starts_along_its_way() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        track = track_of(rng.uniform(0, 300, (12, 2)))
        assert track.points.min(axis=0) == pytest.approx(-track.points.max(axis=0))
        beta = track.directions[0]
        way = track.points[1] - track.points[-1]
        assert np.array([-np.sin(beta), np.cos(beta)]) @ way / np.linalg.norm(way) == pytest.approx(1)


def test_the_order_of_control_points_is_irrelevant() -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform(0, 300, (12, 2))
    assert track_of(points).points == pytest.approx(track_of(points[rng.permutation(12)]).points)


@pytest.mark.parametrize(("sampler", "mean", "deviation"), [("grid", 1130, 133), ("continuous", 1161, 130)])
def test_lengths_are_those_of_the_reference(sampler: str, mean: float, deviation: float) -> None:
    n = 400
    levels = CarDomain(sampler=sampler).sample(n, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    tracks = levels.tracks()
    assert {len(track) for track in tracks} == {468}
    lengths = np.array([track.length for track in tracks])
    # the reference's figures come from 400 draws too
    standard_error = deviation * np.sqrt(2 / n)
    assert abs(lengths.mean() - mean) < 3.5 * standard_error
    assert abs(lengths.std() - deviation) < 3.5 * standard_error / np.sqrt(2)
    assert all(area(track) > 0 for track in tracks), "driven counter-clockwise"
