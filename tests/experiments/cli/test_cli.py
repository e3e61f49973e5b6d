"""Every command of `clutr` does its work, and what a person can mend is one line of error."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from killing import Command

from clutr.experiments.benchmarks import maze_engine
from clutr.experiments.benchmarks.measurement import Measurement
from clutr.experiments.cli.main import COMMANDS, main
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.training.presets import PRESETS

Run = Callable[..., str]


@pytest.fixture
def clutr(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must succeed and returns what it printed."""

    def run(*args: str | Path) -> str:
        capsys.readouterr()
        status = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        assert captured.err == ""
        return captured.out

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must be refused and returns its error: one line, exit status 2, no traceback."""

    def run(*args: str | Path) -> str:
        capsys.readouterr()
        assert main([str(arg) for arg in args]) == 2
        error = capsys.readouterr().err
        assert re.fullmatch(r"clutr: [^\n]+\n", error), error
        return error

    return run


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with finished and evaluated runs: two seeds of domain randomisation, one of CLUTR."""
    room = tmp_path_factory.mktemp("room")
    for preset, seed in (("maze-dr-debug", 1), ("maze-dr-debug", 2), ("maze-clutr-debug", 1)):
        run = str(room / f"{preset}-s{seed}")
        assert main(["train", preset, "--seed", str(seed), "--evaluate-every", "0", "--run", run]) == 0
        for suite, options in (("small", []), ("random", ["--cvar-levels", "20"])):
            assert main(["eval", run, "--suite", suite, "--episodes", "2", *options]) == 0
    return room


# --- help and lists


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_without_a_command_all_of_them_are_listed(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == (0 if args else 2)
    printed = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\S", printed, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize(
    "args", [[name] for name in COMMANDS if name != "list"] + [["train", "maze-dr-debug"], ["pretrain", "maze"]]
)
def test_every_command_has_help(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*args, "--help"])
    assert end.value.code == 0
    assert f"usage: clutr {' '.join(args)}" in capsys.readouterr().out


def test_list_has_help(clutr: Run) -> None:
    assert clutr("list", "--help").startswith("usage: clutr list [SHELF]")


@pytest.mark.parametrize(
    ("shelf", "names"),
    [
        ("domains", ["maze", "car"]),
        ("presets", list(PRESETS)),
        ("curricula", ["clutr", "paired"]),
        ("manifolds", ["set-vae"]),
        ("students", ["ppo"]),
        ("suites", ["accel12", "dcd7", "perfect", "minigrid", "random", "small", "f1", "gymnasium"]),
        ("backbones", ["vae", "haar", "ppca", "patch-pca", "residual"]),
        ("cores", ["lstm", "ssm", "aaren"]),
        ("benches", ["maze-engine", "maze-train"]),
    ],
)
def test_list_names_a_shelf_with_a_word_about_each(shelf: str, names: list[str], clutr: Run) -> None:
    printed = clutr("list", shelf)
    assert printed.splitlines()[0].strip() == shelf
    for name in names:
        assert re.search(rf"^ +{name} +\S", printed, re.MULTILINE), name


def test_list_shows_every_shelf(clutr: Run) -> None:
    titles = [line.strip() for line in clutr("list").splitlines() if not line.startswith(" ")]
    assert [title for title in titles if title] == [
        "domains", "presets", "curricula", "manifolds", "students", "suites", "world-presets", "backbones", "cores",
        "probes", "models", "backends", "benches",
    ]  # fmt: skip


# --- training


def test_train_takes_another_manifold_by_its_preset(tmp_path: Path, clutr: Run, refused: Run) -> None:
    run = tmp_path / "run"
    clutr("train", "maze-clutr-debug", "--manifold=combinatorial", "--manifold.cells-per-axis", "2", "--run", run)
    found = RunDirectory(run).experiment.manifold
    assert type(found).__name__ == "CombinatorialConfig"
    assert getattr(found, "cells_per_axis") == 2  # noqa: B009
    error = refused("train", "maze-clutr-debug", "--manifold", "quilt")
    assert "no manifold is called 'quilt'; there are: fast," in error
    error = refused("train", "maze-dr-debug", "--manifold", "fast")
    assert "there is no manifold to replace: the curriculum chooses no latents" in error


def test_pretrain_prints_health_and_keeps_the_manifold(tmp_path: Path, clutr: Run) -> None:
    options = ["--preset=debug", "--domain.height", "5", "--domain.width", "5", "--domain.max-obstacles", "6"]
    printed = clutr("pretrain", "maze", *options, "--manifold.iterations", "20", "--seed", "3", "--manifolds", tmp_path)
    assert "active dimensions" in printed
    (kept,) = tmp_path.iterdir()
    assert f"kept as {kept}" in printed


def test_pretrain_knows_the_presets_of_each_domain(tmp_path: Path, clutr: Run) -> None:
    options = ["--preset", "debug", "--manifold.iterations", "5", "--domain.control-points", "6"]
    printed = clutr("pretrain", "car", *options, "--manifolds", tmp_path)
    assert "set recall" in printed
    assert "tail exact" not in printed, "roads have no tail"
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("car-set-vae-")


def test_train_overrides_any_field(tmp_path: Path, clutr: Run) -> None:
    run = tmp_path / "mine"
    options = ["--seed", "5", "--student.learning-rate", "0.002", "--domain.max-obstacles", "3", "--total-steps", "256"]
    printed = clutr("train", "maze-dr-debug", *options, "--run", run)
    assert f"done: `clutr eval {run} --suite accel12` tests it" in printed
    config = RunDirectory(run).config
    assert config["seed"] == 5
    assert config["student"]["learning_rate"] == 0.002
    assert config["domain"]["max_obstacles"] == 3
    assert config["student"]["hidden"] == 16, "what is not overridden is the preset's"
    assert RunDirectory(run).metrics()["steps"].tolist() == [256]


def test_train_names_the_run_after_preset_and_seed(tmp_path: Path, clutr: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clutr("train", "maze-dr-debug", "--total-steps", "256", "--evaluate-every", "0", "--seed", "4")
    assert (tmp_path / "runs" / "maze-dr-debug-s4" / "config.yaml").is_file()


def test_resume_of_a_finished_run_trains_nothing(room: Path, clutr: Run) -> None:
    run = room / "maze-dr-debug-s1"
    before = (run / "metrics.csv").read_bytes()
    printed = clutr("resume", run)
    assert "resuming" in printed
    assert "done: " in printed
    assert (run / "metrics.csv").read_bytes() == before


def test_interrupt_stops_cleanly_and_no_two_processes_train_one_run(tmp_path: Path, clutr: Run, refused: Run) -> None:
    run = tmp_path / "long"
    options = ["--total-steps", "1000000000", "--evaluate-every", "0", "--run", str(run)]
    training = Command(tmp_path, ["train", "maze-dr-debug", *options])
    try:
        training.wait_until((run / "metrics.csv").exists)
        assert training.process.is_alive(), training.said()
        assert "another process is training" in refused("resume", run)
        os.kill(training.process.pid or 0, signal.SIGINT)
        assert training.wait()
    finally:
        training.process.kill()
    printed = training.log.read_text()
    assert "stopping after this update" in printed
    assert f"stopped: `clutr resume {run}` continues" in printed
    assert training.errors.read_text() == ""
    played = RunDirectory(run).metrics()
    state, problems = RunDirectory(run).load_checkpoint()
    assert state is not None
    assert problems == []
    assert state["update"] == played["update"][-1], "the checkpoint is that of the last update"

    config = run / "config.yaml"  # a budget of two updates more
    budget = int(played["steps"][-1]) + 2 * 8 * 32
    config.write_text(config.read_text().replace("total_steps: 1000000000", f"total_steps: {budget}"))
    assert "done: " in clutr("resume", run)
    assert RunDirectory(run).metrics()["update"].tolist() == list(range(1, len(played["update"]) + 3))


def test_interrupt_outside_training_is_one_line(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clutr.experiments.evaluation.runs.evaluate", interrupt)
    assert main(["eval", str(room / "maze-dr-debug-s1")]) == 130
    assert capsys.readouterr().err == "clutr: interrupted\n"


# --- looking at runs


def test_eval_prints_a_table_and_the_worst_levels(room: Path, clutr: Run) -> None:
    printed = clutr("eval", room / "maze-dr-debug-s1", "--suite", "random", "--episodes", "2", "--cvar-levels", "20")
    assert re.search(r"RandomSolvable │ +\d+% │", printed)
    assert re.search(r"IQM +│ .*\[", printed)
    assert "worst 10%" in printed
    assert "worst 1%" not in printed, "20 levels have no hundredth"
    assert re.search(r"maze-dr-debug-s1 │ +20 │ ", printed)


def test_eval_takes_several_runs_and_a_checkpoint(room: Path, clutr: Run, refused: Run) -> None:
    runs = [room / "maze-dr-debug-s1", room / "maze-clutr-debug-s1"]
    printed = clutr("eval", *runs, "--suite", "small", "--episodes", "1")
    assert re.search(r"maze-dr-debug-s1 ┃ +maze-clutr-debug-s1", printed)
    lines = clutr("eval", *runs, "--suite", "small", "--episodes", "1", "--json").splitlines()
    assert [json.loads(line)["run"] for line in lines] == [str(run) for run in runs]
    options = ("--suite", "small", "--episodes", "1", "--json")
    result = json.loads(clutr("eval", runs[0], "--checkpoint", "1024", *options))
    assert result["summary"]["steps"] == 1024
    error = refused("eval", runs[0], "--checkpoint", "3")
    assert "has no checkpoint at 3 steps (any more): it has those at 512, 1,024, 1,536 steps" in error
    assert "the seed must be between 0 and" in refused("eval", runs[0], "--seed", str(2**64))


def test_compare_evaluates_what_is_missing_if_told_to(room: Path, clutr: Run, refused: Run) -> None:
    runs = sorted(room.glob("maze-dr-*"))
    assert "with sampled actions alone. Run" in refused("compare", *runs, "--suite", "small", "--deterministic")
    clutr("eval", runs[0], "--suite", "small", "--deterministic", "--episodes", "2")
    assert "with sampled actions alone, unlike" in refused("compare", *runs, "--suite", "small", "--deterministic")
    arguments = ("compare", *runs, "--suite", "small", "--deterministic", "--json")
    compared = json.loads(clutr(*arguments, "--evaluate"))
    assert (compared["episodes"], len(compared["methods"][0]["runs"])) == (2, 2)
    assert compared["evaluated"] == "at 1,536 steps, deterministic actions, seed 1"
    assert json.loads(clutr(*arguments)) == compared
    assert "are the same run" in refused("compare", runs[0], runs[0], "--suite", "small")


def test_eval_json(room: Path, clutr: Run) -> None:
    run = room / "maze-clutr-debug-s1"
    printed = clutr("eval", run, "--suite", "small", "--episodes", "2", "--json")
    result = json.loads(printed)
    assert set(result) == {"run", "suite", "levels", "summary"}
    assert (result["run"], result["suite"]) == (str(run), "small")
    assert len(result["levels"]) == 10
    for row in result["levels"]:
        assert set(row) == {"level", "episodes", "solved", "return_mean", "return_std"}
        assert row["episodes"] == 2
        assert row["solved"] in (0, 0.5, 1)
    assert result["summary"]["run_seed"] == 1
    kept = run / "evaluations" / "small" / f"steps-{result['summary']['steps']:09d}-seed-1-sampled-2.json"
    assert json.loads(kept.read_text()) == result
    assert clutr("eval", run, "--suite", "small", "--episodes", "2", "--json") == printed, "the seed decides it all"


def test_compare_takes_seeds_together(room: Path, clutr: Run) -> None:
    runs = sorted(room.glob("maze-dr-*")) + sorted(room.glob("maze-clutr-*"))
    printed = clutr("compare", *runs, "--suite", "random")
    assert "2 runs" in printed
    assert "P(better than" in printed
    assert "worst 10%" in printed
    result = json.loads(clutr("compare", *runs, "--suite", "random", "--json"))
    assert result["baseline"] == "maze-dr-debug"
    assert [len(method["runs"]) for method in result["methods"]] == [2, 1]
    assert set(result["cvar"]) == {"maze-dr-debug", "maze-clutr-debug"}
    assert result["cvar"]["maze-dr-debug"]["levels"] == 20
    small = json.loads(clutr("compare", *runs, "--suite", "small", "--json"))
    assert "cvar" not in small
    assert len(small["methods"][0]["levels"]) == 10
    page = room / "comparison.html"
    assert f"open {page}" in clutr("compare", *runs, "--suite", "small", "--output", page)
    assert all(name in page.read_text() for name in ("maze-dr-debug", "maze-clutr-debug", "Zigzag9"))


def test_report_is_written_into_the_run(room: Path, clutr: Run) -> None:
    run = room / "maze-clutr-debug-s1"
    assert clutr("report", run, "--beside", room / "maze-dr-debug-s1") == f"open {run / 'report.html'}\n"
    assert (run / "report.html").read_text().lower().startswith("<!doctype html>")


def test_bench_prints_figures_beside_their_peers(clutr: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(progress: Callable[[str], None]) -> list[Measurement]:
        progress("measuring")
        return [
            Measurement.beside("random steps", 3000.0, "steps/s", "a peer", 10.0),
            Measurement("share of peak", 0.5, ""),
        ]

    monkeypatch.setattr(maze_engine, "run", run)
    result = json.loads(clutr("bench", "maze-engine", "--json"))
    assert set(result) == {"name", "machine", "figures"}
    assert result["name"] == "maze-engine"
    assert result["machine"]["cores"] >= 1
    assert result["figures"] == [
        {"what": "random steps", "value": 3000, "unit": "steps/s", "peer": "a peer", "peer_value": 10, "ratio": 300},
        {"what": "share of peak", "value": 0.5, "unit": "", "peer": None, "peer_value": None, "ratio": None},
    ]
    printed = clutr("bench", "maze-engine")
    assert printed.startswith("measuring\n")
    assert re.search(r"random steps +│ 3,000 +│ steps/s │ a peer │ 10 +│ 300", printed)


# --- errors


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fly"], "no command is called 'fly'; there are: demo, list,"),
        (["list", "cats"], "no shelf is called 'cats'; there are: domains,"),
        (["train", "nothing"], "no preset is called 'nothing'; there are: car-clutr,"),
        (["pretrain", "moon"], "no domain is called 'moon'; there are: car, maze"),
        (["pretrain", "maze", "--preset", "slow"], "no preset is called 'slow'; there are: fast,"),
        (["pretrain", "maze", "--preset"], "no preset is called ''"),
        (["bench", "nothing"], "no name is called 'nothing'; there are: "),
        (["pretrain", "car", "--preset", "slow"], "no preset is called 'slow'; there are: fast,"),
        (["eval", "nowhere"], "nowhere is not a run: it has no config.yaml"),
        (["resume", "nowhere"], "nowhere is not a run"),
        (["report", "nowhere"], "nowhere is not a run"),
        (["compare", "nowhere"], "nowhere is not a run"),
        (["eval"], "name at least one run: `clutr eval RUN`"),
        (["compare"], "nothing to compare"),
        (["eval", "run", "--fast"], "Unrecognized options: --fast (`clutr eval --help` tells more)"),
        (["train", "maze-dr-debug", "--num-envs", "many"], "Error parsing --num-envs: invalid literal"),
        (["train", "maze-dr-debug", "--num-envs", "0"], "num_envs must be at least 1, got 0"),
        (["train", "maze-dr-debug", "--num-envs", "1000000000000"], "num_envs must be at most 1,000,000, got 10000"),
        (
            ["train", "maze-dr-debug", "--total-steps", "9" * 23],
            "total_steps must be at most 1,000,000,000,000,000",
        ),
        (
            ["train", "maze-dr-debug", "--domain.view", "4"],
            "Error parsing domain: view must be odd and at least 3, got 4",
        ),
        (["train", "maze-dr-debug", "--student.epochs", "0"], "epochs must be"),
        (["train", "maze-dr-debug", "--evaluate-suite", "moon"], "no suite is called 'moon'; there are: accel12"),
    ],
)
def test_what_can_be_mended_is_one_line(
    args: list[str], message: str, refused: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(*args)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_too_little_memory_is_one_line_and_other_errors_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: Exception) -> int:
        def command(_: Any) -> None:
            raise error

        monkeypatch.setitem(COMMANDS, "list", command)
        return main(["list"])

    for error in (MemoryError("7 TiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 7 TiB")):
        assert fail(error) == 2
        said = capsys.readouterr().err
        assert said == f"clutr: not enough memory, ask for fewer or smaller parts: {error}\n"
    with pytest.raises(RuntimeError, match="shapes"):
        fail(RuntimeError("shapes cannot be multiplied"))


def test_what_cannot_be_done_to_a_run(room: Path, refused: Run, tmp_path: Path) -> None:
    run = room / "maze-dr-debug-s1"
    assert "already holds a run: `clutr resume" in refused("train", "maze-dr-debug", "--run", run)
    assert "no suite is called 'moon'" in refused("eval", run, "--suite", "moon")
    assert "episodes must be at least 1" in refused("eval", run, "--episodes", "0")
    assert "measured on the suite 'random'" in refused("eval", run, "--suite", "small", "--cvar-levels", "5")
    assert "has no evaluation on the suite 'dcd7'; it has: random, small" in refused("compare", run, "--suite", "dcd7")
    assert "nowhere is no directory; give" in refused("eval", run, "--suite", "small", "--tracks", tmp_path / "nowhere")
    fresh = RunDirectory.create(tmp_path / "fresh", PRESETS["maze-dr-debug"])
    assert "cannot be evaluated: it has no checkpoint yet. `clutr resume" in refused("eval", fresh.path)
    (fresh.path / "config.yaml").write_text("domain: [unclosed")
    assert "config.yaml is not valid YAML" in refused("resume", fresh.path)


def test_parser_errors_are_one_line_where_the_output_is_ascii_alone() -> None:
    code = "import sys; from clutr.experiments.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "eval", "run", "--fast"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr == "clutr: Unrecognized options: --fast (`clutr eval --help` tells more)\n"
