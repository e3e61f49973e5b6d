"""Figures and tables for papers: what they show, and the command that they carry."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import clutr
from clutr.experiments.cli.main import main
from clutr.experiments.evaluation.compare import Comparison, compare
from clutr.experiments.evaluation.statistics import Sample, performance_profile, profile_band
from clutr.experiments.plots import paper
from clutr.experiments.reports import paper_figures
from clutr.experiments.reports.paper_tables import as_latex, escape
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.training.presets import PRESETS

COMMAND = "clutr compare runs/a runs/b --figures out"
RATES = {"dr": 0.25, "plr_50%": 0.75}


def comparison(root: Path, seeds: int = 3) -> Comparison:
    """Runs that learn linearly to a rate and have been evaluated; the second method's seconds are twice as many."""
    evaluations: dict[str, list[dict[str, Any]]] = {}
    for factor, (method, rate) in enumerate(RATES.items(), 1):
        for seed in range(seeds):
            run = RunDirectory.create(root / f"{factor}-s{seed}", replace(PRESETS["maze-dr-debug"], seed=seed))
            for update in range(1, 5):
                row = {"update": update, "steps": 100 * update}
                run.metrics_file.append({**row, "evaluation/small/mean_solved": rate * update / 4 + 0.01 * seed})
                run.timing_file.append({"update": update, "seconds": 10.0 * factor * update})
            rows = [
                {"level": level, "episodes": 20, "solved": rate, "return_mean": rate, "return_std": 0.1}
                for level in ("Maze_A", "Maze_B")
            ]
            worst = {"levels": 100, "mean": rate, "worst": {"0.1": rate / 2, "0.01": 0.01 * seed}}
            evaluations.setdefault(method, []).append(
                {"run": str(run.path), "suite": "small", "levels": rows, "summary": {"cvar": worst, "steps": 400}}
            )
    return compare(evaluations, torch.Generator().manual_seed(0))


def test_every_figure_carries_the_command_that_made_it(tmp_path: Path) -> None:
    found = comparison(tmp_path)
    written = clutr.write_figures(found, tmp_path / "out", formats=("png",), command=COMMAND)
    names = {
        "aggregates",
        "improvement",
        "profiles",
        "learning-small-over-steps",
        "learning-small-over-seconds",
        "cvar",
    }
    assert {path.stem for path in written if path.suffix == ".png"} == names
    assert {path.name for path in written if path.stem in ("table", "captions")} == {
        "table.csv", "table.md", "table.tex", "captions.md",
    }  # fmt: skip
    for path in written:
        content = path.read_bytes()
        if path.suffix == ".png":
            assert Image.open(path).text["Description"] == COMMAND  # type: ignore[attr-defined]
        elif path.suffix != ".csv":
            assert COMMAND.encode() in content, path
    assert "plr_50%: n = 3" in (tmp_path / "out" / "captions.md").read_text()
    draw = paper_figures._figures(found, found.evaluations)["cvar"][1]
    for kind in ("pdf", "svg"):
        content = paper.figure_bytes(draw, kind, "title", COMMAND)
        assert COMMAND.encode() in content
        assert content == paper.figure_bytes(draw, kind, "title", COMMAND), "the same each time"


def test_curves_over_seconds_and_of_risk_are_those_of_the_runs(tmp_path: Path) -> None:
    found = comparison(tmp_path)
    runs = {method: [RunDirectory(each["run"]) for each in given] for method, given in found.evaluations.items()}
    band = paper_figures._learning(runs, "evaluation/{}/mean_solved", "seconds")["small"]["plr_50%"]
    assert band.x.tolist() == [20, 40, 60, 80]
    np.testing.assert_allclose(band.y, 0.75 * np.arange(1, 5) / 4 + 0.01)
    assert band.low is not None
    np.testing.assert_allclose(band.y - band.low, 4.30265 * 0.01 / np.sqrt(3), rtol=1e-4)  # Student's t, 2 degrees
    risk = paper_figures._risks(found.evaluations)["dr"]
    assert risk.x.tolist() == [0.01, 0.1, 1]
    np.testing.assert_allclose(risk.y, [0.01, 0.125, 0.25])
    assert risk.high is not None
    assert risk.high[0] == pytest.approx(0.02)


def test_a_profile_counts_the_scores_above_each_threshold() -> None:
    scores = np.array([[0.0, 0.5], [1.0, 0.25]])
    np.testing.assert_allclose(performance_profile(scores, np.array([0, 0.25, 0.5, 1])), [0.75, 0.5, 0.25, 0])
    sample = Sample(np.repeat(scores[:, None], 4, 1))
    value, low, high = profile_band(sample, np.array([0.1, 0.6]), torch.Generator().manual_seed(0), 500)
    np.testing.assert_allclose(value, [0.75, 0.25])
    assert np.all(low <= value)
    assert np.all(value <= high)
    # A resample has only the first run with probability 1/4: half of its scores are above 0.1, else all are.
    assert (low[0], high[0]) == (0.5, 1)


def test_tables_say_the_same_in_three_ways(tmp_path: Path) -> None:
    found = comparison(tmp_path)
    clutr.write_figures(found, tmp_path / "out", formats=(), command=COMMAND)
    rows = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    (iqm,) = [row for row in rows if (row["row"], row["method"]) == ("IQM", "plr_50%")]
    assert float(iqm["value"]) == 0.75
    markdown = (tmp_path / "out" / "table.md").read_text()
    assert "| solve rate | dr (n = 3) | plr_50% (n = 3) |" in markdown
    assert f"| IQM | {100 * found.methods[0].iqm.value:.1f} [" in markdown
    latex = as_latex(found, COMMAND)
    assert r"solve rate & dr (n = 3) & plr\_50\% (n = 3) \\" in latex
    assert r"  Maze\_A & 25.0 [" in latex
    assert latex.count(" & ") == 2 * latex.count(r"\\")
    assert escape("a_b & 50 % ~ \\") == r"a\_b \& 50 \% \textasciitilde{} \textbackslash{}"


def test_the_style_tells_seven_methods_apart_without_colour() -> None:
    with paper.style():
        looks = paper.looks([str(number) for number in range(7)])
    assert len({(look["linestyle"], look["marker"]) for look in looks.values()}) == 7
    assert len({look["color"] for look in looks.values()}) == 7


def test_compare_writes_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory.create(tmp_path / "dr-s1", PRESETS["maze-dr-debug"])
    rows = [{"level": "Maze", "episodes": 2, "solved": 0.5, "return_mean": 0.5, "return_std": 0.0}]
    folder = run.path / "evaluations" / "small"
    folder.mkdir(parents=True)
    result = {"run": "dr-s1", "suite": "small", "levels": rows, "summary": {"steps": 3, "seed": 1}}
    (folder / "steps.json").write_text(json.dumps(result))
    assert main(["compare", str(run.path), "--suite", "small", "--figures", str(tmp_path / "out")]) == 0
    assert "10 files in" in capsys.readouterr().out
    assert (tmp_path / "out" / "aggregates.svg").exists()
