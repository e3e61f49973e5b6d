"""Environments small enough to work by hand."""

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from clutr.envs.domain import LevelBatch, Observation, Step


@dataclass(frozen=True)
class CountdownLevels(LevelBatch):
    """An episode of level n ends after n steps."""

    length: Tensor


class CountdownEngine:
    """Counts steps; shows the count. Episodes of even length terminate, those of odd length are truncated.

    Every step is rewarded with 1, so returns and advantages can be worked out on paper.
    """

    def __init__(self, num_envs: int, view: int = 3) -> None:
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self.view = view
        box = gymnasium.spaces.Box(0, 255, (view, view, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict({"image": box, "direction": gymnasium.spaces.Discrete(4)})
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(3)
        self.length = torch.ones(num_envs, dtype=torch.int64)
        self.count = torch.zeros(num_envs, dtype=torch.int64)
        self.solved = torch.zeros(num_envs, dtype=torch.bool)

    @property
    def agent_position(self) -> Tensor:
        """How far it has counted, `[N, 1]`."""
        return self.count.unsqueeze(1)

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        """Start counting again."""
        if levels is not None:
            assert isinstance(levels, CountdownLevels)
            self.length = levels.length
        self.count = torch.zeros_like(self.count) if mask is None else self.count.masked_fill(mask, 0)
        return self._look()

    def step(self, actions: Tensor) -> Step:
        """Count on."""
        assert actions.shape == (self.num_envs,)
        self.count = self.count + 1
        dones = self.count >= self.length
        even = self.length % 2 == 0
        self.solved = dones & even
        return Step(self._look(), torch.ones(self.num_envs), dones & even, dones & ~even)

    def _look(self) -> Observation:
        image = self.count.view(-1, 1, 1, 1).expand(-1, self.view, self.view, 3).to(torch.uint8) % 11
        return {"image": image, "direction": self.count % 4}


class ColourEngine:
    """Each picture has one brightness in all its pixels; the nearer the first action is to it, the greater the reward.

    The other two actions do nothing. An episode of level n ends after n steps, as in `CountdownEngine`. Brightness and
    reward follow from level and step, so everything can be worked out.
    """

    def __init__(self, num_envs: int, side: int = 96) -> None:
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self.side = side
        box = gymnasium.spaces.Box(0, 255, (side, side, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict({"image": box})
        low, high = np.array([-1, 0, 0], np.float32), np.ones(3, np.float32)
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.Box(low, high)
        self.length = torch.ones(num_envs, dtype=torch.int64)
        self.count = torch.zeros(num_envs, dtype=torch.int64)
        self.solved = torch.zeros(num_envs, dtype=torch.bool)

    @property
    def agent_position(self) -> Tensor:
        """How far it has counted, `[N, 1]`."""
        return self.count.unsqueeze(1)

    @property
    def brightness(self) -> Tensor:
        """Of the present pictures, `[N]` in 1..255, never black."""
        return (self.count * 83 + self.length * 31) % 255 + 1

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        """Start again."""
        if levels is not None:
            assert isinstance(levels, CountdownLevels)
            self.length = levels.length
        self.count = torch.zeros_like(self.count) if mask is None else self.count.masked_fill(mask, 0)
        return self._look()

    def step(self, actions: Tensor) -> Step:
        """Reward the first action and show the next picture."""
        assert actions.shape == (self.num_envs, 3)
        wanted = self.brightness / 128 - 1
        reward = 1 - (actions[:, 0] - wanted).abs()
        self.count = self.count + 1
        dones = self.count >= self.length
        even = self.length % 2 == 0
        self.solved = dones & even
        return Step(self._look(), reward, dones & even, dones & ~even)

    def _look(self) -> Observation:
        image = self.brightness.view(-1, 1, 1, 1).expand(-1, self.side, self.side, 3)
        return {"image": image.to(torch.uint8)}
