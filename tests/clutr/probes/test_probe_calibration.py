"""The checks are calibrated: what is right passes them, what is wrong does not. The longer run is a study."""

import json
from pathlib import Path

import pytest
import torch

from clutr.experiments.studies import probe_calibration
from clutr.probes.calibration import PLANTED, causal_verdict, check_planted, known_rates
from clutr.probes.intervals import mean_over, r2_draws, resamples
from clutr.world_model.linear_probe import r2

CASES = 6


@pytest.mark.parametrize("name", PLANTED)
def test_right_maps_pass_and_wrong_ones_do_not(name: str) -> None:
    passed: dict[str, int] = {}
    right: dict[str, bool] = {}
    for seed in range(CASES):
        planted = PLANTED[name](seed)
        right |= {method: maps.right for method, maps in planted.maps.items()}
        for method, checks in check_planted(planted, seed).items():
            passed[method] = passed.get(method, 0) + checks.passed
    assert any(right.values())
    assert passed == {method: CASES if good else 0 for method, good in right.items()}


def test_only_what_learning_brought_is_known() -> None:
    found = [known_rates(seed) for seed in range(CASES)]
    assert found == [{"told": True, "not told": False, "told by any core": False}] * CASES


def test_a_speed_that_moves_the_dream_is_used_and_one_that_does_not_is_not() -> None:
    assert [causal_verdict(seed, moves=True) for seed in range(CASES)] == [True] * CASES
    assert [causal_verdict(seed, moves=False) for seed in range(CASES)] == [False] * CASES


def test_intervals_are_over_levels() -> None:
    rng = torch.Generator().manual_seed(1)
    groups = torch.arange(400) // 20
    level = torch.randn(20, generator=rng)[groups]
    alone, by_level = mean_over(level), mean_over(level, groups)
    assert by_level.value == pytest.approx(alone.value)
    assert by_level.high - by_level.low > 3 * (alone.high - alone.low), "20 numbers, not 400"
    assert by_level.high - by_level.low == pytest.approx(
        2 * 1.96 * float(level[::20].std(correction=0)) / 20**0.5, rel=0.2
    )
    assert torch.equal(resamples(5, 10).sum(1), torch.full((10,), 5.0, dtype=torch.float64))
    targets = torch.randn(400, 2, generator=rng)
    read = targets + 0.5 * torch.randn(400, 2, generator=rng)
    value, draws = r2_draws(read, targets, groups)
    torch.testing.assert_close(value.float(), r2(read, targets))
    assert bool(((draws.min(0).values < value) & (value < draws.max(0).values)).all())
    missing = read.clone()
    missing[:, 0] = float("nan")
    assert r2_draws(missing, targets, groups)[0][0] == 0


def test_parts_of_a_calibration_take_the_place_of_old_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "calibration.json"
    old = {"check": "used by a student", "case": "used", "right": True, "passed": 0, "cases": 9}
    path.write_text(json.dumps({"rows": [old, old | {"check": "another"}]}))
    assert probe_calibration.main([str(path), "1", "used by a student"]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [(row["check"], row["case"], row["passed"]) for row in rows] == [
        ("another", "used", 0), ("used by a student", "used", 1), ("used by a student", "known, not used", 0),
        ("used by a student", "not known", 0),
    ]  # fmt: skip
    assert "| used by a student | used | pass | 1 of 1 |" in capsys.readouterr().out


def test_the_committed_calibration() -> None:
    folder = Path(__file__).parents[3] / "experiments" / "results" / "probes"

    rows = json.loads((folder / "calibration.json").read_text())["rows"]
    assert len(rows) > 20
    for row in rows:
        share = row["passed"] / row["cases"]
        assert share >= 0.95 if row["right"] else share <= 0.05, row
    page = (Path(__file__).parents[3] / "docs" / "probes.md").read_text()
    assert probe_calibration.as_table(rows) in page, "docs/probes.md shows the committed table"
