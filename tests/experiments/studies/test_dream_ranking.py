"""The study that ranks policies of different quality: ages double, and what was measured is not measured again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clutr.experiments.storage import RunError
from clutr.experiments.studies import dream_ranking
from clutr.experiments.studies.dream_ranking import NOISE, ages, main
from clutr.experiments.world_model.config import WORLD_PRESETS, RecordOptions
from clutr.experiments.world_model.run_directory import WorldModelRun, record
from clutr.experiments.world_model.training import fit_backbone, train_memories
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.latent_student import LatentPPOConfig


def test_there_are_two_dozen_policies() -> None:
    assert ages(64) == [0, 1, 2, 3, 5, 8, 13, 23, 38, 64]
    assert ages(1) == [0, 1]
    assert 2 * len(NOISE) - 1 + len(ages(64)) >= 24


def test_policies_are_judged_in_both_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debug = replace(
        WORLD_PRESETS["car-debug"],
        backbone=PPCAConfig(latents=4),
        record=RecordOptions(episodes=60, num_envs=60, length=4),
    )
    run = WorldModelRun.create(tmp_path / "world", debug)
    train_memories(run, dataset := record(run), fit_backbone(run, dataset))
    for name, value in {"NOISE": (0.0, 1.0), "LEVELS": 2, "DREAMS": 3, "HORIZON": 3, "NUM_ENVS": 2}.items():
        monkeypatch.setattr(dream_ranking, name, value)
    small = LatentPPOConfig(rollout_steps=4, epochs=1, minibatches=1, hidden=4)
    monkeypatch.setattr(dream_ranking, "LatentPPOConfig", lambda: small)
    arguments = [str(tmp_path / "world"), str(tmp_path / "out.json"), "--updates", "1"]
    main(arguments)
    found: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    assert list(found["policies"]) == [
        "imitation of latent and memory, noise 0.0",
        "imitation of latent and memory, noise 1.0",
        "imitation of the latent, noise 0.0",
        "student after 0 updates",
        "student after 1 updates",
    ]
    ranking = found["ranking"]["trained"]
    assert ranking["policies"] == 5
    assert ranking["slope_interval"][0] <= ranking["slope_interval"][1]
    assert set(found["imitation_r2"]) == {"both", "latent"}
    gone = found["policies"].pop("student after 1 updates")
    found["policies"]["student after 0 updates"]["real"] = 77.0
    (tmp_path / "out.json").write_text(json.dumps(found))
    main(arguments)
    again = json.loads((tmp_path / "out.json").read_text())["policies"]
    assert again["student after 0 updates"]["real"] == 77.0
    assert again["student after 1 updates"] == gone
    with pytest.raises(RunError, match="name another file"):
        main([*arguments[:-1], "2"])
