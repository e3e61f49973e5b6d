import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from clutr.experiments.evaluation.compare import Comparison, compare
from clutr.experiments.evaluation.tables import comparison_table
from clutr.experiments.run_directory import count_students
from clutr.experiments.storage import RunError

LEVELS = ["Labyrinth", "Maze", "SixteenRooms", "[bold]Corridor"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def evaluation(run: str, solved: list[float], suite: str = "accel", episodes: int = 20) -> dict[str, Any]:
    rows = [
        {"level": level, "episodes": episodes, "solved": rate, "return_mean": 0.9 * rate, "return_std": 0.1}
        for level, rate in zip(LEVELS, solved, strict=False)
    ]
    return {"run": run, "suite": suite, "levels": rows, "summary": {}}


def two_methods() -> Comparison:
    return compare(
        {
            "dr": [evaluation("dr-0", [0.0, 0.2, 0.5, 1.0]), evaluation("dr-1", [0.1, 0.2, 0.7, 1.0])],
            "clutr": [evaluation("clutr-0", [0.1, 0.6, 0.9, 1.0]), evaluation("clutr-1", [0.3, 0.2, 0.9, 1.0])],
        },
        seeded(),
    )


def show(comparison: Comparison) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120).print(comparison_table(comparison))
    return stream.getvalue()


def test_two_methods_with_two_seeds_each_on_numbers_worked_by_hand() -> None:
    comparison = two_methods()
    dr, clutr = comparison.methods
    assert (comparison.suite, comparison.episodes, comparison.baseline) == ("accel", 20, "dr")
    assert (dr.runs, dr.resampled) == (("dr-0", "dr-1"), "seeds and episodes")
    # Sorted 0 .1 | .2 .2 .5 .7 | 1 1
    assert dr.iqm.value == pytest.approx(1.6 / 4)
    assert dr.mean.value == pytest.approx(3.7 / 8)
    assert dr.median.value == pytest.approx((0.2 + 0.6) / 2)
    assert dr.optimality_gap is not None
    assert dr.optimality_gap.value == pytest.approx(1 - 3.7 / 8)
    assert dr.mean_return == pytest.approx(0.9 * 3.7 / 8)
    assert dr.improvement is None
    # On each level of four pairs: Labyrinth 2 + 1 + a tie, Maze 2 + two ties, SixteenRooms 4, Corridor four ties.
    assert clutr.improvement is not None
    assert clutr.improvement.value == pytest.approx((3.5 + 3 + 4 + 2) / 16)


def test_level_intervals_know_seeds_and_episodes() -> None:
    maze = two_methods().methods[1].levels["Maze"]
    # The seeds alone give .2 and .6 with probability 1/4 each, and .4; 20 episodes of each widen that.
    assert maze.value == pytest.approx(0.4)
    assert 0.03 < maze.low < 0.2
    assert 0.6 < maze.high < 0.85


def test_two_runs_that_agree_are_not_certain() -> None:
    solved = [0.5, 1.0, 1.0, 0.0]
    comparison = compare(
        {
            name: [evaluation(f"{name}-{seed}", rates) for seed in (0, 1)]
            for name, rates in (("dr", solved), ("up", [1.0] * 4))
        },
        seeded(),
    )
    dr, up = comparison.methods
    assert dr.levels["Labyrinth"].low < 0.4
    assert dr.levels["Labyrinth"].high > 0.6
    assert dr.levels["Maze"].low == pytest.approx(0.05 ** (1 / 40)), "40 of 40 episodes"
    assert up.mean.low == pytest.approx(0.05 ** (1 / 160))
    assert up.median.low == pytest.approx(0.05 ** (1 / 120)), "three of the four levels decide it"
    assert up.improvement is not None
    assert up.improvement.low < 0.5 + up.improvement.value / 4
    assert "one-sided 95 % bound (Clopper-Pearson)" in comparison.uncertainty
    assert "2 seeds of up: such intervals hold the truth in about 65 % of cases." in comparison.uncertainty
    assert "100.0 [>= 92.8]" in show(comparison)
    assert "0.0 [<= 7.2]" in show(comparison)
    assert "[100.0, 100.0]" not in show(comparison)


def test_one_run_resamples_its_episodes_and_says_so() -> None:
    comparison = compare({"dr": [evaluation("dr-0", [0.0, 0.25, 0.5, 1.0])]}, seeded())
    [dr] = comparison.methods
    assert dr.resampled == "episodes"
    assert dr.iqm.value == pytest.approx(0.375)
    assert dr.levels["[bold]Corridor"].low == pytest.approx(0.05 ** (1 / 20))  # 20 of 20 is not certain
    spread = np.sqrt(0.25 * 0.75 / 20 + 0.5 * 0.5 / 20) / 2  # of the mean of the two middle solve rates
    assert dr.iqm.high - dr.iqm.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert "One run only of dr: its episodes are resampled instead of seeds" in comparison.uncertainty


def test_few_seeds_are_pointed_out() -> None:
    assert "2 seeds of dr: such intervals hold the truth in about 65 % of cases." in two_methods().uncertainty
    many = compare({"dr": [evaluation(f"dr-{seed}", [0.5] * 4) for seed in range(10)]}, seeded())
    assert "10 seeds" not in many.uncertainty
    assert "One run" not in many.uncertainty


def test_json_is_plain() -> None:
    result = two_methods().to_json()
    assert json.loads(json.dumps(result)) == result
    assert result["methods"][0]["probability_of_improvement"] is None
    assert result["methods"][0]["iqm_solved"]["value"] == pytest.approx(0.4)
    assert len(result["methods"][1]["probability_of_improvement"]["interval"]) == 2


def test_table_shows_every_level_and_aggregate() -> None:
    text = show(two_methods())
    for expected in (*LEVELS, "dr", "2 runs", "interquartile mean", "40.0 [", "P(better than dr)", "78.1"):
        assert expected in text
    assert "\\[" not in text


def test_same_seed_same_comparison() -> None:
    assert two_methods() == two_methods()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (evaluation("b", [0.5, 0.5], suite="perfect"), "b was evaluated on the suite 'perfect', a on 'accel'"),
        (evaluation("b", [0.5, 0.5, 0.5]), r"b and a were evaluated on different levels \(SixteenRooms\); evaluate"),
        (
            evaluation("b", [0.5, 0.5]) | {"summary": {"deterministic": True}},
            "b with deterministic actions and a with sampled ones were evaluated",
        ),
        (evaluation("b", [0.5, 0.5], episodes=10), "b played 10 episodes on Labyrinth, a played 20 on Labyrinth"),
    ],
)
def test_evaluations_that_do_not_match_are_refused(other: dict[str, Any], message: str) -> None:
    first = evaluation("a", [0.5, 0.5])
    with pytest.raises(RunError, match=message):
        compare({"one": [first], "two": [other]}, seeded())
    with pytest.raises(RunError, match=message):
        compare({"one": [first, other]}, seeded())


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(RunError, match="name at least one run"):
        compare({}, seeded())
    with pytest.raises(RunError, match="the method 'dr' has no run"):
        compare({"dr": []}, seeded())


def returns(run: str, means: list[float]) -> dict[str, Any]:
    rows = [
        {**row, "return_mean": mean, "returns": [mean - 10, mean + 10] * 10}
        for row, mean in zip(evaluation(run, [0.5] * 4)["levels"], means, strict=True)
    ]
    return {"run": run, "suite": "roads", "levels": rows, "summary": {"metric": "return"}}


def test_suites_told_by_returns_are_compared_by_them() -> None:
    comparison = compare(
        {
            "dr": [returns("dr-0", [100, 200, 300, 1200]), returns("dr-1", [100, 220, 340, 1200])],
            "clutr": [returns("clutr-0", [110, 210, 310, 1210]), returns("clutr-1", [110, 230, 350, 1210])],
        },
        seeded(),
    )
    dr, clutr = comparison.methods
    assert comparison.metric == "return"
    assert dr.iqm.value == pytest.approx((200 + 220 + 300 + 340) / 4)
    assert dr.mean.value == pytest.approx(3660 / 8)
    assert dr.optimality_gap is None
    assert (dr.mean_solved, dr.mean_return) == (0.5, dr.mean.value)
    assert clutr.improvement is not None
    assert clutr.improvement.value == pytest.approx((4 + 3 + 3 + 4) / 16)
    shown = show(comparison)
    assert "Mean return on roads, 20 episodes a level and run" in shown
    assert "1,200 [1,19" in shown
    assert "optimality gap" not in shown
    assert "solved (%)" in shown
    result = comparison.to_json()
    assert json.loads(json.dumps(result)) == result
    assert result["metric"] == "return"
    assert result["methods"][0]["mean_return"]["value"] == pytest.approx(457.5)
    assert result["methods"][0]["mean_solved"] == 0.5
    assert "optimality_gap" not in result["methods"][0]


def test_the_returns_of_a_single_run_are_resampled() -> None:
    comparison = compare({"dr": [returns("dr-0", [100, 200, 300, 1200])]}, seeded())
    [dr] = comparison.methods
    assert dr.resampled == "episodes"
    assert dr.mean.value == pytest.approx(450)
    spread = 10 / np.sqrt(20) / 2  # of the mean of four levels
    assert dr.mean.high - dr.mean.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert dr.levels["Maze"].low < 200 < dr.levels["Maze"].high
    assert "Wilson" not in comparison.uncertainty


def test_steps_of_several_students_are_said() -> None:
    alone, pair = evaluation("dr", [0.5] * 4), evaluation("paired", [0.5] * 4) | {"students": 2}
    comparison = compare({"dr": [alone], "paired": [pair]}, seeded())
    assert "Steps are those of one student: paired trains 2, which play as many each." in comparison.uncertainty
    assert "dr trains" not in comparison.uncertainty
    assert [method["students"] for method in comparison.to_json()["methods"]] == [1, 2]


def test_students_are_counted_by_their_columns() -> None:
    columns = ["update", "protagonist/mean_return", "antagonist/mean_return", "evaluation/small/mean_return"]
    assert count_students(columns) == 2
