"""A sweep's file becomes experiments, or one line says what is wrong with it."""

import re
from pathlib import Path
from typing import Any

import pytest

from clutr.agents.ppo import PPOConfig
from clutr.curricula.random import DomainRandomisationConfig
from clutr.experiments.cli.main import main
from clutr.experiments.storage import RunError
from clutr.experiments.training.seeds import parse_seeds
from clutr.experiments.training.sweep_file import read_sweep, sweep

BASE = {"base": "maze-dr-debug"}


@pytest.mark.parametrize(
    ("words", "seeds"), [("1-3", (1, 2, 3)), ("4", (4,)), ("1, 7-8", (1, 7, 8)), (5, (5,)), ([2, 9], (2, 9))]
)
def test_seeds_in_words(words: Any, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(words) == seeds


@pytest.mark.parametrize("words", ["", "3-1", "a", "1,,2", "-1", "1.5"])
def test_what_are_no_seeds(words: str) -> None:
    with pytest.raises(RunError, match="seeds are numbers and ranges such as 1-5"):
        parse_seeds(words)
    with pytest.raises(RunError, match="a seed is named twice"):
        parse_seeds("1-3,2")


def test_a_grid_is_every_combination_with_every_seed() -> None:
    found = sweep(
        {
            "base": ["maze-dr-debug", "maze-paired-debug"],
            "options": {"total_steps": 512, "student": "ppo"},
            "grid": {"student.learning_rate": ["1e-3", 0.0003], "num_envs": [4, 8]},
            "seeds": "1-2",
        }
    )
    assert len(found) == 2 * 2 * 2 * 2
    chosen = found["maze-paired-debug,learning_rate=0.0003,num_envs=8-s2"]
    assert isinstance(chosen.student, PPOConfig)
    assert (chosen.student.learning_rate, chosen.num_envs, chosen.seed, chosen.total_steps) == (3e-4, 8, 2, 512)
    first = found["maze-dr-debug,learning_rate=1e-3,num_envs=4-s1"]
    assert isinstance(first.student, PPOConfig)
    assert first.student.learning_rate == 1e-3
    assert isinstance(first.curriculum, DomainRandomisationConfig)


def test_parts_are_replaced_before_their_options_change() -> None:
    found = sweep({**BASE, "options": {"curriculum.replacement": False, "curriculum": "plr"}, "seeds": 3})
    (name, experiment), *rest = found.items()
    assert (name, rest) == ("maze-dr-debug-s3", [])
    assert (type(experiment.curriculum).__name__, experiment.curriculum.replacement) == ("PLRConfig", False)  # type: ignore[attr-defined]


def test_random_values_stay_in_their_ranges_and_are_the_same_each_time() -> None:
    plain = {
        **BASE,
        "random": {
            "student.learning_rate": {"log": [1e-4, "1e-2"]},
            "student.entropy_coefficient": {"uniform": [0, 0.1]},
            "num_envs": {"integer": [4, 5]},
            "student.hidden": [8, 16],
        },
        "count": 40,
    }
    found = sweep(plain)
    assert list(found) == list(sweep(plain))
    assert list(found) != list(sweep({**plain, "seed": 2}))
    students: list[Any] = [experiment.student for experiment in found.values()]
    rates = [student.learning_rate for student in students]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 8 < sum(rate < 1e-3 for rate in rates) < 32, "half of them below the geometric mean"
    assert {experiment.num_envs for experiment in found.values()} == {4, 5}
    assert {student.hidden for student in students} == {8, 16}
    assert all(0 <= student.entropy_coefficient <= 0.1 for student in students)


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({}, "base is missing"),
        ({**BASE, "gird": {}}, "no part of a sweep is called 'gird'; did you mean grid?"),
        ({"base": "maze-fly"}, "no preset is called 'maze-fly'"),
        ({**BASE, "grid": {"seeds": 3}}, "grid.seeds must be a list of values, got 3"),
        ({**BASE, "grid": [1]}, "grid must hold options by name, got [1]"),
        ({**BASE, "grid": {"num_envs": [4, 4]}}, "two runs would be called num_envs=4-s1: values must differ"),
        ({**BASE, "grid": {"num_envs": [0]}}, "num_envs must be at least 1, got 0"),
        ({**BASE, "options": {"student.hiden": 3}}, "no option is called 'student.hiden'"),
        ({**BASE, "options": {"teacher.hidden": 3}}, "there is no teacher whose options could change"),
        ({**BASE, "random": {"num_envs": {"integer": [1, 2]}}}, "count must say how many random combinations"),
        ({**BASE, "random": {"num_envs": 3}, "count": 1}, "random.num_envs must be a list of values, or {uniform:"),
        ({**BASE, "random": {"num_envs": {"log": [0, 2]}}, "count": 1}, "a logarithmic range must be above 0"),
        ({**BASE, "random": {"num_envs": {"integer": [2, 1]}}, "count": 1}, "from a lower to a higher number"),
        ({**BASE, "random": {"num_envs": {"integer": 2}}, "count": 1}, "a range has two numbers, got 2"),
    ],
)
def test_what_is_no_sweep(plain: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError, match=re.escape(said)):
        sweep(plain)


def test_a_file_is_listed_or_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rates.yaml"
    path.write_text("base: maze-dr-debug\ngrid:\n  student.learning_rate: [1e-3, 3e-4]\nseeds: 1-2\n")
    assert list(read_sweep(path))[-1] == "learning_rate=3e-4-s2"
    assert main(["sweep", str(path), "--dry"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[0].endswith("runs/rates/learning_rate=1e-3-s1")
    path.write_text("base: maze-dr-debug\nbase: 3\n")
    assert main(["sweep", str(path)]) == 2
    assert re.fullmatch(r"clutr: \S+rates\.yaml is not valid YAML: .*base is there twice.*\n", capsys.readouterr().err)
    path.write_text("grid: {}\n")
    assert main(["sweep", str(path)]) == 2
    assert f"clutr: {path}: base is missing" in capsys.readouterr().err
