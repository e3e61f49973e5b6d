"""Vector charts whose colours follow the page's theme.

Charts are drawn by matplotlib with a placeholder for each colour; the placeholders then become CSS variables, so one
picture serves light screens, dark screens and paper. Nothing here touches pyplot, and the output depends on the
input alone: no date, no random identifiers.
"""

import io
import math
import re
from collections.abc import Iterable, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

PALETTE: dict[str, tuple[str, str]] = {
    "page": ("#f6f7f9", "#14171c"),
    "card": ("#ffffff", "#1c2027"),
    "ink": ("#1b2027", "#e7eaef"),
    "muted": ("#5d6774", "#9aa5b3"),
    "rule": ("#d9dee5", "#343b46"),
    "accent": ("#1f5fbf", "#79aef5"),
    "good": ("#1d7f4e", "#57c58c"),
    "bad": ("#b3392f", "#ef8a80"),
    "method-0": ("#1f5fbf", "#79aef5"),
    "method-1": ("#cc6a0a", "#f0a355"),
    "method-2": ("#2c8a57", "#62c992"),
    "method-3": ("#7b4fc2", "#b99af0"),
    "method-4": ("#b8372c", "#f08a80"),
    "method-5": ("#7a7440", "#cbc27a"),
    "method-none": ("#7b8491", "#98a2b0"),
    "student-0": ("#0b7f86", "#4fc7cd"),
    "student-1": ("#bd3f7a", "#ee8dba"),
    "student-2": ("#9a7500", "#dcb84d"),
}
"""Every colour of the page by its role: on a light ground, on a dark one."""

_ROLES = list(PALETTE)
_METHODS = {"clutr": 0, "paired": 1, "dr": 2, "plr": 3, "accel": 4}
_STUDENTS = {"protagonist": 0, "antagonist": 1, "student": 0}


def css_colour(role: str) -> str:
    """The CSS value of a role, with its light colour as a fallback outside the page."""
    return f"var(--{role}, {PALETTE[role][0]})"


def placeholder(role: str) -> str:
    """The stand-in that matplotlib draws `role` with; `to_svg` replaces it."""
    return f"#fe00{_ROLES.index(role):02x}"


def _assign(names: Iterable[str], known: dict[str, int], kind: str, available: int) -> dict[str, str]:
    """Roles for names: those of known names are fixed, the others take what is left, in order."""
    unique = list(dict.fromkeys(names))
    taken: dict[str, int] = {}
    for name in unique:
        words = re.split(r"[^a-z0-9]+", name.lower())
        match = next((known[word] for word in words if word in known), None)
        if match is not None and match not in taken.values():
            taken[name] = match
    free = [index for index in range(available) if index not in taken.values()]
    for name in unique:
        if name not in taken:
            taken[name] = free.pop(0) if free else available - 1
    return {name: f"{kind}-{taken[name]}" for name in unique}


def method_roles(names: Iterable[str]) -> dict[str, str]:
    """The colour role of each method: the same in every panel, and for known methods in every report."""
    names = list(names)
    trained = [name for name in names if "untrained" not in name.lower()]
    roles = _assign(trained, _METHODS, "method", 6)
    return {name: roles.get(name, "method-none") for name in names}


def student_roles(names: Iterable[str]) -> dict[str, str]:
    """The colour role of each student."""
    return _assign(names, _STUDENTS, "student", 3)


def axes(width: float = 4.0, height: float = 2.3) -> tuple[Figure, Axes]:
    """A figure of `width` x `height` inches (72 units each) with one plain pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    plot = figure.add_subplot()
    for side in ("top", "right"):
        plot.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        plot.spines[side].set_color(placeholder("rule"))
    plot.tick_params(colors=placeholder("muted"), labelsize=9, length=3, color=placeholder("rule"))
    plot.grid(visible=True, axis="y", color=placeholder("rule"), linewidth=0.6)
    plot.set_axisbelow(True)
    plot.yaxis.set_major_locator(MaxNLocator(5))
    return figure, plot


def label_axes(plot: Axes, x: str, y: str = "") -> None:
    """Name the axes."""
    plot.set_xlabel(x, color=placeholder("muted"), fontsize=9)
    if y:
        plot.set_ylabel(y, color=placeholder("muted"), fontsize=9)


def count_steps(plot: Axes, name: str = "environment steps") -> None:
    """Make the horizontal axis one of environment steps: 50 k, 2 M."""
    plot.xaxis.set_major_locator(MaxNLocator(6))
    plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    label_axes(plot, name)


def short_count(value: float) -> str:
    """A count in three digits and a unit: 950, 12.5k, 3M; a dash for NaN."""
    if math.isnan(value):
        return "\u2013"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Write a figure as inline SVG.

    Args:
        figure: what to write; its colours are `placeholder`s.
        name: unique on the page; it prefixes the identifiers inside.
        description: what a screen reader says.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "clutr"}):
        layout = figure.get_layout_engine()
        if layout is not None:  # `savefig` would draw everything once more, for layouts that need it
            FigureCanvasSVG(figure)
            layout.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # The style sheet inside would apply to the whole page; page.css has its rules for charts.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="([^"]+)"', head)
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", body).replace("xlink:href", "href")
    for role in _ROLES:
        body = body.replace(placeholder(role), css_colour(role))
    body = re.sub(r"\n\s*", "\n", body).strip()
    assert box is not None, "matplotlib always writes a view box"
    return f'<svg class="chart" role="img" aria-label="{_attribute(description)}" viewBox="{box.group(1)}">{body}'


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


def colour_steps(colour_map: str, steps: int = 16) -> Sequence[str]:
    """Hexadecimal colours along a map, without its ends: those vanish on a white or a black ground."""
    scale = matplotlib.colormaps[colour_map]
    return [to_hex(scale(position)) for position in np.linspace(0.08, 0.88, steps)]
