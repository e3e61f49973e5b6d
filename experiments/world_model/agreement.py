"""How well a memory goes on working with a VAE that was fitted anew."""

from typing import NamedTuple

import torch

from clutr.experiments.world_model.refit import other_of
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, encoded, load_world_model
from clutr.world_model.backbones.base import Backbone, Frames, visible
from clutr.world_model.evaluation import one_step

PICTURED = 1_000
"""Most test frames whose pictures are compared."""


class Agreement(NamedTuple):
    """A memory with the backbone it was trained with, and with the new one, on the same test episodes."""

    episodes: int
    nll: tuple[float, float]
    """Nats a latent dimension one step ahead, old and new."""
    mse: tuple[float, float]
    """Squared error of pictures over the rows that a backbone sees, old and new."""

    def in_words(self) -> str:
        """As a sentence."""
        return (
            f"one step ahead on {self.episodes} test episodes the memory needs {self.nll[0]:.3f} nats a dimension with "
            + f"the old backbone, {self.nll[1]:.3f} with the new one; mean squared error of pictures: "
            + f"{self.mse[0]:.5f}, now {self.mse[1]:.5f}"
        )


def agreement(run: WorldModelRun) -> Agreement | None:
    """Measure a world model that keeps the memory of another one; None if it does not, or there are no test episodes.

    Raises:
        RunError: if one of the two is not trained.
    """
    other, dataset = other_of(run), run.dataset()
    if other is None or not dataset.played("test"):
        return None
    models, frames = (load_world_model(other), load_world_model(run)), dataset.frames("test")
    nll, mse = [], []
    for model in models:
        episodes = encoded(dataset, model.backbone, "test")
        nll.append(float(one_step(episodes, model.dreamers[MEMORIES[0]])["nll"]))
        mse.append(picture_error(model.backbone, frames))
    return Agreement(len(episodes), (nll[0], nll[1]), (mse[0], mse[1]))


def picture_error(backbone: Backbone, frames: Frames, encoder: Backbone | None = None) -> float:
    """Mean squared error of decoded means of at most `PICTURED` frames, over the rows that the backbone sees.

    Args:
        backbone: decodes, and encodes unless another does.
        frames: evenly chosen.
        encoder: the other one.
    """
    numbers = torch.linspace(0, len(frames) - 1, min(PICTURED, len(frames))).long()
    seen, wrong = backbone.size[0] - backbone.masked_rows, 0.0
    for part in numbers.split(200):
        true = visible(frames[part], backbone.masked_rows)[:, :seen]
        shown = backbone.decode((encoder or backbone).encode(frames[part])[0])[:, :seen]
        wrong += float((shown - true).square().mean()) * len(part) / len(numbers)
    return wrong
