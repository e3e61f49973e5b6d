"""The fast engine beside the real package behind the same protocol."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from clutr.envs.car.box2d_env import Box2DEngine
from clutr.envs.car.domain import CarDomain
from clutr.envs.car.engine import END_BONUS, CarEngine
from clutr.envs.car.road.level import BezierLevels, CentreLineLevels, RoadLevels
from clutr.envs.domain import SeedLevels
from clutr.envs.maze.level import empty_levels


def levels(n: int, seed: int = 0) -> BezierLevels:
    return CarDomain().sample(n, torch.Generator().manual_seed(seed))


def short_roads(n: int) -> CentreLineLevels:
    """Quickly built."""
    line = torch.tensor([[0.0, 0.0], [0.0, 5.0], [0.0, 10.0], [12.0, 10.0], [12.0, 0.0]])
    return CentreLineLevels(line + torch.arange(n)[:, None, None], torch.full((n,), 5))


def actions(kind: str, n: int, rng: torch.Generator) -> Tensor:
    if kind == "random":
        noise = torch.rand(n, 3, generator=rng)
        return noise * torch.tensor([2.0, 1.0, 0.4]) - torch.tensor([1.0, 0.0, 0.0])
    fixed = {"throttle": [0.0, 1.0, 0.0], "drift": [0.6, 1.0, 0.3], "rest": [0.0, 0.0, 0.0]}
    return torch.tensor([fixed[kind]] * n)


@pytest.mark.parametrize("kind", ["random", "throttle", "drift"])
def test_rewards_ends_and_places_are_the_packages(kind: str) -> None:
    n, rng = 3, torch.Generator().manual_seed(5)
    roads = levels(n, seed=3)
    fast, real = CarEngine(n, max_frames=300), Box2DEngine(n, max_frames=300)
    pictures = [fast.reset(roads)["image"]], [real.reset(roads)["image"]]
    for _ in range(38):
        chosen = actions(kind, n, rng)
        one, other = fast.step(chosen), real.step(chosen)
        assert torch.equal(one.reward, other.reward)
        assert torch.equal(one.terminated, other.terminated)
        assert torch.equal(one.truncated, other.truncated)
        assert torch.equal(fast.solved, real.solved)
        assert torch.equal(fast.agent_position[:, :3], real.agent_position[:, :3])
        assert torch.allclose(fast.agent_position[:, 3], real.agent_position[:, 3], rtol=1e-6)
        pictures[0].append(one.observation["image"])
        pictures[1].append(other.observation["image"])
    difference = (torch.stack(pictures[0]).float() - torch.stack(pictures[1]).float()).abs().mean()
    assert float(difference) < 4
    assert bool((one.truncated | one.terminated).all())


# At full throttle the third road is left for good, which ends the episode early.
@pytest.mark.parametrize(
    ("kind", "rows", "steps", "early"), [("random", [0, 1], 6, False), ("throttle", [2], 17, True)]
)
def test_the_shaped_reward_is_the_published_one(kind: str, rows: list[int], steps: int, early: bool) -> None:
    n, frames = len(rows), 8 * steps
    roads = levels(3, seed=3)[torch.tensor(rows)]
    fast, real = CarEngine(n, max_frames=frames, shaped=True), Box2DEngine(n, max_frames=frames, shaped=True)
    rng = torch.Generator().manual_seed(5)
    fast.reset(roads)
    real.reset(roads)
    ours, theirs = [], []
    for _ in range(steps):
        chosen = actions(kind, n, rng)
        one, other = fast.step(chosen), real.step(chosen)
        ours.append(one.reward)
        theirs.append(other.reward)
        assert torch.equal(one.terminated, other.terminated)
        assert torch.equal(one.truncated, other.truncated)
    # whether a frame is mostly grass is estimated, so now and then one frame's 0.05 is on the other side
    difference = (torch.stack(ours) - torch.stack(theirs)).abs()
    assert float((difference > 1e-4).float().mean()) < 0.1
    assert float(difference.max()) < 0.21
    assert bool((one.terminated if early else one.truncated).all())


def test_an_episode_without_progress_is_stopped_early_and_counts_as_terminated() -> None:
    engine = CarEngine(1, action_repeat=1, shaped=True)
    engine.reset(levels(1))
    rewards = []
    for _ in range(130):
        step = engine.step(actions("rest", 1, torch.Generator()))
        rewards.append(float(step.reward))
        if bool(step.terminated):
            break
    # The tiles under the car are rewarded in the first frame, and hold off the end until they leave the window.
    assert bool(step.terminated)
    assert not bool(step.truncated)
    assert not bool(engine.solved)
    assert 100 <= len(rewards) <= 101
    assert rewards[0] > 0
    assert rewards[50] == pytest.approx(-0.1, abs=0.051)


def test_a_time_limit_brings_the_published_bonus() -> None:
    def last_reward(shaped: bool) -> float:
        engine = CarEngine(1, max_frames=20, shaped=shaped)
        engine.reset(levels(1))
        for _ in range(3):
            step = engine.step(actions("throttle", 1, torch.Generator()))
        assert bool(step.truncated)
        return float(step.reward)

    assert last_reward(True) - last_reward(False) == pytest.approx(END_BONUS, abs=0.21)


def test_leaving_the_playfield_ends_the_episode() -> None:
    engine = CarEngine(1, playfield=20.0)
    engine.reset(short_roads(1))
    for _ in range(60):
        step = engine.step(actions("throttle", 1, torch.Generator()))
        if bool(step.terminated):
            break
    assert bool(step.terminated)
    assert not bool(engine.solved)
    assert float(step.reward) < -90


def test_an_environment_that_has_ended_stands_still_until_its_reset() -> None:
    engine = CarEngine(2, max_frames=8)
    first = engine.reset(levels(2))["image"]
    ended = engine.step(actions("throttle", 2, torch.Generator()))
    assert bool(ended.truncated.all())
    position = engine.agent_position
    again = engine.step(actions("throttle", 2, torch.Generator()))
    assert torch.equal(again.observation["image"], ended.observation["image"])
    assert again.reward.tolist() == [0, 0]
    assert bool(again.truncated.all())
    assert torch.equal(engine.agent_position, position)
    mixed = engine.reset(mask=torch.tensor([True, False]))["image"]
    assert torch.equal(mixed[0], first[0])
    assert torch.equal(mixed[1], ended.observation["image"][1])


def test_a_returned_picture_is_never_written_to() -> None:
    engine = CarEngine(2)
    first = engine.reset(levels(2))["image"]
    kept = first.clone()
    second = engine.step(actions("throttle", 2, torch.Generator())).observation["image"]
    assert torch.equal(first, kept)
    kept = second.clone()
    engine.reset(mask=torch.tensor([True, False]))
    assert torch.equal(second, kept)
    second.zero_()
    assert torch.equal(engine.reset(mask=torch.tensor([True, False]))["image"][1], kept[1]), "it rested"


def test_new_levels_go_where_the_mask_says() -> None:
    engine, other = CarEngine(2), CarEngine(2)
    engine.reset(levels(2, seed=1))
    expected = other.reset(levels(2, seed=2))["image"]
    before = engine.step(actions("throttle", 2, torch.Generator())).observation["image"]
    mixed = engine.reset(levels(2, seed=2), torch.tensor([False, True]))["image"]
    assert torch.equal(mixed[0], before[0])
    assert torch.equal(mixed[1], expected[1])


def test_the_result_does_not_depend_on_the_company() -> None:
    roads = levels(4, seed=7)
    rng = torch.Generator().manual_seed(1)
    together, alone = CarEngine(4, shaped=True), [CarEngine(1, shaped=True) for _ in range(4)]
    together.reset(roads)
    for index, engine in enumerate(alone):
        engine.reset(roads[index])
    for _ in range(10):
        chosen = actions("random", 4, rng)
        step = together.step(chosen)
        for index, engine in enumerate(alone):
            single = engine.step(chosen[index : index + 1])
            assert torch.equal(single.observation["image"][0], step.observation["image"][index])
            assert float(single.reward) == float(step.reward[index])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"num_envs": 1, "max_frames": 0}, "max_frames must be at least 1, got 0"),
        ({"num_envs": 1, "action_repeat": -1}, "action_repeat must be at least 1, got -1"),
        ({"num_envs": 1, "playfield": 0.0}, "playfield must be above 0, got 0.0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CarEngine(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [CarEngine, Box2DEngine])
def test_misuse_is_said(make: type[CarEngine] | type[Box2DEngine]) -> None:
    engine = make(2)
    with pytest.raises(RuntimeError, match="the first reset needs levels"):
        engine.reset()
    with pytest.raises(TypeError, match="got MazeLevels"):
        engine.reset(empty_levels(2, 3, 3))
    with pytest.raises(ValueError, match="the engine has 2 environments, got 3 levels"):
        engine.reset(levels(3))


def test_the_fast_engine_says_more_misuse() -> None:
    engine = CarEngine(2)
    with pytest.raises(RuntimeError, match="reset the engine before stepping"):
        engine.step(torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="the first reset must be of all environments"):
        engine.reset(levels(2), torch.tensor([True, False]))
    engine.reset(levels(2))
    with pytest.raises(ValueError, match=r"actions must be \[2, 3\], got \[2\]"):
        engine.step(torch.zeros(2))


def test_the_unmodified_package_plays_its_own_tracks() -> None:
    engine = Box2DEngine(1, package_tracks=True)
    first = engine.reset(SeedLevels(torch.tensor([4])))["image"]
    assert not torch.equal(first, engine.reset(SeedLevels(torch.tensor([5])))["image"])
    assert torch.equal(first, engine.reset(SeedLevels(torch.tensor([4])))["image"])
    with pytest.raises(TypeError, match="this engine plays SeedLevels, got BezierLevels"):
        engine.reset(levels(1))
    with pytest.raises(TypeError, match="this engine plays RoadLevels, got SeedLevels"):
        Box2DEngine(1).reset(SeedLevels(torch.tensor([4])))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell a process its size")
def test_five_thousand_resets_leave_the_memory_where_it_was() -> None:
    n = 50
    engine = CarEngine(n)
    pools: list[RoadLevels] = [levels(4 * n), *[short_roads(4 * n)] * 4]
    for pool in pools[:2]:
        engine.reset(pool[torch.randint(4 * n, (n,), generator=torch.Generator().manual_seed(0))])
    before = resident_bytes()
    rng = np.random.default_rng(0)
    for batch in range(5_000 // n):
        engine.reset(pools[batch % len(pools)][torch.from_numpy(rng.integers(0, 4 * n, n))])
    grown = (resident_bytes() - before) * 4096
    assert grown < 8 * 2**20, f"grew by {grown / 2**20:.0f} MiB"
