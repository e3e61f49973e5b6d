"""What matters of a dreamt picture: whether road is where road is, apart for what was seen and what nobody could know.

Plain pixel errors are decided by wallpaper, such as squares of grass and indicators. Here every pixel is an object, the
one whose usual colour is nearest, and only objects of the world count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.world_model.views import View


@dataclass(frozen=True)
class Palette:
    """The usual colours of the objects that make up the world."""

    numbers: tuple[int, ...]
    """Of objects, as in masks."""
    colours: Tensor
    """`[K, 3]` float32 in [0, 1]: mean colour of each."""

    @classmethod
    def of(cls, frames: Tensor, masks: Tensor, left_out: Sequence[int] = ()) -> "Palette":
        """From frames `[N, H, W, 3]` uint8 and their masks `[N, H, W]` uint8; objects `left_out` are not of the world.

        Raises:
            ValueError: no pixel shows the world.
        """
        numbers = [int(n) for n in masks.unique() if int(n) not in left_out]
        if not numbers:
            raise ValueError("no pixel of these frames shows an object of the world")
        colours = [frames[masks == number].float().mean(0) / 255 for number in numbers]
        return cls(tuple(numbers), torch.stack(colours))

    def classify(self, pictures: Tensor) -> Tensor:
        """`[..., H, W]` uint8: the number of the object whose colour is nearest, of pictures in [0, 1]."""
        away = torch.stack([(pictures - colour).square().sum(-1) for colour in self.colours])
        return torch.tensor(self.numbers, dtype=torch.uint8)[away.argmin(0)]


def iou(predicted: Tensor, true: Tensor, counted: Tensor) -> Tensor:
    """Intersection over union `[...]` of areas `[..., H, W]` bool, of `counted` pixels; 1 where both are empty."""
    both = (predicted & true & counted).sum((-1, -2)).float()
    either = ((predicted | true) & counted).sum((-1, -2)).float()
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def among(masks: Tensor, objects: Sequence[str], names: Sequence[str]) -> Tensor:
    """`[...]` bool: which pixels of masks `[...]` uint8 show one of the objects `names`."""
    numbers = [objects.index(name) for name in names if name in objects]
    return torch.isin(masks, torch.tensor(numbers, dtype=torch.uint8))


def surface_iou(
    pictures: Tensor, masks: Tensor, palette: Palette, view: View, objects: Sequence[str]
) -> dict[str, Tensor]:
    """IoU of each of the view's surfaces, of pixels that show neither viewer nor what is drawn over the world.

    Args:
        pictures: predicted, `[..., H, W, 3]` in [0, 1].
        masks: true, `[..., H, W]` uint8.
        palette: of the world.
        view: says what surfaces there are.
        objects: names of the masks' numbers.

    Returns:
        `[...]` by surface.
    """
    counted, found = ~among(masks, objects, view.moving), palette.classify(pictures)
    return {
        name: iou(among(found, objects, parts), among(masks, objects, parts), counted)
        for name, parts in view.surfaces.items()
    }


def split_error(pictures: Tensor, true: Tensor, seen: Tensor, world: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared errors `[...]` of pixels that had been seen and of those that could not have been; NaN if none.

    Args:
        pictures: predicted, `[..., H, W, 3]` in [0, 1].
        true: what came.
        seen: `[..., H, W]` bool: what had been in view before.
        world: `[..., H, W]` bool: pixels that count.
    """
    wrong = (pictures - true).square().mean(-1)

    def mean(area: Tensor) -> Tensor:
        return (wrong * area).sum((-1, -2)) / area.sum((-1, -2))

    return mean(seen & world), mean(~seen & world)


SHOWS = 0.01
"""An object is in view if it covers at least this share of a picture."""


def visible_quantities(
    masks: Tensor, objects: Sequence[str], quantities: Sequence[str], needs: Mapping[str, str]
) -> Tensor:
    """`[n, Q]` bool: which quantities can be seen in frames of masks `[n, H, W]` uint8."""
    found = torch.ones(len(masks), len(quantities), dtype=torch.bool)
    for name, thing in needs.items():
        if name in quantities and thing in objects:
            share = (masks == objects.index(thing)).float().mean((-1, -2))
            found[:, quantities.index(name)] = share >= SHOWS
    return found
