"""An environment and the dream of it as one student sees both: through a world model's latents and memory.

`LatentEngine` plays levels; `LatentDream` dreams. Both give the same observation, so that what was trained in one plays
in the other.
"""

from collections.abc import Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor

from clutr.envs.capabilities import PrivilegedState
from clutr.envs.domain import LevelBatch, Observation, Step
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.dream_engine import DreamEngine
from clutr.world_model.latent_student import LATENT
from clutr.world_model.latents import LatentEpisode, draw_steps

Sees = Literal["latent", "both"]
"""The latent alone, or latent and memory."""
MOST_SEEN = 4_096
"""A memory's state of more numbers than this, such as a map, is no input of a student."""
START_TIMES = 32
"""Different times after an episode's start at which dreams begin."""


def observation_space(dreamer: Dreamer, sees: Sees) -> spaces.Dict:
    """The space of what a student sees. Raises `ValueError` if the memory's state is too large to be seen."""
    state = dreamer.memory.initial_state(1).shape[1]
    if sees == "both" and state > MOST_SEEN:
        raise ValueError(
            f"this memory's state has {state:,} numbers, too many to be seen: let the student see `latent`"
        )
    width = dreamer.memory.latents + (state if sees == "both" else 0)
    return spaces.Dict({LATENT: spaces.Box(-np.inf, np.inf, (width,), np.float32)})


def observation(now: LatentState, sees: Sees) -> Observation:
    """What a student sees of latent states."""
    return {LATENT: torch.cat([now.latent, now.state], 1) if sees == "both" else now.latent}


def as_numbers(actions: Tensor, space: gymnasium.Space[Any]) -> Tensor:
    """Actions as a memory takes them: `[N, A]`, one-hot where they are discrete."""
    if isinstance(space, spaces.Discrete):
        return F.one_hot(actions.long(), int(space.n)).float()
    return actions.float()


class LatentEngine:
    """N environments seen through a world model, which follows what happens; an `clutr.envs.domain.Engine`.

    Args:
        domain: the environment.
        backbone: encodes its pictures.
        dreamer: whose memory follows.
        num_envs: N.
        sees: what is observed.
    """

    def __init__(
        self, domain: PrivilegedState, backbone: Backbone, dreamer: Dreamer, num_envs: int, sees: Sees = "both"
    ) -> None:
        self.num_envs, self.device = num_envs, torch.device("cpu")
        self._engine = domain.engine(num_envs)
        self._observer = domain.observer(self._engine)
        self._backbone, self._dreamer, self._sees = backbone, dreamer, sees
        self.action_space = self._engine.action_space
        self.observation_space = observation_space(dreamer, sees)
        self._state = dreamer.memory.initial_state(num_envs)
        self._now = LatentState(self._state, torch.zeros(num_envs, backbone.latents))

    @property
    def solved(self) -> Tensor:
        """See `Engine`."""
        return self._engine.solved

    @property
    def agent_position(self) -> Tensor:
        """See `Engine`."""
        return self._engine.agent_position

    def _look(self) -> Observation:
        latents = self._dreamer.scale.normalise(self._backbone.encode(self._observer.pictures())[0])
        self._now = LatentState(self._state, self._dreamer.clip(latents))
        return observation(self._now, self._sees)

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        """See `Engine`; the memory forgets where an episode starts."""
        self._engine.reset(levels, mask)
        self._observer.reset(mask)
        fresh = self._dreamer.memory.initial_state(self.num_envs)
        self._state = fresh if mask is None else torch.where(mask[:, None], fresh, self._state)
        return self._look()

    @torch.no_grad()
    def step(self, actions: Tensor) -> Step:
        """See `Engine`."""
        numbers = as_numbers(actions, self.action_space)
        self._state, _ = self._dreamer.memory.step(self._now.state, self._now.latent, numbers)
        found = self._engine.step(actions)
        return Step(self._look(), found.reward, found.terminated, found.truncated)


class LatentDream(DreamEngine):
    """N dreams seen as latents, without a picture being drawn.

    Args:
        dreamer: whose dreams.
        backbone: of its latents.
        starts: see `DreamEngine`.
        num_envs: N.
        action_space: of one environment.
        sees: what is observed.
        options: the named ones of `DreamEngine`.
    """

    def __init__(
        self,
        dreamer: Dreamer,
        backbone: Backbone,
        starts: LatentState,
        num_envs: int,
        action_space: gymnasium.Space[Any],
        sees: Sees = "both",
        **options: Any,
    ) -> None:
        super().__init__(dreamer, backbone, starts, num_envs, action_space, **options)
        self._sees = sees
        self.observation_space = observation_space(dreamer, sees)

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:  # noqa: ARG002
        """Begin anew at recorded states; levels, which rollouts hand to any engine, are not played."""
        return super().reset(None, mask)

    def _observation(self) -> Observation:
        assert self._now is not None
        return observation(self._now, self._sees)


def recorded_starts(
    dreamer: Dreamer,
    episodes: Sequence[LatentEpisode],
    rng: torch.Generator,
    most: int = 512,
    beginnings: float = 0.25,
) -> LatentState:
    """Latent states `[most]` at which dreams may begin: recorded steps, each observed from its episode's start.

    Episodes are drawn evenly, and of each a step evenly, but not its last, after which nothing comes. Times are rounded
    down to `START_TIMES` different ones, so that episodes are observed together.

    Args:
        dreamer: observes.
        episodes: recorded ones.
        rng: draws.
        most: states.
        beginnings: share of them at an episode's first frame, with nothing remembered.

    Raises:
        ValueError: no episode has a step.
    """
    chosen, times = draw_steps(episodes, most, beginnings, 1, rng)
    fresh = [i for i, time in enumerate(times) if not time]
    latents = dreamer.scale.normalise(torch.stack([chosen[i].mean[0] for i in fresh]))
    found = [LatentState(dreamer.memory.initial_state(len(fresh)), dreamer.clip(latents))]
    later = sorted((i for i, time in enumerate(times) if time), key=times.__getitem__)
    for rows in np.array_split(later, START_TIMES):
        if len(rows):
            time = times[rows[0]]
            latents = torch.stack([chosen[i].mean[: time + 1] for i in rows], 1)
            actions = torch.stack([chosen[i].actions[:time] for i in rows], 1)
            found.append(dreamer.observe(latents, actions)[0])
    return LatentState(*(torch.cat(column) for column in zip(*found, strict=True)))
