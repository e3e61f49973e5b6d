"""Mazes through Gymnasium's front door."""

import importlib
import multiprocessing
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
from gymnasium.wrappers import TimeAwareObservation

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


def import_and_play() -> None:
    """As a new process would, which imports torch and numba anew as well."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "clutr"]:
        del sys.modules[name]
    gymnasium.registry.clear()
    with pytest.raises(gymnasium.error.NamespaceNotFound):
        make()
    importlib.import_module("clutr")
    assert make().reset(seed=1)[0]["image"].shape == (5, 5, 3)


def test_importing_the_package_registers_it() -> None:
    other = multiprocessing.get_context("fork").Process(target=import_and_play)
    other.start()
    other.join()
    assert other.exitcode == 0, "see what it printed"


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


@pytest.mark.parametrize(
    ("name", "action", "said"),
    [
        ("clutr/Maze-v0", 99, r"an action must be a whole number in 0\.\.6, got \[99"),
        ("clutr/Maze-v0", -1, r"an action must be a whole number in 0\.\.6, got \[-1"),
        ("clutr/Maze-v0", 1.5, r"an action must be a whole number in 0\.\.6, got \[1\.5"),
        ("clutr/CarRacing-v0", [np.nan, 0, 0], r"an action must be \(3,\) finite numbers, got \[\[nan"),
        ("clutr/CarRacing-v0", [0, np.inf, 0], r"an action must be \(3,\) finite numbers, got \[\[0\.0, inf"),
        ("clutr/CarRacing-v0", ["left", "0", "0"], r"an action must be \(3,\) finite numbers, got \[\['left'"),
    ],
)
def test_what_is_no_action_is_said_and_nothing_is_played(name: str, action: Any, said: str) -> None:
    single: Any = gymnasium.make(name).unwrapped
    vector: Any = gymnasium.make_vec(name, 2, vectorization_mode="vector_entry_point")
    for env, actions in ((single, action), (vector, [action, action])):
        env.reset(seed=1)
        with pytest.raises(ValueError, match=said):
            env.step(actions)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("clutr/Maze-v0", {"see_through_walls": "no"}, "see_through_walls must be true or false, got 'no'"),
        ("clutr/Maze-v0", {"max_steps": 20.5}, r"max_steps must be a whole number, got 20\.5"),
        ("clutr/CarRacing-v0", {"shaped": "no"}, "shaped must be true or false, got 'no'"),
    ],
)
def test_options_of_another_type_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gymnasium.make(name, **options)


NAMES = ["clutr/Maze-v0", "clutr/CarRacing-v0"]
WAIT: dict[str, Any] = {"clutr/Maze-v0": 6, "clutr/CarRacing-v0": np.zeros(3, np.float32)}


def length(env: gymnasium.Env[Any, Any], action: Any) -> int:
    env.reset(seed=1)
    steps, over = 0, False
    while not over:
        _, _, terminated, truncated, _ = env.step(action)
        steps, over = steps + 1, terminated or truncated
    return steps


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, {"clutr/Maze-v0": 250, "clutr/CarRacing-v0": 1000}),
        ({"max_episode_steps": 7}, 7),
        ({"max_episode_steps": 1003}, 1003),
        ({"max_episode_steps": -1}, {"clutr/Maze-v0": 250, "clutr/CarRacing-v0": 1000}),
    ],
)
def test_the_time_limit_is_the_one_asked_for(name: str, limits: dict[str, int], expected: Any) -> None:
    steps = expected if isinstance(expected, int) else expected[name]
    env = gymnasium.make(name, **limits)  # type: ignore[arg-type]
    assert env.spec is not None
    assert env.spec.max_episode_steps == steps
    assert length(env, WAIT[name]) == steps
    again = gymnasium.make(env.spec)
    assert again.spec is not None
    assert again.spec.max_episode_steps == steps
    timed: Any = TimeAwareObservation(env, flatten=False)
    assert timed.observation_space["time"].high == steps


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["vector_entry_point", "sync"])
def test_vectors_have_the_time_limit_asked_for(name: str, mode: str) -> None:
    env = gymnasium.make_vec(name, 2, vectorization_mode=mode, max_episode_steps=3)
    env.reset(seed=1)
    ends = [env.step(np.stack([WAIT[name]] * 2))[3].tolist() for _ in range(3)]
    assert ends == [[False] * 2, [False] * 2, [True] * 2]


def test_a_step_limit_counts_steps_and_sets_the_reward_of_mazes() -> None:
    env = gymnasium.make("clutr/CarRacing-v0", max_episode_steps=5, action_repeat=8)
    assert length(env, WAIT["clutr/CarRacing-v0"]) == 5
    default = gymnasium.make("clutr/CarRacing-v0", action_repeat=8).spec
    assert default is not None
    assert default.max_episode_steps == 125
    maze = make(level=CORRIDOR, max_episode_steps=500)
    maze.reset()
    maze.step(2)
    assert maze.step(2)[1] == pytest.approx(1 - 0.9 * 2 / 500)
    with pytest.raises(ValueError, match="max_episode_steps must be a whole number of at least 1, got 0"):
        make_vector(2, max_episode_steps=0)


def test_films_show_time_as_it_goes_by() -> None:
    for repeat, fps in ((1, 50), (8, 6.25)):
        options: dict[str, Any] = {"render_mode": "rgb_array", "action_repeat": repeat}
        assert gymnasium.make("clutr/CarRacing-v0", **options).metadata["render_fps"] == fps
        vector = gymnasium.make_vec("clutr/CarRacing-v0", 1, vectorization_mode="vector_entry_point", **options)
        assert vector.metadata["render_fps"] == fps
    assert make().metadata["render_fps"] == 10


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_to_an_answer_changes_nothing(name: str) -> None:
    """Two environments play the same; the user of one writes over everything that it returns."""

    def spoil(value: Any) -> None:
        for part in value.values() if isinstance(value, dict) else [value]:
            if isinstance(part, np.ndarray):
                part[...] = 1

    def same(one: Any, other: Any) -> bool:
        parts = zip(*(value.values() if isinstance(value, dict) else [value] for value in (one, other)), strict=True)
        return all(np.array_equal(a, b) for a, b in parts)

    for modes in ("single", "vector"):
        if modes == "single":
            envs: list[Any] = [
                gymnasium.make(name, render_mode="rgb_array", max_episode_steps=5).unwrapped for _ in "ab"
            ]
        else:
            options: dict[str, Any] = {"render_mode": "rgb_array", "max_episode_steps": 5}
            envs = [gymnasium.make_vec(name, 2, vectorization_mode="vector_entry_point", **options) for _ in "ab"]
        spoilt, kept = envs
        spoil(spoilt.reset(seed=1)[0])
        kept.reset(seed=1)
        spoilt.action_space.seed(2)
        for _ in range(4):
            action = spoilt.action_space.sample()
            one, other = spoilt.step(action), kept.step(action)
            assert all(same(a, b) for a, b in zip(one[:4], other[:4], strict=True))
            for value in one[:4]:
                spoil(value)
            pictures, expected = spoilt.render(), kept.render()
            assert np.array_equal(pictures, expected)
            spoil(np.asarray(pictures) if modes == "single" else pictures[0])
            assert np.array_equal(spoilt.render(), kept.render())


def test_info_says_whether_the_lap_was_finished_as_in_car_racing() -> None:
    small = "0 0\n100 0\n100 100\n"
    env = gymnasium.make("clutr/CarRacing-v0", level=small, action_repeat=8, shaped=True)
    env.reset()
    info: dict[str, Any] = {}
    for _ in range(125):  # at rest, the shaped episode is stopped
        assert info == {}
        _, _, terminated, truncated, info = env.step(WAIT["clutr/CarRacing-v0"])
        if terminated or truncated:
            break
    assert terminated
    assert info == {"lap_finished": False}
    vector = gymnasium.make_vec(
        "clutr/CarRacing-v0", 2, vectorization_mode="vector_entry_point", level=small, action_repeat=8, shaped=True
    )
    vector.reset()
    for _ in range(125):
        *_, terminations, _, infos = vector.step(np.zeros((2, 3), np.float32))
        if terminations.any():
            break
    assert infos["lap_finished"].tolist() == [False, False]
    assert infos["_lap_finished"].tolist() == [True, True]


def test_each_environment_draws_by_its_own_seed() -> None:
    vector: Any = make_vector(3)
    seen, _ = vector.reset(seed=[7, 8, 7])
    alone = [make().reset(seed=seed)[0]["image"] for seed in (7, 8)]
    assert all(np.array_equal(image, alone[which]) for image, which in zip(seen["image"], (0, 1, 0), strict=True))
    single = make()
    single.reset(seed=8)
    following, _ = vector.reset(seed=[9, None, 9])
    assert np.array_equal(following["image"][1], single.reset()[0]["image"]), "it goes on with its own generator"
    with pytest.raises(ValueError, match="expected one seed for each of 3 environments, got 2"):
        vector.reset(seed=[1, 2])


def play_both(ours: Any, theirs: Any, steps: int, after: Any) -> int:
    """Play two vectors of environments alike, on fixed levels; how many episodes ended."""
    ours.action_space.seed(3)
    ended = 0
    for _ in range(steps):
        actions = ours.action_space.sample()
        one, other = ours.step(actions), theirs.step(actions)
        assert all(np.array_equal(one[0][name], other[0][name]) for name in one[0])
        assert np.allclose(one[1], other[1])
        assert [value.tolist() for value in one[2:4]] == [value.tolist() for value in other[2:4]]
        assert one[4].keys() == other[4].keys()
        if "final_obs" in one[4]:
            assert one[4]["_final_obs"].tolist() == other[4]["_final_obs"].tolist()
            for a, b in zip(one[4]["final_obs"], other[4]["final_obs"], strict=True):
                assert (a is None) == (b is None)
                assert a is None or np.array_equal(a["image"], b["image"])
        ends = one[2] | one[3]
        ended += int(ends.sum())
        for env in (ours, theirs):
            after(env, ends)
    return ended


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_autoreset_is_gymnasiums(mode: AutoresetMode) -> None:
    options: dict[str, Any] = {"level": CORRIDOR, "max_episode_steps": 6}
    ours = make_vector(3, autoreset_mode=mode, **options)
    assert ours.metadata["autoreset_mode"] is mode
    theirs = gymnasium.make_vec(
        "clutr/Maze-v0", 3, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **options
    )
    for env in (ours, theirs):
        env.reset(seed=1)

    def again(env: Any, ends: np.ndarray[Any, Any]) -> None:
        if mode is AutoresetMode.DISABLED and ends.any():
            env.reset(options={"reset_mask": ends.copy()})

    assert play_both(ours, theirs, 60, again) > 10


def test_only_masked_environments_begin_anew() -> None:
    vector: Any = make_vector(3, autoreset_mode=AutoresetMode.DISABLED, max_episode_steps=2)
    mask = np.array([True, False, True])
    with pytest.raises(RuntimeError, match="the first reset must be of all environments, without reset_mask"):
        vector.reset(options={"reset_mask": mask})
    first, _ = vector.reset(seed=1)
    for _ in range(2):
        vector.step(np.full(3, 6))
    options = {"reset_mask": mask}
    after, _ = vector.reset(options=options, seed=[5, 6, 7])
    assert options == {"reset_mask": mask}, "the caller's own"
    assert np.array_equal(after["image"][1], first["image"][1])
    assert np.array_equal(after["image"][2], make().reset(seed=7)[0]["image"])
    with pytest.raises(RuntimeError, match=r"episodes have ended in environments 1: reset them"):
        vector.step(np.full(3, 6))
    for bad in (np.array([True]), np.array([1, 0, 1]), np.zeros(3, bool)):
        with pytest.raises(ValueError, match="reset_mask must be 3 booleans, some of them true"):
            vector.reset(options={"reset_mask": bad})
    with pytest.raises(ValueError, match="reset_mask cannot be combined with a level"):
        vector.reset(options={"reset_mask": mask, "level": CORRIDOR})
    with pytest.raises(ValueError, match="autoreset_mode must be 'NextStep', 'SameStep', 'Disabled', got 'never'"):
        make_vector(1, autoreset_mode="never")
