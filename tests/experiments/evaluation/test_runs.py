"""Evaluating runs, their tables, and runs grouped by method."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clutr.experiments.evaluation.compare import group_by_method, mean_cvar
from clutr.experiments.evaluation.runs import evaluate_run
from clutr.experiments.evaluation.tables import cvar_table, evaluation_table
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.train import train


def ignore(_: str) -> None:
    """Nobody listens."""


def text_of(table: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120).print(table)
    return stream.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path = tmp_path_factory.mktemp("commands")
    run = RunDirectory.create(path / "dr-s1", replace(PRESETS["maze-dr-debug"], evaluate_every=0))
    assert train(run, path / "manifolds", ignore)
    return run


def test_cvar_is_kept_beside_the_evaluation(trained: RunDirectory) -> None:
    told: list[tuple[int, int]] = []
    result = evaluate_run(
        trained, "random", 3, seed=7, cvar_levels=40, progress=lambda done, total, _: told.append((done, total))
    )
    cvar = result["summary"]["cvar"]
    assert set(cvar) == {"levels", "mean", "worst", "episodes_select", "episodes_score", "seed"}
    assert (cvar["levels"], cvar["seed"]) == (40, 7)
    assert list(cvar["worst"]) == ["0.1", "0.01", "0.001"]
    assert 0 <= cvar["worst"]["0.001"] <= 1
    assert 0 < cvar["mean"] < 1
    assert trained.evaluations()["random"] == result
    assert told[0] == (1, 1), "the suite's only level"
    assert told[-1] == (40 * cvar["episodes_select"] + 4 * cvar["episodes_score"],) * 2
    again = evaluate_run(trained, "random", 3, seed=7, cvar_levels=40)
    assert again == result
    without = evaluate_run(trained, "random", 3, seed=7)
    assert without["levels"] == result["levels"], "measuring the worst levels leaves the evaluation alone"
    assert "cvar" not in without["summary"]


@pytest.mark.parametrize(
    ("suite", "options", "message"),
    [
        ("nowhere", {}, "no suite is called 'nowhere'; there are: accel12"),
        ("small", {"cvar_levels": 10}, "is measured on the suite 'random', not on 'small'"),
        ("random", {"cvar_levels": -1}, "0 or more"),
        ("random", {"episodes": 0}, "episodes must be at least 1"),
    ],
)
def test_what_cannot_be_evaluated(trained: RunDirectory, suite: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        evaluate_run(trained, suite, **{"episodes": 1, **options})


def result_with(run: str, worst: float | None, levels: int = 100) -> dict[str, Any]:
    cvar = {} if worst is None else {"cvar": {"levels": levels, "mean": 0.5 + worst, "worst": {"0.1": worst}}}
    return {"run": run, "summary": cvar}


def test_cvar_is_averaged_over_the_seeds_of_methods_that_have_it() -> None:
    means = mean_cvar(
        {
            "clutr": [result_with("a", 0.125), result_with("b", 0.375)],
            "half": [result_with("c", 0.5), result_with("d", None)],
            "unlike": [result_with("e", 0.5), result_with("f", 0.5, levels=10)],
        }
    )
    assert means == {"clutr": {"levels": 100, "mean": 0.75, "worst": {"0.1": 0.25}}}
    shown = text_of(cvar_table(means))
    assert "worst 10%" in shown
    assert "75.0%" in shown
    assert "25.0%" in shown


def test_runs_that_differ_in_the_seed_alone_are_one_method(tmp_path: Path) -> None:
    base = PRESETS["maze-dr-debug"]
    experiments = {
        "here/dr-s1": base,
        "here/dr-s2": replace(base, seed=2),
        "there/dr-s1": replace(base, num_envs=16),
        "here/other": replace(base, num_envs=24),
    }
    runs = []
    for name, experiment in experiments.items():
        run = RunDirectory.create(tmp_path / name, experiment)
        run.save_evaluation("small", {"run": name}, [])
        runs.append(run)
    groups = group_by_method(runs, "small")
    assert {method: [result["run"] for result in results] for method, results in groups.items()} == {
        "dr": ["here/dr-s1", "here/dr-s2"],
        "dr'": ["there/dr-s1"],
        "other": ["here/other"],
    }
    with pytest.raises(RunError, match=r"has no evaluation on the suite 'dcd7'; it has: small"):
        group_by_method(runs, "dcd7")


def test_table_of_an_evaluation_on_numbers_worked_by_hand() -> None:
    def result(solved: list[float]) -> dict[str, Any]:
        rows = [{"level": f"Maze{i}", "episodes": 4, "solved": fraction} for i, fraction in enumerate(solved)]
        mean = sum(solved) / len(solved)
        figures = {f"{name}_solved": mean for name in ("mean", "iqm")}
        intervals = {f"{name}_solved_interval": [mean - 0.125, mean + 0.125] for name in ("mean", "iqm")}
        return {"suite": "small", "levels": rows, "summary": {**figures, **intervals, "uncertainty": "Bootstrap."}}

    lines = text_of(evaluation_table({"[red]ours": result([0.5, 1.0]), "theirs": result([0, 0.25])})).split("\n")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert ["Maze0", "50%", "0%"] in cells
    assert ["Maze1", "100%", "25%"] in cells
    assert ["mean", "75.0% [62.5%, 87.5%]", "12.5% [0.0%, 25.0%]"] in cells
    assert any("[red]ours" in line for line in lines)
    assert "4 episodes a level. Bootstrap." in " ".join(lines)
