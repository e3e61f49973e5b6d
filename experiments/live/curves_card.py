"""Learning curves of runs, drawn anew while they train."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nicegui import ui

from clutr.experiments.live.curriculum_session import CurriculumSession
from clutr.experiments.live.parts import card
from clutr.experiments.live.run_watch import NOTHING_YET
from clutr.experiments.plots.charts import student_roles
from clutr.experiments.plots.curves import Columns, Curve, is_fraction, quantities, students_in
from clutr.experiments.plots.line_chart import curve_chart

MOST_RUNS = 6
"""Colours that runs side by side have; more runs share the last one."""
LEVELS = "proposed levels"


def curves_of_run(session: CurriculumSession) -> str:
    """A chart a quantity, a curve a student."""
    columns = session.watch.columns
    students = students_in(columns)
    roles = student_roles(students or ["student"])
    charts = []
    for quantity, title in _quantities(session, columns).items():
        own, students_own = quantity.removeprefix("<student>/"), quantity.startswith("<student>/")
        curves = {s: Curve.of(columns, f"{s}/{own}") for s in students} if students_own else {}
        if quantity.startswith("evaluation/"):
            curves = {next(iter(roles)): Curve.of(columns, quantity)}  # the first student is the one that is evaluated
        curves = curves or {LEVELS: Curve.of(columns, quantity)}
        charts.append(curve_chart(title, curves, roles | {LEVELS: "accent"}, is_fraction(quantity), "steps"))
    return "".join(charts)


def curves_of_runs(sessions: Sequence[CurriculumSession], names: Sequence[str]) -> str:
    """A chart a quantity, a curve a run: of its first student, who is the one that is evaluated."""
    roles = {name: f"method-{min(number, MOST_RUNS - 1)}" for number, name in enumerate(names)}
    titles: dict[str, str] = {}
    for session in sessions:
        titles |= dict(_quantities(session, session.watch.columns).items())
    charts = []
    for quantity, title in titles.items():
        curves = {}
        for name, session in zip(names, sessions, strict=True):
            student = next(iter(students_in(session.watch.columns)), "student")
            curves[name] = Curve.of(session.watch.columns, quantity.replace("<student>", student))
        charts.append(curve_chart(title, curves, roles, is_fraction(quantity), "steps"))
    return "".join(charts)


def curves_of_parts(columns: Columns) -> str:
    """A chart a quantity, a curve a part of a world model: columns are called `PART/QUANTITY`."""
    groups: dict[str, dict[str, Curve]] = {}
    for name in columns:
        part, _, quantity = name.rpartition("/")
        if part:
            groups.setdefault(quantity, {})[part] = _over_updates(columns, name)
    parts = list(dict.fromkeys(part for group in groups.values() for part in group))
    roles = {part: f"method-{min(number, MOST_RUNS - 1)}" for number, part in enumerate(parts)}
    return "".join(
        curve_chart(quantity.replace("_", " ").capitalize(), curves, roles, False, "steps")
        for quantity, curves in groups.items()
    )


def _over_updates(columns: Mapping[str, Any], name: str) -> Curve:
    return Curve.of({"steps": columns.get("update", np.empty(0)), name: columns[name]}, name)


def _quantities(session: CurriculumSession, columns: Columns) -> dict[str, str]:
    return quantities(columns, {name: suite.metric for name, suite in session.suites.items()})


class CurvesCard:
    """A card with a run's progress and its curves.

    Args:
        title: of the card.
        note: what is to be known about them.
    """

    def __init__(self, title: str, note: str) -> None:
        with card(title):
            self._words = ui.label().classes("note").mark("progress")
            self._curves = ui.html("", sanitize=False).classes("curves").mark("curves")
            self._empty = ui.label().classes("note")
            self._note = ui.label(note).classes("note")

    def show(self, words: str, html: str, empty: str = NOTHING_YET) -> None:
        """Show how far runs are, and their curves, or why there are none; what has not changed is not sent again."""
        self._words.text = words
        self._words.set_visibility(bool(words))
        self._curves.content = html
        self._empty.text = empty
        self._empty.set_visibility(not html)
        self._note.set_visibility(bool(html))
