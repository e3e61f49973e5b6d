"""Learning curves over environment steps, for one run or for several methods with several seeds each."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from clutr.envs.domain import Metric
from clutr.experiments.plots.charts import (
    axes,
    count_steps,
    method_roles,
    placeholder,
    short_count,
    student_roles,
    to_svg,
)
from clutr.experiments.plots.html import card, grid, legend, note, number, percent, say, text
from clutr.experiments.plots.page import Panel, join_caption

Column = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]

FEW_POINTS = 40
"""Up to so many measurements are drawn as dots, and not smoothed."""

_STUDENTS = {"mean_return": "Return on own levels", "solved": "Solve rate on own levels"}
_CURRICULUM = {
    "regret": "Regret estimate",
    "levels/wall_count": "Walls",
    "levels/path_length": "Shortest path",
    "levels/solvable": "Solvable share",
    "levels/length": "Length of the road",
}
"""Titles of what the curriculum proposes; other properties of levels are called by their own names."""
_FRACTIONS = ("solved", "solvable", "mean_solved")


@dataclass(frozen=True)
class Curve:
    """Measurements of one quantity in one run, without the updates at which it was not measured."""

    steps: Column
    values: Column

    @classmethod
    def of(cls, columns: Columns, name: str) -> "Curve":
        """The curve of a column of metrics.csv."""
        values = np.asarray(columns.get(name, ()), dtype=np.float64)
        steps = np.asarray(columns.get("steps", ()), dtype=np.float64)[: len(values)]
        measured = np.isfinite(values[: len(steps)]) & np.isfinite(steps)
        return cls(steps[measured], values[: len(steps)][measured])

    def __len__(self) -> int:
        return len(self.values)

    @property
    def window(self) -> int:
        """Measurements that a smoothed point averages: a fiftieth of the run; 1 where there are few."""
        return 1 if len(self) <= FEW_POINTS else max(1, len(self) // 50)

    def smooth(self) -> Column:
        """Means over the last `window` measurements (fewer at the start)."""
        total = np.concatenate([[0.0], np.cumsum(self.values)])
        ends = np.arange(1, len(self) + 1)
        begins = np.maximum(0, ends - self.window)
        averages: Column = (total[ends] - total[begins]) / (ends - begins)
        return averages


def mean_and_interval(curves: Sequence[Curve]) -> tuple[Column, Column, Column | None]:
    """The mean of several seeds on a common grid of steps.

    Returns:
        steps, mean, and the half-width of the mean's 95 % Student-t interval; None with fewer than three seeds,
        where it would say next to nothing.
    """
    end = min(curve.steps[-1] for curve in curves)
    begin = max(curve.steps[0] for curve in curves)
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    steps = steps[(steps >= begin) & (steps <= end)]
    values = np.stack([np.interp(steps, curve.steps, curve.smooth()) for curve in curves])
    n = len(curves)
    if n < 3:
        return steps, values.mean(0), None
    from scipy import stats  # noqa: PLC0415  # takes half a second

    width = stats.t.ppf(0.975, n - 1) * values.std(0, ddof=1) / np.sqrt(n)
    return steps, values.mean(0), width


def students_in(columns: Columns) -> list[str]:
    """Names of the students whose returns are among the columns, in their order."""
    return [match.group(1) for name in columns if (match := re.fullmatch(r"([^/]+)/mean_return", name))]


def _draw(plot: Axes, curve: Curve, role: str) -> None:
    colour = placeholder(role)
    if curve.window > 1:
        plot.plot(curve.steps, curve.values, color=colour, alpha=0.22, linewidth=0.7)
        plot.plot(curve.steps, curve.smooth(), color=colour, linewidth=1.7)
    else:
        plot.plot(curve.steps, curve.values, color=colour, linewidth=1.7, marker="o", markersize=3.2)


def _bound(plot: Axes, quantity: str) -> None:
    if is_fraction(quantity):
        plot.set_ylim(-0.03, 1.03)
        plot.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])


def _latest(curves: Iterable[Curve], quantity: str) -> str:
    words = percent if is_fraction(quantity) else number
    return " / ".join(words(curve.smooth()[-1]) for curve in curves if len(curve))


def _chart(title: str, quantity: str, curves: Mapping[str, Curve], roles: Mapping[str, str]) -> str:
    """One card with a curve a name; an empty string if there is nothing to draw."""
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    if not curves:
        return ""
    figure, plot = axes()
    for name, curve in curves.items():
        _draw(plot, curve, roles[name])
    _bound(plot, quantity)
    count_steps(plot)
    svg = to_svg(figure, _identifier(title), f"{title} over environment steps: {', '.join(curves)}")
    latest = f"latest {_latest(curves.values(), quantity)}" if len(curves) <= 2 else ""
    return card(title, svg, latest)


def _identifier(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _curriculum(columns: Iterable[str]) -> dict[str, str]:
    """Titles of the columns that tell what the curriculum proposed."""
    names = ["regret", *sorted(name for name in columns if name.startswith("levels/"))]
    return _CURRICULUM | {name: _words(name) for name in names if name not in _CURRICULUM}


def _words(name: str) -> str:
    return name.rsplit("/", 1)[-1].replace("_", " ").capitalize()


def _evaluations(columns: Iterable[str], suite_metrics: Mapping[str, Metric]) -> dict[str, str]:
    """Titles of the evaluations' means: the solve rates, and before them the returns of suites told by them."""
    found = {}
    for name in columns:
        match = re.fullmatch(r"evaluation/([^/]+)/mean_solved", name)
        if match is None:
            continue
        suite = match.group(1)
        if suite_metrics.get(suite) == "return":
            found[f"evaluation/{suite}/mean_return"] = f"Zero-shot return, {suite}"
            found[name] = f"Zero-shot solve rate, {suite}"
        else:
            found[name] = f"Zero-shot, {suite}"
    return found


def training_curves(columns: Columns, source: str, suite_metrics: Mapping[str, Metric]) -> Panel:
    """Curves of one run: its students, what the curriculum proposed, its evaluations during training.

    Args:
        columns: the columns of metrics.csv by name, `[updates]` each, NaN where a row lacks a value.
        source: the run and its seed, for the caption.
        suite_metrics: what each suite is told by; solve rates where it is not said.
    """
    students = students_in(columns)
    roles = student_roles(students or ["student"])
    evaluated = next(iter(roles))  # the first student is the one that is evaluated
    progress = [
        _chart(title, name, {evaluated: Curve.of(columns, name)}, roles)
        for name, title in _evaluations(columns, suite_metrics).items()
    ]
    progress += [
        _chart(title, quantity, {name: Curve.of(columns, f"{name}/{quantity}") for name in students}, roles)
        for quantity, title in _STUDENTS.items()
    ]
    proposed = [
        _chart(title, name, {name: Curve.of(columns, name)}, {name: "accent"})
        for name, title in _curriculum(columns).items()
    ]
    body = _group("How the students do", legend(roles), progress) + _group("What the curriculum proposes", "", proposed)
    if not body:
        return Panel("curves", "Learning curves", note("This run has no metrics yet."), source)

    others = _others(columns, students)
    if others:
        count = f"{len(others)} further measurement{'s' * (len(others) != 1)}"
        body += f"<details><summary>{count}</summary>{grid(others)}</details>"
    updates = len(np.asarray(columns["steps"]))
    widest = max(Curve.of(columns, name).window for name in columns)
    caption = join_caption(
        "Own levels: means over what the curriculum chose for each update. When it chooses harder levels these curves "
        + "fall although the student improves, so only zero-shot results measure progress.",
        "The shortest path counts a level that cannot be solved as one more than its cells."
        if "levels/path_length" in columns
        else "",
        f"Faint: every update; strong: mean of the last {widest} updates." if widest > 1 else "",
        f"Steps are those of one student. n = {number(updates)} update{'s' * (updates != 1)}; {source}.",
    )
    return Panel("curves", "Learning curves", body, caption)


def _group(title: str, explanation: str, charts: Sequence[str]) -> str:
    """Charts under a heading; nothing if there are none."""
    charts = [chart for chart in charts if chart]
    return f"<h4>{text(title)}{explanation}</h4>{grid(charts)}" if charts else ""


def _others(columns: Columns, students: Sequence[str]) -> list[str]:
    """Cards for the columns that no other chart shows."""
    drawn = {"update", "steps", *_curriculum(columns)}
    drawn |= {f"{student}/{quantity}" for student in students for quantity in _STUDENTS}
    names = [name for name in columns if name not in drawn and not name.startswith("evaluation/")]
    plain = student_roles(students)
    by_quantity: dict[str, dict[str, Curve]] = {}
    for name in names:
        owner, _, quantity = name.partition("/")
        group, label = (quantity, owner) if owner in plain else (name, name)
        by_quantity.setdefault(group, {})[label] = Curve.of(columns, name)
    charts = []
    for quantity, found in by_quantity.items():
        title = quantity.replace("_", " ").replace("/", ": ")
        charts.append(_chart(title, quantity, found, {name: plain.get(name, "accent") for name in found}))
    return [chart for chart in charts if chart]


def quantities(names: Iterable[str], suite_metrics: Mapping[str, Metric]) -> dict[str, str]:
    """What runs with such columns are told by, most important first: titles by column.

    A `<student>/...` stands for the same quantity of each student.
    """
    names = list(names)
    own = {f"<student>/{name}": title for name, title in _STUDENTS.items()}
    return _evaluations(names, suite_metrics) | own | _curriculum(names)


def is_fraction(quantity: str) -> bool:
    """Whether a column holds shares of 1."""
    return quantity.rsplit("/", 1)[-1] in _FRACTIONS


def method_curves(runs: Sequence[tuple[str, Columns]], source: str, suite_metrics: Mapping[str, Metric]) -> Panel:
    """Several methods over each other.

    Args:
        runs: (method, columns of metrics.csv), one entry a run; runs of one method are its seeds.
        source: what the runs have in common, for the caption.
        suite_metrics: what each suite is told by; solve rates where it is not said.
    """
    methods = list(dict.fromkeys(method for method, _ in runs))
    roles = method_roles(methods)
    seeds = {method: sum(1 for name, _ in runs if name == method) for method in methods}
    names = list(dict.fromkeys(name for _, columns in runs for name in columns))
    titles = quantities(names, suite_metrics).items()
    charts = [chart for name, title in titles if (chart := _method_chart(name, title, runs, roles))]
    if not charts:
        return Panel("methods", "Methods side by side", note("None of these runs has metrics yet."), source)
    counts = ", ".join(f"{method}: {n} seed{'s' * (n != 1)}" for method, n in seeds.items())
    caption = join_caption(
        "The first student of each run. Curves on own levels compare what each curriculum made of its levels, not "
        + "how good the students are; the zero-shot curves do, on the same levels for all.",
        "Band: 95 % Student-t interval of the mean over seeds." if max(seeds.values()) >= 3 else "",
        "A single seed has no interval: a difference between two single runs may be chance."
        if min(seeds.values()) == 1
        else "",
        f"n: {counts}; {source}.",
    )
    shared = legend(roles)
    return Panel("methods", "Methods side by side", f"{shared}{grid(charts)}", caption)


def _method_chart(quantity: str, title: str, runs: Sequence[tuple[str, Columns]], roles: Mapping[str, str]) -> str:
    by_method: dict[str, list[Curve]] = {}
    for method, columns in runs:
        student = next(iter(students_in(columns)), "")
        curve = Curve.of(columns, quantity.replace("<student>", student))
        if len(curve):
            by_method.setdefault(method, []).append(curve)
    if not by_method:
        return ""
    figure, plot = axes()
    latest = []
    for method, curves in by_method.items():
        colour = placeholder(roles[method])
        steps, mean, width = mean_and_interval(curves)
        if not len(steps):  # the seeds' ranges of steps do not overlap
            continue
        if len(curves) > 1:
            for curve in curves:
                plot.plot(curve.steps, curve.smooth(), color=colour, alpha=0.25, linewidth=0.7)
        if width is not None:
            plot.fill_between(steps, mean - width, mean + width, color=colour, alpha=0.16, linewidth=0)
        marker = "o" if len(steps) <= FEW_POINTS else ""
        plot.plot(steps, mean, color=colour, linewidth=1.7, marker=marker, markersize=3.2)
        latest.append(Curve(steps, mean))
    _bound(plot, quantity)
    count_steps(plot)
    names = ", ".join(by_method)
    svg = to_svg(figure, "methods-" + _identifier(title), f"{title} over environment steps: {names}")
    return card(title, svg, f"latest {_latest(latest, quantity)}" if len(latest) <= 3 else "")


def headline_facts(columns: Columns, suite_metrics: Mapping[str, Metric]) -> list[tuple[str, str, str]]:
    """Headline numbers of one run: the last smoothed value of what matters."""
    facts = []
    for name, title in _evaluations(columns, suite_metrics).items():
        figure = suite_metrics.get(name.split("/")[1], "solved")
        if name.endswith(f"/mean_{figure}") and len(curve := Curve.of(columns, name)):
            at = f"during training, at {short_count(curve.steps[-1])} steps"
            facts.append((title, say(figure, curve.values[-1]), at))
    facts += [
        (f"{student.capitalize()} solves", percent(curve.smooth()[-1]), "of the proposed levels")
        for student in students_in(columns)
        if len(curve := Curve.of(columns, f"{student}/solved"))
    ]
    if len(curve := Curve.of(columns, "regret")):
        facts.append(("Regret estimate", number(curve.smooth()[-1]), "mean of proposed levels"))
    return facts
