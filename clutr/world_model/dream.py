"""Dreams: the memory fed with its own predictions, from any moment that was seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from clutr.world_model.memory import Memory, Prediction, Scale

LatentPolicy = Callable[[Tensor, Tensor], Tensor]
"""Actions `[N, A]` given latents `[N, D]` in the backbone's units and the memory's state `[N, S]`."""


LATENT_CLIP = 4.0
"""Standard deviations from the mean beyond which no dreamt latent goes, as hardly one in ten thousand seen ones does.

A memory that is fed with what it never saw may answer with something stranger still, and so on.
"""


def clip_latents(latent: Tensor) -> Tensor:
    """Normalised latents `[..., D]` as a dream may have them."""
    return latent.clamp(-LATENT_CLIP, LATENT_CLIP)


class LatentState(NamedTuple):
    """Where N dreams are; tensors, so a dream is branched by indexing."""

    state: Tensor
    """`[N, S]`: the memory's, after all moments before."""
    latent: Tensor
    """`[N, D]`: normalised, of the present."""

    def branch(self, rows: Tensor) -> "LatentState":
        """The moments of `rows` `[M]` int64, which may repeat."""
        return LatentState(self.state[rows], self.latent[rows])


@dataclass(frozen=True)
class Dream:
    """H moments of N dreams."""

    latents: Tensor
    """`[H, N, D]`: what came after each action, in the backbone's units."""
    rewards: Tensor
    """`[H, N]`."""
    ends: Tensor
    """`[H, N]`: the probability that the action ended the episode."""
    states: Tensor
    """`[H, N, S]`: the memory's state after each action."""


class Dreamer:
    """Watches what happens, and dreams on from there.

    Args:
        memory: the trained model.
        scale: of its latents and rewards.
    """

    def __init__(self, memory: Memory, scale: Scale) -> None:
        self.memory, self.scale = memory, scale

    @torch.no_grad()
    def observe(self, latents: Tensor, actions: Tensor, state: Tensor | None = None) -> tuple[LatentState, Prediction]:
        """Follow C + 1 latents `[C + 1, N, D]`, in the backbone's units, and the C actions between them `[C, N, A]`.

        Args:
            latents: of the frames that were seen.
            actions: taken in all of them but the last.
            state: the memory's before the first of them; None where an episode begins.

        Returns:
            The moment of the last frame, and what was expected at each of the C moments before it.
        """
        normal = self.scale.normalise(latents)
        state = self.memory.initial_state(latents.shape[1]) if state is None else state
        if not len(actions):
            raise ValueError("watching needs at least one action between two frames")
        state, expected = self.memory.scan(state, normal[:-1], actions)
        return LatentState(state, normal[-1]), expected

    @torch.no_grad()
    def step(
        self, moment: LatentState, actions: Tensor, temperature: float | None, rng: torch.Generator | None = None
    ) -> tuple[LatentState, Prediction]:
        """One moment of dreaming: actions `[N, A]`.

        Args:
            moment: where the dreams are.
            actions: what is done.
            temperature: of the draw of the next latent (see `GaussianMixture.sample`); None takes the expected one.
            rng: draws it; needed with a temperature above 0.
        """
        state, expected = self.memory.step(moment.state, moment.latent, actions)
        if temperature is None:
            return LatentState(state, clip_latents(expected.latent.mean())), expected
        drawn = expected.latent.sample(rng or torch.Generator(), temperature)
        return LatentState(state, clip_latents(drawn)), expected

    @torch.no_grad()
    def dream(
        self,
        moment: LatentState,
        actions: Tensor | LatentPolicy,
        horizon: int,
        temperature: float | None = None,
        rng: torch.Generator | None = None,
    ) -> Dream:
        """Dream on for `horizon` moments.

        Args:
            moment: where to start.
            actions: `[H, N, A]`, or what chooses them.
            horizon: H.
            temperature: see `step`.
            rng: see `step`.
        """
        latents, rewards, ends, states = [], [], [], []
        for time in range(horizon):
            present = self.scale.restore(moment.latent)
            chosen = actions[time] if isinstance(actions, Tensor) else actions(present, moment.state)
            moment, expected = self.step(moment, chosen, temperature, rng)
            latents.append(self.scale.restore(moment.latent))
            rewards.append(expected.reward * self.scale.reward_std)
            ends.append(expected.end.sigmoid())
            states.append(moment.state)
        return Dream(*(torch.stack(column) for column in (latents, rewards, ends, states)))
