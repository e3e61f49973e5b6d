"""A VAE fitted anew before a memory that stays: the command, what it keeps, what it refuses."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from worlds import Made, made

from clutr.experiments.cli.main import main
from clutr.experiments.storage import RunError, load_state, save_state
from clutr.experiments.world_model import training
from clutr.experiments.world_model.agreement import Agreement, agreement, picture_error
from clutr.experiments.world_model.config import RefitOptions, from_yaml, to_yaml
from clutr.experiments.world_model.refit import other_of, refit_of, require_fit
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import backbone_path, fit_backbone, load_world_model, memory_path
from clutr.world_model.backbones.compatible import distance
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.backbones.vae import VAEConfig


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made("maze-debug", tmp_path_factory)


def test_the_command_fits_a_vae_and_keeps_the_memory(
    world: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    wider = ["--seed", "2", "--backbone.channels", "8", "8", "8", "--backbone.iterations", "40"]
    assert main(["world", "refit", str(new), "--from", str(world.path), *wider]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"one step ahead on \d+ test episodes the memory needs -?\d\.\d{3} nats a dimension with", printed)
    run = WorldModelRun(new)
    assert run.experiment.refit == RefitOptions(of=str(world.path))
    assert run.dataset_path == world.path / "recording"
    assert run.experiment.backbone == VAEConfig(latents=6, channels=(8, 8, 8), iterations=40, batch_size=8)
    models = [load_world_model(each) for each in (WorldModelRun(world.path), run)]
    weights = [dict(model.dreamers["trained"].memory.named_parameters()) for model in models]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    scales = [model.dreamers["trained"].scale.latent_std for model in models]
    assert torch.equal(*scales)
    frames = run.dataset().frames("test")[torch.arange(30)]
    apart = distance(models[0].backbone.encode(frames)[0], models[1].backbone.encode(frames)[0], scales[0])
    free = VAEConfig(latents=6, channels=(8, 8, 8), iterations=40, batch_size=8)
    other = free.build((64, 64), 2)
    free.fitting(other, run.dataset().frames("train"), 2).run()
    assert apart < 0.5 * distance(models[0].backbone.encode(frames)[0], other.encode(frames)[0], scales[0])
    before = dict(models[1].backbone.state_dict())
    assert main(["world", "train", str(new)]) == 0
    after = load_state(backbone_path(run))["backbone"]
    assert all(torch.equal(before[name], after[name]) for name in before), "there was nothing left to do"
    assert "the weights of pass" not in capsys.readouterr().out, "no memory was trained"


def test_a_refit_that_is_killed_goes_on_to_the_same_weights(
    world: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = refit_of(WorldModelRun(world.path))
    experiment = replace(known, seed=2, backbone=replace(known.backbone, iterations=40))  # type: ignore[type-var]
    whole, parted = (WorldModelRun.create(tmp_path / name, experiment) for name in ("whole", "parted"))
    fit_backbone(whole, whole.dataset())

    class StopHereError(Exception):
        pass

    saved = 0

    def save(path: Path, state: object) -> None:
        nonlocal saved
        save_state(path, state)  # type: ignore[arg-type]
        saved += 1
        if saved == 1:
            raise StopHereError

    with monkeypatch.context() as patched:
        patched.setattr(training, "SAVE_EVERY_SECONDS", -1.0)
        patched.setattr(training, "save_state", save)
        with pytest.raises(StopHereError):
            fit_backbone(parted, parted.dataset())
    assert load_state(backbone_path(parted))["iteration"] == 20
    fit_backbone(parted, parted.dataset())
    states = [load_state(backbone_path(run)) for run in (whole, parted)]
    assert states[0]["metrics"] == states[1]["metrics"]
    assert all(torch.equal(states[0]["backbone"][name], states[1]["backbone"][name]) for name in states[0]["backbone"])


def test_what_does_not_fit_is_refused(world: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = WorldModelRun(world.path)
    experiment = refit_of(other)
    assert from_yaml(to_yaml(experiment)) == experiment
    name = re.escape(str(world.path))
    cases = [
        (
            {"backbone": PPCAConfig(latents=6)},
            "the new backbone is a ppca: only a vae can be fitted anew to the latents",
        ),
        (
            {"backbone": replace(experiment.backbone, latents=7)},  # type: ignore[type-var]
            f"the memory of {name} knows 6 latents, and the new backbone has 7",
        ),
        (
            {"memory": replace(experiment.memory, gaussians=3)},
            f"the memory of {name} is kept, so what belongs to it cannot change: memory.gaussians \\(2, now 3\\)",
        ),
    ]
    for changes, message in cases:
        with pytest.raises(RunError, match=message):
            require_fit(replace(experiment, **changes), other)  # type: ignore[arg-type]
    closed = WorldModelRun.create(tmp_path / "closed", replace(other.experiment, backbone=PPCAConfig(latents=6)))
    with pytest.raises(RunError, match=r"the backbone of .*closed is a ppca: only a vae can be fitted anew"):
        require_fit(experiment, closed)
    untrained = world.copy(tmp_path / "untrained", "memory-*")
    run = WorldModelRun.create(tmp_path / "new", refit_of(untrained))
    with pytest.raises(RunError, match=r"untrained is not trained: `clutr world train .*untrained` does it"):
        fit_backbone(run, run.dataset())
    itself = world.copy(tmp_path / "itself")
    (itself.path / "world.yaml").write_text(to_yaml(refit_of(itself)))
    with pytest.raises(RunError, match="itself cannot keep the memory of itself: a refit needs another directory"):
        other_of(WorldModelRun(itself.path))
    with pytest.raises(ValueError, match=r"weight must be above 0, got 0\.0"):
        RefitOptions(weight=0.0)
    start = ["world", "refit", str(tmp_path / "third")]
    for arguments, said in [
        (["--from"], "--from wants the directory of a trained world model"),
        (["--from", str(tmp_path / "nowhere")], "nowhere holds no world model"),
        (["--from", str(world.path), "--backbone.latents", "7"], "knows 6 latents, and the new backbone has 7"),
    ]:
        assert main([*start, *arguments]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "third").exists()


def test_agreement_by_hand(world: Made, tmp_path: Path) -> None:
    run = WorldModelRun(world.path)
    assert agreement(run) is None, "it keeps no other memory"
    said = Agreement(3, (-0.5, -0.25), (0.001, 0.0021)).in_words()
    assert "3 test episodes the memory needs -0.500 nats a dimension with the old backbone, -0.250 with the new" in said
    assert said.endswith("mean squared error of pictures: 0.00100, now 0.00210")
    same = WorldModelRun.create(tmp_path / "same", refit_of(run))
    for path in (backbone_path(run), memory_path(run, "trained"), memory_path(run, "untrained core")):
        state = load_state(path)
        plain = state["config"] | {"refit": vars(same.experiment.refit)}
        save_state(same.path / path.name, {**state, "config": plain})
    found = agreement(same)
    assert found is not None
    assert found.nll[0] == found.nll[1]
    assert found.mse[0] == found.mse[1]
    backbone, frames = load_world_model(run).backbone, run.dataset().frames("test")
    every = torch.arange(len(frames))
    shown, true = backbone.decode(backbone.encode(frames[every])[0]), frames[every].float() / 255
    assert picture_error(backbone, frames) == pytest.approx(float((shown - true).square().mean()), rel=1e-4)
