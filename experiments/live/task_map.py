"""Where a curriculum's tasks lie on the task manifold, and what decodes between them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from clutr.envs.domain import LevelBatch
from clutr.experiments.plots.latent_map import LatentMapData, Plane, principal_plane
from clutr.experiments.reports.report_data import latent_map_data
from clutr.experiments.run_directory import ProposalRecord, RunDirectory
from clutr.manifold.base import Manifold


class TaskMap:
    """Recorded latents on their two principal components.

    Args:
        data: the points.
        levels: one a point.
        manifold: decodes.
    """

    def __init__(self, data: LatentMapData, levels: LevelBatch, manifold: Manifold) -> None:
        self.data, self.levels, self.manifold = data, levels, manifold
        self.plane: Plane = principal_plane(data.latents)
        self.places: NDArray[np.float64] = self.plane.project(data.latents)

    @classmethod
    def of(
        cls,
        run: RunDirectory,
        records: Sequence[ProposalRecord],
        columns: Mapping[str, NDArray[np.float64]],
        manifold: Manifold,
    ) -> "TaskMap | None":
        """The map of some proposals; None if none of them has latents."""
        chosen = [record for record in records if record.latents is not None]
        data = latent_map_data(run, chosen, columns, previews=0)
        if data is None:
            return None
        levels = type(chosen[0].levels).concatenate([record.levels for record in chosen])
        return cls(data, levels, manifold)

    def nearest(self, x: float, y: float) -> int:
        """The recorded point that is nearest to a place of the map."""
        return int(((self.places - (x, y)) ** 2).sum(1).argmin())

    def place(self, index: int) -> tuple[float, float]:
        """Where a recorded point is."""
        return float(self.places[index, 0]), float(self.places[index, 1])

    def about(self, index: int) -> str:
        """When a point was proposed, and its score."""
        score, steps = self.data.scores[index], self.data.steps[index]
        told = f", {self.data.score_name} {score:.2f}" if np.isfinite(score) else ""
        return f"proposed at {steps:,.0f} steps{told}"

    def decode(self, x: float, y: float, anchor: int) -> tuple[LevelBatch, tuple[float, float]]:
        """The level at a place of the map, and the place of what decoded: no latent leaves the manifold's box.

        The map shows two dimensions; in all others the latent is that of the recorded point `anchor`.
        """
        latent = self.data.latents[anchor]
        shift = (np.array([x, y]) - self.places[anchor]) @ self.plane.directions
        low, high = self.manifold.bounds
        moved = torch.from_numpy(np.clip(latent + shift, low, high)).float()[None]
        at = self.plane.project(moved.double().numpy())[0]
        return self.manifold.decode(moved), (float(at[0]), float(at[1]))
