"""The studies at the published budgets: what they ask for fits, and one command goes on with them and writes tables."""

import csv
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import clutr
from clutr.experiments.config import to_plain
from clutr.experiments.studies import published
from clutr.experiments.studies.curricula import Study, train_one
from clutr.experiments.studies.curricula_tables import page
from clutr.experiments.training.presets import CAR_MANIFOLD_PRESETS, MANIFOLD_PRESETS
from clutr.experiments.training.runner import require_trainable

TINY = """
about: Two kinds of mazes.
preset: maze-dr-debug
experiment: {evaluate_every: 0}
seeds: [1]
steps: 512
suite: random
episodes: 2
also: [small]
methods:
  dr: {preset: maze-dr-debug, seeds: [1, 2]}
  plr: {curriculum: {kind: plr, capacity: 4}}
"""


@pytest.mark.parametrize("name", published.STUDIES)
def test_every_run_of_a_study_could_begin(name: str) -> None:
    study = published.study_of(name)
    suites = study.base.domain.suites()
    assert {study.suite, *study.also} <= set(suites)
    for method in study.methods:
        experiment = study.experiment(method, study.seeds_of(method)[-1])
        assert experiment.total_steps > study.steps
        require_trainable(experiment)


def test_methods_are_the_presets() -> None:
    mazes, cars = published.study_of("mazes"), published.study_of("cars")
    for study, domain in ((mazes, "maze"), (cars, "car")):
        for method in ("dr", "clutr", "paired", "accel"):
            preset, chosen = to_plain(clutr.PRESETS[f"{domain}-{method}"]), to_plain(study.experiment(method, 1))
            preset["student"] |= study.student
            for part in ("domain", "curriculum", "student", "num_envs"):
                assert chosen[part] == preset[part], (method, part)
    assert mazes.student == {"shards": 1}, "which changes rounding alone"
    assert mazes.experiment("clutr", 1).manifold == MANIFOLD_PRESETS["recurrent"]
    assert cars.experiment("clutr", 1).manifold == CAR_MANIFOLD_PRESETS["recurrent"]
    assert published.study_of("cars-ablations").experiment("shuffled", 1).manifold == CAR_MANIFOLD_PRESETS["shuffled"]
    assert [len(cars.seeds_of(method)) for method in ("clutr", "paired", "dr", "accel")] == [5, 5, 5, 3]


def test_one_command_trains_what_is_missing_and_writes_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "study.yaml").write_text(TINY)
    monkeypatch.setattr(published, "RESULTS", tmp_path)
    monkeypatch.setattr(published, "STUDIES", {"tiny": "tiny"})
    study, out = published.study_of("tiny"), tmp_path / "out"
    for method in study.methods:
        for seed in study.seeds_of(method):
            train_one(study, out, method, seed)
    monkeypatch.setattr(sys, "argv", ["published", "tiny", str(out)])
    published.main()  # nothing is missing
    assert capsys.readouterr().out == ""
    with (tmp_path / "tiny" / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["method"], row["seed"]) for row in rows} == {("dr", "1"), ("dr", "2"), ("plr", "1")}
    assert {row["suite"]: row["metric"] for row in rows} == {"random": "solved", "small": "solved"}
    told = (tmp_path / "tiny" / "results.md").read_text()
    assert told.count("\n## At equal steps: 512 environment steps of one student, ") == 2
    assert "512 environment steps of one student, small" in told


def test_returns_are_told_as_they_are(tmp_path: Path) -> None:
    study = replace(published.study_of("cars"), path=tmp_path / "study.yaml", also=())
    known = {"budget": "steps", "steps": 2_000_000, "seconds": 1, "suite": "f1", "metric": "return", "episodes": 2}
    returns = {("dr", 1): (300, 100), ("dr", 2): (100, 100), ("clutr", 1): (500, 300)}
    rows = [
        {"method": method, "seed": str(seed), "level": level, "solved": "0", "return_mean": str(value)}
        | {name: str(one) for name, one in known.items()}
        for (method, seed), values in returns.items()
        for level, value in zip(("Monaco", "Spain"), values, strict=True)
    ]
    told = page(study, rows, [])
    assert "| clutr | 1 | 400.0 [" in told
    assert "| dr | 2 | 150.0 [" in told
    assert "| clutr | 500 | 300 |" in told


def test_a_run_whose_study_was_killed_stops_after_its_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study.yaml").write_text(TINY.replace("steps: 512", "steps: 5120000"))
    study = Study.read(tmp_path / "study.yaml")
    parents = iter([100, 100])
    monkeypatch.setattr(os, "getppid", lambda: next(parents, 1))
    train_one(study, tmp_path / "out", "dr", 1)
    run = clutr.load_run(tmp_path / "out" / "dr-s1")
    assert run.metrics()["update"].tolist() == [1, 2]
    assert len(run.checkpoints()) == 1
