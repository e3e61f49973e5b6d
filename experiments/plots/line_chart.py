"""Charts that are cheap enough to be drawn anew again and again: a few polylines as SVG, without matplotlib."""

from collections.abc import Mapping, Sequence

import numpy as np

from clutr.experiments.plots.charts import css_colour, short_count
from clutr.experiments.plots.curves import Curve
from clutr.experiments.plots.html import number, percent, text

WIDTH, HEIGHT = 560, 120
LEFT, BOTTOM, TOP = 34, 18, 8
CURVE_WIDTH, CURVE_HEIGHT, CURVE_LEFT = 320, 150, 44
MOST_VERTICES = 160
"""Of a curve: more measurements than that are averaged."""


def small_chart(curves: Mapping[str, Sequence[float]], roles: Mapping[str, str], x: str, y: str) -> str:
    """Curves over 1, 2, ... as one SVG with its legend.

    Args:
        curves: values by name; all begin at 1, and may end anywhere.
        roles: each curve's colour in `PALETTE`.
        x: what is counted.
        y: what is shown, with its unit.

    Returns:
        HTML, or nothing if no curve has a value.
    """
    longest = max((len(values) for values in curves.values()), default=0)
    if not longest:
        return ""
    highest = max(max(values) for values in curves.values() if values) or 1.0

    def point(number: int, value: float) -> str:
        across = LEFT + (WIDTH - LEFT - 4) * number / max(longest - 1, 1)
        return f"{across:.1f},{HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / highest:.1f}"

    def line(values: Sequence[float]) -> str:
        places = [point(number, value) for number, value in enumerate(values)]
        return " ".join(places if len(places) > 1 else 2 * places)  # a line of one point would not be seen

    drawn = "".join(
        f'<polyline points="{line(values)}" fill="none" '
        + f'stroke-width="2" stroke-linecap="round" style="stroke:{css_colour(roles[name])}"/>'
        for name, values in curves.items()
        if values
    )
    legend = "".join(
        f'<li><i style="background:{css_colour(roles[name])}"></i>{text(name)}: {values[-1]:.1f}</li>'
        for name, values in curves.items()
        if values
    )
    ground = HEIGHT - BOTTOM
    marks = (
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{ground}" y2="{ground}" style="stroke:{css_colour("rule")}"/>'
        + f'<text x="{LEFT - 5}" y="{TOP + 8}" text-anchor="end">{highest:.0f}</text>'
        + f'<text x="{LEFT - 5}" y="{ground}" text-anchor="end">0</text>'
        + f'<text x="{LEFT}" y="{HEIGHT - 3}">1</text>'
        + f'<text x="{WIDTH}" y="{HEIGHT - 3}" text-anchor="end">{longest} {text(x)}</text>'
    )
    return (
        f'<svg class="small-chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(y)}">'
        + f'{marks}{drawn}</svg><ul class="legend">{legend}</ul>'
    )


def curve_chart(title: str, curves: Mapping[str, Curve], roles: Mapping[str, str], fraction: bool, x: str) -> str:
    """Measurements of one quantity over a training, a curve a run or a student.

    Args:
        title: of the quantity.
        curves: by name; those without a measurement are left out.
        roles: each curve's colour in `PALETTE`.
        fraction: whether the values are shares of 1.
        x: what is counted.

    Returns:
        HTML, or nothing if no curve has a measurement.
    """
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    if not curves:
        return ""
    thinned = {name: _thinned(curve) for name, curve in curves.items()}
    everything = np.concatenate([values for _, values in thinned.values()])
    low, high = (0.0, 1.0) if fraction else (float(everything.min()), float(everything.max()))
    if high - low < 1e-12:  # a line through the middle, under its own value
        low, high = low - 0.5, high + 0.5
    end = max(float(steps[-1]) for steps, _ in thinned.values()) or 1.0
    ground, words = CURVE_HEIGHT - BOTTOM, percent if fraction else number

    def line(steps: np.ndarray, values: np.ndarray) -> str:
        across = CURVE_LEFT + (CURVE_WIDTH - CURVE_LEFT - 4) * steps / end
        up = ground - (ground - TOP) * (values - low) / (high - low)
        places = [f"{a:.1f},{b:.1f}" for a, b in zip(across, up, strict=True)]
        return " ".join(places if len(places) > 1 else 2 * places)

    drawn = "".join(
        f'<polyline points="{line(steps, values)}" fill="none" stroke-width="2" stroke-linecap="round" '
        + f'stroke-linejoin="round" style="stroke:{css_colour(roles[name])}"/>'
        for name, (steps, values) in thinned.items()
    )
    latest = {name: words(curve.smooth()[-1]) for name, curve in curves.items()}
    legend = "".join(
        f'<li><i style="background:{css_colour(roles[name])}"></i>{text(name)}: {latest[name]}</li>' for name in curves
    )
    marks = (
        f'<line x1="{CURVE_LEFT}" x2="{CURVE_WIDTH}" y1="{ground}" y2="{ground}" style="stroke:{css_colour("rule")}"/>'
        + f'<text x="{CURVE_LEFT - 5}" y="{TOP + 8}" text-anchor="end">{words(high)}</text>'
        + f'<text x="{CURVE_LEFT - 5}" y="{ground}" text-anchor="end">{words(low)}</text>'
        + f'<text x="{CURVE_LEFT}" y="{CURVE_HEIGHT - 3}">0</text>'
        + f'<text x="{CURVE_WIDTH}" y="{CURVE_HEIGHT - 3}" text-anchor="end">{short_count(end)} {text(x)}</text>'
    )
    told = f"{title}, latest: " + ", ".join(f"{name} {value}" for name, value in latest.items())
    return (
        f'<figure class="curve"><figcaption>{text(title)}</figcaption>'
        + f'<svg class="curve-chart" viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" role="img" aria-label="{text(told)}">'
        + f'{marks}{drawn}</svg><ul class="legend">{legend}</ul></figure>'
    )


def _thinned(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a curve's vertices: smoothed as in reports, then at most `MOST_VERTICES` with both ends."""
    values = curve.smooth()
    chosen = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_VERTICES)).round().astype(int))
    return curve.steps[chosen], values[chosen]
