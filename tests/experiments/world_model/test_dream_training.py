"""A student of the dream beside one of the environment: one command, resumed, with a share that is told by hand."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clutr.experiments.cli.main import main
from clutr.experiments.storage import CorruptFileError, RunError
from clutr.experiments.world_model.config import WORLD_PRESETS, RecordOptions
from clutr.experiments.world_model.dream_training import DreamTraining, DreamTrainOptions, in_words, share
from clutr.experiments.world_model.run_directory import WorldModelRun, record
from clutr.experiments.world_model.training import fit_backbone, train_memories
from clutr.world_model.backbones.ppca import PPCAConfig

SMALL = DreamTrainOptions(decisions=96, num_envs=2, rollout_steps=8, horizon=6, episodes=3, hidden=6)
ARGUMENTS = [
    part
    for name, value in asdict(SMALL).items()
    if value != getattr(DreamTrainOptions(), name)
    for part in (f"--{name.replace('_', '-')}", str(value))
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldModelRun:
    debug = replace(
        WORLD_PRESETS["maze-debug"],
        backbone=PPCAConfig(latents=6),
        record=RecordOptions(episodes=32, num_envs=16, length=8),
    )
    run = WorldModelRun.create(tmp_path_factory.mktemp("dreams") / "world", debug)
    dataset = record(run)
    train_memories(run, dataset, fit_backbone(run, dataset))
    return run


def test_a_share_by_hand() -> None:
    found = share(torch.tensor([4.0, 8.0]), torch.tensor([10.0, 10.0]), torch.tensor([2.0, 2.0]))
    assert found["of_return"]["value"] == pytest.approx(0.6)
    assert found["of_gain"]["value"] == pytest.approx(4 / 8)
    assert found["of_return"]["interval"] == pytest.approx([0.4, 0.8]), "either level twice"
    nothing = share(torch.tensor([4.0, 8.0]), torch.tensor([-1.0, 0.0]), torch.tensor([2.0, 2.0]))
    assert nothing["of_return"]["value"] is None
    assert nothing["of_gain"]["interval"] is None
    assert in_words({"share": found}).startswith("the student of the dream reaches 60% [40%, 80%] of the real")
    assert in_words({"share": nothing}).startswith("no share can be told")


def test_one_command_trains_and_tests_both(world: WorldModelRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "dream-train", str(world.path), *ARGUMENTS]) == 0
    said = capsys.readouterr().out
    assert "result.json" in said
    found: dict[str, Any] = json.loads((world.path / "dream-train" / "seed-1" / "result.json").read_text())
    assert found["decisions"] == 96
    assert found["sees"] == "both"
    assert set(found["tests"]) == {"untrained", "dream", "environment"}
    assert all(len(each["returns"]) == 3 for each in found["tests"].values())
    before = (world.path / "dream-train" / "seed-1" / "student-dream.safetensors").read_bytes()
    # whatever is there is kept; what is missing is made again, to the same numbers
    del found["tests"]["environment"]
    (world.path / "dream-train" / "seed-1" / "result.json").write_text(json.dumps(found))
    again = DreamTraining(WorldModelRun(world.path), SMALL).run()
    assert (world.path / "dream-train" / "seed-1" / "student-dream.safetensors").read_bytes() == before
    assert set(again["tests"]) == {"untrained", "dream", "environment"}
    with pytest.raises(RunError, match=r"was made with other options: use the same, or remove .*seed-1 to begin anew"):
        DreamTraining(WorldModelRun(world.path), replace(SMALL, hidden=9))
    assert DreamTraining(WorldModelRun(world.path), replace(SMALL, seed=9)).folder.name == "seed-9"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("[]", "it does not hold an object"),
        ("{}", "'options' is missing or is not what it should be"),
        ('{"options": OPTIONS, "tests": 3}', "'tests' is not the test of a student in 3 episodes"),
        ('{"options": OPTIONS, "tests": {"dream": {}}}', "'dream' is not the test of a student in 3 episodes"),
        (
            '{"options": OPTIONS, "tests": {"dream": {"returns": [1, 2], "solved": 1}}}',
            "'dream' is not the test of a student in 3 episodes",
        ),
        (
            '{"options": OPTIONS, "tests": {"dream": {"returns": [1, 2, 3], "solved": null}}}',
            "'dream' is not the test of a student in 3 episodes",
        ),
    ],
)
def test_damaged_results_are_one_line_with_the_file(world: WorldModelRun, found: str, said: str) -> None:
    options = replace(SMALL, seed=7)
    path = world.path / "dream-train" / "seed-7" / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.replace("OPTIONS", json.dumps(asdict(options))))
    with pytest.raises(CorruptFileError) as error:
        DreamTraining(world, options)
    assert str(error.value).startswith(f"{path} is damaged: {said}")


def test_a_place_is_asked_for_before_anything_is_trained(
    world: WorldModelRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = DreamTraining(world, replace(SMALL, seed=8))
    monkeypatch.setattr(training, "test", lambda *_: pytest.fail("something was played"))
    (tmp_path / "file").touch()
    training.folder = tmp_path / "file" / "seed-8"
    with pytest.raises(RunError, match=r"cannot write to .*seed-8: Not a directory. Nothing was trained."):
        training.run()


@pytest.mark.parametrize("place", ["dream", "environment"])
def test_a_training_that_is_killed_continues_bit_for_bit(world: WorldModelRun, tmp_path: Path, place: str) -> None:
    class KilledError(Exception):
        pass

    def kill(done: int, total: int, metrics: dict[str, float]) -> None:
        assert total == 6
        assert "reward a step" in metrics
        if done == 5:
            raise KilledError

    training = DreamTraining(world, SMALL)
    training.folder = tmp_path / "whole"
    training.folder.mkdir()
    whole = training.train(place)
    training.folder = tmp_path / "killed"
    training.folder.mkdir()
    with pytest.raises(KilledError):
        training.train(place, kill)
    resumed = training.train(place)
    for one, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other)
    fresh = training.student(training.engine("dream", 0, 1))
    assert not all(
        torch.equal(one, other)
        for one, other in zip(whole.network.parameters(), fresh.network.parameters(), strict=True)
    )


def test_messages(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="decisions must be at least those of one rollout, 64 x 128, got 10"):
        DreamTrainOptions(decisions=10)
    with pytest.raises(ValueError, match="sees must be auto or latent or both, got 'all'"):
        DreamTrainOptions(sees="all")  # type: ignore[arg-type]
    record(WorldModelRun.create(tmp_path, replace(WORLD_PRESETS["maze-debug"], record=RecordOptions(4, 4, 3))))
    with pytest.raises(RunError, match="is not trained: `clutr world train"):
        DreamTraining(WorldModelRun(tmp_path), SMALL)
