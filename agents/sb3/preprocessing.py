"""What Stable-Baselines3 gets to see of an engine's observation."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor

from clutr.agents.networks import OBJECTS
from clutr.envs.domain import Observation

HEADINGS = 4

Shown = Any
"""A tensor, or tensors by name where the view has several parts."""


class View(NamedTuple):
    """One way to show observations."""

    space: gymnasium.Space[Any]
    """Of one environment's observation, as it is shown."""
    show: Callable[[Observation], Shown]
    """Turns an engine's observation into that. Any number of leading axes: `[N, ...]`, `[T, N, ...]`."""


def plain(space: spaces.Dict) -> View:
    """As `gymnasium.make` gives it: all parts by name, or the part itself where there is only one."""
    if len(space.spaces) == 1:
        ((name, part),) = space.spaces.items()
        return View(part, lambda observation: observation[name])
    return View(space, lambda observation: observation)


def image(space: spaces.Dict) -> View:
    """The part `image` alone, as MiniGrid's `ImgObsWrapper` gives it."""
    if "image" not in space.spaces:
        raise ValueError(f"there is no `image` in {space}")
    return View(space.spaces["image"], lambda observation: observation["image"])


def flat(space: spaces.Dict) -> View:
    """All parts in one vector, as Gymnasium's `FlattenObservation` gives it."""

    def show(observation: Observation) -> Tensor:
        vectors = []
        for name, part in space.spaces.items():
            value = observation[name]
            if isinstance(part, spaces.Discrete):
                vectors.append(F.one_hot(value - int(part.start), int(part.n)))
            else:
                vectors.append(value.flatten(-len(part.shape or ())) if part.shape else value.unsqueeze(-1))
        return torch.cat([vector.to(dtype) for vector in vectors], -1)

    whole = spaces.flatten_space(space)
    dtype = torch.from_numpy(np.zeros(1, whole.dtype)).dtype
    return View(whole, show)


def symbols(space: spaces.Dict) -> View:
    """A maze's `image` and `direction` as one vector of zeros and ones: the kind of thing in each cell, and heading."""
    picture = space.spaces.get("image")
    if picture is None or picture.shape is None or picture.shape[-1] != 3 or "direction" not in space.spaces:
        raise ValueError(f"symbols are made of the `image` and `direction` of a maze, not of {space}")
    width = picture.shape[0] * picture.shape[1] * OBJECTS + HEADINGS

    def show(observation: Observation) -> Tensor:
        kinds = torch.arange(OBJECTS, dtype=torch.uint8, device=observation["image"].device)
        cells = (observation["image"][..., 0, None] == kinds).flatten(-3)
        heading = F.one_hot(observation["direction"], HEADINGS)
        return torch.cat([cells.to(torch.uint8), heading.to(torch.uint8)], -1)

    return View(spaces.Box(0, 1, (width,), np.uint8), show)


VIEWS: dict[str, Callable[[spaces.Dict], View]] = {"plain": plain, "image": image, "flat": flat, "symbols": symbols}
"""The views for scripts of one's own."""


MISSION = "get to the green goal square"
"""What MiniGrid's FlatObsWrapper spells out beside the picture: the mission of its mazes with a goal."""

_LETTERS, _MISSION_LENGTH = 28, 96


def minigrid_flat(space: spaces.Dict) -> View:
    """A maze's image and the mission's letters in one vector, as MiniGrid's `FlatObsWrapper` gives it."""
    letters = torch.zeros(_MISSION_LENGTH, _LETTERS, dtype=torch.uint8)
    for place, letter in enumerate(MISSION):
        letters[place, 26 if letter == " " else ord(letter) - ord("a")] = 1
    spelt = letters.flatten()
    shape = space.spaces["image"].shape or ()

    def show(observation: Observation) -> Tensor:
        pixels = observation["image"].flatten(-len(shape))
        return torch.cat([pixels, spelt.to(pixels.device).expand(*pixels.shape[:-1], -1)], -1)

    return View(spaces.Box(0, 255, (int(np.prod(shape)) + len(spelt),), np.uint8), show)


def channels_first(view: View) -> View:
    """The same with pictures as Stable-Baselines3 turns them; itself where it has none."""

    def turned(part: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
        if isinstance(part, spaces.Box) and len(part.shape) == 3:
            low, high = np.moveaxis(part.low, -1, 0), np.moveaxis(part.high, -1, 0)
            return spaces.Box(low, high, dtype=low.dtype.type)
        return part

    if not isinstance(view.space, spaces.Dict):
        picture_like = len(view.space.shape or ()) == 3
        return View(turned(view.space), lambda seen: view.show(seen).movedim(-1, -3)) if picture_like else view
    parts = view.space.spaces
    pictures = {name for name, part in parts.items() if len(part.shape or ()) == 3}

    def show(observation: Observation) -> Shown:
        shown = view.show(observation)
        return {name: part.movedim(-1, -3) if name in pictures else part for name, part in shown.items()}

    return View(spaces.Dict({name: turned(part) for name, part in parts.items()}), show)


def views_of_saved_models(space: spaces.Dict) -> Iterator[View]:
    """Every way in which a saved model may have been shown such observations."""
    makers = [plain, flat]
    if "image" in space.spaces:
        makers += [image]
        if "direction" in space.spaces:
            makers += [symbols, minigrid_flat]
    for maker in makers:
        view = maker(space)
        yield view
        yield channels_first(view)


def picture(space: spaces.Dict, shrink: int) -> View:
    """The only part of an observation, a picture: channels first, averaged over squares of `shrink` pixels a side."""
    ((name, part),) = space.spaces.items()
    height, width, channels = part.shape or (0, 0, 0)
    if height % shrink or width % shrink:
        raise ValueError(f"shrink must divide the picture's {height} and {width} pixels, got {shrink}")

    def show(observation: Observation) -> Tensor:
        pixels = observation[name]
        if shrink > 1:
            squares = pixels.unflatten(-2, (width // shrink, shrink)).unflatten(-4, (height // shrink, shrink))
            pixels = squares.float().mean((-4, -2)).round().to(torch.uint8)
        return pixels.movedim(-1, -3)

    return View(spaces.Box(0, 255, (channels, height // shrink, width // shrink), np.uint8), show)


def student_view(space: spaces.Dict, shrink: int) -> View:
    """What our students of Stable-Baselines3 see: a maze as symbols, a picture as such.

    Raises:
        ValueError: if the observation is neither.
    """
    if "direction" in space.spaces:
        return symbols(space)
    parts = list(space.spaces.values())
    if len(parts) == 1 and parts[0].dtype == np.uint8 and len(parts[0].shape or ()) == 3:
        return picture(space, shrink)
    raise ValueError(f"this student sees `image` and `direction` of a maze, or a picture, not {space}")
