"""Mazes through Gymnasium's front door."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv

import clutr  # noqa: F401  # registers the environments
from clutr.envs.domain import LevelError
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.maze.level import MazeLevels, empty_levels
from clutr.envs.registration import register

CORRIDOR = "#####\n#>.G#\n#####"
SMALL: dict[str, Any] = {"height": 5, "width": 6, "max_obstacles": 8, "max_steps": 9}


def make(**options: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("clutr/Maze-v0", **options)


def make_vector(num_envs: int, **options: Any) -> VectorEnv[Any, Any, Any]:
    return gymnasium.make_vec("clutr/Maze-v0", num_envs, vectorization_mode="vector_entry_point", **options)


def test_importing_the_package_registers_it() -> None:
    code = "import clutr, gymnasium; print(gymnasium.make('clutr/Maze-v0').reset(seed=1)[0]['image'].shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(5, 5, 3)"


def test_registering_again_changes_nothing() -> None:
    before = gymnasium.spec("clutr/Maze-v0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register()
    assert gymnasium.spec("clutr/Maze-v0") is before


@pytest.mark.parametrize("options", [{}, {"level": CORRIDOR}, {"view": 7, "see_through_walls": False, **SMALL}])
def test_check_env_has_nothing_to_say(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(render_mode="rgb_array", **options).unwrapped)


def test_an_episode_on_a_level_given_as_text() -> None:
    env = make(level=CORRIDOR, max_steps=10)
    observation, _ = env.reset()
    # The agent looks up its own column; the goal is two cells ahead of it, walls are beside the corridor.
    assert observation["image"][2].tolist() == [[2, 5, 0], [2, 5, 0], [8, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert (observation["image"][1] == [2, 5, 0]).all()
    assert observation["direction"] == 0
    _, reward, terminated, truncated, _ = env.step(2)
    assert (reward, terminated, truncated) == (0.0, False, False)
    _, reward, terminated, truncated, _ = env.step(2)
    assert reward == pytest.approx(1 - 0.9 * 2 / 10)
    assert (terminated, truncated) == (True, False)
    assert isinstance(reward, float)
    assert isinstance(terminated, bool)


def test_a_level_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "corridor.txt"
    file.write_text(CORRIDOR)
    expected = make(level=CORRIDOR).reset()[0]["image"]
    for level in (file, str(file)):
        assert np.array_equal(make(level=level).reset()[0]["image"], expected)


def test_random_levels_follow_the_seed() -> None:
    def play(env: gymnasium.Env[Any, Any], seed: int) -> list[np.ndarray[Any, Any]]:
        first = env.reset(seed=seed)[0]["image"]
        return [first, *(env.reset()[0]["image"] for _ in range(5))]

    one, other = play(make(), 3), play(make(), 3)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert len({image.tobytes() for image in one}) > 1, "each reset should draw another level"
    different = play(make(), 4)
    assert any(not np.array_equal(a, b) for a, b in zip(one, different, strict=True))


def test_the_next_task_comes_through_reset_and_stays() -> None:
    env = make(level=CORRIDOR)
    env.reset()
    task = MazeLevels(torch.zeros(1, 7, 4, dtype=torch.bool), *(torch.tensor([value]) for value in (9, 3, 1)))
    seen = env.reset(options={"level": task})[0]
    engine = MazeEngine(1, 7, 4, max_steps=250)
    expected = engine.reset(task)
    assert np.array_equal(seen["image"], expected["image"][0].numpy())
    assert seen["direction"] == 3
    assert np.array_equal(env.reset()[0]["image"], seen["image"])
    assert np.array_equal(env.reset(options={"level": CORRIDOR})[0]["image"], make(level=CORRIDOR).reset()[0]["image"])
    random = [env.reset(options={"level": None})[0]["image"].tobytes() for _ in range(5)]
    assert len(set(random)) > 1


def test_pictures_show_the_current_state() -> None:
    env = make(level=CORRIDOR, render_mode="rgb_array")
    env.reset()
    before: Any = env.render()
    env.step(2)
    after: Any = env.render()
    assert before.shape == (3 * 16, 5 * 16, 3)
    assert before.dtype == np.uint8
    changed = (before != after).any(axis=(0, 2))
    assert changed[16:32].any(), "the agent left its first cell"
    assert changed[32:48].any(), "and entered the second"
    assert not changed[:16].any()
    assert not changed[48:].any()
    assert make(level=CORRIDOR).unwrapped.render() is None


def test_vector_environment_plays_as_the_single_one() -> None:
    levels = MazeLevels.concatenate([empty_levels(2, 3, 4), empty_levels(1, 3, 4)])
    levels = MazeLevels(levels.walls, torch.tensor([0, 5, 7]), torch.tensor([0, 1, 2]), levels.goal)
    vector = make_vector(3, level=levels, max_steps=12)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    singles = gymnasium.vector.SyncVectorEnv(
        [lambda row=row: make(level=levels[row], max_steps=12) for row in range(3)],  # type: ignore[misc]
    )
    seen, _ = vector.reset(seed=0)
    expected: Any = singles.reset(seed=0)[0]
    vector.action_space.seed(5)
    ends = 0
    for _ in range(120):
        assert vector.observation_space.contains(seen)
        assert all(np.array_equal(seen[name], expected[name]) for name in expected)
        actions = vector.action_space.sample()
        seen, *signals, _ = vector.step(actions)
        wanted: Any = singles.step(actions)
        expected, expected_signals = wanted[0], wanted[1:4]
        assert signals[0].dtype == np.float32
        for signal, want in zip(signals, expected_signals, strict=True):
            assert np.array_equal(signal, want.astype(signal.dtype))
        ends += int((signals[1] | signals[2]).sum())
    assert ends > 10


def test_vector_environment_draws_a_fresh_level_where_an_episode_ended() -> None:
    vector = make_vector(4, **SMALL)
    start, _ = vector.reset(seed=1)
    for _ in range(9):
        last, _, terminated, truncated, _ = vector.step(np.full(4, 6))
    assert truncated.all()
    assert not terminated.any()
    assert np.array_equal(last["image"], start["image"]), "waiting changes nothing"
    fresh, reward, terminated, truncated, _ = vector.step(np.full(4, 2))
    assert not np.array_equal(fresh["image"], start["image"])
    assert reward.tolist() == [0.0] * 4
    assert not (terminated | truncated).any()
    again = make_vector(4, **SMALL)
    assert np.array_equal(again.reset(seed=1)[0]["image"], start["image"])
    for _ in range(10):
        same = again.step(np.full(4, 6))[0]
    assert np.array_equal(same["image"], fresh["image"])


def test_vector_environment_takes_tasks_and_draws() -> None:
    vector = make_vector(2, render_mode="rgb_array", **SMALL)
    vector.reset(seed=0)
    frames: Any = vector.render()
    assert [frame.shape for frame in frames] == [(7 * 16, 8 * 16, 3)] * 2
    seen, _ = vector.reset(options={"level": CORRIDOR})
    single = make(level=CORRIDOR).reset()[0]["image"]
    assert all(np.array_equal(image, single) for image in seen["image"])
    for _ in range(2):
        _, reward, terminated, _, _ = vector.step(np.array([2, 0]))
    assert reward[0] > 0
    assert terminated.tolist() == [True, False]
    assert make_vector(2).render() is None


def test_refusals_are_clear() -> None:
    with pytest.raises(LevelError, match="line 1"):
        make(level="rub\nbish")
    with pytest.raises(ValueError, match="one for each of 1 environments, got 2"):
        make(level=empty_levels(2, 4, 4))
    with pytest.raises(ValueError, match="one for each of 3 environments, got 2"):
        make_vector(3, level=empty_levels(2, 4, 4))
    with pytest.raises(TypeError, match="a level must be MazeLevels, text, a file or None, got int"):
        make(level=3)
    env = make().unwrapped
    with pytest.raises(ValueError, match="unknown reset options: levels; the only one is 'level'"):
        env.reset(options={"levels": CORRIDOR})
    with pytest.raises(ValueError, match="render_mode must be None or 'rgb_array', got 'ansi'"):
        make_vector(1, render_mode="ansi")
    picture = make(render_mode="rgb_array").unwrapped
    with pytest.raises(RuntimeError, match="reset the environment before rendering"):
        picture.render()
