"""World models that continue another one: what is kept of it, what is trained on, resuming, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from worlds import made

from clutr.experiments.cli.main import main
from clutr.experiments.storage import RunError, load_state, save_state
from clutr.experiments.world_model import continuing
from clutr.experiments.world_model.config import WORLD_PRESETS, RefitOptions
from clutr.experiments.world_model.continuing import FEWEST, starts_path
from clutr.experiments.world_model.loading import load_backbone
from clutr.experiments.world_model.refit import refit_of
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import (
    MEMORIES,
    encoded,
    fit_backbone,
    load_world_model,
    memory_path,
    train_memories,
)
from clutr.world_model.replay import STARTS, DreamStarts

FEW = "--training.streams", "8", "--training.length", "16"
"""Options of training with few batches."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> WorldModelRun:
    return WorldModelRun(made("maze-debug", tmp_path_factory).path)


def begun(old: WorldModelRun, path: Path, recording: str | None = None, more: Sequence[str] = ()) -> WorldModelRun:
    """A world model that continues `old`, not yet trained; by default with the same recording."""
    recorded = ["--recording", str(old.dataset_path) if recording is None else recording]
    arguments = ["--preset", "maze-debug", *recorded, "--continues", str(old.path), "--run", str(path), *FEW, *more]
    assert main(["world", "record", *arguments]) == 0
    return WorldModelRun(path)


def test_the_backbone_is_kept_and_memories_are_trained_on(old: WorldModelRun, tmp_path: Path) -> None:
    run = begun(old, tmp_path / "new", more=["--training.learning-rate", "1e-9"])
    assert main(["world", "train", str(run.path)]) == 0
    before, after = load_world_model(old), load_world_model(run)
    frames = run.dataset().frames("test")[torch.arange(4)]
    assert torch.equal(before.backbone.encode(frames)[0], after.backbone.encode(frames)[0])
    for name in MEMORIES:
        weights, others = (each.dreamers[name].memory.state_dict() for each in (before, after))
        assert all(torch.allclose(weights[key], others[key], atol=1e-6) for key in weights), (
            "it began where the old one is"
        )
        assert torch.equal(before.dreamers[name].scale.latent_std, after.dreamers[name].scale.latent_std)
        assert len(load_state(memory_path(run, name))["history"]) == 2
    kept = load_state(starts_path(run))
    assert kept["actions"] == 7
    assert DreamStarts.from_state(kept["trained"]).lengths.shape == (STARTS,)


def test_an_interrupted_training_with_replay_ends_as_if_it_had_not_been(
    old: WorldModelRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parted = (begun(old, tmp_path / name) for name in ("whole", "parted"))
    assert main(["world", "train", str(whole.path)]) == 0
    monkeypatch.setattr("clutr.experiments.world_model.training.SAVE_EVERY_SECONDS", 0.0)

    class StopHereError(Exception):
        pass

    def stop(done: int, total: int, _: dict[str, float]) -> None:
        if done == total:  # its last pass is not saved yet
            raise StopHereError

    with pytest.raises(StopHereError):
        train_memories(parted, parted.dataset(), fit_backbone(parted, parted.dataset()), lambda _: stop)
    assert len(load_state(memory_path(parted, "trained"))["history"]) == 1
    assert main(["world", "train", str(parted.path)]) == 0
    for name in MEMORIES:
        one, other = (load_state(memory_path(run, name)) for run in (whole, parted))
        assert one["history"] == other["history"]
        assert all(torch.equal(value, other["best"][key]) for key, value in one["best"].items())


def test_replay_counts_and_dreams_of_a_chain_begin_in_all_its_recordings(old: WorldModelRun, tmp_path: Path) -> None:
    run = begun(old, tmp_path / "with", recording="", more=["--seed", "2", "--record.episodes", "32"])
    assert main(["world", "train", str(run.path)]) == 0
    dataset, kept = run.dataset(), DreamStarts.from_state(load_state(starts_path(run))["trained"])
    recorded = {tuple(dataset.actions(each.indices[:-1]).flatten().tolist()) for each in dataset.played("train")}
    before = DreamStarts.from_state(load_state(starts_path(old))["trained"])
    old_ones = [tuple(before.actions[:size, row].flatten().tolist()) for row, size in enumerate(before.lengths)]
    mine = [tuple(kept.actions[:size, row].flatten().tolist()) for row, size in enumerate(kept.lengths)]
    dreamt = [each for each in mine if each not in recorded]
    assert 0.3 < len(dreamt) / len(mine) < 0.7, "half of what it was trained on were dreams"
    assert all(any(each == known[: len(each)] for known in old_ones) for each in dreamt)
    text = (run.path / "world.yaml").read_text()
    (run.path / "world.yaml").write_text(text.replace("replay: 0.5", "replay: 0.0"))
    with pytest.raises(RunError, match=r"does not fit .*, which was changed since: replay \(0\.5, now 0\.0\)"):
        train_memories(WorldModelRun(run.path), dataset, fit_backbone(run, dataset))


def test_of_a_memory_with_a_large_state_fewer_starts_are_kept(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made("maze-debug", tmp_path_factory).copy(tmp_path)
    monkeypatch.setattr(continuing, "MOST_NUMBERS", 100)
    backbone, _ = load_backbone(run, run.dataset())
    continuing.keep_starts(run, run.dataset(), encoded(run.dataset(), backbone, "train"))
    assert load_state(starts_path(run))["trained"]["lengths"].shape == (FEWEST,)


def test_what_cannot_be_continued_is_said_before_anything_is_recorded(
    old: WorldModelRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*more: str, continues: Path = old.path) -> str:
        arguments = ["--preset", "maze-debug", "--continues", str(continues), "--run", str(tmp_path / "new")]
        assert main(["world", "record", *arguments, *more]) == 2
        assert not (tmp_path / "new").exists()
        return " ".join(capsys.readouterr().err.split())

    said = refused("--memory.gaussians", "3", "--memory.no-residual")
    assert "can be continued with the same backbone and memory only; others are memory.gaussians (2, now 3), " in said
    assert "memory.residual (True, now False)" in said
    assert "others are backbone (vae, now ppca)" in refused("--backbone", "ppca")
    assert "nowhere holds no world model" in refused(continues=tmp_path / "nowhere")
    assert "a share of 0.05 of 4 streams is 0 of them: replay and recording need" in refused("--replay", "0.05")
    WorldModelRun.create(tmp_path / "untrained", WORLD_PRESETS["maze-debug"])
    said = refused(continues=tmp_path / "untrained")
    assert f"cannot be continued before it is trained: `clutr world train {tmp_path}/untrained` does it" in said
    monkeypatch.setattr(continuing, "unpacked", lambda _: SimpleNamespace(name="maze-world@best"))
    assert "maze-world@best is a model that ships, without what continuing it takes: name one's own" in refused()


def test_a_memory_is_trained_on_or_kept(old: WorldModelRun, tmp_path: Path) -> None:
    run = begun(old, tmp_path / "new")
    assert refit_of(run).continues == "", "a refit of a world model that continued another one keeps its memory"
    with pytest.raises(ValueError, match=r"trained on or kept, not both: continues .*, refit.of elsewhere"):
        replace(run.experiment, refit=RefitOptions(of="elsewhere"))


def test_a_recording_with_other_actions_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    old = made("maze-debug", tmp_path_factory).copy(tmp_path / "old")
    new = begun(old, tmp_path / "new")
    save_state(starts_path(old), {**load_state(starts_path(old)), "actions": 5})
    capsys.readouterr()
    assert main(["world", "train", str(new.path)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{old.path} cannot be continued with {old.dataset_path}: it was trained on actions of 5 numbers" in said
    assert not list(new.path.glob("*.safetensors"))
