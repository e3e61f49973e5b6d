"""What an off-policy student keeps: transitions of trained levels, with what really came next."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clutr.agents.sb3.preprocessing import View
from clutr.agents.student import Trajectories
from clutr.envs.domain import Engine, LevelBatch, Observation, Step

_COLUMNS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass
class Transitions(Trajectories):
    """Trajectories that know what each step led to."""

    next_shown: Tensor
    """`[T, N, ...]`: what the student saw after each step, at an episode's end its last observation."""


class WithNextObservations:
    """An engine that also keeps what each step led to, as a student sees it.

    Args:
        engine: plays.
        view: the student's.
    """

    def __init__(self, engine: Engine, view: View) -> None:
        self._engine, self._view = engine, view
        self.num_envs, self.device = engine.num_envs, engine.device
        self.observation_space, self.action_space = engine.observation_space, engine.action_space
        self.seen: list[Tensor] = []

    @property
    def solved(self) -> Tensor:
        """See `Engine`."""
        return self._engine.solved

    @property
    def agent_position(self) -> Tensor:
        """See `Engine`."""
        return self._engine.agent_position

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        """See `Engine`."""
        return self._engine.reset(levels, mask)

    def step(self, actions: Tensor) -> Step:
        """See `Engine`."""
        step = self._engine.step(actions)
        self.seen.append(self._view.show(step.observation))
        return step


class Replay:
    """Stable-Baselines3's replay buffer, filled with any number of transitions at once.

    Args:
        buffer: a `ReplayBuffer` made for one environment.
    """

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def __len__(self) -> int:
        return int(self.buffer.size())

    def store(self, transitions: Transitions, shown: Tensor, chosen: Tensor) -> int:
        """Keep the transitions of the chosen environments, the oldest giving way. Returns their number.

        Args:
            transitions: of a rollout.
            shown: what the student saw before each step, `[T, N, ...]`.
            chosen: indices of environments.
        """
        dones = transitions.terminated | transitions.truncated
        columns: dict[str, Tensor] = {
            "observations": shown,
            "next_observations": transitions.next_shown,
            "actions": transitions.actions.view(*dones.shape, -1),
            "rewards": transitions.rewards,
            "dones": dones,
            "timeouts": transitions.truncated,
        }
        total = len(dones) * len(chosen)
        size, kept = self.buffer.buffer_size, min(total, self.buffer.buffer_size)
        rows = (self.buffer.pos + total - kept + np.arange(kept)) % size
        for name, column in columns.items():
            getattr(self.buffer, name)[rows, 0] = column[:, chosen].flatten(0, 1)[total - kept :].cpu().numpy()
        self.buffer.full = self.buffer.full or self.buffer.pos + total >= size
        self.buffer.pos = (self.buffer.pos + total) % size
        return total

    def state_dict(self) -> dict[str, Any]:
        """The part that is filled."""
        size = len(self)
        columns = {name: torch.from_numpy(getattr(self.buffer, name)[:size].copy()) for name in _COLUMNS}
        return {**columns, "position": self.buffer.pos, "full": self.buffer.full}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`. Raises `ValueError` for a buffer of another size."""
        size = len(state["rewards"])
        if size > self.buffer.buffer_size or (state["full"] and size != self.buffer.buffer_size):
            raise ValueError(f"the kept transitions, {size}, are not those of a buffer of {self.buffer.buffer_size}")
        for name in _COLUMNS:
            getattr(self.buffer, name)[:size] = state[name].numpy()
        self.buffer.pos, self.buffer.full = state["position"], state["full"]
