import base64
import io
import math
import re
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from structure import HOSTILE, Structure

from clutr.experiments.plots import html
from clutr.experiments.plots.charts import (
    PALETTE,
    axes,
    method_roles,
    placeholder,
    short_count,
    student_roles,
    to_svg,
)
from clutr.experiments.plots.curves import Curve, headline_facts, mean_and_interval, method_curves, training_curves
from clutr.experiments.plots.images import png_uri
from clutr.experiments.plots.solve_table import level_interval, solve_table


def columns(updates: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    evaluation = np.full(updates, np.nan)
    evaluation[-1] = 0.625
    return {
        "update": np.arange(1.0, updates + 1),
        "steps": 256.0 * np.arange(1, updates + 1),
        "protagonist/mean_return": rng.random(updates),
        "protagonist/solved": rng.random(updates),
        "antagonist/mean_return": rng.random(updates),
        "antagonist/solved": rng.random(updates),
        "protagonist/entropy": rng.random(updates),
        "regret": rng.random(updates),
        "levels/wall_count": rng.random(updates),
        "levels/solvable": rng.random(updates),
        "evaluation/tests/mean_solved": evaluation,
        "evaluation/tests/Labyrinth": evaluation,
    }


def evaluation(solved: list[float], episodes: int = 100, names: list[str] | None = None) -> dict[str, Any]:
    names = names or [f"level{index}" for index in range(len(solved))]
    levels = [
        {"level": name, "episodes": episodes, "solved": value, "return_mean": value / 2, "return_std": 0.25}
        for name, value in zip(names, solved, strict=True)
    ]
    summary = {
        "mean_solved": float(np.mean(solved)),
        "mean_solved_interval": [0.11, 0.97],
        "iqm_solved": 0.515,
        "iqm_solved_interval": [0.31, 0.72],
        "uncertainty": "Resampled.",
    }
    return {"run": "somewhere/run-1", "suite": "tests", "levels": levels, "summary": summary}


# --- small parts


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (12, "12"),
        (1234567, "1\u202f234\u202f567"),
        (4321.7, "4\u202f322"),
        (0.0291, "0.0291"),
        (12.34, "12.3"),
        (0.00012, "1.20e-04"),
        (-0.5, "-0.500"),
        (math.nan, html.MISSING),
        (math.inf, html.MISSING),
        (None, html.MISSING),
        ("7", html.MISSING),
        (True, html.MISSING),
    ],
)
def test_number_is_said_in_three_digits(value: object, said: str) -> None:
    assert html.number(value) == said


def test_percent_and_duration() -> None:
    assert html.percent(0.625) == "62\u202f%"
    assert html.percent(0.625, 1) == "62.5\u202f%"
    assert html.percent(None) == html.MISSING
    assert html.duration(59.4) == "59 s"
    assert html.duration(125) == "2 min 05 s"
    assert html.duration(3 * 3600 + 61) == "3 h 01 min"
    assert html.duration(math.nan) == html.MISSING


def test_counts_are_short() -> None:
    said = [short_count(value) for value in (950, 12_500, 3e6, 2e9, math.nan)]
    assert said == ["950", "12.5k", "3M", "2G", "\u2013"]


def test_png_keeps_every_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    kind, _, content = png_uri(image).partition(",")
    assert kind == "data:image/png;base64"
    read = matplotlib.image.imread(io.BytesIO(base64.b64decode(content)), format="png")
    np.testing.assert_array_equal(np.round(read[..., :3] * 255).astype(np.uint8), image)


def test_svg_follows_the_theme_and_stands_alone() -> None:
    figure, plot = axes()
    plot.plot([0, 1], [0, 1], color=placeholder("student-1"))
    svg = to_svg(figure, "demo", HOSTILE)
    assert "var(--student-1" in svg
    assert "#fe00" not in svg  # no placeholder is left
    assert "http" not in svg
    assert "<style" not in svg  # it would reach the whole page
    parsed = Structure(svg)
    assert all(str(attributes["id"]).startswith("demo-") for _, attributes in parsed.tags if "id" in attributes)
    assert parsed.tags[0][1]["aria-label"] == HOSTILE


def test_placeholders_are_distinct() -> None:
    assert len({placeholder(role) for role in PALETTE}) == len(PALETTE)


def test_known_methods_keep_their_colour_and_nobody_shares_one() -> None:
    alone = method_roles(["dr"])
    together = method_roles(["my-own", "maze-clutr", "dr", "untrained"])
    assert alone["dr"] == together["dr"]
    assert together["untrained"] == "method-none"
    assert len(set(together.values())) == 4
    assert student_roles(["antagonist"])["antagonist"] == student_roles(["protagonist", "antagonist"])["antagonist"]


# --- curves


def test_curve_leaves_out_what_was_not_measured() -> None:
    curve = Curve.of({"steps": np.array([1.0, 2.0, 3.0]), "x": np.array([np.nan, 5.0, np.inf])}, "x")
    assert curve.steps.tolist() == [2.0]
    assert curve.values.tolist() == [5.0]
    assert len(Curve.of({"steps": np.array([1.0])}, "absent")) == 0


def test_smoothing_averages_the_last_window() -> None:
    curve = Curve(np.arange(150.0), np.arange(150.0))
    assert curve.window == 3
    assert curve.smooth()[:4].tolist() == [0.0, 0.5, 1.0, 2.0]
    assert curve.smooth()[-1] == 148.0


def test_interval_over_seeds_by_hand() -> None:
    curves = [Curve(np.array([0.0, 10.0]), np.array([0.0, value])) for value in (1.0, 2.0, 3.0)]
    steps, mean, width = mean_and_interval(curves)
    assert steps.tolist() == [0.0, 10.0]
    assert mean.tolist() == [0.0, 2.0]
    assert width is not None
    # Student's t with 2 degrees of freedom at 97.5 % is 4.3027; the standard deviation is 1
    np.testing.assert_allclose(width, [0.0, 4.3027 / math.sqrt(3)], rtol=1e-4)
    assert mean_and_interval(curves[:2])[2] is None


def test_seeds_are_compared_where_all_have_measurements() -> None:
    long, short = Curve(np.array([0.0, 4.0]), np.array([0.0, 4.0])), Curve(np.array([1.0, 3.0]), np.array([1.0, 3.0]))
    steps, mean, _ = mean_and_interval([long, short])
    assert steps.tolist() == [1.0, 3.0]
    assert mean.tolist() == [1.0, 3.0]


def test_training_curves_show_what_there_is() -> None:
    panel = training_curves(columns(60), "run a, seed 1", {})
    words = Structure(panel.html()).text
    for title in ("Zero-shot, tests", "Return on own levels", "Regret estimate", "Walls", "Solvable share"):
        assert title in words
    assert "1 further measurement " in words  # the entropy
    assert "latest 62\u202f%" in words
    assert "n = 60 updates; run a, seed 1." in words


@pytest.mark.parametrize("updates", [0, 1, 2])
def test_curves_of_very_short_runs(updates: int) -> None:
    some = columns(updates) if updates else {}
    words = Structure(training_curves(some, "s", {}).html()).text
    assert ("no metrics yet" in words) == (updates == 0)
    assert "nan" not in words.lower()


def test_columns_that_were_never_measured_are_left_out() -> None:
    some = columns(5) | {"regret": np.full(5, np.nan)}
    assert "Regret" not in Structure(training_curves(some, "s", {}).html()).text


def test_method_curves_name_methods_and_seeds() -> None:
    runs = [("clutr", columns(5, seed)) for seed in range(3)] + [("dr", columns(5, 9))]
    words = Structure(method_curves(runs, "s", {}).html()).text
    assert "clutr: 3 seeds, dr: 1 seed" in words
    assert "Student-t interval" in words
    assert "may be chance" in words
    assert "None of these runs has metrics" in Structure(method_curves([("a", {}), ("b", {})], "s", {}).html()).text


def test_methods_whose_steps_do_not_overlap_are_left_out() -> None:
    late = columns(3)
    late = late | {"steps": late["steps"] + 1e6}
    together = method_curves([("clutr", columns(3)), ("clutr", columns(3))], "s", {}).html()
    apart = method_curves([("clutr", columns(3)), ("clutr", late)], "s", {}).html()
    Structure(apart)
    assert apart.count("<path") < together.count("<path")


def test_headline_takes_the_last_values() -> None:
    facts = {what: value for what, value, _ in headline_facts(columns(3), {})}
    assert facts["Zero-shot, tests"] == "62\u202f%"
    assert facts["Regret estimate"] == html.number(float(columns(3)["regret"][-1]))


# --- the table


def rate_cells(html: str) -> list[tuple[str, str]]:
    return re.findall(r'<td class="rate[^>]*><b>([^<]*)</b><small>([^<]*)</small>', html)


def test_table_holds_the_values_it_was_given() -> None:
    panel = solve_table({"tests": [("clutr", evaluation([0.0, 0.37, 1.0])), ("dr", evaluation([0.5, 0.1, 1.0]))]}, "s")
    cells = rate_cells(panel.body)
    assert [rate for rate, _ in cells[:6]] == [
        "0\u202f%",
        "50\u202f%",
        "37\u202f%",
        "10\u202f%",
        "100\u202f%",
        "100\u202f%",
    ]
    # Wilson (1927), 100 episodes, z = 1.96: half 40.4 to 59.6; Clopper-Pearson, one-sided: none 0 to 3, all 97 to 100
    assert [interval for _, interval in cells[:2]] == ["0 to 3", "40 to 60"]
    assert cells[5][1] == "97 to 100"
    assert cells[6] == ("46\u202f%", "11 to 97")  # mean of the first, with the summary's interval
    assert cells[8] == ("52\u202f%", "31 to 72")  # IQM
    assert "Resampled." in panel.caption
    assert "tests: 100 episodes a level" in panel.caption


def test_best_of_a_row_is_marked_beyond_the_intervals_alone() -> None:
    near = solve_table({"tests": [("a", evaluation([0.54], 50)), ("b", evaluation([0.46], 50))]}, "s")
    assert "best" not in near.html(), "54 % (40-67) is not better than 46 % (33-60)"
    apart = solve_table({"tests": [("a", evaluation([0.2, 0.97])), ("b", evaluation([0.6, 1.0]))]}, "s")
    assert apart.body.count("rate best") == 1, "of 100 episodes 60 are beyond 20, but 100 not beyond 97"
    assert "Underlined: above all others of the row, beyond the intervals." in apart.caption
    single = solve_table({"tests": [("a", evaluation([0.9]))]}, "s")
    assert "best" not in single.html()


def test_single_method_also_shows_returns_and_episodes() -> None:
    words = Structure(solve_table({"tests": [("clutr", evaluation([0.5], episodes=1234))]}, "s").html()).text
    assert "0.25 ± 0.25" in words
    assert "1\u202f234" in words


def test_levels_that_one_method_lacks_are_dashes() -> None:
    tables = {"tests": [("a", evaluation([0.5], names=["x"])), ("b", evaluation([0.25], names=["y"]))]}
    assert solve_table(tables, "s").body.count(f"<b>{html.MISSING}</b>") == 2


def test_table_without_evaluation_says_so() -> None:
    assert "has not been evaluated yet" in solve_table({"tests": []}, "s").html()


def test_mean_does_without_a_summary() -> None:
    bare = evaluation([0.2, 0.4]) | {"summary": {}}
    assert rate_cells(solve_table({"t": [("a", bare)]}, "s").body)[-1][0] == "30\u202f%"
    assert level_interval({"solved": math.nan, "episodes": 10}) is None


def returns(means: list[float]) -> dict[str, Any]:
    rows = [
        {"level": f"level{index}", "episodes": 16, "solved": 0.25, "return_mean": mean, "return_std": 40.0}
        for index, mean in enumerate(means)
    ]
    summary = {"metric": "return", "mean_return": 300.0, "mean_return_interval": [290, 310], "mean_solved": 0.25}
    return {"run": "r", "suite": "roads", "levels": rows, "summary": summary}


def test_a_suite_of_returns_has_a_table_of_returns() -> None:
    panel = solve_table({"roads": [("clutr", returns([600.0, -3.5]))]}, "s")
    words = Structure(panel.html()).text
    assert "roads mean return" in words
    # Student's t for 15 degrees of freedom is 2.131: 600 - 2.131 * 40 / 4
    assert "level0 600 579 to 621 25\u202f% 16" in words
    assert "level1 -3.50 -25 to 18 25\u202f% 16" in words
    assert "Mean over levels 300 290 to 310" in words
    assert "Solved, mean over levels 25\u202f%" in words
    assert "Mean undiscounted return of the episodes" in words
    assert "(Student)" in words
    widths = re.findall(r"width:([\d.]+)%", panel.body)
    assert widths == ["100.0", "0.0", "50.0", "25.0"]


def test_returns_of_single_episodes_have_no_interval() -> None:
    assert level_interval({"return_mean": 3.0, "return_std": 0.0, "episodes": 1}, "return") is None
    assert level_interval({"return_mean": 3.0, "interval": [2, 4], "episodes": 1}, "return") == (2, 4)


def test_curves_of_suites_told_by_returns_show_both_figures() -> None:
    data = {**columns(3), "evaluation/tests/mean_return": np.array([np.nan, 10.0, 612.0]), "levels/bends": np.ones(3)}
    panel = training_curves(data, "s", {"tests": "return"})
    words = Structure(panel.html()).text
    assert "Zero-shot return, tests latest 612" in words
    assert "Zero-shot solve rate, tests latest 62\u202f%" in words
    assert "Bends" in words
    assert "further measurement" in words
    assert "Zero-shot return" not in Structure(training_curves(data, "s", {}).html()).text
    facts = {what: value for what, value, _ in headline_facts(data, {"tests": "return"})}
    assert facts["Zero-shot return, tests"] == "612"
    assert "Zero-shot solve rate, tests" not in facts
    runs = [("clutr", data), ("dr", data)]
    assert "Zero-shot return, tests" in Structure(method_curves(runs, "s", {"tests": "return"}).html()).text


# --- gallery and paths
