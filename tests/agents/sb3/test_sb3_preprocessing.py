"""What Stable-Baselines3 sees of an observation is what the wrappers that its users know would give."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FlattenObservation
from minigrid.wrappers import FlatObsWrapper, ImgObsWrapper

import clutr  # noqa: F401  (registers the environments)
from clutr.agents.sb3 import preprocessing as views
from clutr.envs.maze.engine import MazeEngine


@pytest.fixture
def maze() -> Any:
    return gymnasium.make("clutr/Maze-v0", height=5, width=5, max_obstacles=6)


def batched(observation: dict[str, Any]) -> dict[str, torch.Tensor]:
    """One observation as an engine would give two of it."""
    return {name: torch.from_numpy(np.stack([np.asarray(value)] * 2)) for name, value in observation.items()}


def test_flat_is_gymnasiums_flattened_observation(maze: Any) -> None:
    flattened: Any = FlattenObservation(maze)
    observation, _ = maze.reset(seed=1)
    view = views.flat(maze.observation_space)
    shown = view.show(batched(observation))
    assert view.space == flattened.observation_space
    assert shown.numpy().dtype == view.space.dtype
    assert (shown[1].numpy() == flattened.observation(observation)).all()


def test_plain_and_image(maze: Any) -> None:
    observation, _ = maze.reset(seed=1)
    both = batched(observation)
    assert views.plain(maze.observation_space).show(both) is both
    assert views.image(maze.observation_space).space == maze.observation_space["image"]
    assert views.image(maze.observation_space).show(both) is both["image"]
    alone = gymnasium.spaces.Dict({"image": maze.observation_space["image"]})
    assert views.plain(alone).space == alone["image"]
    assert views.plain(alone).show({"image": both["image"]}) is both["image"]


@pytest.mark.parametrize("size", [5, 7])
def test_minigrids_own_wrappers(size: int) -> None:
    """A model that learnt in MiniGrid's empty room sees the same there and in our engine's view."""
    room = gymnasium.make("MiniGrid-Empty-8x8-v0", agent_view_size=size)
    observation, _ = room.reset(seed=1)
    space = MazeEngine(1, 6, 6, max_steps=9, view=size).observation_space
    seen = batched({name: observation[name] for name in ("image", "direction")})
    letters = FlatObsWrapper(room)
    view = views.minigrid_flat(space)
    assert view.space == letters.observation_space
    assert (view.show(seen)[0].numpy() == letters.observation(observation)).all()
    pictures = ImgObsWrapper(room)
    assert views.image(space).space == pictures.observation_space
    assert (views.image(space).show(seen)[0].numpy() == pictures.observation(observation)).all()


def test_symbols_are_one_hot() -> None:
    space = MazeEngine(1, 3, 3, max_steps=9, view=3).observation_space
    image = torch.zeros(1, 3, 3, 3, dtype=torch.uint8)
    image[..., 0], image[..., 1] = 2, 5  # grey walls
    image[0, 2, 1, 0] = 8  # and a goal
    shown = views.symbols(space).show({"image": image, "direction": torch.tensor([3])})[0]
    assert shown.shape == (9 * 11 + 4,)
    cells, heading = shown[:-4].view(9, 11), shown[-4:]
    assert cells.argmax(1).tolist() == [2, 2, 2, 2, 2, 2, 2, 8, 2]
    assert cells.sum(1).tolist() == [1] * 9
    assert heading.tolist() == [0, 0, 0, 1]
    stacked = views.symbols(space).show({"image": image.expand(5, 1, 3, 3, 3), "direction": torch.full((5, 1), 3)})
    assert stacked.shape == (5, 1, 103)
    assert (stacked == shown).all()
    with pytest.raises(ValueError, match="symbols are made of the `image` and `direction` of a maze, not of Dict"):
        views.symbols(gymnasium.spaces.Dict({"image": space["image"]}))


def test_pictures_are_averaged_and_turned() -> None:
    space = gymnasium.spaces.Dict({"image": gymnasium.spaces.Box(0, 255, (4, 6, 3), np.uint8)})
    pixels = torch.arange(4 * 6 * 3, dtype=torch.uint8).view(1, 1, 4, 6, 3)
    view = views.picture(space, 2)
    shown = view.show({"image": pixels})
    assert view.space == gymnasium.spaces.Box(0, 255, (3, 2, 3), np.uint8)
    assert shown.shape == (1, 1, 3, 2, 3)
    # rows are 18 apart, columns 3: the first square of the first channel holds 0, 3, 18 and 21
    assert int(shown[0, 0, 0, 0, 0]) == round((0 + 3 + 18 + 21) / 4)
    # the last square of the last channel: rows 2 and 3, columns 4 and 5
    assert int(shown[0, 0, 2, 1, 2]) == round(sum(18 * row + 3 * column + 2 for row in (2, 3) for column in (4, 5)) / 4)
    assert torch.equal(views.picture(space, 1).show({"image": pixels})[0, 0], pixels[0, 0].permute(2, 0, 1))
    with pytest.raises(ValueError, match="shrink must divide the picture's 4 and 6 pixels, got 4"):
        views.picture(space, 4)


def test_pictures_of_others_models_are_turned(maze: Any) -> None:
    observation, _ = maze.reset(seed=1)
    seen = batched(observation)
    turned = views.channels_first(views.plain(maze.observation_space))
    assert turned.space["image"].shape == (3, 5, 5)  # type: ignore[index]
    assert turned.space["direction"] == maze.observation_space["direction"]  # type: ignore[index]
    assert torch.equal(turned.show(seen)["image"], seen["image"].permute(0, 3, 1, 2))
    assert torch.equal(turned.show(seen)["direction"], seen["direction"])
    flat = views.flat(maze.observation_space)
    assert views.channels_first(flat) is flat


def test_a_student_sees_mazes_and_pictures_alone() -> None:
    with pytest.raises(ValueError, match="this student sees `image` and `direction` of a maze, or a picture, not Dict"):
        views.student_view(gymnasium.spaces.Dict({"speed": gymnasium.spaces.Box(0, 1, (2,))}), 2)
