"""What a page has to know of a world model before it shows a step: which latents are used, and what they tell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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
    """Fit read-outs on a few training episodes, and judge them on test episodes.

    Episodes go side by side through the memory: some cores take as long for one as for all.
    """
    memory, scale = dreamer.memory, dreamer.scale
    train = _some(dataset, "train")
    coded = [backbone.encode(episode.frames) for episode in train]
    means, spreads = (torch.cat(parts) for parts in zip(*coded, strict=True))
    inputs = [
        torch.cat([scale.normalise(mean[:-1]), episode.actions], 1)
        for (mean, _), episode in zip(coded, train, strict=True)
    ]
    _, found = memory.core.scan(memory.initial_state(len(train)), pad_sequence(inputs))
    features = torch.cat([found[: len(each), row] for row, each in enumerate(inputs)])
    truths = [episode.privileged_state for episode in train]
    kl = kl_to_standard_normal(means, spreads).mean(0)
    read_out = fit_read_out(means, torch.cat(truths))
    test = _some(dataset, "test") or train
    test_means = [backbone.encode(episode.frames)[0] for episode in test]
    read = read_out(torch.cat(test_means))
    few = slice(None, None, -(-len(test) // SURPRISED))
    return StateReadout(
        kl=kl.tolist(),
        order=kl.argsort(descending=True).tolist(),
        active=scale.active.tolist(),
        read_out=read_out,
        r2=r2(read, torch.cat([each.privileged_state for each in test])).tolist(),
        frames=len(read),
        probe=fit_probe(features, torch.cat([privileged_state[:-1] for privileged_state in truths]), 1e-2),
        mean_frame=dataset.mean_frame(),
        surprises=_surprises(dreamer, test_means[few], test[few]).sort().values,
    )


def _surprises(dreamer: Dreamer, means: Sequence[Tensor], episodes: Sequence[RecordedEpisode]) -> Tensor:
    """What the memory thinks of all frames `[n]` of episodes but the first ones: see `surprise_of`."""
    memory, scale = dreamer.memory, dreamer.scale
    normal = pad_sequence([scale.normalise(mean) for mean in means])
    actions = pad_sequence([episode.actions for episode in episodes])
    _, expected = memory.scan(memory.initial_state(len(means)), normal[:-1], actions)
    told = surprise_of(expected.latent, normal[1:], scale.active)
    return torch.cat([told[: len(episode.actions), row] for row, episode in enumerate(episodes)])


def _some(dataset: EpisodeDataset, split: str) -> list[RecordedEpisode]:
    known = dataset.played(split)
    places = np.linspace(0, len(known) - 1, min(EPISODES, len(known))).astype(int).tolist()
    return [RecordedEpisode(dataset, known[place]) for place in sorted(set(places))]
