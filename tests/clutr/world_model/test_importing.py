"""Recordings of one's own become datasets, and what does not fit is named."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from clutr.world_model import importing
from clutr.world_model.dataset import TERMINATED, TRUNCATED
from clutr.world_model.importing import Recording, gymnasium_episodes, import_episodes


def recording(length: int, shade: int, **more: Any) -> Recording:
    frames = np.full((length + 1, 32, 128, 3), shade, np.uint8)
    return Recording(frames, np.full((length, 2), 0.5), np.arange(length), **more)


def test_arrays_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PART_FRAMES", 12)
    state = {"speed": np.arange(5.0)}
    given = [
        recording(4, 10 * number, terminated=number == 1, level=f"road {number // 2}", state=state)
        for number in range(5)
    ]
    found = import_episodes(tmp_path / "new", iter(given), objects=("grass", "road"))
    assert len(found) == 25
    assert len(list(found.path.glob("part-*.arrow"))) == 2, "three episodes each fill a part of twelve frames"
    assert [episode.key for episode in found.episodes] == ["road 0", "road 0", "road 1", "road 1", "road 2"]
    second = found.episodes[1].indices
    assert (found.column("frames", second) == 10).all()
    assert found.column("frames", second).shape == (5, 64, 64, 3)
    assert found.column("rewards", second).tolist() == [0, 1, 2, 3, 0]
    assert found.actions(second)[:, 1].tolist() == [0.5, 0.5, 0.5, 0.5, 0.0]
    assert found.column("ended", second).tolist() == [0, 0, 0, TERMINATED, 0]
    assert int(found.column("ended", found.episodes[4].indices)[3]) == TRUNCATED
    assert found.column("privileged_state", second)[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert (found.quantities, list(found.objects)) == (["speed"], ["grass", "road"])


def test_pictures_shrink_by_area(tmp_path: Path) -> None:
    frames = np.zeros((2, 128, 128, 3), np.uint8)
    frames[:, ::2] = 100  # every second row: half of each pixel
    found = import_episodes(tmp_path, [Recording(frames, [0], [0.0])], actions=2)
    assert (found.column("frames", torch.arange(2)) == 50).all()
    assert found.action_width == 2


class Blink(gymnasium.Env[Any, Any]):
    """Shows its clock; ends after three steps with an even seed, is never ended otherwise."""

    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space: Any = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, **_: Any) -> tuple[Any, dict[str, Any]]:
        self.clock, self.even = 0, seed is not None and seed % 2 == 0
        return self.look(), {}

    def look(self) -> Any:
        return np.full((64, 64, 3), self.clock, np.uint8)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        return self.look(), float(action), self.even and self.clock == 3, False, {}


def test_gymnasium_rollouts_are_recorded(tmp_path: Path) -> None:
    episodes = gymnasium_episodes(Blink(), lambda seen: int(seen[0, 0, 0]) % 3, 2, most_steps=5, seed=1)
    assert isinstance(episodes, Iterator)
    found = import_episodes(tmp_path, episodes, actions=3)
    assert [episode.rows for episode in found.episodes] == [6, 4], "one was cut, one ended"
    rows = found.episodes[0].indices
    assert found.column("frames", rows)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.column("rewards", rows).tolist() == [0, 1, 2, 0, 1, 0]
    assert found.actions(rows[:3]).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert found.column("ended", found.episodes[1].indices).tolist() == [0, 0, TERMINATED, 0]
    assert found.episodes[1].key == "Blink 2"


def test_messages(tmp_path: Path) -> None:
    good = recording(3, 1)
    for number, (episodes, message) in enumerate(
        [
            ([], "there is no episode to import"),
            (
                [Recording(np.zeros((4, 8, 8)), [0] * 3, [0] * 3)],
                r"episode 0: frames must be uint8 .*float64 \[4, 8, 8\]",
            ),
            (
                [good, Recording(good.frames, [0.0, 0.0], [0] * 3)],
                r"episode 1: actions must be 3 finite rows, got \[2\]",
            ),
            ([Recording(good.frames, [0.0] * 3, [0, 1, np.nan])], "episode 0: rewards must be 3 finite rows"),
            ([good, recording(3, 1, state={"x": [0] * 4})], "episode 1 has other quantities or actions"),
            ([recording(3, 1, masks=np.ones((4, 64, 64), np.uint8))], r"masks must be \[4, 64, 64\] of 1 objects"),
        ]
    ):
        with pytest.raises(ValueError, match=message):
            import_episodes(tmp_path / str(number), episodes)
    with pytest.raises(ValueError, match="actions must be whole numbers from 0 to 1"):
        import_episodes(tmp_path / "whole", [Recording(good.frames, [0, 2, 1], [0] * 3)], actions=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    with pytest.raises(FileExistsError, match="full is not empty: name another folder"):
        import_episodes(tmp_path / "full", [good])
