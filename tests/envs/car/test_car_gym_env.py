"""Cars through Gymnasium's front door."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import VectorEnv

import clutr  # noqa: F401  # registers the environments
from clutr.envs.car.domain import CarDomain
from clutr.envs.car.road.level import BezierLevels, CentreLineLevels
from clutr.envs.domain import LevelError

THROTTLE = np.array([0.0, 1.0, 0.0], np.float32)

TRIANGLE_IN_METRES = [(0, 0), (900, 0), (1800, 0), (1800, 900), (1800, 1800), (900, 900)]


def make(**options: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("clutr/CarRacing-v0", **options)


def make_vector(num_envs: int, **options: Any) -> VectorEnv[Any, Any, Any]:
    return gymnasium.make_vec("clutr/CarRacing-v0", num_envs, vectorization_mode="vector_entry_point", **options)


def levels(n: int) -> BezierLevels:
    return CarDomain().sample(n, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", [{}, {"action_repeat": 8, "shaped": True}])
def test_check_env_has_nothing_to_say(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # the package's own action space is not symmetric either
        warnings.filterwarnings("ignore", message=".*we recommend using a symmetric and normalized space.*")
        check_env(make(render_mode="rgb_array", **options).unwrapped)


def test_spaces_and_rewards_are_those_of_car_racing() -> None:
    real, ours = gymnasium.make("CarRacing-v3").unwrapped, make(level=levels(1), max_frames=30)
    assert ours.observation_space == real.observation_space
    assert ours.action_space == real.action_space
    picture, _ = ours.reset(seed=1)
    assert picture.shape == (96, 96, 3)
    assert picture.dtype == np.uint8
    rewards = []
    for step in range(30):
        _, reward, terminated, truncated, _ = ours.step(THROTTLE)
        rewards.append(float(reward))
        assert not terminated
        assert truncated == (step == 29)
    assert min(rewards) == pytest.approx(-0.1)
    tiles = (np.array(rewards[1:]) + 0.1) * 468 / 1000
    assert np.allclose(tiles, tiles.round(), atol=1e-3)
    assert tiles.sum() > 3


def test_levels_are_given_as_batches_text_or_files(tmp_path: Path) -> None:
    level = levels(1)
    text = CarDomain().format(level)
    file = tmp_path / "track.txt"
    file.write_text(text)
    expected = make(level=level).reset()[0]
    for given in (text, file, str(file)):
        assert np.array_equal(make(level=given).reset()[0], expected)


def test_a_centre_line_is_a_level() -> None:
    angle = torch.arange(200) * 2 * torch.pi / 200
    ring = CentreLineLevels(torch.stack([80 * angle.cos(), 80 * angle.sin()], 1)[None], torch.tensor([200]))
    env = make(level=ring)
    env.reset()
    total = sum(float(env.step(THROTTLE)[1]) for _ in range(40))
    assert total > 5 * 5 - 40 * 0.1, "straight on, the car should reach tiles before it leaves the ring"


@pytest.mark.parametrize(
    "level",
    [
        "0 0\n700 0\n700 700\n0 700\n",
        "# x_m,y_m,w_tr_right_m,w_tr_left_m\n" + "\n".join(f"{x},{y},5,5" for x, y in TRIANGLE_IN_METRES),
        CentreLineLevels(torch.tensor([[[2000.0, 2000], [2300, 2000], [2300, 2300], [2000, 2300]]]), torch.tensor([4])),
    ],
    ids=["control points", "centre line", "far away"],
)
def test_a_road_outside_the_usual_playfield_gets_one_that_holds_it(level: Any) -> None:
    env: Any = make(level=level)
    env.reset(seed=1)
    engine = env.unwrapped._adapter.engine
    (track,) = engine.tracks
    assert track.extent > engine.playfield
    assert engine._rules.playfield.tolist() == [pytest.approx(1.25 * track.extent)]
    for _ in range(20):
        assert env.step(THROTTLE)[1] > -1
    env.reset(options={"level": levels(1)})
    assert engine._rules.playfield.tolist() == [engine.playfield], "which holds this one"


def test_each_car_has_a_playfield_of_its_own() -> None:
    corners = torch.tensor([[0.0, 0], [100, 0], [100, 100], [0, 100]])
    env = make_vector(2, level=BezierLevels(torch.stack([corners, 9 * corners]), torch.tensor([4, 4])))
    env.reset(seed=0)
    engine = env.unwrapped._adapter.engine
    small, large = engine._rules.playfield
    assert small == engine.playfield < 450 < large


def test_a_road_that_no_playfield_holds_is_one_clear_error() -> None:
    square = torch.tensor([[[0.0, 0], [1, 0], [1, 1], [0, 1]]])
    for factor, message in (
        (1e6, r"reaches 1e\+06 units from the middle; a road may reach 25,000"),
        (np.nan, "not finite"),
    ):
        with pytest.raises(LevelError, match=f"level 0: its road .*{message}"):
            make(level=CentreLineLevels(factor * square, torch.tensor([4]))).reset()


def test_random_levels_follow_the_seed_and_change() -> None:
    one, other = make(), make()
    first = [one.reset(seed=3)[0], *(one.reset()[0] for _ in range(2))]
    again = [other.reset(seed=3)[0], *(other.reset()[0] for _ in range(2))]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({picture.tobytes() for picture in first}) > 1


def test_a_vector_of_cars_restarts_in_the_step_after_the_end() -> None:
    env = make_vector(3, level=levels(1), max_frames=2)
    first, _ = env.reset(seed=0)
    assert first.shape == (3, 96, 96, 3)
    actions = np.stack([THROTTLE] * 3)
    env.step(actions)
    _, _, terminated, truncated, _ = env.step(actions)
    assert truncated.tolist() == [True] * 3
    assert not terminated.any()
    picture, reward, _, truncated, _ = env.step(actions)
    assert np.array_equal(picture, first)
    assert reward.tolist() == [0, 0, 0]
    assert not truncated.any()


def test_rendering_shows_what_the_agent_sees() -> None:
    env: Any = make(render_mode="rgb_array").unwrapped
    with pytest.raises(RuntimeError, match="reset the environment before rendering"):
        env.render()
    picture, _ = env.reset(seed=1)
    assert np.array_equal(env.render(), picture)


def test_a_level_that_cannot_be_read_is_one_clear_error() -> None:
    with pytest.raises(LevelError, match=r"line \d+: \w"):
        make(level="non\nsense")
    with pytest.raises(TypeError, match="a level must be RoadLevels, text, a file or None, got int"):
        make(level=3)
    with pytest.raises(ValueError, match="expected one level or one for each of 1 environments, got 2"):
        make(level=levels(2))
