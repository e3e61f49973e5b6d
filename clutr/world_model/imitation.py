"""Imitation of the recorded expert by a ridge regression from latents and memory to actions, and policies made worse.

Least squares in closed form: what a small controller can read from a latent, and what it needs a memory for, is seen in
seconds, without an evolution. Policies of every quality between the expert's and chance come of it by noise, to see
whether dreams rank policies (`clutr.world_model.policy_ranking`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.world_model.dream import Dreamer
from clutr.world_model.latent_engines import Sees
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe, fit_probe

PENALTY = 1e-3
"""Of the ridge, relative to the mean variance of the inputs."""


@torch.no_grad()
def controller_inputs(dreamer: Dreamer, latents: Tensor, state: Tensor, sees: Sees) -> Tensor:
    """What a controller sees, `[N, I]`: normalised latents `[N, D]` in the backbone's units, and the memory's state."""
    normal = dreamer.clip(dreamer.scale.normalise(latents))
    return torch.cat([normal, state], 1) if sees == "both" else normal


@torch.no_grad()
def recorded_inputs(dreamer: Dreamer, episodes: Sequence[LatentEpisode], sees: Sees) -> tuple[Tensor, Tensor]:
    """Inputs `[n, I]` and actions `[n, A]` of all steps of recorded episodes, each followed from its beginning."""
    inputs, actions = [], []
    for episode in episodes:
        state = dreamer.memory.initial_state(1)
        for latent, action in zip(episode.mean, episode.actions, strict=False):
            inputs.append(controller_inputs(dreamer, latent[None], state, sees))
            if sees == "both":
                state, _ = dreamer.memory.step(state, dreamer.scale.normalise(latent[None]), action[None])
        actions.append(episode.actions)
    if not actions:
        raise ValueError("imitation needs recorded episodes of an expert")
    return torch.cat(inputs), torch.cat(actions)


@dataclass
class Imitation:
    """A policy on latents that does what the expert would do, as far as it can tell, with some noise.

    Args:
        probe: from inputs to actions.
        dreamer: normalises latents.
        sees: what the inputs are.
        low: `[A]`: least action.
        high: `[A]`: greatest action.
        noise: share of the action that is another one, which wanders slowly through the box; 1 is chance alone.
        rng: draws the noise.
    """

    probe: LinearProbe
    dreamer: Dreamer
    sees: Sees
    low: Tensor
    high: Tensor
    noise: float = 0.0
    rng: torch.Generator | None = None
    _wander: Tensor | None = None

    def __call__(self, latents: Tensor, state: Tensor) -> Tensor:
        """Actions `[N, A]` in the box."""
        actions = self.probe(controller_inputs(self.dreamer, latents, state, self.sees))
        actions = torch.minimum(torch.maximum(actions, self.low), self.high)
        if self.noise:
            if self._wander is None or len(self._wander) != len(actions):
                self._wander = torch.full_like(actions, 0.5)
            step = 0.15 * torch.randn(actions.shape, generator=self.rng)
            self._wander = (self._wander + step).clamp(0, 1)
            other = self.low + (self.high - self.low) * self._wander
            actions = (1 - self.noise) * actions + self.noise * other
        return actions


def imitate(
    dreamer: Dreamer, episodes: Sequence[LatentEpisode], sees: Sees, low: Tensor, high: Tensor
) -> tuple[Imitation, Tensor]:
    """Fit an imitation of the expert.

    Args:
        dreamer: whose memory follows.
        episodes: that an expert played; the last fifth, at least one, is not fitted on.
        sees: the latent alone, or latent and memory.
        low: `[A]`: least action.
        high: `[A]`: greatest action.

    Returns:
        The policy, and R^2 of each action `[A]` on the episodes that were left out.

    Raises:
        ValueError: there are fewer than two episodes.
    """
    if len(episodes) < 2:
        raise ValueError(f"imitation needs at least 2 episodes of an expert, got {len(episodes)}")
    held = max(1, len(episodes) // 5)
    probe = fit_probe(*recorded_inputs(dreamer, episodes[:-held], sees), PENALTY)
    inputs, actions = recorded_inputs(dreamer, episodes[-held:], sees)
    wrong = (probe(inputs) - actions).square().sum(0)
    quality = 1 - wrong / (actions - actions.mean(0)).square().sum(0).clamp(min=1e-12)
    return Imitation(probe, dreamer, sees, low, high), quality
