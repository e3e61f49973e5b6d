"""Whether dreams rank policies as the environment does: correlations and returns by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from clutr.envs.car.domain import CarDomain
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dream, Dreamer, LatentState
from clutr.world_model.memory import MemoryConfig, Scale
from clutr.world_model.policy_ranking import dream_returns, policy_ranking, real_returns

CAR = CarDomain(max_frames=160, shaped=False)


def parts(latents: int = 3) -> tuple[Any, Dreamer]:
    backbone = PPCAConfig(latents=latents).build((64, 64), 1)
    one = torch.ones(latents)
    memory = MemoryConfig(core=GRUConfig(width=5), gaussians=1).build(latents, 3, seed=1)
    return backbone, Dreamer(memory, Scale(torch.zeros(latents), one, one, 10.0))


def test_a_policy_ranking_by_hand() -> None:
    found = policy_ranking(real=[1.0, 3.0, 5.0, 7.0], dream=[10.0, 11.0, 12.0, 13.0])
    assert found.policies == 4
    assert [found.pearson, found.spearman] == pytest.approx([1, 1])
    assert found.slope == pytest.approx(2)
    assert found.slope_interval == pytest.approx((2, 2), abs=1e-6), "whichever of them are drawn"
    assert policy_ranking([1.0, 2.0, 9.0], [3.0, 2.0, 1.0]).spearman == pytest.approx(-1)
    assert policy_ranking([1.0, 2.0, 9.0], [3.0, 3.0, 3.0]).slope == 0.0
    with pytest.raises(ValueError, match="a ranking needs at least 3 policies with both returns, got 2 and 2"):
        policy_ranking([1.0, 2.0], [1.0, 2.0])


def test_rank_correlation_and_its_interval_are_scipys() -> None:
    rng = np.random.default_rng(3)
    real = rng.normal(size=24).round(1)  # rounded: ranks are tied
    dream = (real + rng.normal(size=24)).round(1)
    found = policy_ranking(real.tolist(), dream.tolist())
    assert found.spearman == pytest.approx(stats.spearmanr(real, dream).statistic)
    low, high = found.spearman_interval
    scipys = stats.bootstrap(
        (real, dream), lambda x, y: stats.spearmanr(x, y).statistic, vectorized=False, paired=True,
        n_resamples=2000, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert [low, high] == pytest.approx([scipys.low, scipys.high], abs=0.04)


def test_dreamt_rewards_count_while_the_episode_goes_on() -> None:
    """Rewards 1, 2, 4; the first action ends the episode with chance 1/2, the second surely: 1 + 2 / 2 + 0."""
    _, dreamer = parts()

    class Fixed(Dreamer):
        def dream(self, *_: Any, **__: Any) -> Dream:
            ends = torch.tensor([[0.5], [1.0], [0.0]])
            return Dream(torch.zeros(3, 1, 3), torch.tensor([[1.0], [2.0], [4.0]]), ends, torch.zeros(3, 1, 5))

    fixed = Fixed(dreamer.memory, dreamer.scale)
    start = LatentState(torch.zeros(1, 5), torch.zeros(1, 3))
    found = dream_returns(lambda latents, _: latents, fixed, start, 3, torch.Generator())
    assert found.tolist() == [2.0]


def test_returns_in_the_world_are_the_engine_s() -> None:
    backbone, dreamer = parts()
    levels = CAR.sample(3, torch.Generator().manual_seed(1))
    found = real_returns(
        lambda latents, _: torch.tensor([[0.0, 0.5, 0.0]]).expand(len(latents), 3), CAR, levels, backbone, dreamer, 10
    )
    engine = CAR.engine(3)
    engine.reset(levels)
    total = sum((engine.step(torch.tensor([[0.0, 0.5, 0.0]] * 3)).reward for _ in range(10)), torch.zeros(3))
    torch.testing.assert_close(found, total)
