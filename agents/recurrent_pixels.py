"""A student that sees one picture at a time and remembers: convolutions and an LSTM, trained jointly.

The architecture is that of long-term recurrent convolutional networks (LRCN, arXiv 1411.4389, section 3): each picture
through the same convolutions, their features through an LSTM, gradients through time into the convolutions.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
from torch import Tensor

from clutr.agents.distributions import ScaledBeta
from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.agents.pixels import CHUNK_BYTES, PictureNetwork, Torso
from clutr.agents.recurrent import LSTM
from clutr.agents.student import STUDENTS
from clutr.envs.domain import Observation
from clutr.envs.validation import require_at_least


class RecurrentPixelActorCritic(PictureNetwork):
    """Convolutions over one picture, an LSTM, then one hidden layer each for the actor and the critic.

    Args:
        observation_space: of one environment, with a picture `image`.
        action_space: a bounded box `[A]`.
        torso: which convolutions.
        hidden: width H of the LSTM.
        head: width of the hidden layers of actor and critic.
        steps: of a rollout; as long a sequence is learnt from at once.
        rng: draws the initial weights.

    Raises:
        ValueError: if it cannot see or act in these spaces.
    """

    def __init__(
        self,
        observation_space: gymnasium.spaces.Dict,
        action_space: gymnasium.Space[Any],
        torso: Torso,
        hidden: int,
        head: int,
        steps: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__(observation_space, action_space, torso, 1, rng)
        self.steps = steps
        self.core = LSTM(self.torso.width, hidden, rng)
        self._make_heads(hidden, head, rng)

    @property
    def chunk(self) -> int | None:
        """See `Network`: environments whose pictures fit into `CHUNK_BYTES`, at least one."""
        rows, columns, channels = self.torso.picture
        if self.low.device.type != "cpu":
            return None
        return max(1, CHUNK_BYTES // (4 * rows * columns * channels * self.steps))

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, 2 * hidden]`."""
        return torch.zeros(n, 2 * self.core.hidden_size, device=self.low.device)

    def samples(self, column: Tensor) -> Tensor:
        """As it is: the LSTM needs all steps of an environment."""
        return column

    def prepare(self, observations: Observation, episode_starts: Tensor) -> Tensor:  # noqa: ARG002
        """Pictures `[T, N, height, width, 3]` uint8 in the size that the network sees."""
        return self.torso.see(observations["image"])

    def forward(self, prepared: Tensor, episode_starts: Tensor) -> tuple[ScaledBeta, Tensor]:
        """Distributions and values `[T, N]` over sequences that begin in the initial state."""
        features = self.torso(prepared.flatten(0, 1).float()).view(*episode_starts.shape, -1)
        hidden, _ = self.core(features, episode_starts, self.initial_state(episode_starts.shape[1]))
        return self._heads(hidden)

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[ScaledBeta, Tensor, Tensor]:
        """See `Network`; the state `[N, 2H]` is the LSTM's."""
        features = self.torso(self.torso.see(observation["image"]).float())
        hidden, state = self.core.step(features, state)
        return *self._heads(hidden), state


@STUDENTS.register("recurrent-pixel-ppo")
@dataclass(frozen=True)
class RecurrentPixelPPOConfig(PixelPPOConfig):
    """PPO with a memory on single pictures. Its other defaults are those of `pixel-ppo`."""

    hidden: int = 128
    """Width of the LSTM."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "hidden")

    def network(
        self, observation_space: gymnasium.spaces.Dict, action_space: gymnasium.Space[Any], rng: torch.Generator
    ) -> RecurrentPixelActorCritic:
        """See `PPOOptions`."""
        return RecurrentPixelActorCritic(
            observation_space, action_space, self.torso, self.hidden, self.head, self.rollout_steps, rng
        )
