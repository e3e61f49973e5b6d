"""What PPO needs of a network, and the recurrent actor and critic for mazes."""

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol, Self, TypeVar

import gymnasium
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.agents.distributions import Categorical, Distribution
from clutr.agents.kernels.activations import Tanh
from clutr.agents.kernels.distinct import distinct_rows
from clutr.agents.recurrent import LSTM
from clutr.envs.domain import Observation

OBJECTS = 11
"""MiniGrid's kinds of things in a cell."""

Layer = TypeVar("Layer", bound=nn.Module)


def initialised(kind: type[Layer], initialise: Callable[[Tensor], Any], *shape: int, **options: Any) -> Layer:
    """A layer whose weights `initialise` draws, and whose bias is zero; the global generator stays as it was.

    Without `torch.nn.utils.skip_init`, whose way over the meta device imports symbolic algebra for half a second.
    """
    with torch.random.fork_rng(devices=()):
        layer: Any = kind(*shape, **options)
    initialise(layer.weight)
    nn.init.zeros_(layer.bias)
    made: Layer = layer
    return made


def linear(inputs: int, outputs: int, rng: torch.Generator, gain: float = 1.0) -> nn.Linear:
    """A linear layer with orthogonal weights drawn from `rng` and zero bias."""
    return initialised(nn.Linear, partial(nn.init.orthogonal_, gain=gain, generator=rng), inputs, outputs)


ENVS_A_CHUNK = 64
"""Environments whose gradients a processor computes at once through an LSTM."""


class Prepared(Protocol):
    """Observations `[L, M, ...]` as a network's `forward` takes them; a tensor is one."""

    def __getitem__(self, index: Any) -> Self:
        """The same operation as on a tensor."""
        ...


class Network(nn.Module):
    """Actor and critic in one, as PPO sees them.

    An update works on M independent samples, each a sequence of L steps. What a sample is, `samples` says: a recurrent
    network keeps the T steps of an environment together, one without memory takes every step for itself.
    """

    @property
    def chunk(self) -> int | None:
        """How many samples' gradients to compute at once, where that is faster than all of a minibatch; None: all."""
        return None

    @abstractmethod
    def initial_state(self, n: int) -> Tensor:
        """The recurrent state at an episode's start: zeros `[n, ...]`."""

    @abstractmethod
    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """Distributions over actions `[N]`, values `[N]` and the next state for one step, without gradients."""

    @abstractmethod
    def samples(self, column: Tensor) -> Tensor:
        """A rollout's column `[T, N, ...]` as `[L, M, ...]`: M independent samples, each a sequence of L steps."""

    @abstractmethod
    def prepare(self, observations: Observation, episode_starts: Tensor) -> Prepared:
        """What does not depend on the weights, `[L, M, ...]`, so that epochs over the same rollout share it.

        Args:
            observations: of a rollout, `[T, N, ...]`.
            episode_starts: `[T, N]` bool, where episodes start.
        """

    @abstractmethod
    def forward(self, prepared: Any, episode_starts: Tensor) -> tuple[Distribution, Tensor]:
        """Distributions over actions and values, `[L, M]` each; `episode_starts` is `[L, M]` bool."""


class Sequences:
    """Sequences of observations `[T, N]` in which each distinct observation is stored once.

    Args:
        rows: `[U, F]`, the distinct observations as a torso takes them.
        index: `[T, N]` int64, which of them each step sees.
    """

    def __init__(self, rows: Tensor, index: Tensor) -> None:
        self.rows, self.index = rows, index

    def __getitem__(self, index: Any) -> "Sequences":
        part = self.index[index]
        used = torch.zeros(len(self.rows), dtype=torch.bool, device=part.device)
        used[part.flatten()] = True
        return Sequences(self.rows[used], (used.cumsum(0) - 1)[part])


def distinct(observation: Observation) -> tuple[Observation, Tensor]:
    """The distinct observations of `[T, N, ...]`, in the order in which they come first, and `[T, N]` which is which.

    On a processor; elsewhere every observation counts as distinct, since finding equal ones would take longer.
    """
    image, direction = observation["image"], observation["direction"]
    steps = image.flatten(0, 1)
    if image.device.type == "cpu":
        keys = torch.cat([steps.flatten(1), direction.reshape(-1, 1).to(torch.uint8)], 1)
        first, number = (torch.from_numpy(array) for array in distinct_rows(keys.numpy()))
        return {"image": steps[first], "direction": direction.flatten()[first]}, number.view_as(direction)
    everything = {"image": steps, "direction": direction.flatten()}
    return everything, torch.arange(direction.numel(), device=image.device).view_as(direction)


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


class ActorCritic(Network):
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
        self.actor = nn.Sequential(linear(hidden, head, rng), Tanh(), linear(head, actions, rng, 0.01))
        self.critic = nn.Sequential(linear(hidden, head, rng), Tanh(), linear(head, 1, rng))

    @property
    def chunk(self) -> int | None:
        """See `Network`: what the LSTM keeps of a sequence is gigabytes for thousands of environments."""
        return ENVS_A_CHUNK if self.core.weight_hh_l0.device.type == "cpu" else None

    @property
    def actor_critic(self) -> "ActorCritic":
        """Itself: the compiled rollout can play it (`clutr.agents.maze_rollout`)."""
        return self

    def action_noise(self, steps: int, n: int, rng: torch.Generator) -> Tensor:
        """What `Categorical.sample` would draw in so many steps of N environments, `[T, N]`."""
        return torch.rand(steps, n, generator=rng)

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, 2 * hidden]`."""
        return torch.zeros(n, 2 * self.core.hidden_size, device=self.core.weight_hh_l0.device)

    def samples(self, column: Tensor) -> Tensor:
        """As it is: the LSTM needs all steps of an environment."""
        return column

    def prepare(self, observations: Observation, episode_starts: Tensor) -> Sequences:  # noqa: ARG002
        """See `Network`; equal observations are prepared once."""
        seen, index = distinct(observations)
        return Sequences(self.torso.prepare(seen), index)

    def forward(self, prepared: Sequences, episode_starts: Tensor) -> tuple[Categorical, Tensor]:
        """Distributions and values `[T, N]` over sequences that begin in the initial state."""
        state = self.initial_state(episode_starts.shape[1])
        hidden, _ = self.core(self.torso(prepared.rows), episode_starts, state, prepared.index)
        return self._heads(hidden)

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[Categorical, Tensor, Tensor]:
        """See `Network`; the state `[N, 2H]` is the LSTM's."""
        hidden, state = self.core.step(self.torso(self.torso.prepare(observation)), state)
        return *self._heads(hidden), state

    def _heads(self, hidden: Tensor) -> tuple[Categorical, Tensor]:
        return Categorical(F.log_softmax(self.actor(hidden), -1)), self.critic(hidden).squeeze(-1)
