"""Closed roads through control points: cubic Bezier segments (arXiv 2110.02439, the CarRacing-Bezier tracks)."""

import math

import numpy as np
from numpy.typing import NDArray

from clutr.envs.car.road.track import Floats, Track, back_one, one_on

SEGMENT_POINTS = 40
"""Points on a segment, both ends included."""
HANDLE = 0.2
"""Length of the handles of a segment, in lengths of its chord."""
EDGINESS = 0.2
OUTGOING = math.atan(EDGINESS) / math.pi + 0.5
"""Weight of the outgoing chord in the tangent at a control point; the incoming one has the rest."""


def bezier_tracks(points: Floats, count: NDArray[np.int64]) -> list[Track]:
    """The roads through control points, centred on their bounding boxes and driven counter-clockwise.

    Control points are visited by their angle about their mean. A road through n distinct points has 39 n tiles.

    Args:
        points: `[B, P, 2]`, in units.
        count: `[B]`, how many of them are used.
    """
    return [Track.from_centre_line(_line(row[:used])) for row, used in zip(points, count.tolist(), strict=True)]


def _line(points: Floats) -> Floats:
    """The closed line through control points `[n, 2]`, counter-clockwise from the first of the angular order."""
    points = points[_clockwise(points)]
    ends = one_on(points)
    chords = ends - points
    lengths = np.linalg.norm(chords, axis=1)
    tangents = _tangents(np.arctan2(chords[:, 1], chords[:, 0]) % (2 * np.pi))
    handles = HANDLE * lengths[:, None] * np.stack([np.cos(tangents), np.sin(tangents)], axis=1)
    end_tangents = one_on(tangents)
    end_handles = HANDLE * lengths[:, None] * np.stack([np.cos(end_tangents), np.sin(end_tangents)], axis=1)
    corners = np.stack([points, points + handles, ends - end_handles, ends])  # [4, n, 2]
    t = np.linspace(0, 1, SEGMENT_POINTS)[:-1]  # the last point is the next segment's first
    weights = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    line = np.einsum("tk,knc->ntc", weights, corners).reshape(-1, 2)
    line = np.concatenate([line[:1], line[:0:-1]])
    centred: Floats = line - (line.min(axis=0) + line.max(axis=0)) / 2
    return centred


def _clockwise(points: Floats) -> NDArray[np.int64]:
    """Indices of control points by falling angle about their mean, points of one angle from the inside outwards."""
    away = points - points.mean(axis=0)
    # rounded, so that equal angles do not take their order from the last bit
    angles = np.arctan2(away[:, 1], away[:, 0]).round(12)
    order: NDArray[np.int64] = np.lexsort([np.linalg.norm(away, axis=1), -angles])
    return order


def _tangents(outgoing: Floats) -> Floats:
    """Direction at each control point: a weighted mean of the directions `[n]` of its two chords, on the circle."""
    incoming = back_one(outgoing)
    half_turn = np.where(np.abs(incoming - outgoing) > np.pi, np.pi, 0.0)
    tangents: Floats = OUTGOING * outgoing + (1 - OUTGOING) * incoming + half_turn
    return tangents
