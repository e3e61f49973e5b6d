"""Datasets of one's own recordings: arrays, or rollouts of any Gymnasium environment that shows pictures.

import_episodes("recording", gymnasium_episodes(env, policy, 100))
clutr world record --preset car-fast --recording recording --run runs/mine
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from clutr.envs.capabilities import SIDE
from clutr.world_model.dataset import CONTINUES, TERMINATED, TRUNCATED, EpisodeDataset, Part, describe, write_part
from clutr.world_model.recorder import part_path

PART_FRAMES = 5_000
"""About so many frames are kept in one file."""


@dataclass(frozen=True)
class Recording:
    """One episode of L actions."""

    frames: ArrayLike
    """`[L + 1, H, W, 3]` uint8: what was seen before each action, and after the last one."""
    actions: ArrayLike
    """`[L]` whole numbers, or `[L, A]` float."""
    rewards: ArrayLike
    """`[L]`."""
    terminated: bool = False
    """Whether the environment ended the episode, and not a time limit."""
    level: str = ""
    """What it was played on: episodes of one level never lie in two splits. Nothing: a level of its own."""
    policy: str = "imported"
    """Who acted."""
    masks: ArrayLike | None = None
    """`[L + 1, 64, 64]` uint8: numbers of objects, if known."""
    state: Mapping[str, ArrayLike] = field(default_factory=dict)
    """True quantities `[L + 1]` by name, the same names in every episode; those of `clutr world record` make the same
    measures possible."""


def import_episodes(
    path: Path | str, episodes: Iterable[Recording], *, actions: int = 0, objects: Sequence[str] = ("picture",)
) -> EpisodeDataset:
    """Write a dataset that `clutr world record --recording PATH` takes. Frames are resized to 64x64 by area.

    Args:
        path: a folder that is empty or not there.
        episodes: taken one at a time, so that they need not be in memory together.
        actions: how many there are, if they are whole numbers; 0 for actions that are numbers.
        objects: names of the numbers in `masks`.

    Raises:
        FileExistsError: if the folder holds something.
        ValueError: if there is no episode, or one does not fit; the message names it.
    """
    folder = Path(path).expanduser()
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {}
    waiting: list[tuple[Part, dict[str, Any]]] = []
    for number, episode in enumerate(episodes):
        part = _part(episode, number, actions, len(objects))
        names = dict.fromkeys(episode.state, "") or {"step": "steps"}
        about = about or describe(SIDE, part.actions.shape[1], names, objects, discrete=actions)
        if list(names) != list(about["quantities"]) or part.actions.shape[1] != about["actions"]:
            raise ValueError(f"episode {number} has other quantities or actions than those before it")
        key = episode.level or f"episode {number}"
        waiting.append((part, {"rows": len(part.frames), "key": key, "policy": episode.policy}))
        if sum(len(each.frames) for each, _ in waiting) >= PART_FRAMES:
            _write(folder, about, waiting)
            waiting = []
    if waiting:
        _write(folder, about, waiting)
    if not about:
        raise ValueError("there is no episode to import")
    (folder / "recording.json").write_text(json.dumps(about))
    return EpisodeDataset(folder)


def _part(episode: Recording, number: int, discrete: int, objects: int) -> Part:
    """An episode's rows. Raises `ValueError` naming what does not fit."""
    frames = torch.as_tensor(np.asarray(episode.frames))
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8 or len(frames) < 2:
        raise ValueError(
            f"episode {number}: frames must be uint8 [L + 1, H, W, 3] of at least one action, "
            + f"got {frames.dtype} {list(frames.shape)}"
        )
    length = len(frames) - 1
    taken = _column(episode.actions, f"episode {number}: actions", length).reshape(length, -1)
    rewards = _column(episode.rewards, f"episode {number}: rewards", length).reshape(length)
    if discrete and not bool(((taken == taken.round()) & (taken >= 0) & (taken < discrete)).all()):
        raise ValueError(f"episode {number}: actions must be whole numbers from 0 to {discrete - 1}")
    ended = torch.full((length + 1,), CONTINUES, dtype=torch.uint8)
    ended[length - 1] = TERMINATED if episode.terminated else TRUNCATED
    masks = torch.zeros(length + 1, SIDE, SIDE, dtype=torch.uint8)
    if episode.masks is not None:
        masks = torch.as_tensor(np.asarray(episode.masks))
        if masks.shape != (length + 1, SIDE, SIDE) or int(masks.max()) >= objects:
            raise ValueError(f"episode {number}: masks must be [{length + 1}, {SIDE}, {SIDE}] of {objects} objects")
    states = [_column(v, f"episode {number}: {name}", length + 1) for name, v in episode.state.items()]
    none = torch.zeros(1, taken.shape[1])
    return Part(
        frames=_resized(frames),
        masks=masks.to(torch.uint8),
        actions=torch.cat([taken, none]),
        rewards=torch.cat([rewards, torch.zeros(1)]),
        ended=ended,
        privileged_state=torch.stack(states or [torch.arange(length + 1.0)], 1),
        episodes=torch.zeros(length + 1, dtype=torch.int64),
    )


def _column(values: ArrayLike, what: str, length: int) -> Tensor:
    found = torch.as_tensor(np.asarray(values)).float()
    if not found.ndim or len(found) != length or not bool(found.isfinite().all()):
        raise ValueError(f"{what} must be {length} finite rows, got {list(found.shape)}")
    return found


def _resized(frames: Tensor) -> Tensor:
    """`[n, 64, 64, 3]` uint8."""
    if frames.shape[1:3] == (SIDE, SIDE):
        return frames
    pieces = [F.interpolate(part.permute(0, 3, 1, 2).float(), (SIDE, SIDE), mode="area") for part in frames.split(200)]
    return torch.cat(pieces).permute(0, 2, 3, 1).round().to(torch.uint8).contiguous()


def _write(folder: Path, about: dict[str, Any], waiting: Sequence[tuple[Part, dict[str, Any]]]) -> None:
    """Write some episodes as the next part."""
    columns: dict[str, Tensor] = {
        name: torch.cat([getattr(part, name) for part, _ in waiting]) for name in vars(waiting[0][0])
    }
    counts = torch.tensor([len(part.frames) for part, _ in waiting])
    columns["episodes"] = torch.arange(len(waiting)).repeat_interleave(counts)
    write_part(part_path(folder, len(about["parts"])), Part(**columns))
    about["parts"].append({"rows": int(counts.sum()), "episodes": [known for _, known in waiting]})


def gymnasium_episodes(
    env: gymnasium.Env[Any, Any],
    policy: Callable[[Any], Any],
    episodes: int,
    *,
    picture: Callable[[Any], NDArray[np.uint8]] | None = None,
    most_steps: int = 1_000,
    seed: int = 1,
) -> Iterator[Recording]:
    """Play episodes of an environment, for `import_episodes`.

    Args:
        env: shows pictures.
        policy: gives an action for an observation.
        episodes: how many; each on the level of its own seed.
        picture: a frame `[H, W, 3]` uint8 of an observation; by default the observation itself, its `image`, or what
            `render` draws in the mode `rgb_array`.
        most_steps: after which an episode is cut.
        seed: of the first episode's reset; the next one's is one more.

    Raises:
        ValueError: the observations hold no picture, and the environment draws none.
    """

    def seen(observation: Any) -> NDArray[np.uint8]:
        if picture is not None:
            return picture(observation)
        shown = observation.get("image") if isinstance(observation, Mapping) else observation
        if not isinstance(shown, np.ndarray) or shown.ndim != 3 or shown.shape[-1] != 3:
            shown = env.render()
        if not isinstance(shown, np.ndarray):
            raise ValueError("the observations are no pictures, and the environment draws none: give `picture`")
        return shown.copy()

    discrete = isinstance(env.action_space, spaces.Discrete)
    for number in range(episodes):
        observation, _ = env.reset(seed=seed + number)
        frames, actions, rewards, terminated = [seen(observation)], [], [], False
        for _ in range(most_steps):
            action = policy(observation)
            observation, reward, terminated, truncated, _ = env.step(action)
            frames.append(seen(observation))
            actions.append(int(action) if discrete else np.asarray(action, np.float32))
            rewards.append(float(reward))
            if terminated or truncated:
                break
        level = f"{getattr(env.spec, 'id', type(env.unwrapped).__name__)} {seed + number}"
        yield Recording(np.stack(frames), np.stack(actions), rewards, terminated, level)
