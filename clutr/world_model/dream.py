"""Dreams: rollouts in latent space, where the memory is fed with its own predictions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from clutr.world_model.memory import Memory, Prediction, Scale

LatentPolicy = Callable[[Tensor, Tensor], Tensor]
"""A policy on latents: actions `[N, A]` given latents `[N, D]` in the backbone's units and memory states `[N, S]`."""


LATENT_CLIP = 4.0
"""Latents in dreams are clipped to so many standard deviations, which hardly one in ten thousand recorded ones exceeds.

Otherwise errors can grow without bound: a memory that is fed with outliers predicts larger ones.
"""


def clip_latents(latent: Tensor) -> Tensor:
    """Normalised latents `[..., D]`, clipped to `LATENT_CLIP`."""
    return latent.clamp(-LATENT_CLIP, LATENT_CLIP)


class LatentState(NamedTuple):
    """The latent states of N dreams; tensors, so that a dream is branched by indexing."""

    state: Tensor
    """`[N, S]`: the memory's state after all earlier steps."""
    latent: Tensor
    """`[N, D]`: normalised, of the present."""

    def branch(self, rows: Tensor) -> "LatentState":
        """The states of `rows` `[M]` int64, which may repeat."""
        return LatentState(self.state[rows], self.latent[rows])


@dataclass(frozen=True)
class Dream:
    """H steps of N dreams."""

    latents: Tensor
    """`[H, N, D]`: what came after each action, in the backbone's units."""
    rewards: Tensor
    """`[H, N]`."""
    terminations: Tensor
    """`[H, N]`: the probability that the action terminated the episode."""
    states: Tensor
    """`[H, N, S]`: the memory's state after each action; no steps if they were not to be kept."""
    seen: Tensor | None = None
    """`[H, N, rows, columns]`: how much of each cell of the picture had been seen, of a core that can tell."""


class Dreamer:
    """Observes episodes, and dreams on from there.

    Args:
        memory: the trained model.
        scale: of its latents and rewards.
        limit: `[D]`, or one number: standard deviations to which dreamt latents are clipped.
    """

    def __init__(self, memory: Memory, scale: Scale, limit: Tensor | float = LATENT_CLIP) -> None:
        self.memory, self.scale, self.limit = memory, scale, torch.as_tensor(limit)

    @torch.no_grad()
    def observe(self, latents: Tensor, actions: Tensor, state: Tensor | None = None) -> tuple[LatentState, Prediction]:
        """Follow C + 1 latents `[C + 1, N, D]`, in the backbone's units, and the C actions between them `[C, N, A]`.

        Args:
            latents: of the observed frames.
            actions: taken in all of them but the last.
            state: the memory's before the first of them; None where an episode begins.

        Returns:
            The latent state at the last frame, and what was expected at each of the C steps before it.
        """
        normal = self.scale.normalise(latents)
        state = self.memory.initial_state(latents.shape[1]) if state is None else state
        if not len(actions):
            raise ValueError("observing needs at least one action between two frames")
        state, expected = self.memory.scan(self.memory.dreaming(state, False), normal[:-1], actions)
        return LatentState(state, normal[-1]), expected

    @torch.no_grad()
    def step(
        self, latent_state: LatentState, actions: Tensor, temperature: float | None, rng: torch.Generator | None = None
    ) -> tuple[LatentState, Prediction]:
        """One step of dreaming with actions `[N, A]`.

        Args:
            latent_state: of the dreams.
            actions: to take.
            temperature: of the draw of the next latent (see `GaussianMixture.sample`); None takes the expected one.
            rng: draws it; needed with a temperature above 0.
        """
        state, expected = self.memory.step(latent_state.state, latent_state.latent, actions)
        state = self.memory.dreaming(state, True)  # the first latent was seen, those to come are its own
        if temperature is None:
            return LatentState(state, self.clip(expected.latent.mean())), expected
        drawn = expected.latent.sample(rng or torch.Generator(), temperature)
        return LatentState(state, self.clip(drawn)), expected

    def clip(self, latent: Tensor) -> Tensor:
        """Normalised latents `[..., D]`, clipped unless they are classes, which cannot grow."""
        return latent if self.memory.config.classes else latent.clamp(-self.limit, self.limit)

    @torch.no_grad()
    def dream(
        self,
        latent_state: LatentState,
        actions: Tensor | LatentPolicy,
        horizon: int,
        temperature: float | None = None,
        rng: torch.Generator | None = None,
        *,
        keep_states: bool = True,
    ) -> Dream:
        """Dream on for `horizon` steps.

        Args:
            latent_state: to start from.
            actions: `[H, N, A]`, or what chooses them.
            horizon: H.
            temperature: see `step`.
            rng: see `step`.
            keep_states: whether to keep the memory's states, which may be large.
        """
        latents, rewards, terminations, states, seen = [], [], [], [], []
        for time in range(horizon):
            present = self.scale.restore(latent_state.latent)
            chosen = actions[time] if isinstance(actions, Tensor) else actions(present, latent_state.state)
            latent_state, expected = self.step(latent_state, chosen, temperature, rng)
            latents.append(self.scale.restore(latent_state.latent))
            rewards.append(expected.reward * self.scale.reward_std)
            terminations.append(expected.termination.sigmoid())
            if keep_states:
                states.append(latent_state.state)
            if (share := self.memory.seen(latent_state.state)) is not None:
                seen.append(share)
        kept = torch.stack(states) if states else latent_state.state.new_zeros(0, *latent_state.state.shape)
        return Dream(
            torch.stack(latents),
            torch.stack(rewards),
            torch.stack(terminations),
            kept,
            torch.stack(seen) if seen else None,
        )
