"""Actor and critic of a recurrent student."""

import math
from typing import Literal

import gymnasium
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.recurrent import LSTM
from envs.domain import Observation

OBJECTS = 11
"""MiniGrid's kinds of things in a cell."""


def linear(inputs: int, outputs: int, rng: torch.Generator, gain: float = 1.0) -> nn.Linear:
    """A linear layer with orthogonal weights drawn from `rng` and zero bias."""
    # nn.Linear's own initialisation would draw from the global generator
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain, generator=rng)
    nn.init.zeros_(layer.bias)
    return layer


class ConvTorso(nn.Module):
    """The published maze torso: symbols / 10 through 16 filters of 3x3, heading through a linear layer of 5.

    Source: the reference networks of arXiv 2110.02439 and 2210.10243. The convolution is a matrix product over windows
    that are cut out once, which on small pictures is faster than a convolution call.

    Args:
        view: side of the picture.
        rng: draws the initial weights.
    """

    FILTERS = 16
    WINDOW = 3

    def __init__(self, view: int, rng: torch.Generator) -> None:
        super().__init__()
        self.convolution = linear(3 * self.WINDOW**2, self.FILTERS, rng)
        # Xavier for a convolution counts its receptive field, not only its channels.
        field = self.WINDOW**2
        bound = math.sqrt(6 / (3 * field + self.FILTERS * field))
        nn.init.uniform_(self.convolution.weight, -bound, bound, generator=rng)
        self.heading = linear(4, 5, rng)
        side = view - self.WINDOW + 1
        self.windows = side * side
        self.width = self.windows * self.FILTERS + 5
        corner = torch.arange(side)[:, None] * view + torch.arange(side)
        offset = torch.arange(self.WINDOW)[:, None] * view + torch.arange(self.WINDOW)
        cells = corner.reshape(-1, 1) + offset.reshape(1, -1)
        symbols = cells[..., None] * 3 + torch.arange(3)
        self.register_buffer("symbols", symbols.reshape(-1), persistent=False)
        self.symbols: Tensor

    def prepare(self, observation: Observation) -> Tensor:
        """What does not depend on the weights: windows and one-hot heading, `[..., F]` float32."""
        image = observation["image"].flatten(-3)[..., self.symbols].float() / 10
        return torch.cat([image, F.one_hot(observation["direction"], 4).float()], -1)

    def forward(self, prepared: Tensor) -> Tensor:
        """Features `[..., width]` of what `prepare` gave."""
        windows = prepared[..., :-4].unflatten(-1, (self.windows, -1))
        image = F.relu(self.convolution(windows)).flatten(-2)
        return torch.cat([image, self.heading(prepared[..., -4:])], -1)


class SymbolTorso(nn.Module):
    """One linear layer over the one-hot symbols of the whole view and the one-hot heading.

    It contains every convolution over the view; on a view of 5x5 symbols there is little to gain from sharing weights.

    Args:
        view: side of the picture.
        width: number of features.
        rng: draws the initial weights.
    """

    def __init__(self, view: int, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.width = width
        self.layer = linear(view * view * OBJECTS + 4, width, rng, math.sqrt(2))
        self.register_buffer("kinds", torch.arange(OBJECTS, dtype=torch.uint8), persistent=False)
        self.kinds: Tensor

    def prepare(self, observation: Observation) -> Tensor:
        """What does not depend on the weights: one-hot symbols and heading, `[..., F]` float32."""
        symbols = (observation["image"][..., 0, None] == self.kinds).flatten(-3).float()
        return torch.cat([symbols, F.one_hot(observation["direction"], 4).float()], -1)

    def forward(self, prepared: Tensor) -> Tensor:
        """Features `[..., width]` of what `prepare` gave."""
        return F.relu(self.layer(prepared))


class ActorCritic(nn.Module):
    """Torso, LSTM, and one hidden tanh layer each for actor and critic.

    Args:
        observation_space: of one maze environment.
        actions: number of actions.
        torso: "conv" as published, or "symbols".
        torso_width: features of the torso "symbols".
        hidden: width of the LSTM.
        head: width of the hidden layers of actor and critic.
        rng: draws the initial weights.

    Raises:
        ValueError: if the observation is not a maze's.
    """

    def __init__(
        self,
        observation_space: gymnasium.spaces.Dict,
        actions: int,
        torso: Literal["conv", "symbols"],
        torso_width: int,
        hidden: int,
        head: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        image = observation_space.spaces.get("image")
        if image is None or image.shape is None or image.shape[-1] != 3 or "direction" not in observation_space.spaces:
            raise ValueError(f"this student sees `image` and `direction` of a maze, not {observation_space}")
        view = image.shape[0]
        self.torso = ConvTorso(view, rng) if torso == "conv" else SymbolTorso(view, torso_width, rng)
        self.core = LSTM(self.torso.width, hidden, rng)
        self.actor = nn.Sequential(linear(hidden, head, rng), nn.Tanh(), linear(head, actions, rng, 0.01))
        self.critic = nn.Sequential(linear(hidden, head, rng), nn.Tanh(), linear(head, 1, rng))

    def prepare(self, observation: Observation) -> Tensor:
        """What does not depend on the weights, so that epochs over the same data share it."""
        return self.torso.prepare(observation)

    def forward(self, prepared: Tensor, starts: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[T, N, A]` and values `[T, N]` over sequences that begin in `state` `[N, 2H]`."""
        hidden, _ = self.core(self.torso(prepared), starts, state)
        return self._heads(hidden)

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities `[N, A]`, values `[N]` and the next state `[N, 2H]` for one step."""
        hidden, state = self.core.step(self.torso(self.prepare(observation)), state)
        return *self._heads(hidden), state

    def _heads(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return F.log_softmax(self.actor(hidden), -1), self.critic(hidden).squeeze(-1)
