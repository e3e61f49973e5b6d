"""Generative replay: a memory that is trained on with a new recording also learns from dreams of what it was before.

The old recording is not needed: dreams of a frozen copy, drawn at temperature 1, stand for it. What is kept of it are
a few hundred latent states at which they begin, each with the actions that followed. V stays as it is.

Source: Shin et al. 2017, "Continual Learning with Deep Generative Replay" (arXiv 1705.08690), section 3, where the
generator is an image GAN; without a generator the idea is pseudo-rehearsal (Robins 1995). Ketz et al. 2019, "Continual
Learning Using World Models for Pseudo-Rehearsal" (arXiv 1903.02647), do the same with a world model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.latents import LatentEpisode, draw_steps

STARTS = 256
"""Latent states that are kept."""
STEPS = 64
"""Most actions that are kept of each, and so the length of dreams."""
BEGINNINGS = 0.25
"""Share of them at an episode's first frame."""
TIMES = 32
"""Different times at which others are, so that episodes are observed together."""
EXACT = -60.0
"""Log-variance of dreamt latents, which are draws already."""


class Replay(Protocol):
    """Where episodes come from that take a share of every batch."""

    share: float
    """Of the streams of a batch."""

    def episodes(self, steps: int, length: int, rng: torch.Generator) -> list[LatentEpisode]:
        """Episodes with at least so many steps altogether, for chunks of `length` steps."""
        ...


def replay_streams(share: float, streams: int) -> int:
    """How many of a batch's streams are replayed. Raises `ValueError` if that would be none, or all."""
    count = round(share * streams)
    if not 0 < count < streams:
        raise ValueError(
            f"a share of {share:g} of {streams} streams is {count} of them: replay and recording need at least one each"
        )
    return count


@dataclass(frozen=True)
class DreamStarts:
    """N latent states at which dreams begin, each with the actions that followed in the recording."""

    states: Tensor
    """`[N, S]`: the memory's."""
    latents: Tensor
    """`[N, D]`: normalised."""
    actions: Tensor
    """`[T, N, A]`; 0 after the last."""
    lengths: Tensor
    """`[N]` int64: actions of each."""

    def state_dict(self) -> dict[str, Any]:
        """The tensors."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "DreamStarts":
        """The inverse of `state_dict`."""
        return cls(**state)

    @classmethod
    def recorded(
        cls,
        dreamer: Dreamer,
        episodes: Sequence[LatentEpisode],
        rng: torch.Generator,
        most: int = STARTS,
        steps: int = STEPS,
    ) -> "DreamStarts":
        """States of recorded episodes, each observed from its episode's beginning.

        Episodes are drawn evenly, and of each a step evenly, but that as many as `steps` actions follow if the episode
        has them.

        Args:
            dreamer: observes.
            episodes: recorded ones.
            rng: draws.
            most: N.
            steps: T.

        Raises:
            ValueError: no episode has a step.
        """
        chosen, times = draw_steps(episodes, most, BEGINNINGS, steps, rng)
        order = sorted(range(most), key=times.__getitem__)
        begun = sum(time == 0 for time in times)
        groups = [order[:begun], *(each.tolist() for each in np.array_split(order[begun:], TIMES))]
        states, latents, actions = [], [], torch.zeros(steps, most, chosen[0].actions.shape[1])
        lengths, place = torch.zeros(most, dtype=torch.int64), 0
        for rows in filter(None, groups):
            time = times[rows[0]]
            now = _observed(dreamer, [chosen[i] for i in rows], time)
            states.append(now.state)
            latents.append(now.latent)
            for i in rows:
                following = chosen[i].actions[time : time + steps]
                actions[: len(following), place], lengths[place] = following, len(following)
                place += 1
        return cls(torch.cat(states), torch.cat(latents), actions, lengths)


def _observed(dreamer: Dreamer, episodes: Sequence[LatentEpisode], time: int) -> LatentState:
    """The latent states of episodes after their first `time` actions."""
    latents = torch.stack([episode.mean[: time + 1] for episode in episodes], 1)
    if not time:
        return LatentState(dreamer.memory.initial_state(len(episodes)), dreamer.scale.normalise(latents[0]))
    return dreamer.observe(latents, torch.stack([episode.actions[:time] for episode in episodes], 1))[0]


class DreamReplay:
    """Replays dreams.

    Args:
        dreamer: the old memory, which nobody trains any more, on the processor.
        starts: where its dreams begin.
        share: of every batch.
    """

    def __init__(self, dreamer: Dreamer, starts: DreamStarts, share: float) -> None:
        self.dreamer, self.starts, self.share = dreamer, starts, share

    @torch.no_grad()
    def episodes(self, steps: int, length: int, rng: torch.Generator) -> list[LatentEpisode]:
        """Dreams of at least `steps` steps altogether, each as if an episode began there.

        A dream lasts as long as actions were kept, in whole chunks of `length` if there are enough, and ends where a
        draw of the predicted chance says so. Rewards are the expected ones, terminations their chances.
        """
        kept = self.starts
        horizon = len(kept.actions)
        horizon -= horizon % length if horizon > length else 0
        lengths = kept.lengths.clamp(max=horizon)
        horizon, average = int(lengths.max()), float(lengths.float().mean())
        found: list[LatentEpisode] = []
        dreamt = 0
        while dreamt < steps:
            count = math.ceil((steps - dreamt) / average)
            rows = torch.randint(len(lengths), (count,), generator=rng)
            begin, actions = LatentState(kept.states, kept.latents).branch(rows), kept.actions[:horizon, rows]
            dream = self.dreamer.dream(begin, actions, horizon, 1.0, rng, keep_states=False)
            first = self.dreamer.scale.restore(begin.latent)[None]
            latents = torch.cat([first, dream.latents])
            ends = torch.rand(dream.terminations.shape, generator=rng) < dream.terminations
            survived = torch.cumsum(ends, 0).eq(0).sum(0) + 1  # the step that ends it is the last
            for row, size in enumerate(torch.minimum(survived, lengths[rows]).tolist()):
                mean = latents[: size + 1, row].clone()
                found.append(
                    LatentEpisode(
                        mean=mean,
                        log_variance=torch.full_like(mean, EXACT),
                        actions=actions[:size, row],
                        rewards=dream.rewards[:size, row],
                        terminated=dream.terminations[:size, row],
                    )
                )
                dreamt += size
            average = dreamt / len(found)
        return found
