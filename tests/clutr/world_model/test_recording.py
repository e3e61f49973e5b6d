"""Recorded episodes: what was seen belongs to what was done, nothing is lost on the way to the disk and back."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clutr.envs.capabilities import PrivilegedState
from clutr.envs.car.domain import CarDomain
from clutr.envs.domain import Engine
from clutr.envs.maze.domain import MazeDomain
from clutr.world_model.dataset import CONTINUES, SPLITS, EpisodeDataset, describe, split_of, write_part
from clutr.world_model.policies import STICKY_STEPS, BehaviourPolicy, NoisyExpert, RandomWalk, shares_to_counts
from clutr.world_model.recorder import Recorder, Round, part_path

MAZE = MazeDomain(height=5, width=5, max_obstacles=4, max_steps=12)
CAR = CarDomain(max_frames=64, shaped=False)


def policies(engine: Engine) -> Sequence[tuple[BehaviourPolicy, int]]:
    n = engine.num_envs
    return [(RandomWalk(engine.action_space, n), n - 2), (NoisyExpert(engine.action_space, n), 2)]


def record(domain: PrivilegedState, number: int = 0, length: int = 10) -> Round:
    return Recorder(domain, 6, length, policies, seed=1).round(number)


@pytest.mark.parametrize("domain", [MAZE, CAR], ids=["maze", "car"])
def test_a_round_depends_on_its_number_alone(domain: PrivilegedState) -> None:
    recorder = Recorder(domain, 6, 5, policies, seed=1)
    recorder.round(0)
    again, other = recorder.round(3), recorder.round(4)
    fresh = record(domain, 3, 5)
    assert torch.equal(again.part.frames, fresh.part.frames)
    assert torch.equal(again.part.actions, fresh.part.actions)
    assert torch.equal(again.part.privileged_state, fresh.part.privileged_state)
    assert again.levels.key() == fresh.levels.key()
    assert not torch.equal(again.part.privileged_state[:6], other.part.privileged_state[:6])


class Lane:
    """A observer whose guide asks for the number of times it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def expert_action(self, aggressiveness: Tensor) -> Tensor:
        self.asked += 1
        return torch.full((len(aggressiveness), 1), float(self.asked))


def test_sticky_actions_of_the_noisy_expert_are_repeated() -> None:
    space = Box(-1e6, 1e6, (1,), np.float32)
    observer: Any = Lane()
    policy, rng = NoisyExpert(space, 500, noise=0.0, sticky_action_probability=0.1), torch.Generator().manual_seed(0)
    policy.reset(torch.ones(500, dtype=torch.bool))
    actions = torch.stack([policy.act({}, observer, rng)[:, 0] for _ in range(400)])
    assert (actions[0] == 1).all(), "no action sticks at first"
    looks = actions == torch.arange(1.0, 401.0)[:, None]
    assert torch.equal(actions[1:][~looks[1:]], actions[:-1][~looks[1:]])
    # in the long run, a share 0.1 / (0.1 + 1 / 25) of the actions sticks
    assert 1 - float(looks[100:].float().mean()) == pytest.approx(0.1 / (0.1 + 1 / STICKY_STEPS), abs=0.02)
    policy.reset(torch.ones(500, dtype=torch.bool))
    assert (policy.act({}, observer, rng) == observer.asked).all(), "no action sticks at the start of an episode"


def test_episodes_in_the_engine_show_what_was_recorded() -> None:
    """The recorded actions, played again from the start on the recorded level, lead to the recorded frames."""
    found = record(MAZE, length=20)
    part = found.part
    for episode in range(6):
        rows = (part.episodes == episode).nonzero().flatten()
        assert len(rows) == found.rows[episode]
        engine = MAZE.engine(1)
        engine.reset(found.levels[episode])
        observer = MAZE.observer(engine)
        for place, row in enumerate(rows.tolist()):
            assert torch.equal(part.frames[row], observer.pictures()[0])
            assert torch.equal(part.masks[row], observer.masks()[0])
            privileged_state = torch.stack(list(observer.privileged_state().values()), 1)[0]
            torch.testing.assert_close(part.privileged_state[row], privileged_state)
            if place == len(rows) - 1:
                assert part.actions[row].tolist() == [0.0]
                break
            result = engine.step(part.actions[row].long())
            assert float(part.rewards[row]) == pytest.approx(float(result.reward))
            assert int(part.ended[row]) == (1 if result.terminated else 2 if result.truncated else 0)
        ends = part.ended[rows[:-1]]
        assert (ends[:-1] == CONTINUES).all()
        assert len(rows) == 21 or ends[-1] != CONTINUES


def test_cars_start_all_along_their_roads() -> None:
    recorder = Recorder(CAR, 12, 1, policies, seed=1)
    found = recorder.round(0)
    starts = found.part.privileged_state[:, :2][torch.cat([torch.tensor([True]), found.part.episodes.diff() > 0])]
    firsts = torch.tensor([track.start[1:] for track in found.levels.tracks()])  # type: ignore[attr-defined]
    away = (starts - firsts).norm(dim=1)
    assert (away > 20).sum() >= 8
    progress = found.part.privileged_state[:, list(recorder.observer.quantities).index("progress")]
    assert (progress < 0.1).all()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Round]]:
    folder = tmp_path_factory.mktemp("recording")
    recorder = Recorder(MAZE, 6, 10, policies, seed=2)
    about = describe(64, 1, recorder.observer.quantities, recorder.observer.objects)
    rounds = [recorder.round(number) for number in range(3)]
    for number, each in enumerate(rounds):
        write_part(part_path(folder, number), each.part)
        episodes = [
            {"rows": rows, "key": key, "policy": policy}
            for rows, key, policy in zip(each.rows, each.levels.key(), each.policies, strict=True)
        ]
        about["parts"].append({"rows": sum(each.rows), "episodes": episodes})
    (folder / "recording.json").write_text(json.dumps(about))
    return folder, rounds


def test_the_disk_gives_back_what_was_written(dataset: tuple[Path, list[Round]]) -> None:
    folder, rounds = dataset
    read = EpisodeDataset(folder)
    assert len(read) == sum(sum(each.rows) for each in rounds)
    assert len(read.episodes) == 18
    everything = torch.arange(len(read))
    for name in ("frames", "masks", "actions", "rewards", "ended", "privileged_state"):
        written = torch.cat([getattr(each.part, name) for each in rounds])
        assert torch.equal(read.column(name, everything), written), name
        shuffled = torch.randperm(len(read), generator=torch.Generator().manual_seed(0))
        assert torch.equal(read.column(name, shuffled), written[shuffled]), name
    for episode in read.episodes:
        inside = read.column("episodes", torch.arange(episode.first, episode.first + episode.rows))
        assert len(set(inside.tolist())) == 1
    assert {episode.policy for episode in read.episodes} == {"walk", "expert"}


def test_no_level_is_in_two_splits(dataset: tuple[Path, list[Round]]) -> None:
    read = EpisodeDataset(dataset[0])
    rows = {split: set(read.rows(split).tolist()) for split in SPLITS}
    assert sum(map(len, rows.values())) == len(read)
    assert not rows["train"] & rows["test"]
    keys = {split: {e.key for e in read.of_split(split)} for split in SPLITS}
    assert not keys["train"] & keys["test"]
    source = read.frames("train")
    some = torch.tensor([0, len(source) - 1])
    assert torch.equal(source[some], read.column("frames", read.rows("train")[some]))


def test_splits_have_about_their_shares() -> None:
    counts = dict.fromkeys(SPLITS, 0)
    for number in range(4_000):
        counts[split_of(f"{number:016x}")] += 1
    assert counts["train"] == pytest.approx(3200, abs=100)
    assert counts["test"] == pytest.approx(400, abs=80)


def test_nothing_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/mine holds no dataset"):
        EpisodeDataset("~/mine")
    with pytest.raises(FileNotFoundError, match="holds no dataset: `clutr world record` makes one"):
        EpisodeDataset(tmp_path)
    with pytest.raises(ValueError, match="at least one environment and one action"):
        Recorder(MAZE, 0, 5, policies, seed=1)


@given(shares=st.lists(st.floats(0.01, 1), min_size=1, max_size=5), n=st.integers(1, 40))
def test_environments_are_shared_out(shares: list[float], n: int) -> None:
    counts = shares_to_counts(shares, n)
    assert sum(counts) == n
    assert all(count >= (1 if n >= len(shares) else 0) for count in counts[1:])
    assert counts[0] >= 0


def test_rare_policies_get_an_environment_too() -> None:
    assert shares_to_counts([0.01, 0.01, 0.01, 0.01, 1.0], 5) == [1, 1, 1, 1, 1]
    assert shares_to_counts([0.5, 0.25, 0.25], 16) == [8, 4, 4]
    assert shares_to_counts([1.0, 1.0], 1) == [1, 0]


def test_random_walks_stay_in_their_box_and_wander() -> None:
    engine = CAR.engine(8)
    walk, rng = RandomWalk(engine.action_space, 8), torch.Generator().manual_seed(1)
    walk.reset(torch.ones(8, dtype=torch.bool))
    actions = torch.stack([walk.act({}, CAR.observer(engine), rng) for _ in range(200)])
    assert actions[..., 0].min() >= -1
    assert actions[..., 1:].min() >= 0
    assert actions.max() <= 1
    steps = actions.diff(dim=0).abs().mean()
    assert 0.01 < steps < 0.4
    assert actions[..., 0].std() > 0.3
