"""The loop: what it writes when, and when it stops."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clutr.experiments.evaluation.evaluate import evaluate
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.runner import Runner, UpdateReport, require_device

EXPERIMENT = PRESETS["maze-dr-debug"]
STEPS = EXPERIMENT.num_envs * 32
"""Of one update."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, list[UpdateReport]]:
    run = RunDirectory.create(tmp_path_factory.mktemp("runner") / "run", EXPERIMENT)
    reports: list[UpdateReport] = []
    assert Runner(run).train(reports.append)
    return run, reports


def test_every_update_is_told_and_written(finished: tuple[RunDirectory, list[UpdateReport]]) -> None:
    run, reports = finished
    assert [report.update for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [report.steps for report in reports] == [STEPS * update for update in range(1, 7)]
    assert {report.total_steps for report in reports} == {EXPERIMENT.total_steps}
    seconds = [report.seconds for report in reports]
    assert seconds == sorted(seconds)
    columns = run.metrics()
    assert columns["update"].tolist() == [1, 2, 3, 4, 5, 6]
    assert columns["protagonist/mean_return"].tolist() == pytest.approx(
        [report.metrics["protagonist/mean_return"] for report in reports]
    )
    assert run.timing()["seconds"].tolist() == pytest.approx(seconds)
    assert list(run.timing()) == ["update", "seconds", "evaluation_seconds", "steps_per_second"]
    assert list(run.path.glob("events.*")), "TensorBoard's file"


def test_evaluates_records_and_keeps_checkpoints_when_due(finished: tuple[RunDirectory, list[UpdateReport]]) -> None:
    run, _ = finished
    evaluated = np.isfinite(run.metrics()["evaluation/random/mean_solved"])
    assert evaluated.tolist() == [True, False, True, False, False, True], "the first, every third, and the last"
    assert [proposal.update for proposal in run.proposals()] == [1, 2, 4, 6]
    assert [path.name for path in run.checkpoints()] == [f"update-00000{update}.safetensors" for update in (2, 4, 6)]


def test_a_proposal_is_kept_with_what_each_student_made_of_it(
    finished: tuple[RunDirectory, list[UpdateReport]],
) -> None:
    run, reports = finished
    proposal = run.proposals()[-1]
    solved, episodes = (proposal.scores[f"protagonist/{name}"] for name in ("solved", "episodes"))
    assert len(proposal.levels) == len(solved) == EXPERIMENT.num_envs
    ended = episodes > 0
    assert float(solved[ended].mean()) == pytest.approx(reports[-1].metrics["protagonist/solved"], abs=1e-6)
    assert float(episodes.sum()) == reports[-1].metrics["protagonist/episodes"]
    walls = proposal.levels.tensors()["walls"].flatten(1).sum(1).float().mean()
    assert float(walls) == pytest.approx(reports[-1].metrics["levels/wall_count"])


def test_stops_after_the_update_in_hand_with_a_checkpoint(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", replace(EXPERIMENT, evaluate_every=0, checkpoint_every=100))
    runner = Runner(run)

    def stop(report: UpdateReport) -> None:
        runner.stop_requested = report.update == 3

    assert not runner.train(stop)
    assert [path.name for path in run.checkpoints()] == ["update-000003.safetensors"]
    assert Runner(run).update == 3


def test_a_second_process_leaves_the_first_ones_files_alone(tmp_path: Path) -> None:
    """The second knows no checkpoint yet; it must not drop what the first has written since."""
    run = RunDirectory.create(tmp_path / "run", replace(EXPERIMENT, evaluate_every=0, checkpoint_every=100))
    runner = Runner(run)
    counted: list[int] = []

    def intrude(report: UpdateReport) -> None:
        with pytest.raises(RunError, match="another process is training"):
            Runner(RunDirectory(run.path)).train()
        counted.append(len(run.metrics_file.rows()))
        assert [proposal.update for proposal in run.proposals()][-1] >= report.update - 1
        runner.stop_requested = report.update == 3

    runner.train(intrude)
    assert counted == [1, 2, 3]


def test_tells_what_it_resumes(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", replace(EXPERIMENT, evaluate_every=0, total_steps=STEPS))
    said: list[str] = []
    Runner(run, say=said.append).train()
    assert said == []
    assert Runner(run, say=said.append).train(), "nothing is left to do"
    assert said == [f"resuming {run.path} after update 1 ({STEPS} steps)"]


def test_a_gpu_that_is_not_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = RunDirectory.create(tmp_path / "run", replace(EXPERIMENT, device="cuda"))
    with pytest.raises(RunError, match=r"asks for device cuda, but torch finds no GPU\. Start it with --device cpu"):
        Runner(run)
    assert require_device("cpu") == torch.device("cpu")


def test_time_of_evaluation_is_not_time_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks in evaluations alone: 5 seconds each, of which training has none but its one tick."""
    now = [0.0]

    def tick() -> float:
        now[0] += 1.0
        return now[0]

    def evaluation(*args: Any, **options: Any) -> Any:
        now[0] += 5.0
        return evaluate(*args, **options)

    monkeypatch.setattr("clutr.experiments.training.runner.time.perf_counter", tick)
    monkeypatch.setattr("clutr.experiments.training.runner.evaluate", evaluation)
    experiment = replace(PRESETS["maze-dr-debug"], evaluate_every=1, evaluate_episodes=1, total_steps=512)
    run = RunDirectory.create(tmp_path / "run", experiment)
    reports: list[UpdateReport] = []
    assert Runner(run).train(reports.append)
    timing, updates = run.timing(), np.arange(1, len(reports) + 1)
    assert timing["evaluation_seconds"].tolist() == (6 * updates).tolist()
    assert np.ptp(timing["seconds"] / updates) == 0
    assert timing["seconds"][0] < 6
    assert timing["steps_per_second"][0] == pytest.approx(reports[0].steps / reports[0].seconds)
