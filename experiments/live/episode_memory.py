"""An episode as the model goes through it: latents of its frames, states of the memory, and how surprising each was."""

import torch
from torch import Tensor

from clutr.experiments.live.state_readout import surprise_of
from clutr.experiments.world_model.episodes import OpenEpisode
from clutr.probes.trust import LAST
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.dream import Dreamer


class EpisodeMemory:
    """See the module. What was recorded is looked through at once; what is driven, as it comes.

    Args:
        backbone: encodes frames.
        dreamer: whose memory follows.
        episode: what is shown.
    """

    def __init__(self, backbone: Backbone, dreamer: Dreamer, episode: OpenEpisode) -> None:
        self._backbone, self._dreamer, self._episode = backbone, dreamer, episode
        self.means = self._encode(episode.frames)
        """`[T, D]`, normalised."""
        self.surprises = torch.full((1,), torch.nan)
        """`[T]`: see `surprise_of`; NaN of the first frame, of which nothing was expected."""
        self._states = [dreamer.memory.initial_state(1)]
        self._look(self._states[0], 0)

    @torch.no_grad()
    def _encode(self, frames: Tensor) -> Tensor:
        return self._dreamer.scale.normalise(self._backbone.encode(frames)[0])

    @torch.no_grad()
    def _look(self, state: Tensor, first: int) -> None:
        """How surprising the frames after `first` are, from the memory's state before it."""
        actions = self._episode.actions[first : len(self.means) - 1, None]
        if not len(actions):
            return
        _, expected = self._dreamer.memory.scan(state, self.means[first:-1, None], actions)
        found = surprise_of(expected.latent, self.means[first + 1 :, None], self._dreamer.scale.active)
        self.surprises = torch.cat([self.surprises, found[:, 0]])

    def extend(self) -> None:
        """Take in the one frame that the episode has got since."""
        last = len(self.means) - 1
        self.means = torch.cat([self.means, self._encode(self._episode.frames[last + 1 :])])
        self._look(self.state(last), last)

    @torch.no_grad()
    def state(self, frame: int) -> Tensor:
        """`[1, S]`: the memory's state before it sees a frame."""
        while len(self._states) <= frame:
            place = len(self._states) - 1
            latent, action = self.means[place : place + 1], self._episode.actions[place : place + 1]
            self._states.append(self._dreamer.memory.step(self._states[place], latent, action)[0])
        return self._states[frame]

    @torch.no_grad()
    def features(self, frame: int) -> Tensor:
        """`[1, W]`: what the memory's core has made of all frames before one, which is not the first."""
        latent, action = self.means[frame - 1 : frame], self._episode.actions[frame - 1 : frame]
        return self._dreamer.memory.core.step(self.state(frame - 1), torch.cat([latent, action], -1))[1]

    def surprise(self, frame: int) -> float | None:
        """How surprising a frame was; None of the first one."""
        return float(self.surprises[frame]) if frame else None

    def recent_surprises(self) -> Tensor:
        """`[T]`: the mean over each frame and the `LAST` - 1 before it; NaN where they are not all there."""
        if len(self.surprises) <= LAST:
            return torch.full_like(self.surprises, torch.nan)
        means = self.surprises.unfold(0, LAST, 1).mean(-1)
        return torch.cat([torch.full((LAST - 1,), torch.nan), means])
