"""Our engines as a VecEnv: which level plays where, what an algorithm is told, Stable-Baselines3's own tools on it."""

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from fakes import CountdownEngine, CountdownLevels
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecVideoRecorder

import clutr  # noqa: F401  (registers the environments)
from clutr.agents.sb3.preprocessing import VIEWS
from clutr.agents.sb3.vec_env import LevelVecEnv
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import MazeLevels

NOTHING = np.zeros(2, np.int64)


def countdown(*lengths: int) -> CountdownLevels:
    return CountdownLevels(torch.tensor(lengths))


def counts(env: Any, observation: Any) -> list[int]:
    """How far each environment has counted."""
    return [int(image[0, 0, 0]) for image in observation["image"]]


def mazes(n: int, seed: int = 0) -> tuple[MazeDomain, MazeLevels]:
    domain = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=12)
    return domain, domain.sample(n, torch.Generator().manual_seed(seed))


def test_each_level_plays_in_its_environment_over_episode_ends() -> None:
    levels = countdown(2, 3)
    env = LevelVecEnv(CountdownEngine(2), levels)
    assert counts(env, env.reset()) == [0, 0]
    seen, ends = [], []
    for _ in range(6):
        observation, rewards, dones, infos = env.step(NOTHING)
        seen.append(counts(env, observation))
        ends.append(dones.tolist())
        assert rewards.tolist() == [1.0, 1.0]
        assert [info["level"] for info in infos] == levels.key()
    # an episode of length 2 ends after steps 2, 4, 6; one of length 3 after 3 and 6; then its successor is shown
    assert seen == [[1, 1], [0, 2], [1, 0], [0, 1], [1, 2], [0, 0]]
    assert ends == [[False, False], [True, False], [False, True], [True, False], [False, False], [True, True]]


def test_infos_say_how_an_episode_ended() -> None:
    env = LevelVecEnv(CountdownEngine(2), countdown(2, 1))  # even lengths are solved, odd ones cut by the time limit
    env.reset()
    _, _, _, (going, cut) = env.step(NOTHING)
    assert not going["TimeLimit.truncated"]
    assert "terminal_observation" not in going
    assert "is_success" not in going
    assert cut["TimeLimit.truncated"] is True
    assert cut["is_success"] is False
    _, _, _, (solved, _) = env.step(NOTHING)
    assert solved["TimeLimit.truncated"] is False
    assert solved["is_success"] is True
    assert solved["terminal_observation"]["image"][0, 0, 0] == 2
    assert solved["terminal_observation"]["direction"] == 2


def test_a_level_given_while_an_episode_runs_plays_from_the_next_episode_on() -> None:
    old, new = countdown(3, 3), countdown(2, 2)
    env = LevelVecEnv(CountdownEngine(2), old)
    env.reset()
    env.step(NOTHING)
    env.set_levels(new[:1], [0])
    played = []
    for _ in range(5):
        _, _, dones, infos = env.step(NOTHING)
        played.append(([info["level"] == new.key()[0] for info in infos], dones.tolist()))
    assert played == [
        ([False, False], [False, False]),
        ([False, False], [True, True]),  # the third step still belongs to the old level
        ([True, False], [False, False]),
        ([True, False], [True, False]),
        ([True, False], [False, True]),
    ]
    env.set_levels(new)
    env.reset()
    assert env.get_attr("level_key") == new.key()


def test_what_is_written_to_an_answer_changes_nothing() -> None:
    env = LevelVecEnv(CountdownEngine(2), countdown(2, 2))
    env.reset()
    env.start_record()
    _, rewards, _, _ = env.step(NOTHING)
    rewards += 10
    ((recorded, *_),) = env.record
    assert recorded.tolist() == [1.0, 1.0]


def test_task_given_is_task_played_in_mazes() -> None:
    """Every step's reward and observation are those of an engine that plays the level named in `info` alone."""
    domain, first = mazes(3, seed=1)
    _, second = mazes(3, seed=2)
    env, rng = LevelVecEnv(domain.engine(3), first), np.random.default_rng(0)
    by_key = dict(zip(first.key() + second.key(), [*(first[i] for i in range(3)), *(second[i] for i in range(3))]))  # noqa: B905
    solo = [domain.engine(1) for _ in range(3)]
    env.reset()
    for index in range(3):
        solo[index].reset(first[index])
    switched = False
    for t in range(60):
        if t == 20:
            env.set_levels(second)
        actions = rng.integers(0, 3, 3)
        observation: Any
        observation, rewards, dones, infos = env.step(actions)
        for index in range(3):
            step = solo[index].step(torch.from_numpy(actions[index : index + 1]))
            assert float(step.reward) == rewards[index]
            if dones[index]:
                following = env.get_attr("level_key", index)[0]
                switched |= following != infos[index]["level"]
                assert (infos[index]["terminal_observation"]["image"] == step.observation["image"][0].numpy()).all()
                step = step._replace(observation=solo[index].reset(by_key[following]))
            assert (observation["image"][index] == step.observation["image"][0].numpy()).all()
    assert switched
    assert env.get_attr("level_key") == second.key()


def test_single_environments_have_attributes_and_one_method() -> None:
    levels = countdown(2, 3)
    env = LevelVecEnv(CountdownEngine(2), levels)
    env.reset()
    assert [one.key()[0] for one in env.get_attr("level")] == levels.key()
    assert env.get_attr("level_key", 1) == levels.key()[1:]
    assert env.get_attr("render_mode") == [None, None]
    assert env.has_attr("num_envs")
    assert not env.has_attr("colour")
    assert env.env_is_wrapped(Monitor) == [False, False]
    assert env.env_method("set_level", countdown(5), indices=[1]) == [None]
    assert env.env_method("get_wrapper_attr", "level_key", indices=0) == levels.key()[:1]
    env.set_attr("level", countdown(7), indices=0)
    env.reset()
    assert env.levels.tensors()["length"].tolist() == [7, 5]
    with pytest.raises(AttributeError, match="only `level` can be set, not 'colour'"):
        env.set_attr("colour", 1)
    with pytest.raises(AttributeError, match="have the methods set_level, get_wrapper_attr, not 'seed_me'"):
        env.env_method("seed_me")


def test_refusals() -> None:
    with pytest.raises(ValueError, match="expected one level for each of 2 environments, got 3"):
        LevelVecEnv(CountdownEngine(2), countdown(1, 2, 3))
    with pytest.raises(ValueError, match="view must be plain, image, flat, symbols, got 'round'"):
        LevelVecEnv(CountdownEngine(2), countdown(1, 2), "round")
    env = LevelVecEnv(CountdownEngine(2), countdown(1, 2))
    with pytest.raises(ValueError, match="expected one level for each of 1 environments, got 2"):
        env.set_levels(countdown(1, 2), 0)
    with pytest.raises(TypeError, match="the other environments play CountdownLevels, not MazeLevels"):
        env.set_levels(mazes(1)[1], 0)
    with pytest.raises(RuntimeError, match="give actions with step_async before step_wait"):
        env.step_wait()


@pytest.mark.filterwarnings("ignore:The minimal resolution for an image:UserWarning")
@pytest.mark.filterwarnings("ignore:We recommend you to use a symmetric and normalized:UserWarning")
@pytest.mark.parametrize("name", ["clutr/Maze-v0", "clutr/CarRacing-v0"])
def test_the_gymnasium_environments_pass_stable_baselines3s_check(name: str) -> None:
    check_env(gymnasium.make(name))


def test_stable_baselines3s_tools_work_on_it() -> None:
    domain, levels = mazes(4)
    env = VecMonitor(LevelVecEnv(domain.engine(4), levels, "symbols"))
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=64, policy_kwargs={"net_arch": [8]}, device="cpu")
    model.learn(256)
    assert model.ep_info_buffer
    assert model.ep_success_buffer
    returns, lengths = evaluate_policy(model, env, 8, deterministic=False, return_episode_rewards=True)
    assert len(returns) == len(lengths) == 8  # type: ignore[arg-type]
    # MiniGrid's reward for a goal after l of at most 12 steps
    assert all(
        value == pytest.approx(1 - 0.9 * length / 12) or (value == 0 and length == 12)
        for value, length in zip(returns, lengths, strict=True)  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("view", VIEWS)
def test_it_can_be_pickled_and_goes_on_alike(view: str) -> None:
    domain, levels = mazes(2)
    env = LevelVecEnv(domain.engine(2), levels, view)
    env.reset()
    env.step(np.array([2, 1]))
    other = pickle.loads(pickle.dumps(env))
    for action in (2, 0, 2):
        one: Any
        one, two = env.step(np.array([action, 2])), other.step(np.array([action, 2]))
        parts = [list(seen.values()) if isinstance(seen, dict) else [seen] for seen in (one[0], two[0])]
        assert all(np.array_equal(a, b) for a, b in zip(*parts, strict=True))
        assert one[1].tolist() == two[1].tolist()


@pytest.mark.parametrize("domain", [MazeDomain(), CarDomain()], ids=["maze", "car"])
def test_it_can_be_filmed(domain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moviepy", ModuleType("moviepy"))  # only what writes the file needs it
    levels = domain.sample(2, torch.Generator().manual_seed(1))
    film: Any = VecVideoRecorder(LevelVecEnv(domain.engine(2), levels), str(tmp_path), lambda _: True, video_length=99)
    assert film.frames_per_sec == (10 if isinstance(domain, MazeDomain) else 6.25)
    film.reset()
    film.step(np.stack([domain.engine(1).action_space.sample() for _ in range(2)]))
    first, second = film.recorded_frames
    assert first.shape == second.shape
    assert first.dtype == np.uint8
    assert first.std() > 0


def test_what_is_written_to_an_observation_changes_nothing() -> None:
    domain, levels = mazes(2)
    spoilt, kept = (LevelVecEnv(domain.engine(2), levels) for _ in "ab")
    first: Any = spoilt.reset()
    kept.reset()
    for _ in range(5):
        for part in first.values():
            part[...] = 1
        first, expected = spoilt.step(np.array([2, 1]))[0], kept.step(np.array([2, 1]))[0]
        assert all(np.array_equal(first[name], expected[name]) for name in first)
