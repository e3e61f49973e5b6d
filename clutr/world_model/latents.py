"""Recorded episodes as sequences of latents: what the memory is trained on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from torch import Tensor

from clutr.envs.progress import Progress
from clutr.world_model.dataset import TERMINATED, EpisodeDataset
from clutr.world_model.views import View

CHUNK = 512
"""Frames that are encoded at a time."""
Encode = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Frames `[N, H, W, 3]` uint8 to means and log-variances `[N, D]`."""


@dataclass(frozen=True)
class LatentEpisode:
    """One episode of L actions, hence L + 1 frames."""

    mean: Tensor
    """`[L + 1, D]`: the backbone's mean of each frame."""
    log_variance: Tensor
    """`[L + 1, D]`."""
    actions: Tensor
    """`[L, A]`: one-hot where actions are discrete."""
    rewards: Tensor
    """`[L]`."""
    terminated: Tensor
    """`[L]` float32: 1 where the environment ended the episode."""
    motion: Tensor | None = None
    """`[L, 3]`: the viewer's true motion in each step (`clutr.world_model.views`); None where it is not known."""

    def __len__(self) -> int:
        """Actions."""
        return len(self.actions)


@torch.no_grad()
def encode_episodes(
    dataset: EpisodeDataset,
    split: str,
    encode: Encode,
    progress: Progress = lambda *_: None,
    view: View | None = None,
    most: int | None = None,
) -> list[LatentEpisode]:
    """The episodes of a split, as in `EpisodeDataset.played`, as latents.

    Args:
        dataset: of recorded episodes.
        split: one of `clutr.world_model.dataset.SPLITS`.
        encode: the backbone.
        progress: told of frames encoded.
        view: tells the motion of whoever sees the frames.
        most: episodes, evenly chosen; None: all.
    """
    episodes = dataset.played(split)
    if most is not None and most < len(episodes):
        episodes = [episodes[i * len(episodes) // most] for i in range(most)]
    if not episodes:
        return []
    rows = torch.cat([episode.indices for episode in episodes])
    # one tensor for all: thousands of small ones between large temporary ones would leave gigabytes of holes
    latents: list[Tensor] = []
    for first in range(0, len(rows), CHUNK):
        parts = [part.cpu() for part in encode(dataset.column("frames", rows[first : first + CHUNK]))]
        latents = latents or [part.new_empty(len(rows), part.shape[1]) for part in parts]
        for whole, part in zip(latents, parts, strict=True):
            whole[first : first + CHUNK] = part
        progress(min(first + CHUNK, len(rows)), len(rows), {})
    actions, rewards = dataset.actions(rows), dataset.column("rewards", rows)
    terminated = (dataset.column("ended", rows) == TERMINATED).float()
    states = None if view is None else dataset.column("privileged_state", rows)
    found, first = [], 0
    for episode in episodes:
        behind = first + episode.rows
        found.append(
            LatentEpisode(
                mean=latents[0][first:behind],
                log_variance=latents[1][first:behind],
                actions=actions[first : behind - 1],
                rewards=rewards[first : behind - 1],
                terminated=terminated[first : behind - 1],
                motion=None if states is None else view.motion(states[first:behind], dataset.quantities),  # type: ignore[union-attr]
            )
        )
        first = behind
    return found


@dataclass(frozen=True)
class Chunk:
    """T steps of B episodes side by side, padded at the end."""

    latents: Tensor
    """`[T + 1, B, D]`."""
    actions: Tensor
    """`[T, B, A]`."""
    rewards: Tensor
    """`[T, B]`."""
    terminated: Tensor
    """`[T, B]`."""
    real: Tensor
    """`[T, B]` bool: steps that were recorded."""
    first: Tensor
    """`[B]` bool: whether an episode begins here; elsewhere the state of the chunk before is carried on."""
    goes_on: Tensor
    """`[B]` bool: whether the next chunk carries on from the last recorded step of this one."""
    motion: Tensor
    """`[T, B, 3]`; NaN where it is not known."""

    def to(self, device: torch.device) -> "Chunk":
        """The chunk on a device."""
        return Chunk(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def beside(self, other: "Chunk") -> "Chunk":
        """A chunk of as many steps beside this one."""
        each = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return Chunk(**{name: torch.cat(pair, int(pair[0].dim() > 1)) for name, pair in each.items()})

    def after(self, time: int) -> "Chunk":
        """The chunk without its first `time` steps."""
        return Chunk(
            latents=self.latents[time:],
            actions=self.actions[time:],
            rewards=self.rewards[time:],
            terminated=self.terminated[time:],
            real=self.real[time:],
            first=torch.zeros_like(self.first),
            goes_on=self.goes_on,
            motion=self.motion[time:],
        )


def draw_steps(
    episodes: Sequence[LatentEpisode], most: int, beginnings: float, following: int, rng: torch.Generator
) -> tuple[list[LatentEpisode], list[int]]:
    """Recorded steps at which dreams begin: episodes drawn evenly, and of each a step evenly.

    Args:
        episodes: recorded ones.
        most: how many are drawn.
        beginnings: share of them at an episode's first step; at least one is.
        following: actions that come after a step, if its episode has so many.
        rng: draws.

    Raises:
        ValueError: no episode has a step.
    """
    played = [episode for episode in episodes if len(episode)]
    if not played:
        raise ValueError("dreams begin at recorded steps: there is no episode with a step")
    chosen = [played[i] for i in torch.randint(len(played), (most,), generator=rng).tolist()]
    shares = torch.rand(most, generator=rng)
    shares[: max(1, round(beginnings * most))] = 0
    latest = (max(0, len(each) - following) for each in chosen)
    return chosen, [int(share * (last + 1)) for share, last in zip(shares.tolist(), latest, strict=True)]


class Streams:
    """B streams that walk through episodes in random order, T steps at a time, so that states can be carried.

    Args:
        sequences: the episodes.
        streams: B.
        length: T.
        rng: shuffles episodes and samples latents.
        sample: draw latents from the backbone's Gaussians anew each time, or take their means.
        offsets: draws the length, 1 to T, of each episode's first chunk anew in each pass, so that later ones begin
            anywhere; None: every chunk begins at a multiple of T.
    """

    def __init__(
        self,
        sequences: Sequence[LatentEpisode],
        streams: int,
        length: int,
        rng: torch.Generator,
        sample: bool,
        offsets: torch.Generator | None = None,
    ) -> None:
        self.sequences, self.count, self.length, self.rng, self.sample = sequences, streams, length, rng, sample
        self.offsets = offsets

    def epoch(self) -> "list[Chunk]":
        """One pass over all episodes, in an order drawn anew."""
        order = torch.randperm(len(self.sequences), generator=self.rng).tolist()
        queues: list[list[tuple[int, int, int]]] = [[] for _ in range(self.count)]
        for episode in order:  # to the stream with the least to do, so that all end at about the same time
            shortest = min(range(self.count), key=lambda stream: len(queues[stream]))
            length = len(self.sequences[episode])
            first = self.length
            if self.offsets is not None:
                first = 1 + int(torch.randint(self.length, (1,), generator=self.offsets))
            queues[shortest] += [
                (episode, start, stop) for start, stop in pairwise([0, *range(first, length, self.length), length])
            ]
        steps = max(map(len, queues))
        return [self._chunk([queue[i] if i < len(queue) else None for queue in queues]) for i in range(steps)]

    def _chunk(self, places: "Sequence[tuple[int, int, int] | None]") -> Chunk:
        sample = self.sequences[0]
        latents = torch.zeros(self.length + 1, self.count, sample.mean.shape[1])
        actions = torch.zeros(self.length, self.count, sample.actions.shape[1])
        rewards, terminated = torch.zeros(self.length, self.count), torch.zeros(self.length, self.count)
        real = torch.zeros(self.length, self.count, dtype=torch.bool)
        first = torch.ones(self.count, dtype=torch.bool)
        goes_on = torch.zeros(self.count, dtype=torch.bool)
        motion = torch.full((self.length, self.count, 3), math.nan)
        for stream, place in enumerate(places):
            if place is None:
                continue
            episode, start, stop = self.sequences[place[0]], place[1], place[2]
            size = stop - start
            mean = episode.mean[start : stop + 1]
            if self.sample:
                noise = torch.randn(mean.shape, generator=self.rng)
                mean = mean + noise * (0.5 * episode.log_variance[start : stop + 1]).exp()
            latents[: size + 1, stream] = mean
            actions[:size, stream] = episode.actions[start:stop]
            rewards[:size, stream] = episode.rewards[start:stop]
            terminated[:size, stream] = episode.terminated[start:stop]
            real[:size, stream] = True
            if episode.motion is not None:
                motion[:size, stream] = episode.motion[start:stop]
            first[stream], goes_on[stream] = start == 0, stop < len(episode)
        return Chunk(latents, actions, rewards, terminated, real, first, goes_on, motion)
