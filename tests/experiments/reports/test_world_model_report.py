"""The world model from nothing to its report, in both domains, and picked up where it was left."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import few_mazes, made

from clutr.experiments.cli.main import main
from clutr.experiments.storage import RunError
from clutr.experiments.world_model.config import WORLD_PRESETS
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, fit_backbone, load_world_model, train_memories
from clutr.world_model.backbones.haar import HaarConfig
from clutr.world_model.backbones.residual import ResidualConfig
from clutr.world_model.cores.aaren import AarenConfig
from clutr.world_model.importing import Recording, import_episodes
from clutr.world_model.memory import MemoryConfig

METHODS = {"trained", "untrained core", "copy last", "mean", "damped velocity", "linear", "ceiling"}


@pytest.mark.parametrize("domain", ["car", "maze"])
def test_from_nothing_to_a_report(domain: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = str(made(f"{domain}-debug", tmp_path_factory).copy(tmp_path / "world").path)
    assert main(["world", "report", "--run", run]) == 0
    found = json.loads((Path(run) / "dreams.json").read_text())
    horizon = WORLD_PRESETS[f"{domain}-debug"].evaluation.horizon
    assert set(found["latents"]) == set(found["pictures"]) == set(found["physical"]) == METHODS
    assert all(len(curve["nrmse"]) == horizon for curve in found["latents"].values())
    assert set(found["outcomes"]) == set(found["one_step"]) == set(found["termination"]) == set(MEMORIES)
    assert found["windows"] > 0
    scene = found["scene"]
    assert set(scene["methods"]) == METHODS
    assert scene["surface"] == ("road" if domain == "car" else "wall")
    ceiling, copied = (scene["methods"][name][f"iou/{scene['surface']}"][-1] for name in ("ceiling", "copy last"))
    assert ceiling > copied, "who knows the motion knows more than who copies"
    assert (found["ordinary"] is not None) == (domain == "car")
    assert set(found["calibration_ahead"]) == set(MEMORIES)
    assert found["split"] == "test"
    page = (Path(run) / "report.html").read_text()
    assert not re.search(r"(?:src|href)=[\"']https?:", page), "the page needs nothing else"
    assert page.count('class="dream fed"') == min(3, found["windows"])
    for words in (
        "Dreams beside reality",
        "Step through a dream",
        "Calibration",
        "Error by spatial frequency",
        "How long a dream holds",
        "untrained core",
        "Coverage",
        "What is right of the world",
        "Whether dreams spread as reality does",
        "termination prediction 1 step ahead"
        if found["termination"]["trained"]["terminations"]
        else "no test episode was terminated",
    ):
        assert words in page
    assert bool(found["termination"]["trained"]["terminations"]) == (domain == "maze"), "a few steps end no drive"


def test_training_that_was_done_is_not_done_again_and_the_control_keeps_its_core(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = made("maze-debug", tmp_path_factory).copy(tmp_path)
    dataset, told = run.dataset(), list[int]()
    backbone = fit_backbone(run, dataset, lambda *_: told.append(1))
    train_memories(run, dataset, backbone, lambda _: lambda *_: told.append(1))
    assert not told, "nothing was left to do"
    world = load_world_model(run)
    trained, control = (world.dreamers[name].memory for name in MEMORIES)
    drawn = run.experiment.memory.build(trained.latents, trained.actions, run.experiment.seed)
    for name, value in drawn.core.state_dict().items():
        assert torch.equal(control.core.state_dict()[name], value)
    assert not all(torch.equal(trained.core.state_dict()[n], v) for n, v in drawn.core.state_dict().items())
    assert world.metrics["trained"]["history"]


def test_other_parts_fit_in(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    few = few_mazes(tmp_path_factory)
    parts = replace(
        few.experiment,
        backbone=ResidualConfig(base=HaarConfig(latents=12, levels=5), width=4, iterations=2, batch_size=4),
        memory=MemoryConfig(core=AarenConfig(width=8, heads=2, values=4), gaussians=1),
    )
    run = WorldModelRun.create(tmp_path, parts)
    assert WorldModelRun(tmp_path).experiment == parts
    shutil.copytree(few.dataset_path, run.dataset_path)
    train_memories(run, run.dataset(), fit_backbone(run, run.dataset()))
    assert load_world_model(run).dreamers["trained"].memory.latents == 12


def test_a_recording_of_one_s_own_is_trained_on_and_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    episodes = [
        Recording(rng.integers(0, 255, (16, 64, 64, 3), dtype=np.uint8), rng.random((15, 3)), rng.random(15))
        for _ in range(30)
    ]
    dataset = import_episodes(tmp_path / "mine", episodes)
    options = replace(WORLD_PRESETS["car-debug"], recording=str(dataset.path))
    run = WorldModelRun.create(tmp_path / "world", options)
    train_memories(run, dataset, fit_backbone(run, dataset))
    assert main(["world", "report", "--run", str(run.path)]) == 0
    found = json.loads((run.path / "dreams.json").read_text())
    assert found["scene"] == {}, "nothing is known of its geometry"
    assert found["ordinary"] is None
    assert "How long a dream holds" in (run.path / "report.html").read_text()


def test_what_is_missing_is_said(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = WorldModelRun.create(tmp_path, WORLD_PRESETS["maze-debug"])
    with pytest.raises(RunError, match="holds no dataset"):
        load_world_model(run)
    made("maze-debug", tmp_path_factory).copy(tmp_path, "backbone.safetensors", "memory-*")
    with pytest.raises(RunError, match="is not trained: `clutr world train "):
        load_world_model(run)
