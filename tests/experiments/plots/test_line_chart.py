"""The chart that a live page draws anew at every step."""

import re

from clutr.experiments.plots.line_chart import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, small_chart


def test_points_are_where_the_values_are() -> None:
    svg = small_chart({"a": [0.0, 10.0, 5.0], "b": [2.0]}, {"a": "method-0", "b": "muted"}, "steps", "error")
    lines = re.findall('points="([^"]*)"', svg)
    places = [tuple(float(n) for n in point.split(",")) for point in lines[0].split()]
    ground, right = HEIGHT - BOTTOM, WIDTH - 4
    assert places == [(LEFT, ground), ((LEFT + right) / 2, TOP), (right, (ground + TOP) / 2)]
    assert lines[1].split()[0] == lines[1].split()[1] == f"{LEFT:.1f},{ground - 0.2 * (ground - TOP):.1f}", (
        "one is seen"
    )
    assert "a: 5.0" in svg
    assert "b: 2.0" in svg
    assert ">10</text>" in svg
    assert "3 steps" in svg


def test_nothing_is_drawn_of_nothing() -> None:
    assert small_chart({}, {}, "steps", "error") == ""
    assert small_chart({"a": []}, {"a": "muted"}, "steps", "error") == ""


def test_names_are_escaped() -> None:
    assert "<b>" not in small_chart({"<b>": [0.0]}, {"<b>": "muted"}, "steps", "<b>")
