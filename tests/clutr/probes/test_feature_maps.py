"""In which layer an object is lost: on backbones whose layers are known."""

import pytest
import torch
from torch import Tensor

from clutr.probes.feature_maps import (
    LayerOverlap,
    best_threshold,
    channel_statistics,
    layers_of,
    overlap,
    tell,
    thumbnails,
    under,
    visibility,
)
from clutr.probes.latent_health import frame_health
from clutr.world_model.backbones.patch_pca import PatchPCAConfig
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.backbones.vae import VAEConfig


def scenes(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """A bright 4x4 square anywhere on a dark picture of 16x16, and a single dim pixel."""
    rng = torch.Generator().manual_seed(seed)
    frames, masks = torch.full((n, 16, 16, 3), 20, dtype=torch.uint8), torch.zeros(n, 16, 16, dtype=torch.uint8)
    for row in range(n):
        y, x, a, b = (int(torch.randint(0, high, (1,), generator=rng)) for high in (4, 4, 16, 16))
        masks[row, a, b] = 2
        frames[row, a, b] = 34
        masks[row, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = 1
        frames[row, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = 220
    return frames, masks


TRAIN, TEST = scenes(150, 1), scenes(60, 2)


def test_overlaps_by_hand() -> None:
    scores, masks = torch.tensor([0.9, 0.6, 0.4, 0.1]), torch.tensor([True, False, True, False])
    assert overlap(scores, masks, 0.5) == pytest.approx(1 / 3)
    assert overlap(scores, masks, 0.2) == pytest.approx(2 / 3)
    assert overlap(scores, masks, 2.0) == 0
    assert overlap(scores, masks, best_threshold(scores, masks)) == pytest.approx(2 / 3)
    mask = torch.arange(16).view(1, 4, 4)
    assert under(mask, 2, 2)[0, 0, 1].tolist() == [2, 3, 6, 7]
    assert under(mask, 4, 4).flatten().tolist() == list(range(16))


def test_layers_end_where_the_encoder_does() -> None:
    vae = VAEConfig(latents=4, channels=(4, 6)).build((16, 16), 1)
    layers = layers_of(vae, TRAIN[0][:3])
    assert {name: tuple(each.shape) for name, each in layers.items()} == {
        "pixels": (3, 16, 16, 3),
        "conv1": (3, 8, 8, 4),
        "conv2": (3, 4, 4, 6),
    }
    means = vae.posterior(layers["conv2"].permute(0, 3, 1, 2).flatten(1)).chunk(2, 1)[0]
    torch.testing.assert_close(means, vae.encode(TRAIN[0][:3])[0])
    assert list(layers_of(PPCAConfig(latents=4).build((16, 16), 1), TRAIN[0][:3])) == ["pixels"]
    shown = thumbnails(vae, TRAIN[0][0], most=3)
    assert shown["conv2"].shape == (3, 4, 4)
    assert 0 <= float(shown["conv2"].min()) <= float(shown["conv2"].max()) <= 1


def test_what_is_large_survives_and_what_is_small_does_not() -> None:
    config = PatchPCAConfig(latents=15, channels=(3, 3))
    backbone = config.build((16, 16), 1)
    config.fitting(backbone, TRAIN[0], 1).run()
    found = {each.thing: each for each in visibility(backbone, TRAIN, TEST, ("ground", "square", "speck", "never"))}
    assert set(found) == {"ground", "square", "speck"}
    square, speck = found["square"], found["speck"]
    assert [each.layer for each in square.layers] == ["pixels", "patches1", "patches2", "z"]
    assert square.lost_in is None
    assert square.layers[-1].overlap > 0.9
    assert square.layers[-1].chance < 0.2
    assert speck.layers[-1].overlap < 0.3
    assert "IoU" in square.sentence
    assert square.plain()["layers"][0]["layer"] == "pixels"


def seen(layer: str, value: float, chance: float = 0.0) -> LayerOverlap:
    return LayerOverlap(layer, (8, 8), 3, value, 1.0, 0, chance)


def test_the_sentence_says_where() -> None:
    assert tell("car", [seen("pixels", 0.9), seen("conv1", 0.71), seen("z", 0.12)]) == (
        "z",
        "car is visible to conv1 (IoU 0.71), gone in z (0.12): the bottleneck loses it",
    )
    assert tell("car", [seen("pixels", 0.9), seen("conv1", 0.3), seen("z", 0.2)]) == (
        "conv1",
        "car is visible to pixels (IoU 0.90), gone in conv1 (0.30): conv1 loses it",
    )
    dipped = [seen("pixels", 0.9), seen("conv1", 0.3), seen("conv2", 0.8), seen("z", 0.6)]
    assert tell("road", dipped) == (None, "road survives to z (IoU 0.60)"), "a layer that shows it again lost nothing"
    assert tell("road", [seen("pixels", 0.5), seen("z", 0.8)]) == (None, "road survives to z (IoU 0.80)")
    assert tell("car", [seen("pixels", 0.9), seen("z", 0.8, 0.79)])[1].endswith("an average mask does as well (0.79)")
    assert "hardly visible" in tell("dot", [seen("pixels", 0.05), seen("z", 0.0)])[1]


def test_dead_channels_are_counted() -> None:
    vae = VAEConfig(latents=4, channels=(4, 6)).build((16, 16), 1)
    with torch.no_grad():
        vae.down[0].weight[2] = 0
        vae.down[0].bias[2] = -1.0
    found = channel_statistics(vae, TRAIN[0][:4])
    assert found["conv1"]["dead"] == 1
    assert found["conv1"]["energies"] == sorted(found["conv1"]["energies"], reverse=True)


def test_the_health_of_principal_modes_is_known() -> None:
    """Of probabilistic PCA the KL of each latent is ln(lambda / sigma^2) / 2, and so is the spectrum."""
    rng = torch.Generator().manual_seed(1)
    basis = torch.randn(5, 8 * 8 * 3, generator=rng)
    frames = (128 + torch.randn(400, 5, generator=rng) @ basis * torch.tensor(6.0)).clamp(0, 255)
    frames = (frames + 2 * torch.randn(400, 192, generator=rng)).clamp(0, 255).byte().view(-1, 8, 8, 3)
    config = PPCAConfig(latents=5)
    backbone = config.build((8, 8), 1)
    config.fitting(backbone, frames, 1).run()
    found = frame_health(backbone, frames, rng)
    torch.testing.assert_close(torch.tensor(found["kl_per_dimension"]), backbone.kl(), atol=0.02, rtol=0.02)
    assert found["variables"]["active"] == 5
    assert found["noise"] == pytest.approx(float(backbone.noise), rel=0.1)
    assert found["latent_use_gap"] > 10
    assert found["predicted"]["eigenvalues"][:5] == pytest.approx(backbone.variances[:5].tolist(), rel=1e-3)
    assert found["prior"]["agreement"] > 0.9
    assert found["mse"] <= found["noise"]
