"""Measures of dreams against hand-made numbers and independent implementations."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from clutr.world_model.baselines import LinearDynamics, copy_last, damped_velocity, mean_latent
from clutr.world_model.metrics import calibration, mse, nrmse, psnr, spectral_error, ssim, valid_horizon


def pictures(n: int = 2, side: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, side, side, 3, generator=torch.Generator().manual_seed(seed))


def test_nrmse_by_hand() -> None:
    found = nrmse(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([1.0, 2.0]))
    assert float(found) == pytest.approx(math.sqrt((9 + 4) / 2))


def test_mse_inside_a_mask() -> None:
    true, predicted = torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2, 3)
    predicted[0, 0, 0] = 0.5
    mask = torch.tensor([[[True, True], [False, False]]])
    assert float(mse(predicted, true)) == pytest.approx(0.25 / 4)
    assert float(mse(predicted, true, mask)) == pytest.approx(0.25 / 2)
    assert mse(predicted, true, torch.zeros(1, 2, 2, dtype=torch.bool)).isnan().all()
    assert float(psnr(predicted, true)) == pytest.approx(10 * math.log10(16))
    assert float(psnr(true, true)) == pytest.approx(100)


def test_structural_similarity_by_definition() -> None:
    x, y = pictures(seed=1), pictures(seed=2)
    expected = np.zeros(2)
    for i in range(2):
        values = []
        for channel in range(3):
            for row in range(10):
                for column in range(10):
                    a = x[i, row : row + 7, column : column + 7, channel].double().numpy().ravel()
                    b = y[i, row : row + 7, column : column + 7, channel].double().numpy().ravel()
                    covariance = np.cov(a, b)
                    top = (2 * a.mean() * b.mean() + 1e-4) * (2 * covariance[0, 1] + 9e-4)
                    bottom = (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (covariance[0, 0] + covariance[1, 1] + 9e-4)
                    values.append(top / bottom)
        expected[i] = np.mean(values)
    np.testing.assert_allclose(ssim(x, y).numpy(), expected, atol=1e-4)
    torch.testing.assert_close(ssim(x, x), torch.ones(2), atol=1e-5, rtol=0)
    assert ssim(pictures(6).view(2, 3, 16, 16, 3), pictures(6).view(2, 3, 16, 16, 3)).shape == (2, 3)


def test_a_wave_is_wrong_in_its_own_band_only() -> None:
    place = torch.arange(64.0)
    slow = torch.sin(2 * math.pi * 2 * place / 64)[:, None, None].expand(64, 64, 3)
    fast = torch.sin(2 * math.pi * 20 * place / 64)[:, None, None].expand(64, 64, 3)
    true = (slow + fast)[None]
    blurred = slow[None]  # what a dream loses first
    found = spectral_error(blurred, true)[0]
    assert found.shape == (4,)
    assert found[0] < 1e-4, "waves of 0 to 4 a picture are right"
    assert found[3] == pytest.approx(1.0, abs=1e-3), "those of 16 and more are all missing"
    torch.testing.assert_close(spectral_error(true, true), torch.zeros(1, 4))


def test_calibration() -> None:
    even = calibration(torch.linspace(0, 1, 10_001))
    assert even.histogram == pytest.approx([0.1] * 10, abs=1e-3)
    assert even.coverage == {0.5: pytest.approx(0.5, abs=1e-3), 0.9: pytest.approx(0.9, abs=1e-3)}
    sure_and_wrong = calibration(torch.tensor([0.0, 1.0, 0.01, 0.99]))
    assert sure_and_wrong.coverage[0.9] == 0.0
    assert sure_and_wrong.histogram[0] == sure_and_wrong.histogram[9] == 0.5


def test_the_valid_horizon_by_hand() -> None:
    errors = np.array([[0.1, 0.2, 0.5, 0.6], [0.1, 0.2, 0.5, 0.6]])
    far = np.full((2, 4), 9.0)
    assert valid_horizon(errors, far) == (2.0, 2.0, 2.0)
    assert valid_horizon(errors, np.array([[0.15, 0.15, 9, 9]] * 2)).value == 1.0, "copying was better at 2"
    assert valid_horizon(errors / 10, far).value == 4.0, "valid throughout"
    mixed = np.array([[0.1, 0.1, 0.1, 0.1]] * 6 + [[0.1, 3.0, 3.0, 3.0]] * 1)
    found = valid_horizon(mixed, np.full((7, 4), 9.0))
    assert found.low <= found.value <= found.high
    assert found.low < found.high


def test_simple_baselines_by_hand() -> None:
    context = torch.tensor([[[0.0]], [[1.0]]])
    assert copy_last(context, 3).flatten().tolist() == [1.0, 1.0, 1.0]
    assert mean_latent(torch.tensor([7.0]), 1, 2).flatten().tolist() == [7.0, 7.0]
    torch.testing.assert_close(damped_velocity(context, 3, 0.5).flatten(), torch.tensor([1.5, 1.75, 1.875]))


def test_linear_dynamics_find_a_linear_system() -> None:
    rng = torch.Generator().manual_seed(1)
    turn, push, constant = (
        torch.tensor([[0.8, -0.5], [0.5, 0.8]]),
        torch.tensor([[0.3, -0.2]]),
        torch.tensor([0.1, 0.2]),
    )
    latents, actions = torch.randn(500, 2, generator=rng), torch.randn(500, 1, generator=rng)
    following = latents @ turn.T + actions @ push + constant
    found = LinearDynamics.fit(latents, actions, following)
    torch.testing.assert_close(found.weights, torch.cat([turn.T, push, constant[None]]), atol=1e-4, rtol=1e-3)
    rolled = found.roll(latents[None, :3], actions[:5, None].expand(5, 3, 1))
    expected = latents[:3]
    for step in range(5):
        expected = expected @ turn.T + actions[step] * push + constant
        torch.testing.assert_close(rolled[step], expected, atol=1e-3, rtol=1e-3)


def test_a_dream_whose_error_is_unknown_holds_for_no_step() -> None:
    unknown = np.full((3, 4), np.nan)
    assert valid_horizon(unknown, np.zeros((3, 4))).value == 0
    assert valid_horizon(np.zeros((3, 4)), unknown).value == 0
