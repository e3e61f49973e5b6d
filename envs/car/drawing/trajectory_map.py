"""Trajectories of cars on their roads from above, coloured by speed."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import ListedColormap, Normalize, to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from clutr.envs.capabilities import PathScale
from clutr.envs.car.road.track import HALF_WIDTH, Floats, Track

SIDE = 300
"""Pixels of a picture's side."""
FAST = 60.0
"""Speed at the upper end of the colours, in units a second: few students drive faster."""
COLOURS = ListedColormap(matplotlib.colormaps["plasma"](np.linspace(0, 0.88, 64)))  # its end is pale on a pale road

_GROUND, _ROAD, _START, _END = "#f4f3ee", "#c9ccd1", "#1b2027", "#1b2027"
_DOTS_AN_INCH = 100


def speed_scale() -> PathScale:
    """The colours of the speeds."""
    shades = COLOURS(np.linspace(0, 1, 12))
    return PathScale(tuple(to_hex(shade) for shade in shades), "0", f"{FAST:.0f} units/s and more")


def draw_trajectories(tracks: Sequence[Track], positions: NDArray[np.float32], side: int = SIDE) -> NDArray[np.uint8]:
    """Roads from above, the whole of each, with the trajectories of cars.

    Args:
        tracks: B roads.
        positions: `[B, L, 4]`: x, y, angle and speed of each car after each step, NaN behind an episode's end.
        side: of a picture in pixels.

    Returns:
        `[B, side, side, 3]` uint8: north (positive y) is up; a bar crosses the road at the start, an arrow says which
        way it is driven, a ring is where the episode ended.
    """
    pictures = [_draw_trajectory(track, driven, side) for track, driven in zip(tracks, positions, strict=True)]
    return np.stack(pictures) if pictures else np.zeros((0, side, side, 3), np.uint8)


def _draw_trajectory(track: Track, driven: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    figure = Figure(figsize=(side / _DOTS_AN_INCH, side / _DOTS_AN_INCH), dpi=_DOTS_AN_INCH, facecolor=_GROUND)
    canvas = FigureCanvasAgg(figure)
    plot = figure.add_axes((0, 0, 1, 1))
    plot.set_axis_off()
    driven = driven[np.isfinite(driven).all(axis=1)]
    corners = np.concatenate([track.points, driven[:, :2]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    reach = 0.56 * float((high - low).max()) + HALF_WIDTH
    (x, y) = (low + high) / 2
    plot.set_xlim(x - reach, x + reach)
    plot.set_ylim(y - reach, y + reach)
    plot.set_aspect("equal")
    quads = track.quads()
    plot.add_collection(PolyCollection(list(quads), facecolors=_ROAD, edgecolors=_ROAD, linewidths=1.0))
    _mark_start(plot, track, reach)
    if len(driven) > 1:
        line = np.stack([driven[:-1, :2], driven[1:, :2]], axis=1)
        trajectory = LineCollection(
            list(line), cmap=COLOURS, norm=Normalize(0, FAST), linewidths=1.7, capstyle="round", array=driven[1:, 3]
        )
        plot.add_collection(trajectory)
        plot.plot(*driven[-1, :2], marker="o", markersize=5, markerfacecolor="none", markeredgecolor=_END)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[:, :, :3]
    return np.ascontiguousarray(pixels)


def _mark_start(plot: Axes, track: Track, reach: float) -> None:
    """A bar across the road at its first point and an arrow beside it, in the direction of driving."""
    beta, x, y = track.start
    across, along = np.array([np.cos(beta), np.sin(beta)]), np.array([-np.sin(beta), np.cos(beta)])
    start: Floats = np.array([x, y])
    size = max(2.2 * HALF_WIDTH, 0.05 * reach)
    bar = np.stack([start - size * across, start + size * across])
    plot.plot(*bar.T, color=_START, linewidth=1.8, solid_capstyle="butt")
    tail = start + size * across
    tip = tail + 1.8 * size * along
    arrow = {"arrowstyle": "-|>", "color": _START, "linewidth": 1.2}
    plot.annotate("", (tip[0], tip[1]), (tail[0], tail[1]), arrowprops=arrow)
