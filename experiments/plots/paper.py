"""Figures for papers, in one style: PDF, SVG and PNG that carry the command that made them.

`STYLE` is a matplotlib style for one's own figures, too: `matplotlib.style.use(clutr.experiments.plots.paper.STYLE)`.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

from clutr.experiments.evaluation.statistics import Interval
from clutr.experiments.plots.charts import short_count
from clutr.experiments.plots.curves import Curve, mean_and_interval

STYLE = Path(__file__).with_name("paper.mplstyle")
Format = Literal["pdf", "svg", "png"]
FORMATS: tuple[Format, ...] = ("pdf", "svg", "png")
MARKED = 10
"""Markers along a curve, so that print tells methods apart."""

Column = NDArray[np.float64]
Draw = Callable[[], Figure]


@contextmanager
def style() -> Iterator[None]:
    """The body draws and writes in the style of papers."""
    with matplotlib.style.context(STYLE):
        yield


def figure_bytes(draw: Draw, kind: Format, title: str, command: str) -> bytes:
    """A figure as a file's content, with title and command in its metadata. The same input gives the same bytes.

    Args:
        draw: draws it.
        kind: of file.
        title: what it shows.
        command: what made it.
    """
    described: Mapping[Format, dict[str, Any]] = {
        "pdf": {"Title": title, "Subject": command, "Creator": "clutr", "CreationDate": None},
        "svg": {"Title": title, "Description": command, "Creator": "clutr", "Date": None},
        "png": {"Title": title, "Description": command, "Software": "clutr"},
    }
    buffer = io.BytesIO()
    with style():
        draw().savefig(buffer, format=kind, metadata=described[kind])
    return buffer.getvalue()


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, line and marker of each name, in the order of the style."""
    return dict(zip(names, cycle(matplotlib.rcParams["axes.prop_cycle"]), strict=False))


def _axes(columns: int = 1, height: float = 2.2) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(3.3 if columns == 1 else 1.7 * columns, height))
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _legend(figure: Figure, plot: Axes, count: int) -> None:
    """Below the plots, where it hides nothing."""
    handles, labels = plot.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(count, 3))


def interval_rows(panels: Mapping[str, Mapping[str, Interval]], percent: bool) -> Figure:
    """Estimates with their intervals, a row a method and a panel a quantity (arXiv 2108.13264, figure 9)."""
    methods = list(next(iter(panels.values())))
    figure, plots = _axes(len(panels), 0.75 + 0.2 * len(methods))
    for plot, (title, found) in zip(plots, panels.items(), strict=True):
        for row, (method, look) in enumerate(looks(methods).items()):
            estimate = found[method]
            plot.plot(
                [estimate.low, estimate.high],
                [row, row],
                color=look["color"],
                linewidth=5,
                alpha=0.35,
                ls="-",
                marker="none",
            )
            plot.plot([estimate.value], [row], color=look["color"], marker=look["marker"], linestyle="none")
        plot.set(title=title, yticks=range(len(methods)), ylim=(len(methods) - 0.5, -0.5))
        plot.set_yticklabels(methods if plot is plots[0] else [])
        plot.grid(visible=False, axis="y")
        plot.xaxis.set_major_locator(MaxNLocator(3))
        if percent:
            plot.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    return figure


def improvement_rows(found: Mapping[str, Interval], baseline: str) -> Figure:
    """P(method > baseline) with intervals; where the interval holds 50 % neither is shown to be better."""
    figure = interval_rows({f"P(method > {baseline})": found}, percent=True)
    (plot,) = figure.axes
    plot.axvline(0.5, color="0.4", linewidth=0.8, linestyle=":")
    plot.set_xlim(-0.02, 1.02)
    plot.set_xticks([0, 0.25, 0.5, 0.75, 1])
    return figure


@dataclass(frozen=True)
class Band:
    """A curve with what is known of its uncertainty. All are `[K]`."""

    x: Column
    y: Column
    low: Column | None = None
    high: Column | None = None


def curves(bands: Mapping[str, Band], x: str, y: str, *, percent: bool, steps: bool = False) -> Figure:
    """Curves of methods with their bands."""
    figure, (plot,) = _axes()
    for method, look in looks(list(bands)).items():
        band = bands[method]
        if band.low is not None and band.high is not None:
            plot.fill_between(band.x, band.low, band.high, color=look["color"], alpha=0.18, linewidth=0)
        plot.plot(band.x, band.y, label=method, **look, markevery=max(1, len(band.x) // MARKED))
    plot.set(xlabel=x, ylabel=y)
    if percent:
        plot.set_ylim(-0.02, 1.02)
        plot.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    if steps:
        plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        plot.xaxis.set_major_locator(MaxNLocator(5))
    _legend(figure, plot, len(bands))
    return figure


def learning_band(found: Sequence[Curve]) -> Band:
    """The mean of several seeds, with its 95 % Student-t interval from three seeds on."""
    steps, mean, width = mean_and_interval(found)
    return Band(steps, mean) if width is None else Band(steps, mean, mean - width, mean + width)


def risk_curves(bands: Mapping[str, Band]) -> Figure:
    """Solve rates on the worst share of levels, over that share on a logarithmic axis (arXiv 2408.15099)."""
    figure = curves(bands, "share of the levels, hardest first", "solve rate on them", percent=True)
    (plot,) = figure.axes
    shares = sorted({float(share) for band in bands.values() for share in band.x})
    plot.set_xscale("log")
    plot.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
    plot.xaxis.set_minor_locator(NullLocator())
    return figure
