"""Interventions as truth of attribution: change a part of the picture, and see which map had said that it matters.

A part of an object, by the simulator's masks, is repainted as what surrounds it: a piece of road or of kerb becomes
grass, a piece of wall floor. Or an object is moved in the simulator (`clutr.probes.moved_objects`). The change of the
prediction is the truth. A map is right if parts that change the prediction more carry more of its relevance; more so
than by their sizes alone, which is what a map says that is the same everywhere.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import scipy  # its parts are imported at their first use, which takes a second
import torch
from torch import Tensor

from clutr.probes.intervals import Interval, mean_over


class Interventions(NamedTuple):
    """K changes of each of N pictures."""

    frames: Tensor
    """`[K, N, H, W, 3]` float32 in 0..255."""
    changed: Tensor
    """`[K, N, H, W]` bool: where."""


def repaint(
    frames: Tensor, masks: Tensor, objects: Sequence[str], what: Sequence[str], ground: str, parts: int = 4
) -> Interventions:
    """Repaint what lies in each square of a grid of `parts` x `parts` as the ground.

    Args:
        frames: `[N, H, W, 3]` float32 in 0..255.
        masks: `[N, H, W]` uint8.
        objects: the masks' names.
        what: objects that are repainted.
        ground: as what: its mean colour in the same picture, or over all pictures where it is in none.
        parts: squares along either side.

    Raises:
        ValueError: if the ground is in no picture.
    """
    under = masks == objects.index(ground)
    if not under.any():
        raise ValueError(f"no picture shows {ground}, as which parts are to be repainted")
    whole = frames[under].mean(0)
    colours = torch.stack(
        [frame[mine].mean(0) if mine.any() else whole for frame, mine in zip(frames, under, strict=True)]
    )
    numbers = torch.tensor([objects.index(name) for name in what if name in objects], dtype=torch.uint8)
    inside = torch.isin(masks, numbers)
    rows, columns = frames.shape[1] // parts, frames.shape[2] // parts
    pictures, places = [], []
    for row in range(parts):
        for column in range(parts):
            square = torch.zeros_like(inside)
            square[:, row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] = True
            changed = inside & square
            pictures.append(torch.where(changed[..., None], colours[:, None, None], frames))
            places.append(changed)
    return Interventions(torch.stack(pictures), torch.stack(places))


@torch.no_grad()
def effects_of(predict: Callable[[Tensor], Tensor], frames: Tensor, made: Interventions) -> Tensor:
    """The changes `[K, N]` of a prediction `[N]` of frames `[N, H, W, 3]`."""
    before = predict(frames)
    return torch.stack([predict(each) - before for each in made.frames])


def agreements(relevance: Tensor, made: Interventions, effects: Tensor, least: int = 4) -> Tensor:
    """Rank correlation of a map's absolute relevance on each part with the size of what changing it does: `[N]`.

    Args:
        relevance: `[N, H, W]`.
        made: the changes.
        effects: `[K, N]`.
        least: parts that a picture must have in which something was changed; NaN where there are fewer, and where no
            change had an effect. A map that says the same of all parts agrees by 0.
    """
    claimed = (relevance.abs() * made.changed).sum((-1, -2))  # [K, N]
    there = made.changed.any(-1).any(-1)
    found = torch.full((len(relevance),), torch.nan, dtype=torch.float64)
    for n in range(len(relevance)):
        mine = there[:, n]
        a, b = claimed[mine, n], effects[mine, n].abs()
        if int(mine.sum()) >= least and b.std() > 0:
            found[n] = float(scipy.stats.spearmanr(a, b).statistic) if a.std() > 0 else 0.0
    return found


class InterventionCheck(NamedTuple):
    """Whether a map tells what interventions do."""

    agreement: Interval
    """Mean of `agreements` over pictures; 0 is chance."""
    beyond_even: Interval
    """The same beyond that of a map that is the same everywhere, picture by picture."""
    pictures: int

    @property
    def passed(self) -> bool:
        """Whether both intervals lie above 0."""
        return self.agreement.low > 0 and self.beyond_even.low > 0


def check_with_interventions(
    relevance: Tensor, made: Interventions, effects: Tensor, least: int = 4
) -> InterventionCheck | None:
    """Compare a map `[N, H, W]` with the effects `[K, N]`; None if no picture has parts enough. See `agreements`."""
    mine = agreements(relevance, made, effects, least)
    even = agreements(torch.ones_like(relevance), made, effects, least)
    known = ~mine.isnan()
    if not known.any():
        return None
    return InterventionCheck(mean_over(mine[known]), mean_over((mine - even)[known]), int(known.sum()))
