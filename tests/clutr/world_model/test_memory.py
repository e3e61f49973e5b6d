"""M: its steps and scans agree, its heads are what they say, and its scale is undone exactly."""

from typing import Any

import pytest
import torch

from clutr.world_model.cores.base import CORES
from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.memory import Memory, MemoryConfig, Scale
from clutr.world_model.mixture import GaussianMixture


def memory(name: str = "gru", residual: bool = True) -> Memory:
    config: Any = CORES[name]
    core = config(width=10, **({"rows": 2, "columns": 2, "channels": 1} if name in ("geometric", "conv-gru") else {}))
    return MemoryConfig(core=core, gaussians=3, residual=residual).build(4, 2, seed=1)


@pytest.mark.parametrize("name", list(CORES))
def test_scans_are_steps(name: str) -> None:
    model, rng = memory(name), torch.Generator().manual_seed(1)
    latents, actions = torch.randn(9, 5, 4, generator=rng), torch.randn(9, 5, 2, generator=rng)
    end, whole = model.scan(model.initial_state(5), latents, actions)
    state = model.initial_state(5)
    for t in range(9):
        state, now = model.step(state, latents[t], actions[t])
        assert isinstance(now.latent, GaussianMixture)
        assert isinstance(whole.latent, GaussianMixture)
        torch.testing.assert_close(now.latent.means, whole.latent.means[t], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(now.reward, whole.reward[t], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(now.termination, whole.termination[t], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(state, end, atol=2e-5, rtol=1e-4)
    assert isinstance(now.latent, GaussianMixture)
    assert now.latent.means.shape == (5, 4, 3)
    assert now.reward.shape == now.termination.shape == (5,)


def test_residual_means_move_with_the_latent() -> None:
    model = memory()
    with torch.no_grad():
        model.mixture.weight.zero_()
        model.mixture.bias.zero_()
    latent = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    _, expected = model.step(model.initial_state(5), latent, torch.zeros(5, 2))
    torch.testing.assert_close(expected.latent.mean(), latent)


def test_the_untrained_control_learns_with_its_heads_only() -> None:
    model = memory()
    model.freeze_core()
    _, found = model.scan(model.initial_state(2), torch.ones(3, 2, 4), torch.ones(3, 2, 2))
    (found.latent.log_density(torch.zeros(3, 2, 4)).sum() + found.reward.sum()).backward()
    assert all(parameter.grad is None for parameter in model.core.parameters())
    assert model.mixture.weight.grad is not None


def test_scales_are_undone() -> None:
    rng = torch.Generator().manual_seed(3)
    latents = torch.randn(100, 3, generator=rng) * torch.tensor([1.0, 5.0, 0.0]) + torch.tensor([1.0, 2.0, 3.0])
    scale = Scale.of(latents, torch.full_like(latents, -40.0), torch.tensor([1.0, 3.0]))
    normal = scale.normalise(latents)
    torch.testing.assert_close(normal.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(scale.restore(normal), latents)
    assert scale.reward_std == 1.0
    again = Scale.from_state(scale.state_dict())
    assert torch.equal(again.normalise(latents), normal)


def test_what_posteriors_add_to_the_scale() -> None:
    """Means with variance 4 and posteriors with variance 5 have draws with variance 9; still means are passive."""
    rng = torch.Generator().manual_seed(4)
    means = torch.stack([2 * torch.randn(20_000, generator=rng), torch.zeros(20_000)], 1)
    scale = Scale.of(means, torch.tensor([5.0, 1.0]).log().expand(20_000, 2), torch.zeros(3))
    torch.testing.assert_close(scale.latent_std, torch.tensor([3.0, 1.0]), rtol=0.02, atol=0)
    torch.testing.assert_close(scale.signal_std, torch.tensor([2.0, 0.0]), rtol=0.02, atol=0)
    assert scale.active.tolist() == [True, False]


def test_messages() -> None:
    with pytest.raises(ValueError, match="gaussians must be at least 1, got 0"):
        MemoryConfig(core=GRUConfig(), gaussians=0)
