"""PPO for environments with pictures and continuous actions."""

from dataclasses import dataclass
from typing import Any

import gymnasium
import torch

from clutr.agents.losses import ValueLoss
from clutr.agents.pixels import TORSOS, PictureNetwork, PixelActorCritic, Torso
from clutr.agents.ppo import PPOOptions
from clutr.agents.student import STUDENTS
from clutr.envs.validation import require_at_least, require_one_of


@STUDENTS.register("pixel-ppo")
@dataclass(frozen=True)
class PixelPPOConfig(PPOOptions):
    """PPO on stacked pictures. The defaults are the published CarRacing student of arXiv 2110.02439 and 2210.10243."""

    rollout_steps: int = 125
    learning_rate: float = 3e-4
    discount: float = 0.99
    gae_lambda: float = 0.9
    epochs: int = 8
    minibatches: int = 4
    entropy_coefficient: float = 0.0
    value_loss: ValueLoss = "smooth-l1"
    normalise_returns: bool = True
    torso: Torso = "published"
    """The published six convolutions; five light ones on pictures of half the height and width; or four small ones on
    pictures of a quarter."""
    head: int = 100
    """Width of the hidden layers of actor and critic."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "head")
        require_one_of(self, TORSOS, "torso")

    def network(
        self, observation_space: gymnasium.spaces.Dict, action_space: gymnasium.Space[Any], rng: torch.Generator
    ) -> PictureNetwork:
        """See `PPOOptions`."""
        return PixelActorCritic(observation_space, action_space, self.torso, self.head, rng)
