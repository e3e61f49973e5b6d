"""What a page has to know of a world model before it shows a step: which latents are used, and what they tell."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clutr.experiments.world_model.episodes import RecordedEpisode
from clutr.manifold.posterior import kl_to_standard_normal
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.categories import Categories
from clutr.world_model.dataset import EpisodeDataset
from clutr.world_model.dream import Dreamer
from clutr.world_model.linear_probe import LinearProbe, fit_probe, fit_read_out, r2
from clutr.world_model.mixture import GaussianMixture

EPISODES = 16
"""Most training episodes that read-outs are fitted on, and most test episodes that they are judged on."""

SURPRISED = 8
"""Most test episodes on which surprise is measured."""


@dataclass(frozen=True)
class StateReadout:
    """See the module."""

    kl: list[float]
    """Of each latent, in nats."""
    order: list[int]
    """Latents by KL, the largest first."""
    active: list[bool]
    """Whether a latent tells something of a frame."""
    read_out: LinearProbe
    """The true state from the latents of one frame."""
    r2: list[float]
    """Of each quantity on `frames` test frames."""
    frames: int
    probe: LinearProbe
    """The true state from the memory's features."""
    mean_frame: Tensor
    """`[side, side, 3]` in 0..255."""
    surprises: Tensor
    """`[n]`, ascending: what the memory thinks of held-out frames (see `surprise_of`)."""


def surprise_of(expected: GaussianMixture | Categories, latent: Tensor, active: Tensor) -> Tensor:
    """How little was expected of normalised latents `[..., D]`: negative log-density, a mean of the active ones."""
    density: Tensor = expected.log_density(latent)[..., active]
    return -density.mean(-1)


@torch.no_grad()
def learn_about(backbone: Backbone, dreamer: Dreamer, dataset: EpisodeDataset) -> StateReadout:
    """Fit read-outs on a few training episodes, and judge them on test episodes."""
    memory, scale = dreamer.memory, dreamer.scale
    means, spreads, truths, features = [], [], [], []
    for episode in _some(dataset, "train"):
        mean, spread = backbone.encode(episode.frames)
        inputs = torch.cat([scale.normalise(mean[:-1]), episode.actions], 1)
        _, found = memory.core.scan(memory.initial_state(1), inputs[:, None])
        means.append(mean)
        spreads.append(spread)
        truths.append(episode.privileged_state)
        features.append(found[:, 0])
    kl = kl_to_standard_normal(torch.cat(means), torch.cat(spreads)).mean(0)
    read_out = fit_read_out(torch.cat(means), torch.cat(truths))
    test = _some(dataset, "test") or _some(dataset, "train")
    read = read_out(torch.cat([backbone.encode(each.frames)[0] for each in test]))
    surprises = []
    for episode in test[:: -(-len(test) // SURPRISED)]:
        normal = scale.normalise(backbone.encode(episode.frames)[0])[:, None]
        _, expected = memory.scan(memory.initial_state(1), normal[:-1], episode.actions[:, None])
        surprises.append(surprise_of(expected.latent, normal[1:], scale.active)[:, 0])
    return StateReadout(
        kl=kl.tolist(),
        order=kl.argsort(descending=True).tolist(),
        active=scale.active.tolist(),
        read_out=read_out,
        r2=r2(read, torch.cat([each.privileged_state for each in test])).tolist(),
        frames=len(read),
        probe=fit_probe(torch.cat(features), torch.cat([privileged_state[:-1] for privileged_state in truths]), 1e-2),
        mean_frame=dataset.mean_frame(),
        surprises=torch.cat(surprises).sort().values,
    )


def _some(dataset: EpisodeDataset, split: str) -> list[RecordedEpisode]:
    known = dataset.played(split)
    places = np.linspace(0, len(known) - 1, min(EPISODES, len(known))).astype(int).tolist()
    return [RecordedEpisode(dataset, known[place]) for place in sorted(set(places))]
