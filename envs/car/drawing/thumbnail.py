"""Whole tracks from above, for galleries and reports."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clutr.envs.car.road.track import HALF_WIDTH, Floats, Track

PIXELS = 160
_FINE = 3
"""Drawn so many times larger and shrunk, for smooth edges."""
_MARGIN = 2 * HALF_WIDTH
_GRASS, _ROAD, _LINE, _ARROW = (102, 204, 102), (102, 102, 102), (255, 255, 255), (255, 60, 40)
_KERBS = ((255, 255, 255), (255, 0, 0))


def bounding_square(track: Track) -> tuple[Floats, float]:
    """Middle `[2]` and half side, in units, of a square that shows a whole track with a margin."""
    low, high = track.points.min(axis=0), track.points.max(axis=0)
    middle: Floats = (low + high) / 2
    return middle, float((high - low).max()) / 2 + _MARGIN


def to_pixels(points: Floats, middle: Floats, half_side: float, pixels: int) -> Floats:
    """Points `[..., 2]`, in units, in the picture of a square: x to the right, y downwards."""
    positions: Floats = (points - middle) / half_side * np.array([1.0, -1.0]) * pixels / 2 + pixels / 2
    return positions


def render_tracks(tracks: Sequence[Track], pixels: int = PIXELS) -> NDArray[np.uint8]:
    """Pictures `[B, pixels, pixels, 3]`, each scaled to its track: road, kerbs, start line and driving direction."""
    pictures = np.empty((len(tracks), pixels, pixels, 3), np.uint8)
    for picture, track in zip(pictures, tracks, strict=True):
        picture[:] = _draw_track(track, pixels)
    return pictures


def _draw_track(track: Track, pixels: int) -> NDArray[np.uint8]:
    middle, half_side = bounding_square(track)
    side = pixels * _FINE
    image = Image.new("RGB", (side, side), _GRASS)
    pen = ImageDraw.Draw(image)

    def polygon(points: Floats, colour: tuple[int, int, int]) -> None:
        pen.polygon([tuple(p) for p in to_pixels(points, middle, half_side, side).tolist()], fill=colour)

    for quad in track.quads():
        polygon(quad, _ROAD)
    for index, quad in enumerate(track.kerb_quads()):
        if track.kerbs[index]:
            polygon(quad, _KERBS[index % 2])
    along = np.array([-np.sin(track.directions[0]), np.cos(track.directions[0])])
    across = np.array([along[1], -along[0]])
    start, wide = track.points[0], HALF_WIDTH
    polygon(start + np.array([-across, across, across + along / 3, -across + along / 3]) * wide, _LINE)
    polygon(start + np.array([along * 3, across * 1.1 + along, -across * 1.1 + along]) * wide, _ARROW)
    return np.asarray(image.resize((pixels, pixels), Image.Resampling.BOX), np.uint8)
