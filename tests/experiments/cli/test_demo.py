"""The demo."""

from dataclasses import replace
from pathlib import Path

import pytest

from clutr.experiments.cli import demo
from clutr.experiments.plots.page import Panel
from clutr.experiments.pretrained import cards
from clutr.experiments.reports import demo_page
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.presets import PRESETS


def test_demo_prints_the_table_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("clutr", "dr"):
        monkeypatch.setitem(PRESETS, f"demo-{name}", PRESETS[f"maze-{name}-debug"])
    monkeypatch.setattr(demo, "EPISODES", 2)
    monkeypatch.setattr(demo_page, "SIDE", 64)
    # a world model of cars would record episodes, and films and dreams are tested elsewhere
    monkeypatch.setattr(demo_page, "open_world_model", lambda name, _: name)
    monkeypatch.setattr(demo_page, "dream_panel", lambda name, _: Panel("dream", f"A dream of {name}", "", ""))
    demo.run_demo(tmp_path / "demo", seed=1)
    printed = capsys.readouterr().out
    assert "environment: mazes of 5x5 cells, up to 6 obstacles, 20 steps an episode" in printed
    for name in ("clutr", "dr", "untrained", "Labyrinth11", "IQM"):
        assert name in printed
    report = tmp_path / "demo" / "clutr" / "report.html"
    assert f"{report} has more" in printed
    assert f"open {tmp_path / 'demo' / 'index.html'}" in printed
    page = report.read_text()
    assert page.count("</i>untrained</th>") == 1, "the untrained student has one column in the report's table"
    assert page.count("</i>clutr</th>") == 1
    kept = (tmp_path / "demo" / "index.html").read_text()
    for anchor in ("transfer", "film", "curriculum", "onward"):
        assert f'<section class="panel" id="{anchor}">' in kept
    assert "data:image/gif;base64," in kept
    assert 'href="clutr/report.html"' in kept
    assert kept.count("</i>untrained</th>") == 1
    shipped = demo.best_student()
    assert shipped is not None
    assert kept.count(f"</i>{shipped.name}</th>") == 1
    assert f"{shipped.name} is a student that ships, after " in kept
    assert "of processor time." in printed
    assert "A dream of car-world@best" in kept


def test_the_best_student_that_ships_is_the_one_that_measured_best(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: card for name, card in cards().items() if (card.kind, card.domain) == ("student", "maze")}
    worst = min(known.values(), key=lambda card: card.measured["value"])
    praised = replace(worst, measured={**worst.measured, "value": 2.0})
    monkeypatch.setattr(demo, "cards", lambda: {**known, praised.name: praised})
    assert demo.best_student() == praised
    monkeypatch.setattr(demo, "cards", dict)
    assert demo.best_student() is None


def test_demo_replaces_the_runs_of_an_earlier_one(tmp_path: Path) -> None:
    experiment = PRESETS["maze-dr-debug"]
    earlier = RunDirectory.create(tmp_path / "dr", experiment)
    (earlier.path / "evaluations").mkdir()
    assert demo._fresh_run(earlier.path, replace(experiment, seed=2)).experiment.seed == 2
    assert not (earlier.path / "evaluations").exists()


def test_demo_removes_nothing_that_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "clutr").mkdir()
    (tmp_path / "clutr" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="is not a run"):
        demo.run_demo(tmp_path, seed=1)
    assert (tmp_path / "clutr" / "thesis.tex").exists()
