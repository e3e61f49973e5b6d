"""What a world model is good for: policy ranking in its dreams, and a linear controller on latents and memory
states."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from clutr.envs.car.domain import CarDomain
from clutr.envs.car.engine import action_space
from clutr.envs.maze.domain import MazeDomain
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.controller import ControllerOptions, LinearController, controller_returns, evolve
from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dream, Dreamer, LatentState
from clutr.world_model.linear_probe import LinearProbe
from clutr.world_model.memory import MemoryConfig, Scale
from clutr.world_model.policy_ranking import (
    ProportionalDriver,
    dream_returns,
    policy_ranking,
    proportional_drivers,
    real_returns,
)

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


def test_followers_differ_in_speed_and_gain() -> None:
    names = ["curvature_ahead", "forward_speed", "lateral_offset", "heading_error"]
    read_out = LinearProbe(torch.eye(4), torch.zeros(4), 0.0)
    followers = proportional_drivers(read_out, names)
    assert len(followers) == 24
    straight = torch.tensor([[0.0, 10.0, 0.0, 0.5]])  # looks left of a straight road, at 10 units a second
    one = ProportionalDriver(read_out, {name: i for i, name in enumerate(names)}, speed=15.0, gain=1.0)
    torch.testing.assert_close(one(straight, straight), torch.tensor([[0.6, 0.5, 0.0]]))
    fast = torch.tensor([[0.0, 25.0, 0.0, 0.0]])
    torch.testing.assert_close(one(fast, fast), torch.tensor([[0.0, 0.0, 0.3]]))


def test_linear_controllers_by_hand() -> None:
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 100.0]])  # one input and a constant, three actions
    controller = LinearController(weights, action_space())
    found = controller(torch.tensor([[[0.5], [-0.5]]]))
    expected = torch.tensor([[[np.tanh(0.5), 0.5, 1.0], [-np.tanh(0.5), 0.5, 1.0]]], dtype=torch.float32)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("sees", ["latent", "both"])
def test_controllers_are_judged_on_the_same_levels(sees: Any) -> None:
    backbone, dreamer = parts()
    options = ControllerOptions(sees=sees, population=2, episodes=2, horizon=6)
    size = (3 + 1 + (5 if sees == "both" else 0)) * 3
    same = torch.zeros(1, size).repeat(2, 1)
    found = controller_returns(same, CAR, backbone, dreamer, options, torch.Generator().manual_seed(1))
    assert found[0] == found[1]
    same[1, -2:] = torch.tensor([-9.0, 9.0])  # no gas, full brake
    apart = controller_returns(same, CAR, backbone, dreamer, options, torch.Generator().manual_seed(1))
    assert apart[0] == found[0] > apart[1]


def test_evolution_climbs() -> None:
    backbone, dreamer = parts()
    target = torch.linspace(-0.5, 0.5, 12)

    def hill(weights: Tensor, *_: Any) -> Tensor:
        return -(weights - target).square().sum(1)

    options = ControllerOptions(sees="latent", population=12, generations=80, spread=0.3)
    found = evolve(CAR, backbone, dreamer, options, seed=1, returns=hill)
    assert found.history[-1] > 0.2 * found.history[0], "towards 0 from below"
    torch.testing.assert_close(found.weights, target, atol=0.2, rtol=0)
    again = evolve(CAR, backbone, dreamer, options, seed=1, returns=hill)
    assert again.history == found.history


def test_messages() -> None:
    backbone, dreamer = parts()
    with pytest.raises(ValueError, match="sees must be latent or both, got 'all'"):
        ControllerOptions(sees="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="population must be at least 2, got 1"):
        ControllerOptions(population=1)
    maze = MazeDomain(height=5, width=5, max_obstacles=3, max_steps=5)
    with pytest.raises(TypeError, match="a linear controller steers in a box of actions"):
        controller_returns(
            torch.zeros(2, 12), maze, backbone, dreamer, ControllerOptions(population=2), torch.Generator()
        )
