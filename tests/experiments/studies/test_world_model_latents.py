"""The study of compatible and of predictable latents: the second's loss by hand, its training, and the study, small."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.experiments.storage import RunError, load_state, save_state
from clutr.experiments.studies import world_model_latents
from clutr.experiments.studies.world_model_latents import Pairs, PredictableVAETraining, main, table, unpredictable
from clutr.experiments.world_model.config import WORLD_PRESETS, RecordOptions
from clutr.experiments.world_model.run_directory import WorldModelRun, record
from clutr.world_model.backbones.vae import VAEConfig
from clutr.world_model.cores.lstm_gru import LSTMConfig
from clutr.world_model.dataset import EpisodeDataset
from clutr.world_model.memory import MemoryConfig

SMALL = VAEConfig(latents=4, channels=(4, 8), iterations=25, batch_size=8)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("latents") / "world"
    debug = replace(WORLD_PRESETS["maze-debug"], record=RecordOptions(32, 16, 10, walk=1.0, expert=0.0))
    record(WorldModelRun.create(path, debug))
    return path


def test_what_cannot_be_predicted_by_hand() -> None:
    latents = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])  # variances 5 and 5
    expected = latents + torch.tensor([1.0, 5**0.5])
    # the first is known with an error of 1 of 5, the second no better than by its mean
    torch.testing.assert_close(unpredictable(latents, expected), 0.5 * torch.tensor(1 / 5).log())
    torch.testing.assert_close(unpredictable(0.01 * latents, 0.01 * expected), unpredictable(latents, expected))
    noise = torch.randn(4_000, 3, generator=torch.Generator().manual_seed(1))
    assert unpredictable(noise, torch.zeros(4_000, 3)).abs() < 0.01, "a collapsed latent is noise, and saves nothing"


def test_pairs_are_of_one_episode(world: Path) -> None:
    dataset = EpisodeDataset(world / "recording")
    pairs, rows = Pairs(dataset.frames("train")), dataset.rows("train")
    expected = [episode.indices[k] for episode in dataset.of_split("train") for k in range(1, episode.rows)]
    assert rows[pairs.numbers].tolist() == torch.stack(expected).tolist()
    before, now = pairs[torch.tensor([0, 7])].unbind(1)
    assert torch.equal(now, dataset.column("frames", torch.stack([expected[0], expected[7]])))
    assert torch.equal(before, dataset.column("frames", torch.stack([expected[0], expected[7]]) - 1))


def train(world: Path, seed: int) -> PredictableVAETraining:
    pairs = Pairs(EpisodeDataset(world / "recording").frames("train"))
    return PredictableVAETraining(SMALL.build((64, 64), seed), SMALL, pairs, seed, 1.0)


def test_killed_it_continues_bit_for_bit_and_the_prior_learns(world: Path, tmp_path: Path) -> None:
    whole, killed = train(world, 1), train(world, 1)
    whole.run()
    for _ in range(10):
        parts: dict[str, Tensor] = killed.step()
    assert set(parts) == {"mse", "kl", "unpredictable"}
    assert not torch.equal(killed.prior.weight, torch.eye(4))
    save_state(tmp_path / "state", killed.state_dict())
    resumed = train(world, 2)
    resumed.load_state_dict(load_state(tmp_path / "state"))
    resumed.run()
    for found, expected in ((resumed.backbone, whole.backbone), (resumed.prior, whole.prior)):
        ours, theirs = found.state_dict(), expected.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.metrics == whole.metrics


def test_rows_are_measured_once(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(
        world_model_latents.SETTING,
        backbone=SMALL,
        memory=MemoryConfig(LSTMConfig(width=4), gaussians=1),
        training=replace(world_model_latents.SETTING.training, epochs=1, length=8, imagination_steps=2),
        episodes=4,
        predictable_weights=(2.0,),
    )
    monkeypatch.setattr(world_model_latents, "SETTING", small)
    monkeypatch.setattr(world_model_latents, "CONTEXT", 2)
    out = tmp_path / "out.json"
    arguments = [str(world), str(out), "--seeds", "3"]
    main(arguments)
    found: dict[str, Any] = json.loads(out.read_text())
    rows = found["seeds"]["3"]
    assert set(rows) == {"old", "free", "compatible", "predictable, weight 2"}
    assert all(len(row["iou"]) == 2 for row in rows.values()), "horizons of 1 and 5 steps fit"
    assert 0 < rows["compatible"]["apart"] < rows["free"]["apart"]
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {
        *("free-3", "free-4", "compatible-3", "predictable-2-3", "old-3-memory", "predictable-2-3-memory")
    }
    rows["old"]["mse"] = 0.1234
    del rows["compatible"]
    out.write_text(json.dumps(found))
    main(arguments)
    again = json.loads(out.read_text())["seeds"]["3"]
    assert again["old"]["mse"] == 0.1234, "what is there is left alone"
    told = out.with_suffix(".md").read_text()
    assert "| old | 1 |" in told
    assert "| 0.1234 [0.1234, 0.1234] | " in told
    twice = table({"3": again, "4": again | {"old": again["old"] | {"mse": 0.2234}}})
    assert "| old | 2 |" in twice
    assert "| 0.1734 [0.1234, 0.2234] | " in twice
    assert again["compatible"]["apart"] > 0
    monkeypatch.setattr(world_model_latents, "SETTING", replace(small, episodes=5))
    with pytest.raises(RunError, match=r"out\.json was measured with other settings: name another file"):
        main(arguments)
