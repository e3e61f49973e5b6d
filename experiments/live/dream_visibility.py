"""Which pixels of a dream had been seen, and which the model invented."""

from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.envs.capabilities import SIDE
from clutr.experiments.live.views import Branch
from clutr.experiments.world_model.episodes import OpenEpisode
from clutr.world_model.memory import Memory
from clutr.world_model.views import View, carry, trajectory

MOST_FRAMES = 80
"""Frames before a dream that are looked through: what lies further back is out of view."""


@dataclass(frozen=True)
class Visibility:
    """What is known of the present step of a dream."""

    seen: Tensor | None
    """`[side, side]` bool; None where it cannot be told."""
    world: Tensor | None
    """`[side, side]` bool: pixels that show the world, of which alone it can be asked."""
    how: str
    """How it was found, or why it was not."""

    @property
    def invented(self) -> float | None:
        """The share of the world's pixels that had not been seen."""
        if self.seen is None or self.world is None:
            return None
        return float((~self.seen & self.world).sum()) / max(1, int(self.world.sum()))


@torch.no_grad()
def visibility_of(
    branch: Branch,
    memory: Memory,
    view: View | None,
    episode: OpenEpisode,
    objects: tuple[str, ...],
    quantities: list[str],
    follows: bool,
) -> Visibility:
    """What had been seen of a dream's present step.

    Args:
        branch: the dream.
        memory: whose core may tell.
        view: the environment's geometry, if it is known.
        episode: what was observed before the dream.
        objects: names of the masks' numbers.
        quantities: of the privileged state.
        follows: whether the dream does what was done in reality, and reality is as late as the dream.
    """
    if view is None:
        return Visibility(None, None, "this environment's geometry is not known")
    rows, columns = view.geometry.rows, view.geometry.columns
    world = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    world[:rows, :columns] = True
    told = memory.seen(branch.state.state)
    if told is not None:
        cells = torch.nn.functional.interpolate(told[:, None], (rows, columns), mode="nearest")[0, 0]
        seen = torch.ones(SIDE, SIDE, dtype=torch.bool)
        seen[:rows, :columns] = cells > 0.5
        return Visibility(seen, world, "by the model's own map")
    if not follows:
        return Visibility(None, None, "not told: the dream goes its own way, and this core has no map")
    first, now = max(0, branch.began + 1 - MOST_FRAMES), branch.now
    motion = view.motion(episode.privileged_state[first : now + 1], quantities)
    poses = trajectory(motion)[:, None] if len(motion) else torch.zeros(1, 1, 3)
    seen_frames = slice(first, branch.began + 1)
    count = branch.began + 1 - first
    frames, masks = episode.frames[seen_frames, None], episode.masks[seen_frames, None]
    carried = carry(view, frames, masks, objects, poses[:count], poses[-1:])
    return Visibility(carried.seen[0, 0], world, "by the true motion")
