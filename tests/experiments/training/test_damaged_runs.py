"""Files of a run that other programs touched: the run goes on, and each is named once."""

import logging
from pathlib import Path

import pytest

import clutr

LEVELS, TIMING, EVALUATION = "levels/update-000001.safetensors", "timing.csv", "evaluations/small.json"


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A run of two updates with a damaged file of each kind that is not needed to go on."""
    clutr.train("maze-dr-debug", run=tmp_path, num_envs=2, total_steps=128, evaluate_every=0, record_every=1)
    (tmp_path / LEVELS).write_bytes((tmp_path / LEVELS).read_bytes()[:-40])
    rows = (tmp_path / TIMING).read_text().splitlines()
    (tmp_path / TIMING).write_text("\n".join([rows[0], "1,fast,0,0", *rows[2:], ""]))
    (tmp_path / EVALUATION).parent.mkdir()
    (tmp_path / EVALUATION).write_text('{"run": "cut')
    return tmp_path


def _said(caplog: pytest.LogCaptureFixture, about: Path) -> list[str]:
    return [each.getMessage() for each in caplog.records if str(about) in each.getMessage()]


def test_a_report_leaves_out_what_is_damaged_and_names_each_file_once(
    damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "clutr")
    assert clutr.report(damaged).is_file()
    (levels,) = _said(caplog, damaged / LEVELS)
    assert "is damaged" in levels
    assert levels.endswith("; it is left out")
    (evaluation,) = _said(caplog, damaged / EVALUATION)
    assert evaluation.startswith(f"{damaged / EVALUATION} is left out: it is no evaluation (Unterminated string")
    (timing,) = _said(caplog, damaged / TIMING)
    assert timing.endswith("1 of its 2 rows do not fit its first line; what could be read is used")


def test_a_run_goes_on_beside_them(damaged: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = tmp_path_factory.mktemp("whole")
    clutr.train("maze-dr-debug", run=whole, num_envs=2, total_steps=192, evaluate_every=0, record_every=1)
    run = clutr.resume(damaged, total_steps=192)
    assert (damaged / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert run.timing()["update"].tolist() == [1, 2, 3]
    assert "fast" in (damaged / "timing.csv.unread").read_text()
    assert [record.update for record in run.proposals()] == [2, 3]
