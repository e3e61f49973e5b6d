"""Rollouts: masks, bootstrapping and advantages against numbers worked by hand."""

import pytest
import torch
from fakes import CountdownEngine, CountdownLevels
from torch import Tensor

from clutr.agents.networks import ActorCritic
from clutr.agents.ppo import PPOConfig, PPOStudent
from clutr.agents.rollout import generalised_advantages
from clutr.agents.student import Trajectories
from clutr.envs.domain import Step

LEVELS = CountdownLevels(torch.tensor([2, 3, 50]))
STEPS = 7


def make_student(**options: object) -> PPOStudent:
    config = PPOConfig(rollout_steps=STEPS, hidden=8, head=4, torso="symbols", torso_width=8, **options)  # type: ignore[arg-type]
    engine = CountdownEngine(1)
    student = config.build(engine.observation_space, engine.action_space, 1, "student")
    # a critic of some size, so that bootstrapped values can be told from zero
    assert isinstance(student.network, ActorCritic)
    torch.nn.init.normal_(student.network.critic[2].weight, generator=torch.Generator().manual_seed(3))  # type: ignore[arg-type]
    return student


@pytest.fixture(scope="module")
def played() -> tuple[PPOStudent, Trajectories]:
    student = make_student()
    return student, student.rollout(CountdownEngine(3), LEVELS)


def test_ends_and_starts(played: tuple[PPOStudent, Trajectories]) -> None:
    _, trajectories = played
    assert trajectories.terminated[:, 0].tolist() == [False, True] * 3 + [False]
    assert trajectories.truncated[:, 1].tolist() == [False, False, True] * 2 + [False]
    assert not (trajectories.terminated | trajectories.truncated)[:, 2].any()
    assert trajectories.episode_starts[:, 0].tolist() == [True, False] * 3 + [True]
    assert trajectories.episode_starts[:, 1].tolist() == [True, False, False] * 2 + [True]
    assert trajectories.episode_starts[:, 2].tolist() == [True] + [False] * 6
    # the same level is played again, and what is seen restarts with it
    assert trajectories.observations["direction"][:, 1].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_update_sees_what_the_rollout_saw(played: tuple[PPOStudent, Trajectories]) -> None:
    student, trajectories = played
    network = student.network
    episode_starts = trajectories.episode_starts
    policy, values = network(network.prepare(trajectories.observations, episode_starts), episode_starts)
    torch.testing.assert_close(policy.log_prob(trajectories.actions), trajectories.log_probs, atol=1e-6, rtol=0)
    torch.testing.assert_close(values, trajectories.values, atol=1e-6, rtol=0)


def value_after(student: PPOStudent, counts: list[int]) -> float:
    """V of the last of these observations of one episode, played from its start."""
    state = student.initial_state(1)
    engine = CountdownEngine(1)
    value = torch.zeros(1)
    for count in counts:
        engine.count = torch.tensor([count])
        _, value, state = student.network.step(engine._look(), state)
    return float(value)


def test_next_values(played: tuple[PPOStudent, Trajectories]) -> None:
    student, trajectories = played
    following = trajectories.next_values
    assert following[1, 0] == 0  # the environment terminated
    torch.testing.assert_close(following[0], trajectories.values[1])
    # the time limit: V of the last observation, with the memory of the episode that led there
    assert float(following[2, 1]) == pytest.approx(value_after(student, [0, 1, 2, 3]), abs=1e-6)
    assert float(following[5, 1]) == pytest.approx(value_after(student, [0, 1, 2, 3]), abs=1e-6)
    # the rollout's end
    assert float(following[6, 2]) == pytest.approx(value_after(student, list(range(8))), abs=1e-6)
    assert float(following[6, 1]) == pytest.approx(value_after(student, [0, 1]), abs=1e-6)


class BothEndsEngine(CountdownEngine):
    """The time limit strikes at the very step at which the environment terminates."""

    def step(self, actions: Tensor) -> Step:
        """Count on; an ended episode is both terminated and truncated."""
        outcome = super().step(actions)
        dones = outcome.terminated | outcome.truncated
        self.solved = dones
        return outcome._replace(terminated=dones, truncated=dones.clone())


def test_the_world_ends_an_episode_before_the_time_limit_does() -> None:
    trajectories = make_student().rollout(BothEndsEngine(3), LEVELS)
    ends = trajectories.terminated
    assert ends[:, 0].tolist() == [False, True] * 3 + [False]
    assert ends[:, 1].tolist() == [False, False, True] * 2 + [False]
    assert not trajectories.truncated.any()
    assert (trajectories.next_values[ends] == 0).all()
    assert (trajectories.next_values[~ends] != 0).all()
    torch.testing.assert_close(trajectories.advantages[ends], (1 - trajectories.values)[ends])
    assert trajectories.statistics().solved.tolist() == [1, 1, 0]


def advantages_by_definition(trajectories: Trajectories, discount: float, gae_lambda: float) -> Tensor:
    """sum_k (discount * trace)^k * delta_{t+k} up to the episode's end, term by term."""
    delta = trajectories.rewards + discount * trajectories.next_values - trajectories.values
    dones = trajectories.terminated | trajectories.truncated
    result = torch.zeros_like(delta)
    for n in range(delta.shape[1]):
        for t in range(len(delta)):
            weight = 1.0
            for k in range(t, len(delta)):
                result[t, n] += weight * delta[k, n]
                weight *= discount * gae_lambda
                if dones[k, n]:
                    break
    return result


def test_advantages(played: tuple[PPOStudent, Trajectories]) -> None:
    student, trajectories = played
    expected = advantages_by_definition(trajectories, student.config.discount, student.config.gae_lambda)
    torch.testing.assert_close(trajectories.advantages, expected)
    torch.testing.assert_close(trajectories.returns, expected + trajectories.values)


def test_advantages_on_paper() -> None:
    """Two steps to an end, then one that is cut: delta = r + .5 V' - V, trace .5."""
    rewards = torch.tensor([[0.0], [1.0], [2.0]])
    values = torch.tensor([[1.0], [2.0], [4.0]])
    next_values = torch.tensor([[2.0], [0.0], [6.0]])
    dones = torch.tensor([[False], [True], [False]])
    advantages = generalised_advantages(rewards, values, next_values, dones, 0.5, 0.5)
    # deltas: 0 + 1 - 1 = 0; 1 + 0 - 2 = -1; 2 + 3 - 4 = 1.  A_1 = -1, A_0 = 0 + .25 * -1, A_2 = 1
    assert advantages.flatten().tolist() == [-0.25, -1.0, 1.0]


def test_statistics_are_of_first_episodes(played: tuple[PPOStudent, Trajectories]) -> None:
    statistics = played[1].statistics()
    assert statistics.episodes.tolist() == [3, 2, 0]
    assert statistics.mean_return.tolist() == [2, 3, 7], "the rollout's end cut the third"
    assert statistics.best_return.tolist() == [2, 3, 7]
    assert statistics.solved.tolist() == [1, 0, 0]
    assert statistics.length.tolist() == [2, 3, 7]
