"""What students of Stable-Baselines3 are made of: distributions, generators, options."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from clutr.agents.sb3 import SB3A2CConfig, SB3DQNConfig, SB3PPOConfig, SB3RecurrentPPOConfig, SB3SACConfig
from clutr.agents.sb3.policies import ActionBounds, TorchCategorical
from clutr.agents.sb3.randomness import OwnRandomness, fork_global_rng
from clutr.agents.sb3.sac import SquashedGaussian, Uniform
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain

CPU = torch.device("cpu")
DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=12)


def build(config: Any) -> Any:
    engine = DOMAIN.engine(1)
    return config.build(engine.observation_space, engine.action_space, 1, "student")


# --- distributions


def test_the_squashed_gaussian_is_normalised() -> None:
    bounds = ActionBounds(CarDomain().engine(1).action_space, CPU)  # type: ignore[arg-type]
    one = SquashedGaussian(torch.distributions.Normal(torch.tensor([[0.3]]), torch.tensor([[0.7]])), bounds)
    grid = torch.linspace(-0.99999, 0.99999, 20_001)[:, None]
    density = one.log_prob(grid).exp()
    assert float(torch.trapezoid(density, grid[:, 0])) == pytest.approx(1, abs=1e-3)
    mean, spread = torch.zeros(1, 3), torch.ones(1, 3)
    policy = SquashedGaussian(torch.distributions.Normal(mean, spread), bounds)
    assert policy.to_engine(torch.tensor([[-1.0, 0.0, 1.0]])).tolist() == [[-1.0, 0.5, 1.0]]
    anything = Uniform(mean, bounds)
    assert anything.mode().tolist() == [[0, 0, 0]]
    assert anything.log_prob(mean).tolist() == pytest.approx([-3 * math.log(2)])


def test_categorical() -> None:
    policy = TorchCategorical(torch.distributions.Categorical(torch.tensor([[0.25, 0.75]])))
    assert policy.mode().tolist() == [1]
    assert policy.log_prob(torch.tensor([0])).exp().tolist() == [0.25]
    assert policy.entropy().tolist() == pytest.approx([-0.25 * math.log(0.25) - 0.75 * math.log(0.75)])


# --- randomness and options


def test_numpys_global_generator_is_untouched() -> None:
    def state() -> list[int]:
        return np.random.get_state()[1].tolist()  # type: ignore[index, no-any-return]  # noqa: NPY002

    before = state()
    engine, levels = DOMAIN.engine(4), DOMAIN.sample(4, torch.Generator().manual_seed(1))
    dqn = SB3DQNConfig(
        rollout_steps=4, hidden=8, buffer_size=100, learning_starts=1, batch_size=4, steps_per_gradient=4
    )
    for config in (dqn, SB3PPOConfig(rollout_steps=4, hidden=8)):
        student = build(config)
        assert student.learn(student.rollout(engine, levels))["loss"] != 0
    assert state() == before


def test_own_randomness_goes_on_where_it_stopped() -> None:
    def draw(own: OwnRandomness) -> tuple[float, float]:
        with own():
            return float(torch.rand(())), float(np.random.rand())  # noqa: NPY002

    one, other = OwnRandomness(3, CPU), OwnRandomness(4, CPU)
    assert draw(one) != draw(one)
    other.load_state_dict(one.state_dict())
    assert draw(other) == draw(one)
    assert draw(OwnRandomness(3, CPU)) == draw(OwnRandomness(3, CPU))


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (SB3PPOConfig, {"epochs": 0}, "epochs must be at least 1, got 0"),
        (SB3PPOConfig, {"clip": 0.0}, r"clip must be above 0, got 0.0"),
        (SB3A2CConfig, {"discount": 1.5}, r"discount must be in 0..1, got 1.5"),
        (SB3A2CConfig, {"shrink": 0}, "shrink must be at least 1, got 0"),
        (SB3RecurrentPPOConfig, {"memory": 0}, "memory must be at least 1, got 0"),
        (SB3RecurrentPPOConfig, {"max_gradient_norm": -1.0}, "max_gradient_norm must be above 0, got -1.0"),
        (SB3DQNConfig, {"target_interval": 0}, "target_interval must be at least 1, got 0"),
        (SB3DQNConfig, {"exploration_final": 2.0}, r"exploration_final must be in 0..1, got 2.0"),
        (SB3SACConfig, {"buffer_size": 0}, "buffer_size must be at least 1, got 0"),
        (SB3SACConfig, {"tau": -0.1}, r"tau must be in 0..1, got -0.1"),
    ],
)
def test_options_are_checked(config: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_environments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"this student takes continuous actions, not Discrete\(7\)"):
        build(SB3SACConfig(hidden=8))
    car = CarDomain().engine(1)
    with pytest.raises(ValueError, match=r"this student takes discrete actions, not Box\("):
        SB3DQNConfig(hidden=8).build(car.observation_space, car.action_space, 1, "student")


def test_continuous_actions_are_those_the_package_draws() -> None:
    """Under the same seed, with their log-probabilities and values; what the engine gets is clipped, or stretched."""
    domain = CarDomain(max_frames=32)
    engine = domain.engine(2)
    spaces, cpu = (engine.observation_space, engine.action_space), torch.Generator()
    observation = engine.reset(domain.sample(2, torch.Generator().manual_seed(1)))
    on_policy: Any = SB3PPOConfig(hidden=8, features=8).build(*spaces, 1, "student")
    policy, values, _ = on_policy.policy.step(observation, on_policy.initial_state(2))
    shown = on_policy.policy.view.show(observation)
    with fork_global_rng(CPU), torch.no_grad():
        torch.manual_seed(3)
        actions, expected, log_probs = on_policy.model.policy(shown)
        torch.manual_seed(3)
        assert torch.equal(policy.sample(cpu), actions)
    torch.testing.assert_close(values, expected[:, 0])
    torch.testing.assert_close(policy.log_prob(actions), log_probs)
    far = torch.tensor([[-3.0, -0.5, 0.25], [3.0, 1.5, 0.5]])
    assert policy.to_engine(far).tolist() == [[-1, 0, 0.25], [1, 1, 0.5]]

    off_policy: Any = SB3SACConfig(hidden=8, features=8, buffer_size=4).build(*spaces, 1, "student")
    squashed, _, _ = off_policy.policy.step(observation, off_policy.initial_state(2))
    with fork_global_rng(CPU), torch.no_grad():
        torch.manual_seed(3)
        actions, log_probs = off_policy.model.actor.action_log_prob(shown)
        torch.manual_seed(3)
        torch.testing.assert_close(squashed.sample(cpu), actions)
    torch.testing.assert_close(squashed.log_prob(actions), log_probs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        squashed.to_engine(actions).numpy(), off_policy.model.policy.unscale_action(actions.numpy()), rtol=1e-6
    )
