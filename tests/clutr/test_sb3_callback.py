"""A curriculum in a script for Stable-Baselines3: what is proposed is played, and what is played is told."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sb3_contrib import QRDQN, TQC, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

import clutr  # noqa: F401  (registers the environments)
from clutr.agents.sb3.vec_env import LevelVecEnv
from clutr.curricula.base import CURRICULA, Context, Curriculum, Outcome, Proposal
from clutr.curricula.paired import PAIREDConfig
from clutr.curricula.plr import PLRConfig, RobustPLRConfig
from clutr.envs.car.domain import CarDomain
from clutr.envs.domain import Domain
from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.storage import load_state, save_state
from clutr.sb3 import CurriculumCallback

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=12)
SMALL: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu", "seed": 1}
ENVS = 4


def environment(domain: Domain = DOMAIN, view: str = "symbols") -> LevelVecEnv:
    return LevelVecEnv(domain.engine(ENVS), domain.sample(ENVS, torch.Generator().manual_seed(1)), view)


class Watched:
    """A curriculum that remembers what it proposed and was told."""

    def __init__(self, curriculum: Curriculum) -> None:
        self.curriculum, self.students = curriculum, curriculum.students
        self.proposals: list[Proposal] = []
        self.outcomes: list[Outcome] = []

    def propose(self, n: int) -> Proposal:
        self.proposals.append(self.curriculum.propose(n))
        return self.proposals[-1]

    def observe(self, outcome: Outcome) -> Any:
        self.outcomes.append(outcome)
        return self.curriculum.observe(outcome)

    def state_dict(self) -> Any:
        return self.curriculum.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.curriculum.load_state_dict(state)


def watched(name: str = "plr", domain: Domain = DOMAIN) -> Any:
    config: Any = CURRICULA[name]
    return Watched((PLRConfig(capacity=8) if name == "plr" else config()).build(Context(domain, 1)))


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_on_policy_each_rollout_plays_a_proposal(algorithm: Any) -> None:
    curriculum, env = watched(), VecMonitor(environment())
    model = algorithm("MlpPolicy", env, n_steps=16, **SMALL)
    played: list[list[str]] = []

    class Watching(CurriculumCallback):
        def _on_step(self) -> bool:
            played.append([info["level"] for info in self.locals["infos"]])
            return super()._on_step()

    model.learn(3 * ENVS * 16, callback=Watching(curriculum))
    assert len(curriculum.proposals) == len(curriculum.outcomes) == 3
    for index, proposal in enumerate(curriculum.proposals):
        expected = proposal.levels[proposal.assignment[0]].key()
        assert all(keys == expected for keys in played[16 * index : 16 * (index + 1)])
    last = curriculum.outcomes[-1]
    # episodes of at most 12 steps: in 16 steps each environment ends one at least
    assert (last.episodes >= 1).all()
    buffer = model.rollout_buffer
    advantages = torch.from_numpy(buffer.advantages.reshape(ENVS, 16))  # training has laid environments end to end
    torch.testing.assert_close(last.scores["value_l1"][0], advantages.abs().mean(1))
    values = torch.from_numpy(buffer.values.reshape(ENVS, 16))
    torch.testing.assert_close(last.scores["mean_value"][0], values.mean(1))


def test_recurrent_ppo_and_normalised_rewards() -> None:
    curriculum, env = watched(), VecNormalize(VecMonitor(environment()), norm_obs=False)
    options = {**SMALL, "policy_kwargs": {"lstm_hidden_size": 6}}
    RecurrentPPO("MlpLstmPolicy", env, n_steps=16, batch_size=32, **options).learn(
        128, callback=CurriculumCallback(curriculum)
    )
    assert len(curriculum.outcomes) == 2
    returns = curriculum.outcomes[-1].best_return
    assert ((returns == 0) | (returns >= 0.1)).all(), "what the environment gave, not what is learnt from"


@pytest.mark.parametrize("algorithm", [DQN, SAC, TD3])
def test_off_policy_a_proposal_plays_for_its_steps(algorithm: Any) -> None:
    domain: Domain = DOMAIN if algorithm is DQN else CarDomain(max_frames=40)
    curriculum = watched("plr", domain)
    small: dict[str, Any] = {**SMALL, "buffer_size": 200, "learning_starts": 8, "batch_size": 8}
    if algorithm is not DQN:
        small["policy_kwargs"] = {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}
    env = environment(domain, "symbols" if algorithm is DQN else "plain")
    model = algorithm("MlpPolicy" if algorithm is DQN else "CnnPolicy", env, train_freq=4, **small)
    callback = CurriculumCallback(curriculum, steps=8)
    model.learn(20 * ENVS, callback=callback)
    # 8, 8, and the 4 that were left when training ended
    assert len(curriculum.proposals) == len(curriculum.outcomes) == 3
    steps = [outcome.length.max() for outcome in curriculum.outcomes]
    assert all(length <= 8 for length in steps)
    scores = curriculum.outcomes[-1].scores
    assert all(value.isfinite().all() for value in scores.values())
    assert scores["value_l1"].shape == (1, ENVS)
    assert callback.state_dict()


def test_off_policy_scores_are_those_of_the_definition() -> None:
    """Worked out again from the replay buffer, whose Q-network has not learnt yet."""
    curriculum, env = watched(), environment()
    model = DQN("MlpPolicy", env, train_freq=16, learning_starts=1000, buffer_size=64 * ENVS, gamma=0.9, **SMALL)
    model.learn(16 * ENVS, callback=CurriculumCallback(curriculum, steps=16, gae_lambda=0.8))
    buffer: Any = model.replay_buffer

    def value(observations: Any) -> torch.Tensor:
        with torch.no_grad():
            flat = torch.from_numpy(observations).flatten(0, 1)
            best: torch.Tensor = model.q_net(flat).amax(1)
            return best.view(16, ENVS)

    dones = torch.from_numpy(buffer.dones[:16]).bool()
    cut = torch.from_numpy(buffer.timeouts[:16]).bool()
    values, following = value(buffer.observations[:16]), value(buffer.next_observations[:16])
    errors = torch.from_numpy(buffer.rewards[:16]) + 0.9 * following * (~dones | cut) - values
    advantages, running = torch.zeros(16, ENVS), torch.zeros(ENVS)
    for t in reversed(range(16)):
        running = errors[t] + 0.9 * 0.8 * (~dones[t]) * running
        advantages[t] = running
    assert cut.any()
    (outcome,) = curriculum.outcomes
    torch.testing.assert_close(outcome.scores["value_l1"][0], advantages.abs().mean(0))
    torch.testing.assert_close(outcome.scores["mean_value"][0], values.mean(0))


def test_a_curriculum_is_saved_beside_the_model_and_goes_on(tmp_path: Path) -> None:
    first = CurriculumCallback(watched())
    PPO("MlpPolicy", environment(), n_steps=16, **SMALL).learn(2 * ENVS * 16, callback=first)
    save_state(tmp_path / "curriculum.safetensors", first.state_dict())
    second = CurriculumCallback(watched())
    second.load_state_dict(load_state(tmp_path / "curriculum.safetensors"))
    one, other = first.curriculum.propose(ENVS), second.curriculum.propose(ENVS)
    assert one.levels.key() == other.levels.key()


def test_what_the_packages_loop_cannot_do_is_refused() -> None:
    with pytest.raises(
        ValueError, match="needs the students protagonist, antagonist, and Stable-Baselines3 trains one"
    ):
        CurriculumCallback(PAIREDConfig().build(Context(DOMAIN, 1)))
    robust = CurriculumCallback(RobustPLRConfig(capacity=8).build(Context(DOMAIN, 1)))
    with pytest.raises(ValueError, match="looks at levels without learning from them, which Stable-Baselines3's loop"):
        PPO("MlpPolicy", environment(), n_steps=16, **SMALL).learn(64, callback=robust)
    plr = PLRConfig(capacity=1, replay_probability=1.0, levels_per_rollout=2).build(Context(DOMAIN, 1))
    plr.buffer.insert(DOMAIN.sample(1, torch.Generator()), torch.ones(1), best_return=torch.ones(1))
    with pytest.raises(ValueError, match=r"changes levels within a rollout.*or set levels_per_rollout to 1"):
        PPO("MlpPolicy", environment(), n_steps=16, **SMALL).learn(64, callback=CurriculumCallback(plr))
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        CurriculumCallback(watched(), steps=0)
    foreign = make_vec_env("clutr/CarRacing-v0", 1)
    model = A2C("CnnPolicy", foreign, n_steps=2, device="cpu")
    with pytest.raises(TypeError, match="a curriculum chooses the levels of a LevelVecEnv, not of DummyVecEnv"):
        model.learn(2, callback=CurriculumCallback(watched()))


@pytest.mark.parametrize("algorithm", [QRDQN, TQC])
def test_algorithms_whose_values_are_unknown_are_refused(algorithm: Any) -> None:
    domain: Domain = DOMAIN if algorithm is QRDQN else CarDomain(max_frames=40)
    env = environment(domain, "symbols" if algorithm is QRDQN else "plain")
    policy = "MlpPolicy" if algorithm is QRDQN else "CnnPolicy"
    model = algorithm(policy, env, buffer_size=20, policy_kwargs={"net_arch": [8]}, device="cpu")
    message = f"knows no values of {algorithm.__name__}; of the off-policy algorithms it works with DQN, SAC, TD3, DDPG"
    with pytest.raises(TypeError, match=message):
        model.learn(8, callback=CurriculumCallback(watched("plr", domain)))
