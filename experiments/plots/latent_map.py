"""Where on the task manifold the teacher goes: proposed latents in two dimensions, by regret and by time."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clutr.experiments.plots.charts import colour_steps, short_count
from clutr.experiments.plots.gallery import spread
from clutr.experiments.plots.html import colour_scale, note, number, percent, text
from clutr.experiments.plots.images import png_uri
from clutr.experiments.plots.page import Panel, join_caption

MOST_POINTS = 4000
"""More are thinned out evenly in time: a file of many megabytes helps nobody."""

SIZE = 320.0
MARGIN = 22.0


@dataclass(frozen=True)
class LatentMapData:
    """Proposed latents and what is known of them."""

    latents: NDArray[np.float64]
    """`[N, dim]`."""
    steps: NDArray[np.float64]
    """`[N]`: environment steps at the time of the proposal, not decreasing."""
    scores: NDArray[np.float64]
    """`[N]`: what to colour by; NaN where it was not measured."""
    score_name: str
    """What `scores` are ("regret")."""
    sampled: NDArray[np.int64]
    """`[T]`: points whose level can be looked at."""
    images: NDArray[np.uint8]
    """`[T, H, W, 3]`: their levels, as small as can be."""
    captions: Sequence[str]
    """T lines of plain text."""


class Plane(NamedTuple):
    """The plane of largest variance through points."""

    mean: NDArray[np.float64]
    """`[dim]`."""
    directions: NDArray[np.float64]
    """`[2, dim]`, orthonormal; zeros for directions that are not there."""
    shares: NDArray[np.float64]
    """`[2]`: of the variance along each direction."""

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates `[N, 2]` of points `[N, dim]`."""
        coordinates: NDArray[np.float64] = (points - self.mean) @ self.directions.T
        return coordinates


def principal_plane(points: NDArray[np.float64]) -> Plane:
    """The two directions of largest variance of points `[N, dim]`.

    A direction's sign is fixed by making its largest entry positive. What is not there (one point, one dimension) is 0.
    """
    mean = points.mean(0)
    _, singular, found = np.linalg.svd(points - mean, full_matrices=False)
    found, kept = found[:2], singular[:2]
    largest = found[np.arange(len(found)), np.abs(found).argmax(1)]
    directions, shares = np.zeros((2, points.shape[1])), np.zeros(2)
    directions[: len(found)] = found * np.where(largest < 0, -1.0, 1.0)[:, None]
    total = float((singular**2).sum())
    if total > 0:
        shares[: len(kept)] = kept**2 / total
    return Plane(mean, directions, shares)


def principal_components(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates `[N, 2]` of points `[N, dim]` on their principal plane, and its shares of the variance, `[2]`."""
    plane = principal_plane(points)
    return plane.project(points), plane.shares


class Canvas(NamedTuple):
    """Coordinates of the map's plane as places in the picture: one scale for both axes, so distances mean the same."""

    middle: NDArray[np.float64]
    """`[2]`."""
    scale: float

    @classmethod
    def around(cls, coordinates: NDArray[np.float64]) -> "Canvas":
        """The canvas on which points `[N, 2]` fill the picture."""
        low, high = coordinates.min(0), coordinates.max(0)
        return cls((low + high) / 2, (SIZE - 2 * MARGIN) / max(float((high - low).max()), 1e-9))

    def place(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points `[N, 2]` are drawn."""
        drawn: NDArray[np.float64] = (coordinates - self.middle) * self.scale * (1, -1) + SIZE / 2  # y grows downwards
        return drawn

    def back(self, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `place`."""
        coordinates: NDArray[np.float64] = (drawn - SIZE / 2) / self.scale * (1, -1) + self.middle
        return coordinates


@dataclass(frozen=True)
class ColourScale:
    """Colours for values from `low` to `high`; what lies outside takes the colour of the end."""

    low: float
    high: float
    colours: Sequence[str]

    def bins(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """The index of each value's colour."""
        if self.high <= self.low:
            return np.zeros(len(values), dtype=np.int64)
        share = (values - self.low) / (self.high - self.low)
        return np.clip(share * len(self.colours), 0, len(self.colours) - 1).astype(np.int64)

    def html(self, unit: str = "") -> str:
        """The scale as a bar with its ends."""
        low, high = (f"{short_count(end) if unit else number(end, 2)} {unit}" for end in (self.low, self.high))
        return colour_scale(low, self.colours, high)


def scale_by_score(scores: NDArray[np.float64]) -> ColourScale:
    """Colours for scores of which some are measured, without the extremes."""
    low, high = (float(end) for end in np.nanquantile(scores, [0.02, 0.98]))
    return ColourScale(low, high, colour_steps("plasma"))


def scale_by_time(steps: NDArray[np.float64]) -> ColourScale:
    """Colours for environment steps."""
    return ColourScale(float(steps.min()), float(steps.max()), colour_steps("viridis"))


def _dots(where: NDArray[np.float64]) -> str:
    """Points as zero-length strokes, whose round caps are dots: a third of the size of as many circles."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in where)


def dots(where: NDArray[np.float64], values: NDArray[np.float64], scale: ColourScale) -> str:
    """Points in the colours of their values, grey where there is none; a part of an SVG."""
    width = 7.0 if len(where) < 300 else 4.5 if len(where) < 2000 else 3.2
    measured = np.isfinite(values)
    layers = []
    if not measured.all():
        layers.append(f'<path d="{_dots(where[~measured])}" style="stroke:var(--rule)"/>')
    place = scale.bins(values[measured])
    for index, colour in enumerate(scale.colours):
        if (place == index).any():
            layers.append(f'<path d="{_dots(where[measured][place == index])}" stroke="{colour}"/>')
    return f'<g fill="none" stroke-linecap="round" stroke-width="{width}" stroke-opacity=".85">{"".join(layers)}</g>'


def _map(
    where: NDArray[np.float64], values: NDArray[np.float64], scale: ColourScale, shares: NDArray[np.float64], label: str
) -> str:
    """One map: the dots, and what its axes are."""
    return (
        f'<svg class="map" role="img" aria-label="{text(label)}" viewBox="0 0 {SIZE:.0f} {SIZE:.0f}">'
        + f'<rect x=".5" y=".5" width="{SIZE - 1:.0f}" height="{SIZE - 1:.0f}" rx="6" fill="none" '
        + 'style="stroke:var(--rule)"/>'
        + dots(where, values, scale)
        + f'<text x="{SIZE - 8:.0f}" y="{SIZE - 8:.0f}" text-anchor="end">component 1: {percent(shares[0], 1)}</text>'
        + f'<text transform="translate(15 {SIZE - 8:.0f}) rotate(-90)">component 2: {percent(shares[1], 1)}</text>'
        + '<circle class="ring" r="7" fill="none" stroke-width="2" style="stroke:var(--ink)" visibility="hidden"/>'
        + "</svg>"
    )


def _sheet(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, int]:
    """Pictures on one sheet, row by row: the sheet, its columns and its rows."""
    count, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * columns, height, width, 3), dtype=np.uint8)
    sheet[:count] = images
    pixels = sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return pixels.reshape(rows * height, columns * width, 3), columns, rows


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element whatever its strings hold."""
    plain = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def latent_map(data: LatentMapData | None, source: str) -> Panel:
    """Two maps of the same points, one coloured by score and one by time, with a preview of the level in question.

    Args:
        data: the points; None if the curriculum has no latents.
        source: run and seed, for the caption.
    """
    title = "Map of proposed latents"
    if data is None or not len(data.latents):
        return Panel("latents", title, note("No latents were recorded: this curriculum does not use them."), source)
    coordinates, shares = principal_components(np.asarray(data.latents, dtype=np.float64))
    canvas = Canvas.around(coordinates).place(coordinates)
    drawn = np.array(spread(len(canvas), MOST_POINTS))
    where, scores, steps = canvas[drawn], data.scores[drawn], data.steps[drawn]

    measured = scores[np.isfinite(scores)]
    maps = []
    if len(measured):
        scale = scale_by_score(scores)
        picture = _map(where, scores, scale, shares, f"Latents by {data.score_name}")
        maps.append(f"<div><h3>By {text(data.score_name)}</h3>{picture}{scale.html()}</div>")
    scale = scale_by_time(steps)
    picture = _map(where, steps, scale, shares, "Latents by time")
    maps.append(f"<div><h3>By time of the proposal</h3>{picture}{scale.html('steps')}</div>")

    preview_data: dict[str, Any] = {"points": [], "sheet": "", "columns": 1, "rows": 1}
    if len(data.sampled):
        sheet, columns, rows = _sheet(data.images)
        points = [
            {"x": round(float(x), 1), "y": round(float(y), 1), "caption": caption}
            for (x, y), caption in zip(canvas[data.sampled], data.captions, strict=True)
        ]
        preview_data = {"points": points, "sheet": png_uri(sheet), "columns": columns, "rows": rows}
    preview = '<div class="preview"><div></div><p></p></div>' if len(data.sampled) else ""
    body = (
        f'<div class="latent">{"".join(maps)}{preview}'
        + f'<script type="application/json">{script_json(preview_data)}</script></div>'
    )
    dim = data.latents.shape[1]
    caption = join_caption(
        f"Principal components of the proposed latents: the two axes hold {percent(shares.sum(), 1)} of the variance "
        + f"of {dim} dimensions, the rest is not seen here, so neighbours on the map need not be alike.",
        "Colours end at the 2nd and 98th percentile." if len(measured) else "",
        f"Point at the map to see the nearest of {len(data.sampled)} sampled levels." if len(data.sampled) else "",
        f"n = {number(len(data.latents))} latents"
        + (f", {number(len(drawn))} of them drawn" if len(drawn) < len(data.latents) else "")
        + f"; split: training; {source}.",
    )
    return Panel("latents", title, body, caption)
