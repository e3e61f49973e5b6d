"""Studies: complete from their file, resumable, and told from committed CSV files alone."""

import csv
import subprocess
import time
from pathlib import Path

import pytest

from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.studies.curricula import Study, result_path, train_all, train_one
from clutr.experiments.studies.curricula_tables import collect, comparison, page, read, risk, write_all

TINY = """
about: Two curricula.
preset: maze-dr-debug
experiment:
  domain: {max_obstacles: 5}
  evaluate_every: 0
seeds: [1, 2]
steps: 512
seconds: 0.01
suite: small
episodes: 2
cvar_suite: random
cvar_levels: 10
methods:
  dr:
    curriculum: {kind: dr}
  plr:
    curriculum: {kind: plr, capacity: 4}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.yaml").write_text(TINY)
    study, out = Study.read(folder / "study.yaml"), folder / "out"
    for method in study.methods:
        for seed in study.seeds:
            train_one(study, out, method, seed)
    collect(study, out)
    return study, out


def test_a_study_names_whole_experiments(study: tuple[Study, Path]) -> None:
    found, out = study
    experiment = found.experiment("plr", 2)
    assert experiment.seed == 2
    assert getattr(experiment.curriculum, "capacity") == 4  # noqa: B009
    assert getattr(experiment.domain, "max_obstacles") == 5  # noqa: B009
    assert getattr(experiment.domain, "height") == 5, "what is not named stays the preset's"  # noqa: B009
    assert RunDirectory(out / "plr-s2").experiment == experiment
    with pytest.raises(RunError, match=r"has no method 'sfl'; it has: dr, plr"):
        found.experiment("sfl", 1)


def test_runs_stop_once_both_budgets_are_tested(study: tuple[Study, Path]) -> None:
    found, out = study
    run = RunDirectory(out / "dr-s1")
    steps = run.metrics()["steps"]
    assert steps[-1] == 512
    assert result_path(out, "dr", 1, "steps").exists()
    assert result_path(out, "dr", 1, "seconds").exists()
    before = (run.path / "metrics.csv").read_bytes()
    train_one(found, out, "dr", 1)  # there is nothing left to do
    assert (run.path / "metrics.csv").read_bytes() == before


def test_another_experiment_under_the_same_name_is_refused(study: tuple[Study, Path], tmp_path: Path) -> None:
    _, out = study
    (tmp_path / "other.yaml").write_text(TINY.replace("max_obstacles: 5", "max_obstacles: 4"))
    with pytest.raises(RunError, match=r"holds another experiment than .*other.yaml asks for"):
        train_one(Study.read(tmp_path / "other.yaml"), out, "dr", 1)


def test_the_page_is_made_of_the_csv_files(study: tuple[Study, Path]) -> None:
    found, _ = study
    folder = found.path.parent
    rows, risks = read(folder / "runs.csv"), read(folder / "cvar.csv")
    levels = len(found.base.domain.suites()["small"].tasks)
    assert len(rows) == 2 * 2 * 2 * levels
    assert {row["budget"] for row in rows} == {"steps", "seconds"}
    compared = comparison(rows, found, "steps")
    assert compared is not None
    assert [method.method for method in compared.methods] == ["dr", "plr"]
    mine = [float(row["solved"]) for row in rows if row["method"] == "plr" and row["budget"] == "steps"]
    assert compared.methods[1].mean.value == pytest.approx(sum(mine) / len(mine))
    worst = [float(r["solved"]) for r in risks if (r["method"], r["budget"], r["alpha"]) == ("dr", "steps", "0.1")]
    found_risk = risk(risks, "dr", "steps", "0.1")
    assert found_risk is not None
    assert found_risk.value == pytest.approx(sum(worst) / 2)
    assert risk(risks, "dr", "steps-256", "0.1") is None
    text = page(found, rows, risks)
    assert "At equal steps: 512 environment steps" in text
    assert "P(better than dr)" in text
    with (folder / "curriculum.csv").open(newline="") as file:
        points = [row for row in csv.DictReader(file) if row["method"] == "plr"]
    assert max(int(row["point"]) for row in points) == 512


def test_runs_of_another_machine_stay(study: tuple[Study, Path], tmp_path: Path) -> None:
    found, out = study
    (tmp_path / "study.yaml").write_text(TINY)
    moved = Study.read(tmp_path / "study.yaml")
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder, runs in ((here, ["dr-s1", "plr-s1"]), (elsewhere, ["dr-s2", "plr-s2"])):
        folder.mkdir()
        for run in runs:
            (folder / run).symlink_to(out / run)
    collect(moved, elsewhere)
    collect(moved, here)
    collect(moved, here)  # again: what is replaced is not doubled
    for name in ("runs", "cvar", "curriculum"):
        whole = found.path.with_name(f"{name}.csv").read_text()
        assert (tmp_path / f"{name}.csv").read_text() == whole, "in the study's order, whatever came first"


def test_nothing_to_collect_is_said(study: tuple[Study, Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no finished run of"):
        collect(study[0], tmp_path)


IN_STAGES = TINY.replace("seconds: 0.01", "milestones: [256]\nstudent: {shards: 1}").replace(
    "suite: small", "suite: small\nalso: [random]"
)


def test_all_runs_reach_a_milestone_before_any_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study.yaml").write_text(IN_STAGES)
    study, out = Study.read(tmp_path / "study.yaml"), tmp_path / "out"
    assert study.budgets == ("steps-256", "steps")
    assert getattr(study.experiment("plr", 1).student, "shards") == 1  # noqa: B009
    begun: list[tuple[str, int, str]] = []

    def trained_here(command: list[str], **_: object) -> "_Done":
        method, seed = command[command.index("--one") + 1 :][:2]
        budgets = command[command.index("--budgets") + 1 :]
        begun.append((method, int(seed), " ".join(budgets)))
        train_one(study, out, method, int(seed), budgets)
        return _Done()

    monkeypatch.setattr(subprocess, "Popen", trained_here)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    train_all(study, out, list(study.methods), None, 1, until=256)
    whole = [("dr", 1), ("plr", 1), ("dr", 2), ("plr", 2)]
    assert begun == [(*run, "steps-256") for run in whole]
    assert RunDirectory(out / "dr-s1").metrics()["steps"].tolist() == [256]
    train_all(study, out, ["dr", "plr"], [1], 1)
    assert begun[4:] == [(*run, "steps") for run in whole[:2]], "what is there is not trained again"
    assert RunDirectory(out / "dr-s1").metrics()["steps"].tolist() == [256, 512]

    write_all(study, out)
    rows, risks = read(tmp_path / "runs.csv"), read(tmp_path / "cvar.csv")
    assert {(row["budget"], row["suite"], row["seed"]) for row in rows} == {
        *(("steps-256", "small", seed) for seed in "12"),
        *(("steps", suite, "1") for suite in ("small", "random")),
    }
    assert {row["budget"] for row in risks} == {"steps"}
    told = (tmp_path / "results.md").read_text()
    assert told.index("512 environment steps of one student, small") < told.index("256 environment steps")
    assert "-256" not in told
    with pytest.raises(RunError, match=r"has no milestone 300; it has: 256"):
        train_all(study, out, ["dr"], None, 1, until=300)


class _Done:
    """A process that has ended well."""

    returncode = 0

    def poll(self) -> int:
        return self.returncode


def test_seconds_alone_end_a_run(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(TINY.replace("steps: 512", "steps: 0"))
    study, out = Study.read(tmp_path / "study.yaml"), tmp_path / "out"
    assert study.budgets == ("seconds",)
    train_one(study, out, "dr", 1)
    write_all(study, out)
    assert {row["budget"] for row in read(tmp_path / "runs.csv")} == {"seconds"}
    points = [int(row["point"]) for row in read(tmp_path / "curriculum.csv")]
    assert max(points) == RunDirectory(out / "dr-s1").metrics()["steps"][-1]
    (tmp_path / "study.yaml").write_text(TINY.replace("steps: 512", "steps: 0").replace("seconds: 0.01", "seconds: 0"))
    with pytest.raises(RunError, match="a study needs steps or seconds after which its runs are tested"):
        Study.read(tmp_path / "study.yaml")


@pytest.mark.parametrize("wrong", ["[512]", "[300, 200]", "[200, 200]", "[600]"])
def test_milestones_rise_and_stay_below_the_whole(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "study.yaml").write_text(IN_STAGES.replace("[256]", wrong))
    with pytest.raises(RunError, match=r"milestones rise and stay below steps \(512\), not \[") as said:
        Study.read(tmp_path / "study.yaml")
    assert wrong in str(said.value)


def test_returns_of_one_seed_have_the_interval_of_its_episodes(study: tuple[Study, Path]) -> None:
    found, _ = study
    known = {"method": "dr", "seed": "1", "budget": "steps", "steps": "9", "metric": "return", "suite": "small"}
    row = known | {"level": "a", "episodes": "4", "solved": "0", "return_mean": "25.0"}
    with_episodes = comparison([row | {"returns": "10 20 30 40"}], found, "steps")
    without = comparison([row], found, "steps")  # as files were written before
    assert with_episodes is not None
    assert without is not None
    mean, alone = with_episodes.methods[0].mean, without.methods[0].mean
    assert mean.value == alone.value == 25
    assert 10 <= mean.low < 20
    assert 30 < mean.high <= 40
    assert alone.low == alone.high
