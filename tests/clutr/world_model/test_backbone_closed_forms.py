"""Closed forms under masks, bent patch hierarchies, and correlators, against plain linear algebra."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clutr.world_model.backbones.covariance import principal_components
from clutr.world_model.backbones.patch_pca import NONLINEARITIES, PatchPCABackbone, PatchPCAConfig
from clutr.world_model.backbones.ppca import PPCABackbone, PPCAConfig
from clutr.world_model.backbones.vae import VAEConfig


def frames_of(n: int, side: int = 8, seed: int = 0) -> Tensor:
    """Three smooth patterns with random strengths, and noise."""
    rng = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    patterns = torch.stack([rows, columns, (3.14 * rows).sin() * (6.28 * columns).cos()])
    strengths = torch.randn(n, 3, generator=rng) * torch.tensor([35.0, 25.0, 15.0])
    grey = 120 + torch.einsum("nm,mhw->nhw", strengths, patterns)[..., None] * torch.tensor([1.0, 0.7, 0.4])
    return (grey + 4 * torch.randn(n, side, side, 3, generator=rng)).clamp(0, 255).to(torch.uint8)


FRAMES = frames_of(200)


def fitted(config: Any, frames: Tensor = FRAMES) -> tuple[Any, dict[str, Any]]:
    backbone = config.build(tuple(frames.shape[1:3]), 1)
    fitting = config.fitting(backbone, frames, 1)
    fitting.run()
    return backbone, fitting.metrics


# --- principal modes


@pytest.mark.parametrize(("n", "dimensions", "k"), [(40, 12, 12), (9, 30, 8), (60, 200, 5)])
def test_modes_found_at_random_are_those_of_a_singular_value_decomposition(n: int, dimensions: int, k: int) -> None:
    rng = torch.Generator().manual_seed(n)
    scales = 0.8 ** torch.arange(dimensions)
    data = 2 + torch.randn(n, dimensions, generator=rng) * scales
    found = principal_components(lambda: data.split(7), k, torch.Generator().manual_seed(1))
    away = data.double().numpy() - data.double().numpy().mean(0)
    _, singular, right = np.linalg.svd(away, full_matrices=False)
    np.testing.assert_allclose(found.variances.numpy(), singular[:k] ** 2 / n, rtol=1e-4, atol=1e-9)
    assert found.total == pytest.approx((singular**2).sum() / n, rel=1e-6)
    np.testing.assert_allclose((found.directions @ found.directions.T).numpy(), np.eye(k), atol=1e-5)
    for mode in range(min(k, 4)):
        assert abs(right[mode] @ found.directions[mode].double().numpy()) == pytest.approx(1, abs=1e-4)


def test_modes_under_a_mask_are_the_modes_of_what_is_left() -> None:
    masked, found = fitted(PPCAConfig(latents=4, masked_rows=3))
    cropped, expected = fitted(PPCAConfig(latents=4), FRAMES[:, :5].contiguous())
    assert isinstance(masked, PPCABackbone)
    torch.testing.assert_close(masked.variances, cropped.variances, rtol=1e-4, atol=1e-9)
    assert found["noise"] == pytest.approx(expected["noise"], rel=1e-4), "the mean over what is seen"
    assert found["kl"] == pytest.approx(expected["kl"], rel=1e-3)
    mean, log_variance = masked.encode(FRAMES)
    other, other_log_variance = cropped.encode(FRAMES[:, :5])
    torch.testing.assert_close(mean, other, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(log_variance, other_log_variance, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(masked.decode(mean)[:, :5], cropped.decode(other), atol=1e-4, rtol=1e-3)


# --- patches with a nonlinearity


@settings(max_examples=30, deadline=None)
@given(value=st.floats(-20, 20), name=st.sampled_from(sorted(NONLINEARITIES)))
def test_nonlinearities_are_undone_and_keep_order(value: float, name: str) -> None:
    bend, unbend = NONLINEARITIES[name]
    at = torch.tensor([value, value + 0.5], dtype=torch.float64)
    torch.testing.assert_close(unbend(bend(at)), at, atol=1e-9, rtol=1e-9)
    bent = bend(at)
    assert bent[0] < bent[1]


@pytest.mark.parametrize("nonlinearity", ["none", "leaky", "arcsinh"])
def test_a_hierarchy_that_keeps_everything_loses_nothing(nonlinearity: Any) -> None:
    config = PatchPCAConfig(latents=192, channels=(12, 48), nonlinearity=nonlinearity)
    backbone, found = fitted(config)
    assert isinstance(backbone, PatchPCABackbone)
    pictures = FRAMES.float() / 255
    for layers in (1, 2):
        torch.testing.assert_close(backbone.lower(backbone.lift(pictures, layers), layers), pictures, atol=1e-4, rtol=0)
    shown = backbone.decode(backbone.encode(FRAMES)[0])
    torch.testing.assert_close(shown, pictures, atol=1e-3, rtol=0)
    assert found["kept_variance"] == pytest.approx(1, abs=1e-4)
    assert found["noise"] > 0


@pytest.mark.parametrize("nonlinearity", ["leaky", "arcsinh"])
def test_what_bent_layers_discard_is_the_error_of_pictures(nonlinearity: Any) -> None:
    backbone, found = fitted(PatchPCAConfig(latents=3, channels=(4, 6), nonlinearity=nonlinearity))
    assert backbone.pixel_maps() is None
    pictures = FRAMES.double() / 255
    total = float((pictures - pictures.mean(0)).square().sum())
    shown = backbone.decode(backbone.encode(FRAMES)[0])
    assert found["kept_variance"] + sum(found["discarded"]) == pytest.approx(1)
    assert len(found["discarded"]) == 3
    assert float((shown - pictures).square().sum()) / total == pytest.approx(sum(found["discarded"]), rel=1e-3)
    one = backbone.lower(backbone.lift(FRAMES.float() / 255, 1), 1)
    assert float((one - pictures).square().sum()) / total == pytest.approx(found["discarded"][0], rel=1e-3)
    kernels = backbone.kernels
    for kernel in kernels:
        torch.testing.assert_close(kernel @ kernel.T, torch.eye(len(kernel)), atol=1e-5, rtol=0)
    # centred on the data, although a bent field is not centred
    mean, _ = backbone.encode(FRAMES)
    torch.testing.assert_close(mean.mean(0), torch.zeros(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(mean.std(0, correction=0), torch.ones(3), atol=5e-3, rtol=0)


def test_kernels_of_a_bent_layer_are_eigenvectors_of_its_patches() -> None:
    backbone, _ = fitted(PatchPCAConfig(latents=3, channels=(4, 6), nonlinearity="leaky"))
    field = backbone.lift(FRAMES.float() / 255, 1).double().numpy()
    field = np.where(field < 0, 0.5 * field, field)
    blocks = field.reshape(200, 2, 2, 2, 2, 4).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 16)
    np.testing.assert_allclose(backbone.offsets[1].numpy(), blocks.mean(0), atol=1e-5)
    values, vectors = np.linalg.eigh(np.cov(blocks.T, bias=True))
    for row in range(3):
        assert abs(vectors[:, -1 - row] @ backbone.kernels[1][row].double().numpy()) == pytest.approx(1, abs=1e-3)
    assert values[-1] > values[0]


def test_messages_of_patches() -> None:
    with pytest.raises(ValueError, match="nonlinearity must be none or leaky or arcsinh, got 'relu'"):
        PatchPCAConfig(nonlinearity="relu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"latents must be in 1\.\.96, got 97"):
        PatchPCAConfig(latents=97, channels=(12,), masked_rows=4).build((8, 8), 1)


# --- the VAE's measures


def test_the_variance_of_a_vaes_decoder_is_the_error_of_draws() -> None:
    backbone, found = fitted(VAEConfig(latents=3, channels=(4, 8), iterations=60, batch_size=16, learning_rate=3e-3))
    mean, log_variance = backbone.encode(FRAMES)
    rng = torch.Generator().manual_seed(8)
    errors = []
    for _ in range(20):
        drawn = mean + torch.randn(mean.shape, generator=rng) * (log_variance / 2).exp()
        errors.append(float((backbone.decode(drawn) - FRAMES.float() / 255).square().mean()))
    assert found["noise"] == pytest.approx(np.mean(errors), rel=0.02)
    assert found["mse"] == pytest.approx(
        float((backbone.decode(mean) - FRAMES.float() / 255).square().mean()), rel=1e-4
    )
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(0)
    assert found["kl"] == pytest.approx(kl.tolist(), rel=1e-3, abs=1e-5)


def test_messages_of_the_vae() -> None:
    with pytest.raises(ValueError, match=r"channels must be at least one number above 0, got \(\)"):
        VAEConfig(channels=())
