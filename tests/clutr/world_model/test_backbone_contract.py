"""What every registered backbone promises, however it is fitted: a new one is run through all of this."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clutr.experiments.storage import load_state, save_state
from clutr.world_model.backbones.base import BACKBONES, BATCH, Backbone, Fitting
from clutr.world_model.backbones.haar import HaarConfig
from clutr.world_model.backbones.patch_pca import PatchPCAConfig

K = 6
SMALL: dict[str, dict[str, Any]] = {
    "haar": {"levels": 3},
    "patch-pca": {"channels": (5, 7)},
    "cells": {"rows": 2, "columns": 2, "channels": 1, "box": (0, 0, 48, 64)},
    "vae": {"channels": (4, 8), "iterations": 25, "batch_size": 8},
    "spatial-vae": {"channels": (4, 8, 8, 8), "iterations": 25, "batch_size": 8},
    "categorical": {"classes": 3, "channels": (4, 8), "iterations": 25, "batch_size": 8},
    "residual": {"base": HaarConfig(latents=K, levels=3), "width": 4, "iterations": 25, "batch_size": 8},
}
"""Options that make a backbone small, where its own are not small enough."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "patch-pca, leaky": ("patch-pca", {"channels": (5, 7), "nonlinearity": "leaky"}),
    "patch-pca, arcsinh": ("patch-pca", {"channels": (5, 7), "nonlinearity": "arcsinh"}),
    "vae, published": ("vae", SMALL["vae"] | {"loss": "published"}),
    "residual patch-pca": ("residual", SMALL["residual"] | {"base": PatchPCAConfig(latents=K, channels=(5, 7))}),
}
ALL = [*BACKBONES, *VARIANTS]
LINEAR = ["haar", "ppca", "patch-pca", "cells"]


def config_of(name: str, **options: Any) -> Any:
    kind, chosen = VARIANTS.get(name, (name, SMALL.get(name, {})))
    if kind == "residual":  # its latents and its mask are its base's
        return BACKBONES[kind](**(chosen | {"base": config_of_base(chosen["base"], options)}))
    return BACKBONES[kind](**({"latents": K} | chosen | options))


def config_of_base(base: Any, options: dict[str, Any]) -> Any:
    return type(base)(**(vars(base) | options))


def moving_frames(n: int = 120, size: tuple[int, int] = (16, 16), seed: int = 0) -> Tensor:
    """A bright rectangle that moves about on a slope whose brightness changes."""
    rng = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(*(torch.linspace(0, 1, side) for side in size), indexing="ij")
    slope = 50 + 100 * torch.rand(n, 1, 1, generator=rng) * (rows + columns)
    y, x = (0.2 + 0.6 * torch.rand(2, n, 1, 1, generator=rng)).unbind(0)
    inside = ((rows - y).abs() < 0.15) & ((columns - x).abs() < 0.2)
    grey = torch.where(inside, torch.tensor(230.0), slope)[..., None] * torch.tensor([1.0, 0.9, 0.7])
    return (grey + 2 * torch.randn(n, *size, 3, generator=rng)).clamp(0, 255).to(torch.uint8)


FRAMES = moving_frames()


class Watched:
    """Frames that are only to be had by number, and that remember how many were asked for at a time."""

    def __init__(self, frames: Tensor) -> None:
        self.frames, self.most = frames, 0

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: Tensor) -> Tensor:
        assert rows.dtype == torch.int64
        self.most = max(self.most, len(rows))
        return self.frames[rows]


class KilledError(Exception):
    pass


def fit(name: str, frames: Any = FRAMES, seed: int = 1, **options: Any) -> tuple[Backbone, Fitting]:
    config = config_of(name, **options)
    backbone = config.build((16, 16), seed)
    fitting = config.fitting(backbone, frames, seed)
    fitting.run()
    return backbone, fitting


@cache
def fitted(name: str) -> tuple[Backbone, Fitting]:
    """The same for all tests, which leave it as it is."""
    return fit(name)


def assert_equal_backbones(one: Any, other: Any) -> None:
    """Bit for bit."""
    for mine, theirs in zip(one.encode(FRAMES[:9]), other.encode(FRAMES[:9]), strict=True):
        assert torch.equal(mine, theirs)
    latents = torch.randn(5, K, generator=torch.Generator().manual_seed(3))
    assert torch.equal(one.decode(latents), other.decode(latents))


@pytest.mark.parametrize("name", ALL)
def test_shapes_types_and_any_number_of_frames(name: str) -> None:
    backbone, fitting = fitted(name)
    assert (backbone.latents, backbone.size, backbone.masked_rows) == (K, (16, 16), 0)
    for n in (0, 1, 3):
        before = FRAMES[:n].clone()
        mean, log_variance = backbone.encode(FRAMES[:n])
        assert torch.equal(FRAMES[:n], before), "frames are left as they are"
        assert mean.shape == log_variance.shape == (n, K)
        assert mean.dtype == log_variance.dtype == torch.float32
        latents = mean.clone()
        shown = backbone.decode(latents)
        assert torch.equal(latents, mean)
        assert (shown.shape, shown.dtype) == ((n, 16, 16, 3), torch.float32)
        assert not any(each.requires_grad for each in (mean, log_variance, shown))
    maps = backbone.pixel_maps()
    assert maps is None or (maps.shape, maps.dtype) == ((K, 16, 16, 3), torch.float32)
    found = list(backbone.parameters())
    assert found
    assert all(each.is_floating_point() for each in found)
    assert fitting.metrics


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (32, 64)])
@pytest.mark.parametrize("name", list(BACKBONES))
def test_the_sizes_of_worlds_fit_with_default_options(name: str, size: tuple[int, int]) -> None:
    backbone = BACKBONES[name]().build(size, 1)
    assert backbone.size == size
    mean, _ = backbone.encode(moving_frames(2, size))
    assert backbone.decode(mean).shape == (2, *size, 3)


@pytest.mark.parametrize("name", ALL)
def test_a_seed_says_everything_and_no_global_generator_is_touched(name: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002
    one, first = fit(name)
    after = torch.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    torch.manual_seed(6)
    other, second = fitted(name)
    assert_equal_backbones(one, other)
    assert first.metrics == second.metrics


@pytest.mark.parametrize("name", ALL)
def test_states_survive_a_file(name: str, tmp_path: Path) -> None:
    backbone, fitting = fitted(name)
    save_state(tmp_path / "backbone", backbone.state_dict())
    save_state(tmp_path / "fitting", fitting.state_dict())
    config = config_of(name)
    bare = config.build((16, 16), 2)
    bare.load_state_dict(load_state(tmp_path / "backbone"))
    assert_equal_backbones(bare, backbone)
    other = config.build((16, 16), 2)
    done = config.fitting(other, FRAMES, 2)
    done.load_state_dict(load_state(tmp_path / "fitting"))
    done.run()  # there is nothing left to do
    assert_equal_backbones(other, backbone)
    assert done.metrics == fitting.metrics
    for tensor in bare.parameters():
        tensor.detach().zero_()
    bare.load_state_dict(backbone.state_dict())
    assert_equal_backbones(bare, backbone)


@pytest.mark.parametrize("name", ALL)
def test_a_fitting_that_is_killed_continues_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole, fitting = fitted(name)
    config = config_of(name)
    killed = config.fitting(config.build((16, 16), 1), FRAMES, 1)

    def kill(done: int, total: int, metrics: dict[str, float]) -> None:
        if 2 * done > total:
            raise KilledError

    with pytest.raises(KilledError):
        killed.run(kill)
    save_state(tmp_path / "state", killed.state_dict())
    backbone = config.build((16, 16), 1)
    resumed = config.fitting(backbone, FRAMES, 1)
    resumed.load_state_dict(load_state(tmp_path / "state"))
    resumed.run()
    assert_equal_backbones(backbone, whole)
    assert resumed.metrics == fitting.metrics


@pytest.mark.parametrize("name", ALL)
def test_frames_are_read_in_chunks(name: str) -> None:
    many = moving_frames(BATCH + 120)
    watched = Watched(many)
    through_numbers, fitting = fit(name, watched)
    assert watched.most <= BATCH
    at_once, other = fit(name, many)
    assert_equal_backbones(through_numbers, at_once)
    assert fitting.metrics == other.metrics


@pytest.mark.parametrize("name", ALL)
def test_masked_rows_are_never_seen(name: str) -> None:
    noise = torch.randint(0, 256, (len(FRAMES), 4, 16, 3), generator=torch.Generator().manual_seed(1))
    bright = FRAMES.clone()
    bright[:, 12:] = noise.to(torch.uint8)
    backbone, fitting = fit(name, masked_rows=4)
    other, second = fit(name, bright, masked_rows=4)
    assert backbone.masked_rows == 4
    assert_equal_backbones(backbone, other)
    assert fitting.metrics == second.metrics, "nor do they count in any error"
    assert torch.equal(backbone.encode(bright)[0], backbone.encode(FRAMES)[0])
    shown = backbone.decode(backbone.encode(bright)[0])
    assert (shown[:, 12:] == 0).all()
    assert (shown[:, :12] != 0).any()
    maps = backbone.pixel_maps()
    assert maps is None or (maps[:, 12:] == 0).all()


@pytest.mark.parametrize("name", LINEAR)
def test_maps_are_the_formula_under_a_mask_too(name: str) -> None:
    backbone, _ = fit(name, masked_rows=3)
    maps = backbone.pixel_maps()
    assert maps is not None
    latents = torch.randn(4, K, generator=torch.Generator().manual_seed(2))
    expected = backbone.decode(torch.zeros(1, K)) + torch.einsum("nk,khwc->nhwc", latents, maps)
    torch.testing.assert_close(backbone.decode(latents), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_messages_of_all(name: str) -> None:
    for masked_rows, allowed in ((-1, "at least 0"), (16, r"in 0\.\.15")):
        with pytest.raises(ValueError, match=f"masked_rows must be {allowed}, got {masked_rows}"):
            config_of(name, masked_rows=masked_rows).build((16, 16), 1)
    config = config_of(name)
    for few in (0, 1):
        with pytest.raises(ValueError, match=f"a backbone is fitted on at least 2 frames, got {few}"):
            config.fitting(config.build((16, 16), 1), FRAMES[:few], 1)


@pytest.mark.parametrize("name", LINEAR)
def test_messages_of_those_in_closed_form(name: str) -> None:
    with pytest.raises(ValueError, match="fitted_on must be at least 2, got 1"):
        config_of(name, fitted_on=1)
    backbone = config_of(name).build((16, 16), 1)
    state = config_of(name, latents=K - 1).build((16, 16), 1).state_dict()
    with pytest.raises(ValueError, match=r"the state's \w+ has the shape \[\[5.*\]\] instead of \[\[6.*\]\]"):
        backbone.load_state_dict(state)
    with pytest.raises(ValueError, match="the state holds noise instead of "):
        backbone.load_state_dict({"noise": torch.ones(())})
