"""A chart that is cheap enough to be drawn anew at every step: a few polylines as SVG, without matplotlib."""

from collections.abc import Mapping, Sequence

from clutr.experiments.plots.charts import css_colour
from clutr.experiments.plots.html import text

WIDTH, HEIGHT = 560, 120
LEFT, BOTTOM, TOP = 34, 18, 8


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
