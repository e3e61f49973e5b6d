"""A VAE that is fitted to the latents of another one: the loss by hand, that it agrees, and that it can be resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.experiments.storage import load_state, save_state
from clutr.world_model.backbones.compatible import Anchor, CompatibleVAETraining, distance
from clutr.world_model.backbones.vae import VAEBackbone, VAEConfig, VAETraining

K = 6


def bars(n: int, seed: int) -> Tensor:
    """Frames with a bright bar and a dark one, whose places and brightness change."""
    rng = torch.Generator().manual_seed(seed)
    row, column, light, dark = torch.rand(4, n, 1, 1, generator=rng).unbind(0)
    places = torch.linspace(0, 1, 16)
    bright = ((places[:, None] - row).abs() < 0.15) * (120 + 100 * light)
    grey = (30 + bright).expand(n, 16, 16).clone()
    grey -= ((places - column).abs() < 0.1) * 25 * dark
    return grey[..., None].expand(-1, -1, -1, 3).to(torch.uint8).contiguous()


FRAMES = bars(200, 0)
CONFIG = VAEConfig(latents=K, channels=(8, 16), iterations=60, batch_size=16, learning_rate=3e-3)


@pytest.fixture(scope="module")
def old() -> VAEBackbone:
    backbone = CONFIG.build((16, 16), 1)
    CONFIG.fitting(backbone, FRAMES, 1).run()
    return backbone


class KilledError(Exception):
    pass


def anchor_of(old: VAEBackbone) -> Anchor:
    mean, log_variance = old.encode(FRAMES)
    return Anchor(old, (mean.var(0) + log_variance.exp().mean(0)).sqrt(), 300.0)


def training(old: VAEBackbone, config: VAEConfig = CONFIG, seed: int = 2) -> CompatibleVAETraining:
    return CompatibleVAETraining(config.build((16, 16), seed), config, FRAMES, seed, anchor_of(old))


def test_the_distance_by_hand() -> None:
    means, others = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 3.0]])
    std = torch.tensor([0.5, 2.0])
    # the first frame is 2 and 1 standard deviations away, the second 0 and 1.5
    assert float(distance(means, others, std)) == pytest.approx(0.5 * ((4 + 1) + 2.25) / 2)
    assert float(distance(others, others, std)) == 0


def test_the_loss_is_that_of_a_vae_and_the_weighted_distance(old: VAEBackbone) -> None:
    here, there = training(old), VAETraining(CONFIG.build((16, 16), 2), CONFIG, FRAMES, 2)
    (loss, parts), (free, _) = (each.loss(FRAMES[:8]) for each in (here, there))
    means = here.backbone.encode(FRAMES[:8])[0]
    apart = sum(
        0.5 * ((means[n, k] - old.encode(FRAMES[:8])[0][n, k]) / here.anchor.std[k]) ** 2
        for n in range(8)
        for k in range(K)
    )
    torch.testing.assert_close(parts["distance"], apart / 8, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss, free + 300.0 * apart / 8, rtol=1e-4, atol=1e-3)
    old.zero_grad(set_to_none=True)
    loss.backward()
    assert all(weight.grad is None for weight in old.parameters()), "the other one stays as it is"


def test_it_agrees_far_better_than_a_free_one_on_new_frames_and_draws_as_well(old: VAEBackbone) -> None:
    compatible, free = training(old), VAETraining(CONFIG.build((16, 16), 2), CONFIG, FRAMES, 2)
    frames, std = bars(60, 5), compatible.anchor.std
    apart, errors = [], []
    for each in (compatible, free):
        each.run()
        apart.append(float(distance(each.backbone.encode(frames)[0], old.encode(frames)[0], std)))
        errors.append(each.metrics["mse"])
    assert apart[0] < 0.2 * apart[1]
    assert errors[0] < 1.5 * errors[1]


def test_killed_it_continues_bit_for_bit(old: VAEBackbone, tmp_path: Path) -> None:
    config = VAEConfig(latents=K, channels=(8, 16), iterations=25, batch_size=8)
    whole, killed = training(old, config), training(old, config)
    whole.run()

    def kill(done: int, total: int, metrics: dict[str, float]) -> None:
        assert "distance" in metrics
        raise KilledError

    with pytest.raises(KilledError):
        killed.run(kill)
    save_state(tmp_path / "state", killed.state_dict())
    resumed = training(old, config, seed=3)
    resumed.load_state_dict(load_state(tmp_path / "state"))
    resumed.run()
    found, expected = (each.backbone.state_dict() for each in (resumed, whole))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert resumed.metrics == whole.metrics


def test_messages(old: VAEBackbone) -> None:
    other: Any = VAEConfig(latents=K + 1, channels=(8, 16))
    with pytest.raises(ValueError, match="a backbone of 7 latents cannot agree with one of 6"):
        CompatibleVAETraining(other.build((16, 16), 1), other, FRAMES, 1, anchor_of(old))
    with pytest.raises(ValueError, match=r"weight must be above 0, got 0\.0"):
        CompatibleVAETraining(CONFIG.build((16, 16), 1), CONFIG, FRAMES, 1, anchor_of(old)._replace(weight=0.0))
