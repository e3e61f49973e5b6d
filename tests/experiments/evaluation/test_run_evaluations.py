"""Evaluating runs, their tables, and runs grouped by method."""

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clutr.experiments.evaluation.compare import group_by_method, mean_cvar
from clutr.experiments.evaluation.runs import evaluate_run
from clutr.experiments.evaluation.selection import choose, own_evaluations
from clutr.experiments.evaluation.tables import cvar_table, evaluation_table
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, load_state
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
    assert list(cvar["worst"]) == ["0.1"], "1 % of 40 levels is less than a level"
    assert 0 <= cvar["worst"]["0.1"] <= 1
    assert 0 < cvar["mean"] < 1
    [kept] = trained.evaluations()
    assert kept.result == result
    assert kept.path.name == "steps-000001536-seed-7-sampled-3.json"
    assert kept.path.parent == trained.path / "evaluations" / "random"
    assert told[0] == (1, 1), "the suite's only level"
    assert told[-1] == (40 * cvar["episodes_select"] + 4 * cvar["episodes_score"],) * 2
    again = evaluate_run(trained, "random", 3, seed=7, cvar_levels=40)
    assert again == result
    without = evaluate_run(trained, "random", 3, seed=7)
    assert without["levels"] == result["levels"], "measuring the worst levels leaves the evaluation alone"
    assert "cvar" not in without["summary"]
    [kept] = trained.evaluations()
    assert kept.result == result, "what had been measured beside it stays"
    evaluate_run(trained, "random", 3, seed=7, cvar_levels=10)
    assert trained.evaluations()[0].result == result, "the worst of more levels stay"


def test_evaluations_of_other_seed_mode_or_episodes_are_kept_beside(trained: RunDirectory) -> None:
    first = evaluate_run(trained, "small", 2)
    evaluate_run(trained, "small", 1, seed=9, deterministic=True)
    evaluate_run(trained, "small", 3, seed=9)
    kept = own_evaluations(trained, "small")
    assert [(each.steps, each.seed, each.deterministic, each.episodes) for each in kept] == [
        (1536, 9, True, 1),
        (1536, 1, False, 2),
        (1536, 9, False, 3),
    ]
    assert kept[1].result == first
    assert choose({trained: kept}, "small") == [kept[2]]
    assert choose({trained: kept}, "small", deterministic=True) == [kept[0]]


def test_a_checkpoint_that_is_still_there_can_be_evaluated(trained: RunDirectory) -> None:
    there = [load_state(path)["steps"] for path in trained.checkpoints()]
    result = evaluate_run(trained, "small", 1, checkpoint=there[0])
    assert result["summary"]["steps"] == there[0]
    listed = ", ".join(f"{steps:,}" for steps in there)
    with pytest.raises(RunError, match=rf"has no checkpoint at 7 steps \(any more\): it has those at {listed} steps"):
        evaluate_run(trained, "small", 1, checkpoint=7)


def test_nothing_is_played_where_the_result_cannot_be_written(
    trained: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = RunDirectory(shutil.copytree(trained.path, tmp_path / "copy", ignore=lambda *_: ["evaluations"]))
    (copy.path / "evaluations").write_text("a file is in the way")
    monkeypatch.setattr("clutr.experiments.evaluation.runs.evaluate", lambda *_, **__: pytest.fail("it was played"))
    with pytest.raises(RunError, match=r"cannot write to .*evaluations/small: .*\. Nothing was played\."):
        evaluate_run(copy, "small", 1)


@pytest.mark.parametrize(
    ("suite", "options", "message"),
    [
        ("nowhere", {}, "no suite is called 'nowhere'; there are: accel12"),
        ("small", {"cvar_levels": 10}, "is measured on the suite 'random', not on 'small'"),
        ("random", {"cvar_levels": -1}, "0 or more"),
        ("random", {"cvar_levels": 9}, "the worst 10% of 9 levels are less than one: ask for more levels"),
        ("random", {"seed": 2**64}, "the seed must be between 0 and 9223372036854775807, got 18446744073709551616"),
        ("random", {"seed": -1}, "the seed must be between 0 and"),
        ("random", {"episodes": 0}, "episodes must be at least 1"),
        ("random", {"episodes": 10**14}, "episodes must be at most 1,000,000, got 100000000000000"),
        (
            "random",
            {"cvar_levels": 10**9},
            "the levels of the conditional value at risk must be at most 1,000,000",
        ),
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


def kept_result(run: Path | str, steps: int = 10, episodes: int = 4, **summary: Any) -> dict[str, Any]:
    rows = [{"level": "a", "episodes": episodes, "solved": 0.5, "return_mean": 0.5, "return_std": 0.1}]
    return {"run": str(run), "suite": "small", "levels": rows, "summary": {"steps": steps, "seed": 1, **summary}}


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
        run.save_evaluation(kept_result(name))
        runs.append(run)
    groups = group_by_method(runs, "small")
    assert {method: [result["run"] for result in results] for method, results in groups.items()} == {
        "dr": [str(tmp_path / "here/dr-s1"), str(tmp_path / "here/dr-s2")],
        "dr'": [str(tmp_path / "there/dr-s1")],
        "other": [str(tmp_path / "here/other")],
    }
    with pytest.raises(
        RunError, match=r"has no evaluation on the suite 'dcd7'; it has: small\. Run `clutr eval .* first"
    ):
        group_by_method(runs, "dcd7")


def two_runs(path: Path) -> list[RunDirectory]:
    return [RunDirectory.create(path / f"dr-s{seed}", replace(PRESETS["maze-dr-debug"], seed=seed)) for seed in (1, 2)]


def test_evaluations_that_match_are_compared_and_others_refused_by_name(tmp_path: Path) -> None:
    one, two = runs = two_runs(tmp_path)

    def chosen(**options: bool) -> list[tuple[int, int]]:
        [results] = group_by_method(runs, "small", **options).values()
        return [(result["summary"]["steps"], result["levels"][0]["episodes"]) for result in results]

    one.save_evaluation(kept_result("x", steps=20, episodes=9))
    two.save_evaluation(kept_result("x", steps=10, episodes=9))
    with pytest.raises(
        RunError, match=r"dr-s1 at 20 and .*dr-s2 at 10 were not evaluated at the same steps.*any-steps"
    ):
        chosen()
    assert chosen(any_steps=True) == [(20, 9), (10, 9)]
    one.save_evaluation(kept_result("x", steps=10, episodes=100))
    with pytest.raises(
        RunError, match=r"dr-s1 at 100 and .*dr-s2 at 9 were not evaluated at the same episodes a level"
    ):
        chosen()
    two.save_evaluation(kept_result("x", steps=10, episodes=100))
    assert chosen() == [(10, 100), (10, 100)]
    one.save_evaluation(kept_result("x", steps=10, deterministic=True))
    assert chosen() == [(10, 100), (10, 100)], "sampled actions unless asked for"
    with pytest.raises(
        RunError, match=r"dr-s2 was evaluated on 'small' with sampled actions alone, unlike .*dr-s1\. Run"
    ):
        chosen(deterministic=True)


def test_a_run_named_twice_is_not_two_seeds(tmp_path: Path) -> None:
    runs = two_runs(tmp_path)
    again = RunDirectory(tmp_path / "dr-s2" / ".." / "dr-s1")
    with pytest.raises(RunError, match=r"dr-s1 and .*/dr-s2/\.\./dr-s1 are the same run: name it once"):
        group_by_method([*runs, again], "small")
    copy = RunDirectory(shutil.copytree(runs[0].path, tmp_path / "copy"))
    with pytest.raises(RunError, match=r"dr-s1 and .*/copy are the same run: their configurations and seeds are equal"):
        group_by_method([*runs, copy], "small")


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
