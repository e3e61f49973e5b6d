"""The pictures of a study of curricula, as SVG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from clutr.experiments.evaluation.compare import Comparison

Rows = list[dict[str, str]]
_LABELS = {
    "levels/wall_count": "obstacles proposed",
    "levels/path_length": "shortest path proposed",
    "levels/solvable": "share that can be solved",
    "trained": "share learnt on",
    "protagonist/solved": "share the student solved",
}


def _svg(figure: Figure) -> bytes:
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "clutr", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return stream.getvalue()


def _colours(methods: Sequence[str]) -> dict[str, Any]:
    shades = mpl.colormaps["turbo"](np.linspace(0.05, 0.95, max(2, len(methods))))
    return dict(zip(methods, shades, strict=False))


def draw_scores(comparisons: Mapping[str, Comparison]) -> bytes:
    """Mean score of each method with its interval, the best on top, one plot a budget."""
    figure = Figure(figsize=(6 * len(comparisons), 0.32 * len(next(iter(comparisons.values())).methods) + 1))
    plots = figure.subplots(1, len(comparisons), squeeze=False)[0]
    for plot, (budget, found) in zip(plots, comparisons.items(), strict=True):
        methods = sorted(found.methods, key=lambda method: method.mean.value)
        scale, score = (100, "mean solve rate (%)") if found.metric == "solved" else (1, "mean return")
        for place, method in enumerate(methods):
            base = method.method == found.baseline
            low, value, high = (scale * each for each in (method.mean.low, method.mean.value, method.mean.high))
            colour = "#c0392b" if base else "#2c3e50"
            plot.plot([low, high], [place, place], color=colour, linewidth=2)
            plot.plot(value, place, "o", color=colour)
        plot.set_yticks(range(len(methods)), [method.method for method in methods])
        kind, _, steps = budget.partition("-")
        plot.set_xlabel(f"{score} on {found.suite}, {f'{int(steps):,} steps' if steps else f'equal {kind}'}")
        plot.grid(axis="x", alpha=0.3)
        plot.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return _svg(figure)


def draw_risk(risks: Rows, methods: Sequence[str]) -> bytes:
    """Solve rate on the worst share of random levels against that share, mean over seeds.

    At equal steps, or, where steps are no budget, at equal seconds.
    """
    budget = "steps" if any(row["budget"] == "steps" for row in risks) else "seconds"
    figure = Figure(figsize=(7, 4.5))
    plot = figure.subplots()
    for method, colour in _colours(methods).items():
        mine = [row for row in risks if row["method"] == method and row["budget"] == budget]
        alphas = sorted({float(row["alpha"]) for row in mine})
        scores = [100 * np.mean([float(r["solved"]) for r in mine if float(r["alpha"]) == alpha]) for alpha in alphas]
        if alphas:
            plot.plot([100 * alpha for alpha in alphas], scores, "o-", color=colour, label=method, markersize=4)
    plot.set_xscale("log")
    plot.set_xlabel("worst share of random solvable levels (%)")
    plot.set_ylabel("solve rate on them (%)")
    plot.grid(alpha=0.3)
    plot.spines[["top", "right"]].set_visible(False)
    plot.legend(fontsize=8, ncols=1, bbox_to_anchor=(1.01, 1), loc="upper left", frameon=False)
    return _svg(figure)


def draw_curriculum(times: Rows, methods: Sequence[str], watched: Sequence[str]) -> bytes:
    """What each curriculum proposed over time and how it went, mean over seeds, at equal steps."""
    figure = Figure(figsize=(11, 2.6 * len(watched)))
    plots = figure.subplots(len(watched), 1, sharex=True)
    for plot, name in zip(plots, watched, strict=True):
        for method, colour in _colours(methods).items():
            mine = [row for row in times if row["method"] == method and row[name] != "nan"]
            points = sorted({int(row["point"]) for row in mine})
            values = [np.mean([float(row[name]) for row in mine if int(row["point"]) == point]) for point in points]
            if points:
                plot.plot(np.array(points) / 1e6, values, color=colour, label=method, linewidth=1.3)
        plot.set_ylabel(_LABELS.get(name, name), fontsize=9)
        plot.grid(alpha=0.3)
        plot.spines[["top", "right"]].set_visible(False)
    plots[-1].set_xlabel("environment steps of one student (millions)")
    plots[0].legend(fontsize=8, bbox_to_anchor=(1.01, 1), loc="upper left", frameon=False)
    return _svg(figure)
