"""Nearest recorded situations: what the recording holds that is most like a moment, or like a prediction."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clutr.world_model.memory import Scale


class Neighbours(NamedTuple):
    """The situations most like each of N moments, the most alike first."""

    rows: Tensor
    """`[N, k]` int64: of the recording."""
    distances: Tensor
    """`[N, k]`: root mean squares over active latents, in their standard deviations."""


class SituationIndex:
    """An index over the latents of recorded frames.

    Args:
        latents: `[n, D]` of the backbone.
        rows: `[n]` int64: of the recording.
        groups: `[n]` int64: levels; a moment's own level can be left out.
        scale: of the latents; passive ones do not count.

    Raises:
        ValueError: if there is no frame, or no active latent.
    """

    def __init__(self, latents: Tensor, rows: Tensor, groups: Tensor, scale: Scale) -> None:
        from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415  # takes a second

        if not len(latents) or not scale.active.any():
            raise ValueError(f"nothing to compare: {len(latents)} frames, {int(scale.active.sum())} active latents")
        self.rows, self.groups, self.scale = rows, groups, scale
        self._index = NearestNeighbors().fit(self._place(latents))

    def _place(self, latents: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        active = self.scale.active
        placed = (latents - self.scale.latent_mean)[:, active] / self.scale.signal_std[active]
        found: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = (placed / int(active.sum()) ** 0.5).numpy()
        return found

    def nearest(self, latents: Tensor, k: int = 3, not_group: int | None = None) -> Neighbours:
        """The k frames most like latents `[N, D]`, none of the level `not_group`, each of a level of its own.

        Raises:
            ValueError: if there are fewer than k other levels.
        """
        names = self.groups.unique()
        others = len(names) - int(not_group is not None and bool((names == not_group).any()))
        if others < k:
            raise ValueError(f"{k} situations of levels of their own were asked for, and there are {others} levels")
        wanted = min(len(self.rows), 64)
        while True:
            distances, places = self._index.kneighbors(self._place(latents), wanted)
            found = [self._distinct(row, not_group, k) for row in places]
            if wanted == len(self.rows) or all(len(each) == k for each in found):
                break
            wanted = min(len(self.rows), 4 * wanted)
        chosen = torch.tensor(found)
        order = torch.from_numpy(np.take_along_axis(places, chosen.numpy(), 1))
        away = torch.from_numpy(np.take_along_axis(distances, chosen.numpy(), 1))
        return Neighbours(self.rows[order], away.float())

    def _distinct(
        self, places: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", but: int | None, k: int
    ) -> list[int]:
        """Positions in `places` of the first k frames of different levels."""
        seen, found = {but}, []
        for position, group in enumerate(self.groups[torch.from_numpy(places)].tolist()):
            if group not in seen:
                seen.add(group)
                found.append(position)
            if len(found) == k:
                break
        return found
