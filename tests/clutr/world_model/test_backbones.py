"""Backbones: the identities of the transparent ones, and what all of them promise."""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clutr.world_model.backbones import haar
from clutr.world_model.backbones.base import BACKBONES, Backbone, Fitting
from clutr.world_model.backbones.cells import CellsConfig
from clutr.world_model.backbones.haar import HaarConfig
from clutr.world_model.backbones.locality import locality
from clutr.world_model.backbones.patch_pca import PatchPCABackbone, PatchPCAConfig, cut, paste
from clutr.world_model.backbones.ppca import PPCABackbone, PPCAConfig
from clutr.world_model.backbones.residual import ResidualConfig
from clutr.world_model.backbones.vae import VAEConfig

SIZE = (16, 16)


def moving_frames(n: int = 300, seed: int = 0) -> Tensor:
    """A bright square that moves about on a slope whose brightness changes, with a little noise."""
    rng = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    slope = 60 + 90 * torch.rand(n, 1, 1, generator=rng) * (rows + columns) / 30
    y, x = (4 + 8 * torch.rand(2, n, 1, 1, generator=rng)).unbind(0)
    square = ((rows - y).abs() < 2.5) & ((columns - x).abs() < 2.5)
    grey = torch.where(square, torch.tensor(220.0), slope)[..., None] * torch.tensor([1.0, 0.8, 0.6])
    return (grey + 3 * torch.randn(n, 16, 16, 3, generator=rng)).clamp(0, 255).to(torch.uint8)


FRAMES = moving_frames()
CONFIGS: dict[str, Any] = {
    "cells": CellsConfig(latents=8, rows=2, columns=2, channels=1, fitted_on=300),
    "haar": HaarConfig(latents=8, levels=3),
    "ppca": PPCAConfig(latents=8),
    "patch-pca": PatchPCAConfig(latents=8, channels=(6, 8)),
    "vae": VAEConfig(latents=8, channels=(8, 16), iterations=150, batch_size=16, learning_rate=3e-3),
    "residual": ResidualConfig(base=PPCAConfig(latents=8), width=8, iterations=30, batch_size=16),
}


def fit(name: str) -> tuple[Backbone, Fitting]:
    config, before = CONFIGS[name], torch.get_rng_state()
    backbone = config.build(SIZE, 1)
    fitting = config.fitting(backbone, FRAMES, 1)
    fitting.run()
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn from the global generator"
    return backbone, fitting


@cache
def fitted(name: str) -> tuple[Backbone, Fitting]:
    """The same for all tests, which leave it as it is."""
    return fit(name)


def test_all_backbones_are_tested() -> None:
    elsewhere = {"spatial-vae", "categorical"}  # test_grid_and_classes, test_backbone_contract
    assert set(CONFIGS) | elsewhere == set(BACKBONES)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_backbone_is_a_drop_in(name: str) -> None:
    backbone, fitting = fitted(name)
    assert backbone.latents == 8
    mean, log_variance = backbone.encode(FRAMES[:5])
    assert mean.shape == log_variance.shape == (5, 8)
    assert mean.isfinite().all()
    assert (log_variance < 1e-3).all(), "no posterior is wider than the prior"
    shown = backbone.decode(mean)
    assert (shown.shape, shown.dtype) == ((5, 16, 16, 3), torch.float32)
    assert not shown.requires_grad
    one, _ = backbone.encode(FRAMES[2:3])
    torch.testing.assert_close(one, mean[2:3], atol=1e-4, rtol=1e-4)
    maps = backbone.pixel_maps()
    assert (maps is None) == (name == "vae")
    assert maps is None or maps.shape == (8, 16, 16, 3)
    assert fitting.metrics
    everything, _ = backbone.encode(FRAMES)
    wrong = (backbone.decode(everything) - FRAMES.float() / 255).square().mean()
    assert wrong < (FRAMES.float() / 255).var(0, correction=0).mean(), "better than the mean picture"


@pytest.mark.parametrize("name", list(CONFIGS))
def test_states_and_seeds(name: str) -> None:
    first, fitting = fitted(name)
    again, _ = fit(name)
    mean = first.encode(FRAMES[:4])[0]
    assert torch.equal(again.encode(FRAMES[:4])[0], mean)
    other = CONFIGS[name].build(SIZE, 2)
    resumed = CONFIGS[name].fitting(other, FRAMES, 2)
    resumed.load_state_dict(fitting.state_dict())
    resumed.run()  # there is nothing left to do
    assert torch.equal(other.encode(FRAMES[:4])[0], mean)
    assert torch.equal(other.decode(mean), first.decode(mean))
    assert resumed.metrics == fitting.metrics
    bare = CONFIGS[name].build(SIZE, 3)
    bare.load_state_dict(first.state_dict())
    assert torch.equal(bare.decode(mean), first.decode(mean))


@pytest.mark.parametrize("name", ["vae", "residual"])
def test_an_interrupted_training_continues_bit_for_bit(name: str) -> None:
    whole, fitting = fitted(name)
    config = CONFIGS[name]
    parted = config.fitting(config.build(SIZE, 1), FRAMES, 1)
    if name == "residual":
        parted.first.run()
    for _ in range(11):
        parted.step()
    resumed_backbone = config.build(SIZE, 1)
    resumed = config.fitting(resumed_backbone, FRAMES, 1)
    resumed.load_state_dict(parted.state_dict())
    resumed.run()
    latents = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(resumed_backbone.decode(latents), whole.decode(latents))
    assert resumed.metrics == fitting.metrics


@pytest.mark.parametrize("name", ["haar", "ppca", "patch-pca"])
def test_pixel_maps_are_the_formula_of_the_decoder(name: str) -> None:
    backbone, _ = fitted(name)
    maps = backbone.pixel_maps()
    assert maps is not None
    latents = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    expected = backbone.decode(torch.zeros(1, 8)) + torch.einsum("nk,khwc->nhwc", latents, maps)
    torch.testing.assert_close(backbone.decode(latents), expected, atol=1e-4, rtol=1e-4)


# --- the block-spin pyramid


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), levels=st.integers(1, 3))
def test_the_pyramid_is_orthogonal(seed: int, levels: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 2, 8, 16, 3, generator=rng).unbind(0)
    split, other = haar.forward(x, levels), haar.forward(y, levels)
    torch.testing.assert_close(haar.inverse(split, (8, 16), levels), x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(split.square().sum(1), x.square().sum((1, 2, 3)), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close((split * other).sum(1), (x * y).sum((1, 2, 3)), rtol=1e-4, atol=1e-4)


def test_the_coarse_field_is_the_block_mean() -> None:
    x = torch.randn(1, 8, 8, 3, generator=torch.Generator().manual_seed(1))
    coarse = haar.forward(x, 2)[0, : 2 * 2 * 3].view(2, 2, 3)
    torch.testing.assert_close(coarse[1, 0], 4 * x[0, 4:, :4].mean((0, 1)), atol=1e-5, rtol=1e-5)


def test_the_pyramid_keeps_the_coarse_field_and_what_varies_most() -> None:
    config = HaarConfig(latents=15, levels=3)
    backbone = config.build(SIZE, 1)
    found = backbone.fit(FRAMES, 1, lambda *_: None)
    assert found["coarse_latents"] == 2 * 2 * 3
    assert backbone.kept[:12].tolist() == list(range(12))
    variances = haar.forward(FRAMES.float() / 255, 3).double().var(0, correction=0)
    best = 12 + variances[12:].argsort(descending=True)[:3]
    assert sorted(backbone.kept[12:].tolist()) == sorted(best.tolist())
    expected = float(variances[backbone.kept].sum() / variances.sum())
    assert found["kept_variance"] == pytest.approx(expected, rel=1e-4)
    encoded = backbone.encode(FRAMES)[0]
    torch.testing.assert_close(encoded.std(0, correction=0), torch.ones(15), atol=1e-3, rtol=0)


# --- modes: the closed forms of probabilistic PCA, against dense linear algebra


def small_modes(k: int = 3) -> tuple[PPCABackbone, np.ndarray, np.ndarray]:
    frames = moving_frames(200, seed=3)[:, :4, :4].contiguous()
    backbone = PPCAConfig(latents=k).build((4, 4), 1)
    backbone.fit(frames, 1, lambda *_: None)
    data = frames.double().flatten(1).numpy() / 255
    return backbone, data, np.cov(data.T, bias=True)


def test_modes_are_the_eigenvectors() -> None:
    backbone, data, covariance = small_modes()
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(backbone.variances.numpy(), values[::-1][:3], rtol=1e-4)
    for mode in range(3):
        assert abs(vectors[:, -1 - mode] @ backbone.directions[mode].double().numpy()) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(backbone.mean.numpy(), data.mean(0), atol=1e-6)
    assert float(backbone.noise) == pytest.approx(values[::-1][3:].mean(), rel=1e-3)


def test_the_posterior_is_that_of_the_linear_gaussian_model() -> None:
    """x = W z + mu + noise: mean M^-1 W'(x - mu), covariance noise M^-1, with M = W'W + noise 1."""
    backbone, data, _ = small_modes()
    noise = float(backbone.noise)
    weights = backbone.pixel_maps().flatten(1).double().numpy().T
    square = weights.T @ weights + noise * np.eye(3)
    frames = (255 * data[:7]).round().astype(np.uint8).reshape(7, 4, 4, 3)
    mean, log_variance = backbone.encode(torch.from_numpy(frames))
    away = data[:7] - backbone.mean.double().numpy()
    np.testing.assert_allclose(mean.numpy(), np.linalg.solve(square, weights.T @ away.T).T, atol=1e-3)
    np.testing.assert_allclose(log_variance[0].exp().numpy(), noise * np.diag(np.linalg.inv(square)), rtol=1e-3)


def test_the_kl_of_the_modes_and_the_bound_is_tight() -> None:
    backbone, data, covariance = small_modes()
    frames = torch.from_numpy((255 * data).round().astype(np.uint8).reshape(-1, 4, 4, 3))
    mean, log_variance = backbone.encode(frames)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    torch.testing.assert_close(kl.mean(0), backbone.kl(), atol=2e-3, rtol=2e-3)
    # the evidence bound of the exact posterior is the log-likelihood of a Gaussian with covariance W W' + noise
    noise, dimensions = float(backbone.noise), data.shape[1]
    weights = backbone.pixel_maps().flatten(1).double().numpy().T
    model = weights @ weights.T + noise * np.eye(dimensions)
    away = data - data.mean(0)
    logs = -0.5 * (dimensions * math.log(2 * math.pi) + np.linalg.slogdet(model)[1])
    logs -= 0.5 * np.einsum("nd,de,ne->n", away, np.linalg.inv(model), away).mean()
    shown = backbone.decode(mean).flatten(1).double().numpy()
    spread = (log_variance.exp().double().numpy()[0] * (weights**2).sum(0)).sum()
    expected = (
        -0.5 * dimensions * math.log(2 * math.pi * noise) - 0.5 * (((data - shown) ** 2).sum(1).mean() + spread) / noise
    )
    assert expected - float(kl.double().sum(1).mean()) == pytest.approx(logs, rel=1e-3)
    assert covariance.shape == (dimensions, dimensions)


# --- patches


def test_cutting_is_undone() -> None:
    field = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(paste(cut(field)), field)
    assert cut(field).shape == (2, 2, 3, 20)
    torch.testing.assert_close(cut(field)[0, 1, 2], field[0, 2:4, 4:6].flatten())


def test_kernels_are_orthonormal_and_the_decoder_is_the_adjoint() -> None:
    backbone, _ = fitted("patch-pca")
    assert isinstance(backbone, PatchPCABackbone)
    for kernel in backbone.kernels:
        torch.testing.assert_close(kernel @ kernel.T, torch.eye(len(kernel)), atol=1e-5, rtol=0)
    rng = torch.Generator().manual_seed(1)
    x, field = torch.rand(3, 16, 16, 3, generator=rng), torch.randn(3, *backbone.field, generator=rng)
    there = (backbone.lift(x) * field).sum((1, 2, 3))
    back = ((x - backbone.mean) * (backbone.lower(field) - backbone.mean)).sum((1, 2, 3))
    torch.testing.assert_close(there, back, atol=1e-3, rtol=1e-4)


def test_what_the_layers_discard_adds_up() -> None:
    backbone, fitting = fitted("patch-pca")
    assert isinstance(backbone, PatchPCABackbone)
    found = fitting.metrics
    assert found["kept_variance"] + sum(found["discarded"]) == pytest.approx(1)
    pictures = FRAMES.float() / 255
    total = float((pictures - pictures.mean(0)).square().sum((1, 2, 3)).mean())
    projected = backbone.lift(pictures).flatten(1) @ backbone.directions.T @ backbone.directions
    shown = backbone.lower(projected.view(-1, *backbone.field))
    lost = float((shown - pictures).square().sum((1, 2, 3)).mean())
    assert lost / total == pytest.approx(sum(found["discarded"]), rel=1e-3)
    first = backbone.lift(pictures, 1)
    assert 1 - float(first.square().sum((1, 2, 3)).mean()) / total == pytest.approx(
        found["discarded"][0], rel=1e-2, abs=1e-4
    )


# --- refined, VAE, locality


def test_a_refined_picture_is_better_and_says_how_much_was_linear() -> None:
    config = ResidualConfig(base=PPCAConfig(latents=8), width=16, iterations=150, batch_size=32)
    backbone = config.build(SIZE, 1)
    fitting = config.fitting(backbone, FRAMES, 1)
    fitting.run()
    found = fitting.metrics
    assert found["mse"] < found["linear_mse"]
    assert 0.5 < found["linear_share"] < 1
    mean, _ = backbone.encode(FRAMES[:3])
    torch.testing.assert_close(mean, backbone.base.encode(FRAMES[:3])[0])


def test_a_vae_learns() -> None:
    config = VAEConfig(latents=4, channels=(8, 16), iterations=150, batch_size=32, learning_rate=3e-3)
    backbone = config.build(SIZE, 1)
    fitting = config.fitting(backbone, FRAMES, 1)
    first = fitting.step()
    fitting.run()
    assert fitting.metrics["mse"] < 0.5 * float(first["mse"])
    assert fitting.metrics["active"] + fitting.metrics["mixed"] + fitting.metrics["passive"] == 4
    assert fitting.metrics["active"] >= 2
    published = VAEConfig(latents=4, channels=(8, 16), iterations=2, batch_size=8, loss="published")
    published.fitting(published.build(SIZE, 1), FRAMES, 1).run()


def test_locality_by_hand() -> None:
    maps = torch.zeros(3, 8, 8, 3)
    maps[0, 2:4, 5:7, 0] = 1.0  # four pixels around (2.5, 5.5)
    maps[1] = 1.0  # all 64
    maps[2, ::2] = 1.0  # stripes: the shortest wave there is, and the mean
    maps[2, 1::2] = -1.0
    found = locality(maps)
    torch.testing.assert_close(found.area, torch.tensor([4.0, 64.0, 64.0]))
    torch.testing.assert_close(found.centre[0], torch.tensor([2.5, 5.5]))
    torch.testing.assert_close(found.frequency[1:], torch.tensor([0.0, 4.0]), atol=1e-5, rtol=0)


def test_messages() -> None:
    with pytest.raises(ValueError, match="pictures of 16x12 pixels cannot be halved 3 times"):
        HaarConfig(levels=3).build((16, 12), 1)
    with pytest.raises(ValueError, match="pictures of 16x12 pixels cannot be halved 4 times"):
        VAEConfig().build((16, 12), 1)
    with pytest.raises(ValueError, match=r"latents must be in 1\.\.767, got 800"):
        PPCAConfig(latents=800).build(SIZE, 1)
    with pytest.raises(ValueError, match="layer 1 has patches of 12 numbers, of which 13 cannot be kept"):
        PatchPCAConfig(channels=(13,)).build(SIZE, 1)
    with pytest.raises(ValueError, match="loss must be calibrated or published, got 'l1'"):
        VAEConfig(loss="l1")  # type: ignore[arg-type]


def test_the_residual_decoder_learns_at_its_default_step_size() -> None:
    """Steps that silence its units for good leave the picture as the transparent backbone draws it."""
    config = ResidualConfig(base=PPCAConfig(latents=4), iterations=200, batch_size=16)
    fitting = config.fitting(config.build(SIZE, 1), FRAMES, 1)
    fitting.run()
    assert fitting.metrics["mse"] < 0.95 * fitting.metrics["linear_mse"]
