"""Run directories: created once, locked, with checkpoints that fall back."""

from pathlib import Path
from typing import Any

import pytest
import torch

from clutr.envs.domain import SeedLevels
from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.run_directory import KEPT_CHECKPOINTS, ProposalRecord, RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.presets import PRESETS


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", PRESETS["maze-dr-debug"])


def test_a_directory_without_config_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run: it has no config\.yaml"):
        RunDirectory(tmp_path)


def test_a_run_is_not_overwritten(run: RunDirectory) -> None:
    with pytest.raises(RunError, match="already holds a run: `clutr resume"):
        RunDirectory.create(run.path, PRESETS["maze-dr"])
    assert RunDirectory(run.path).experiment == PRESETS["maze-dr-debug"]


def test_two_processes_cannot_train_one_run(run: RunDirectory) -> None:
    with run.lock(), pytest.raises(RunError, match="another process is training"):
        run.lock()
    run.lock().close()


def test_old_checkpoints_go(run: RunDirectory) -> None:
    for update in (1, 2, 10, 9, 100):
        run.save_checkpoint(update, {"update": update})
    assert len(run.checkpoints()) == KEPT_CHECKPOINTS
    state, problems = run.load_checkpoint()
    assert state == {"update": 100}
    assert not problems


def test_damaged_checkpoint_falls_back_and_says_so(run: RunDirectory) -> None:
    run.save_checkpoint(1, {"update": 1})
    newest = run.save_checkpoint(2, {"update": 2})
    newest.write_bytes(newest.read_bytes()[:100])
    state, problems = run.load_checkpoint()
    assert state == {"update": 1}
    assert len(problems) == 1
    assert "update-000002.safetensors is damaged" in problems[0]


def test_nothing_readable_is_none(run: RunDirectory) -> None:
    run.save_checkpoint(1, {"update": 1}).write_bytes(b"rubbish")
    state, problems = run.load_checkpoint()
    assert state is None
    assert len(problems) == 1


def record(update: int) -> ProposalRecord:
    levels = MazeDomain().sample(4, torch.Generator().manual_seed(update))
    return ProposalRecord(update, update * 10, levels, torch.rand(4, 3), {"regret": torch.rand(4)})


def test_proposals_round_trip(run: RunDirectory) -> None:
    run.save_proposal(record(1))
    run.save_proposal(record(12))
    found = run.proposals()
    assert [entry.update for entry in found] == [1, 12]
    assert found[0].levels.key() == record(1).levels.key()


def test_drop_after_forgets_what_came_later(run: RunDirectory) -> None:
    for update in (1, 2, 3):
        run.metrics_file.append({"update": update, "steps": update * 10})
        run.save_proposal(record(update))
        run.save_checkpoint(update, {"update": update})
    run.drop_after(2)
    assert run.metrics()["update"].tolist() == [1, 2]
    assert [entry.update for entry in run.proposals()] == [1, 2]
    assert run.load_checkpoint()[0] == {"update": 2}


def evaluation(suite: str) -> dict[str, Any]:
    row = {"level": "a", "episodes": 2, "solved": 0.5, "return_mean": 0.25, "return_std": 0.5}
    summary = {"steps": 20, "seed": 3, "deterministic": True}
    return {"run": "r", "suite": suite, "levels": [row], "summary": summary}


def test_evaluations_round_trip(run: RunDirectory) -> None:
    levels = MazeDomain().sample(2, torch.Generator().manual_seed(0))
    recording = {
        "level": "a",
        "levels": levels,
        "positions": torch.tensor([[1, 2], [3, -1]]),
        "returns": torch.tensor([0.5, 0.0]),
        "solved": torch.tensor([True, False]),
    }
    video = {"level": "a", "frames": torch.zeros(3, 40, 40, 3, dtype=torch.uint8), "solved": True, "return": 0.5}
    path = run.save_evaluation(evaluation("dcd7"), [recording], [video])
    assert path == run.path / "evaluations" / "dcd7" / "steps-000000020-seed-3-deterministic-2.json"
    run.save_evaluation(evaluation("dcd7"), name="other")
    kept = run.evaluations()
    assert [(each.name, each.result) for each in kept] == [(name, evaluation("dcd7")) for name in ("dcd7", "other")]
    [found] = run.recordings(kept)
    assert found["suite"] == "dcd7"
    assert found["levels"].key() == levels.key()
    assert found["positions"].tolist() == [[1, 2], [3, -1]]
    assert found["solved"].tolist() == [True, False]
    [shown] = run.videos(kept)
    assert (shown["suite"], shown["level"], shown["return"]) == ("dcd7", "a", 0.5)
    assert shown["frames"].shape == (3, 40, 40, 3)


def test_recorded_levels_are_of_the_kind_that_was_played(run: RunDirectory) -> None:
    recording = {"level": "a", "levels": SeedLevels(torch.tensor([4])), "positions": torch.zeros(1, 2)}
    run.save_evaluation(evaluation("minigrid"), [recording])
    [found] = run.recordings(run.evaluations())
    assert isinstance(found["levels"], SeedLevels)
    assert found["levels"].seed.tolist() == [4]
