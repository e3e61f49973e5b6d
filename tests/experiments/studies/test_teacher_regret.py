"""The regret of a teacher's tasks beside that of its untrained self."""

import json
from pathlib import Path

import pytest
import torch

import clutr
from clutr.experiments.storage import RunError
from clutr.experiments.studies.teacher_regret import compare_with_untrained, difference, main


def test_a_difference_by_hand() -> None:
    # variances 2 and 8 of two values each: standard error sqrt(2 / 2 + 8 / 2)
    away, low, high = difference(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 5.0]))
    assert away == 1
    assert [low, high] == pytest.approx([1 - 1.96 * 5**0.5, 1 + 1.96 * 5**0.5])


def test_a_teacher_that_has_learnt_nothing_proposes_what_an_untrained_one_does(tmp_path: Path) -> None:
    run = clutr.train("maze-clutr-debug", total_steps=1, run=tmp_path / "run", curriculum={"learning_rate": 1e-9})
    main([str(tmp_path / "found.json"), str(run.path), "--tasks", "250"])
    (found,) = json.loads((tmp_path / "found.json").read_text())["runs"]
    assert found["tasks"] == 256  # whole batches of 8
    assert found["difference"][1] < 0 < found["difference"][2]
    assert found["teacher"]["wall_count"] == pytest.approx(found["untrained"]["wall_count"], abs=0.5)


def test_only_teachers_that_maximise_regret_are_compared(tmp_path: Path) -> None:
    run = clutr.train("maze-dr-debug", total_steps=1, run=tmp_path / "run")
    with pytest.raises(RunError, match="has no teacher that maximises regret"):
        compare_with_untrained(run, 8)
