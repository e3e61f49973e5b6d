"""Stable-Baselines3's algorithms as students: they learn as it would, from trained levels alone."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fakes import CountdownEngine, CountdownLevels
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, PPO
from torch import Tensor

from clutr.agents.normaliser import ReturnNormaliser
from clutr.agents.ppo import PPOConfig
from clutr.agents.rollout import generalised_advantages
from clutr.agents.sb3 import SB3A2CConfig, SB3DQNConfig, SB3PPOConfig, SB3RecurrentPPOConfig, SB3SACConfig
from clutr.agents.sb3.ppo import batch_size
from clutr.agents.sb3.randomness import OwnRandomness, fork_global_rng, seed_globally
from clutr.agents.sb3.vec_env import LevelVecEnv
from clutr.agents.student import Trajectories
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import MazeLevels

CPU = torch.device("cpu")
DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=12)
ENVS, STEPS = 4, 16
DQN = SB3DQNConfig(rollout_steps=4, hidden=8, buffer_size=100, learning_starts=1, batch_size=4, steps_per_gradient=4)


def levels(n: int = ENVS) -> MazeLevels:
    return DOMAIN.sample(n, torch.Generator().manual_seed(1))


def build(config: Any, seed: int = 1) -> Any:
    engine = DOMAIN.engine(1)
    return config.build(engine.observation_space, engine.action_space, seed, "student")


def weights(student: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in student.model.policy.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


# --- on-policy: the same update as Stable-Baselines3's own loop

COMMON: dict[str, Any] = {"n_steps": STEPS, "gamma": 0.99, "gae_lambda": 0.95, "ent_coef": 0.01, "device": "cpu"}
PPO_OPTIONS: dict[str, Any] = {**COMMON, "batch_size": 32, "n_epochs": 2, "learning_rate": 3e-4}
NETWORK = {"net_arch": [8, 8]}

PAIRS: dict[str, tuple[Any, Any]] = {
    "ppo": (
        SB3PPOConfig(rollout_steps=STEPS, epochs=2, minibatches=2, hidden=8),
        lambda env: PPO("MlpPolicy", env, policy_kwargs=dict(NETWORK), **PPO_OPTIONS),
    ),
    "a2c": (
        SB3A2CConfig(rollout_steps=STEPS, hidden=8),
        lambda env: A2C("MlpPolicy", env, policy_kwargs=dict(NETWORK), learning_rate=7e-4, **COMMON),
    ),
    "recurrent-ppo": (
        SB3RecurrentPPOConfig(rollout_steps=STEPS, epochs=2, minibatches=2, hidden=8, memory=6),
        lambda env: RecurrentPPO("MlpLstmPolicy", env, policy_kwargs={**NETWORK, "lstm_hidden_size": 6}, **PPO_OPTIONS),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_an_update_is_that_of_the_packages_own_loop(name: str) -> None:
    """From the same weights and generators, on the same levels, `learn` of the package ends with the same weights."""
    config, make = PAIRS[name]
    student = build(config)
    student.randomness = OwnRandomness(5, CPU)
    with fork_global_rng(CPU):
        reference = make(LevelVecEnv(DOMAIN.engine(ENVS), levels(), "symbols"))
        reference.set_parameters(student.model.get_parameters())
        before = weights(student)
        seed_globally(5)
        reference.learn(ENVS * STEPS)
    trajectories = student.rollout(DOMAIN.engine(ENVS), levels())
    assert (trajectories.truncated | trajectories.terminated).any(), "time limits are part of the comparison"
    student.learn(trajectories)
    after, expected = weights(student), reference.policy.state_dict()
    assert not same(after, before)
    for part, value in expected.items():
        torch.testing.assert_close(after[part], value, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_only_trained_levels_are_learnt_from(name: str) -> None:
    """An update with a mask is the update on the rollout of the unmasked environments."""
    config, _ = PAIRS[name]
    masked, alone = build(config), build(config)
    trajectories = masked.rollout(DOMAIN.engine(ENVS), levels())
    mask = torch.tensor([True, False, False, True])
    part: dict[str, Any] = {
        name: {key: seen[:, mask] for key, seen in value.items()} if isinstance(value, dict) else value[:, mask]
        for name, value in vars(trajectories).items()
    }
    alone.load_state_dict(masked.state_dict())
    # what is not trained on may hold anything
    trajectories.advantages[:, ~mask] = math.nan
    metrics = masked.learn(trajectories, mask)
    assert metrics == alone.learn(Trajectories(**part))
    assert same(weights(masked), weights(alone))
    before = weights(masked)
    assert masked.learn(trajectories, torch.zeros(ENVS, dtype=torch.bool)) == {}
    assert same(weights(masked), before)


def test_rollouts_say_what_our_own_students_say() -> None:
    """Advantages follow from rewards and values by the definition; the last value of a cut episode is not zero."""
    student = build(SB3PPOConfig(rollout_steps=STEPS, hidden=8))
    played = student.rollout(DOMAIN.engine(ENVS), levels())
    assert (played.next_values[played.truncated] != 0).all()
    assert (played.next_values[played.terminated] == 0).all()
    errors = played.rewards + 0.99 * played.next_values - played.values
    dones = played.terminated | played.truncated
    running, expected = torch.zeros(ENVS), torch.zeros(STEPS, ENVS)
    for t in reversed(range(STEPS)):
        running = errors[t] + 0.99 * 0.95 * (~dones[t]) * running
        expected[t] = running
    torch.testing.assert_close(played.advantages, expected)


def test_normalised_returns_are_those_of_our_own_students() -> None:
    config = SB3PPOConfig(rollout_steps=STEPS, hidden=8, normalise_returns=True)
    student, own = build(config), ReturnNormaliser(0.99)
    for _ in range(2):
        played = student.rollout(DOMAIN.engine(ENVS), levels())
        dones = played.terminated | played.truncated
        rewards = own(played.rewards, dones)
        expected = generalised_advantages(rewards, played.values, played.next_values, dones, 0.99, 0.95)
        torch.testing.assert_close(played.advantages, expected)
    other = build(config, seed=2)
    other.load_state_dict(student.state_dict())
    assert torch.equal(other.normaliser.moments, own.moments)


@pytest.mark.parametrize(
    ("samples", "parts", "size"), [(64, 2, 32), (10, 3, 4), (9, 2, 5), (5, 4, 3), (7, 3, 4), (3, 8, 3), (2, 5, 2)]
)
def test_no_minibatch_has_a_single_sample(samples: int, parts: int, size: int) -> None:
    assert batch_size(samples, parts) == size
    assert samples % size != 1
    assert -(-samples // size) <= parts


# --- off-policy


def countdown(student: Any, *lengths: int) -> Any:
    return student.rollout(CountdownEngine(len(lengths)), CountdownLevels(torch.tensor(lengths)))


def countdown_student(**options: Any) -> Any:
    engine = CountdownEngine(1)
    return replace(DQN, **options).build(engine.observation_space, engine.action_space, 1, "student")


def heading(vectors: np.ndarray) -> list[int]:
    """What the countdown shows as heading, its count modulo 4."""
    return vectors[..., -4:].argmax(-1).tolist()  # type: ignore[no-any-return]


def test_transitions_of_trained_levels_are_kept_with_what_came_next() -> None:
    student = countdown_student(rollout_steps=3)
    student.learn(countdown(student, 3, 5, 2), torch.tensor([True, False, True]))
    buffer = student.model.replay_buffer
    assert len(student.replay) == 6
    # steps are kept in order, in each the environments: counts 0 1 2 of the first, 0 1 0 of the third
    assert heading(buffer.observations[:6, 0]) == [0, 0, 1, 1, 2, 0]
    assert heading(buffer.next_observations[:6, 0]) == [1, 1, 2, 2, 3, 1], (
        "an end's last observation, not a new start's"
    )
    assert buffer.dones[:6, 0].tolist() == [0, 0, 0, 1, 1, 0]
    assert buffer.timeouts[:6, 0].tolist() == [0, 0, 0, 0, 1, 0], "odd lengths are cut by the time limit"
    assert buffer.rewards[:6, 0].tolist() == [1.0] * 6


def test_the_oldest_transitions_give_way() -> None:
    student = countdown_student(rollout_steps=3, buffer_size=5)
    student.learn(countdown(student, 9))
    student.learn(countdown(student, 9))  # 6 in all: the first one's place is taken by the last
    buffer = student.model.replay_buffer
    assert heading(buffer.observations[:, 0]) == [2, 1, 2, 0, 1]
    assert (buffer.pos, buffer.full, len(student.replay)) == (1, True, 5)
    student.learn(countdown(student, 9, 9, 9))  # 9 at once: the last five stay
    assert heading(buffer.observations[:, 0]) == [1, 1, 2, 2, 2]
    assert (buffer.pos, buffer.full) == (0, True)


def test_gradient_steps_follow_kept_transitions() -> None:
    student = build(replace(DQN, rollout_steps=3, steps_per_gradient=4))
    before = weights(student)
    trajectories = student.rollout(DOMAIN.engine(ENVS), levels())
    assert student.learn(trajectories, torch.zeros(ENVS, dtype=torch.bool)) == {"kept": 0.0}
    assert same(weights(student), before)
    assert student.learn(trajectories, torch.tensor([True, False, False, False])) == {"kept": 3.0}
    assert student.model._n_updates == 0
    metrics = student.learn(trajectories, torch.tensor([True, True, False, False]))  # 3 + 6 are owed: 2 steps, 1 left
    assert metrics["kept"] == 9.0
    assert metrics["loss"] > 0
    assert (student.model._n_updates, student.owed) == (2, 1)
    assert not same(weights(student), before)


def test_nothing_is_learnt_before_enough_is_kept() -> None:
    student = build(replace(DQN, rollout_steps=3, learning_starts=20))
    for expected in (12.0, 24.0):
        metrics = student.learn(student.rollout(DOMAIN.engine(ENVS), levels()))
        assert metrics["kept"] == expected
        assert ("loss" in metrics) == (expected >= 20)
    assert student.model._n_updates == 3, "what came before is not made up for"


def test_the_target_network_follows_in_its_interval() -> None:
    student = build(replace(DQN, rollout_steps=5, target_interval=4, tau=1.0))  # 5 gradient steps a rollout
    state = student.model.policy.state_dict

    def target() -> dict[str, Tensor]:
        return {name: value.clone() for name, value in state().items() if name.startswith("q_net_target")}

    start = target()
    student.learn(student.rollout(DOMAIN.engine(ENVS), levels()), torch.tensor([True, True, False, False]))  # 2 steps
    assert same(target(), start)
    student.learn(student.rollout(DOMAIN.engine(ENVS), levels()))  # 5 more, the interval's end among them
    assert not same(target(), start)
    online = {name.replace("q_net.", "q_net_target.", 1): value for name, value in state().items()}
    assert not same(target(), online), "a gradient step followed"


def test_dqns_value_is_the_best_actions_and_it_explores_less_and_less() -> None:
    student = build(replace(DQN, exploration_steps=64, exploration_initial=0.8, exploration_final=0.2))
    engine = DOMAIN.engine(ENVS)
    observation = engine.reset(levels())
    epsilons = []
    for _ in range(6):
        student.rollout(DOMAIN.engine(ENVS), levels())  # 16 steps
        epsilons.append(student.policy.exploration)
    assert epsilons == pytest.approx([0.8, 0.65, 0.5, 0.35, 0.2, 0.2])
    student.policy.exploration = 0.35
    policy, values, _ = student.policy.step(observation, student.initial_state(ENVS))
    q = student.model.q_net(student.policy.view.show(observation))
    assert torch.equal(values, q.amax(1))
    assert torch.equal(policy.mode(), q.argmax(1))
    assert policy.log_prob(q.argmax(1)).exp().tolist() == pytest.approx([0.65 + 0.35 / 7] * ENVS)
    assert policy.log_prob(q.argmin(1)).exp().tolist() == pytest.approx([0.35 / 7] * ENVS)
    student.act(observation, student.initial_state(ENVS), torch.Generator())
    assert student.policy.exploration == 0.2, "evaluations use the final epsilon"


def test_an_off_policy_student_wants_its_own_trajectories() -> None:
    other = build(PPOConfig(rollout_steps=4, hidden=8, head=4))
    trajectories = other.rollout(DOMAIN.engine(ENVS), levels())
    with pytest.raises(TypeError, match="learns from the transitions that its own rollout gives"):
        build(DQN).learn(trajectories)


def test_another_buffers_transitions_are_refused() -> None:
    student = build(replace(DQN, rollout_steps=5))
    student.learn(student.rollout(DOMAIN.engine(ENVS), levels()))
    with pytest.raises(ValueError, match="the kept transitions, 20, are not those of a buffer of 10"):
        build(replace(DQN, buffer_size=10)).load_state_dict(student.state_dict())


def test_sac_acts_at_random_until_it_learns_and_its_value_is_the_least_critics() -> None:
    domain = CarDomain(max_frames=32)
    engine, roads = domain.engine(2), domain.sample(2, torch.Generator().manual_seed(1))
    config = SB3SACConfig(
        rollout_steps=2, hidden=8, features=8, shrink=2, buffer_size=16, batch_size=4, learning_starts=4
    )
    student: Any = config.build(engine.observation_space, engine.action_space, 1, "student")
    first = student.rollout(engine, roads)
    assert first.log_probs == pytest.approx(-3 * math.log(2))  # uniform on (-1, 1)^3
    student.learn(first)
    second = student.rollout(engine, roads)
    assert not student.policy.warming_up
    assert (second.log_probs != first.log_probs).all()
    assert ((second.actions > -1) & (second.actions < 1)).all()
    observation = engine.reset(roads)
    shown = student.policy.view.show(observation)
    action = student.model.actor(shown, deterministic=True)
    _, values, _ = student.policy.step(observation, student.initial_state(2))
    torch.testing.assert_close(values, torch.cat(student.model.critic(shown, action), 1).amin(1))
    chosen, _ = student.act(observation, student.initial_state(2), torch.Generator(), True)
    expected = student.model.policy.unscale_action(action.detach().numpy())
    np.testing.assert_allclose(chosen.numpy(), expected, rtol=1e-6)
