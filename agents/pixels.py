"""Actor and critic that see the last few pictures (arXiv 2110.02439, CarRacing)."""

import math
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.agents.distributions import ScaledBeta
from clutr.agents.kernels.pictures import average_squares, stack_frames
from clutr.agents.networks import Network, linear
from clutr.envs.domain import Observation
from clutr.envs.workers import run_parts

FRAMES = 4
"""Pictures that the network sees at once: the newest and the three before it."""
Torso = Literal["published", "light", "small"]
"""Which convolutions see the pictures."""


class Convolutions(NamedTuple):
    """The shape of a torso."""

    shrink: int
    """Squares of so many pixels a side are averaged into one before the network sees them."""
    layers: tuple[tuple[int, int, int], ...]
    """Filters, side of the window, and stride of each convolution."""


TORSOS: dict[Torso, Convolutions] = {
    "published": Convolutions(1, ((8, 4, 2), (16, 3, 2), (32, 3, 2), (64, 3, 2), (128, 3, 1), (256, 3, 1))),
    "light": Convolutions(2, ((8, 4, 2), (32, 3, 2), (64, 3, 2), (128, 3, 1), (256, 3, 1))),
    "small": Convolutions(4, ((16, 4, 2), (32, 3, 2), (64, 3, 2), (256, 2, 1))),
}
"""By name. A picture of 96x96 becomes a single position in each. The light one takes two fifths of the arithmetic and a
quarter of the memory of the published one, the small one a tenth and a sixteenth."""
STACKS_A_PART = 64
"""Pictures that a thread prepares at once."""
CHUNK_BYTES = 28 * 2**20
"""Of float32 pictures whose gradients a processor computes at once. Tensors of up to 32 MiB stay with the allocator (of
glibc), while the 221 MB of a published minibatch would be fetched from the system, page by page, in each gradient step.
"""


class Stacks:
    """Stacks of pictures `[L, M]` over a rollout's frames, of which each is stored once.

    Frames from before an episode's start are black. (What the released code fills them with is unknown.)

    Args:
        frames: `[F, height, width, 3]` uint8, all that the stacks are made of.
        index: `[L, M, FRAMES]` int64, which frame is at each position of a stack, the oldest first.
        known: `[L, M, FRAMES]` bool, False where the frame is from before the episode's start.
    """

    def __init__(self, frames: Tensor, index: Tensor, known: Tensor) -> None:
        self.frames, self.index, self.known = frames, index, known

    @classmethod
    def of(cls, frames: Tensor, episode_starts: Tensor) -> "Stacks":
        """The stacks of all steps of a rollout, `[1, T * N]`.

        Args:
            frames: `[T, N, height, width, 3]` uint8.
            episode_starts: `[T, N]` bool, where episodes start; the first step is a start whether it says so or not.
        """
        steps, envs = episode_starts.shape
        time = torch.arange(steps, device=episode_starts.device).unsqueeze(1)
        began = torch.where(episode_starts, time, 0).cummax(0).values
        back = torch.arange(FRAMES - 1, -1, -1, device=episode_starts.device)
        times = time.unsqueeze(2) - back
        index = times.clamp(min=0) * envs + torch.arange(envs, device=episode_starts.device).unsqueeze(1)
        known = times >= began.unsqueeze(2)
        return cls(frames.flatten(0, 1), index.view(1, -1, FRAMES), known.view(1, -1, FRAMES))

    def __getitem__(self, index: Any) -> "Stacks":
        return Stacks(self.frames, self.index[index], self.known[index])

    def pixels(self) -> Tensor:
        """The stacks themselves, `[L * M, height, width, 3 * FRAMES]` float32 in 0..255: a copy."""
        index, known = self.index.flatten(0, 1), self.known.flatten(0, 1)
        if self.frames.device.type == "cpu":
            return stacked(self.frames, index, known)
        stacks = self.frames.new_empty(len(index), *self.frames.shape[1:3], FRAMES, 3, dtype=torch.float32)
        for position, part in enumerate(stacks.unbind(3)):
            part.copy_(self.frames.index_select(0, index[:, position]))
            part.index_fill_(0, (~known[:, position]).nonzero().squeeze(1), 0.0)
        return stacks.flatten(3)


def stacked(frames: Tensor, index: Tensor, known: Tensor) -> Tensor:
    """`[B, height, width, 3 * FRAMES]` float32 of `[F, height, width, 3]`, by `index` and `known` `[B, FRAMES]`."""
    height, width, channels = frames.shape[1:]
    pixels = torch.empty(len(index), height, width, index.shape[1] * channels)
    given = frames.contiguous().numpy(), index.contiguous().numpy(), known.contiguous().numpy()
    bounds = [*range(0, len(index), STACKS_A_PART), len(index)]
    run_parts(lambda part: stack_frames(*given, *part, pixels.numpy()), list(pairwise(bounds)))
    return pixels


def convolution(inputs: int, filters: int, side: int, rng: torch.Generator) -> nn.Parameter:
    """Weights of a convolution `[filters, side, side, inputs]`: Xavier-uniform with the gain of a ReLU.

    Channels stand last, so that the convolution, which sees them through `permute`, gets the layout that is fast on
    processors and recent GPUs, while parameter, gradient and Adam's slots are ordinary contiguous tensors.
    """
    bound = nn.init.calculate_gain("relu") * math.sqrt(6 / ((inputs + filters) * side**2))
    weight = torch.empty(filters, side, side, inputs)
    return nn.Parameter(nn.init.uniform_(weight, -bound, bound, generator=rng))


def shrink(pictures: Tensor, side: int) -> Tensor:
    """Averages of squares of `side` pixels, rounded: `[..., height, width, 3]` uint8 in and out."""
    if side == 1:
        return pictures
    if pictures.device.type == "cpu":
        return compiled_shrink(pictures, side)
    height, width = (size // side for size in pictures.shape[-3:-1])
    pixels = pictures[..., : height * side, : width * side, :].to(torch.int16)
    corners = [pixels[..., row::side, column::side, :] for row in range(side) for column in range(side)]
    total = torch.stack(corners).sum(0, dtype=torch.int16).add_(side * side // 2)
    return total.div(side * side, rounding_mode="floor").to(torch.uint8)


def compiled_shrink(pictures: Tensor, side: int) -> Tensor:
    """`shrink` on a processor."""
    flat = pictures.reshape(-1, *pictures.shape[-3:]).contiguous()
    small = torch.empty(len(flat), flat.shape[1] // side, flat.shape[2] // side, flat.shape[3], dtype=torch.uint8)
    parts = list(zip(flat.split(STACKS_A_PART), small.split(STACKS_A_PART), strict=True))
    run_parts(lambda part: average_squares(part[0].numpy(), side, part[1].numpy()), parts)
    return small.view(*pictures.shape[:-3], *small.shape[1:])


class PixelTorso(nn.Module):
    """Convolutions over stacked pictures, a ReLU after each.

    Args:
        height: of a picture.
        width: of a picture.
        name: which convolutions.
        rng: draws the initial weights.
        frames: pictures in a stack.

    Raises:
        ValueError: if the picture is too small for the convolutions.
    """

    BIAS = 0.1

    def __init__(self, height: int, width: int, name: Torso, rng: torch.Generator, frames: int = FRAMES) -> None:
        super().__init__()
        self.shrink, self.layers = TORSOS[name]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        inputs, rows, columns = 3 * frames, height // self.shrink, width // self.shrink
        self.picture = rows, columns, 3
        for filters, side, stride in self.layers:
            self.weights.append(convolution(inputs, filters, side, rng))
            self.biases.append(nn.Parameter(torch.full((filters,), self.BIAS)))
            inputs, rows, columns = filters, (rows - side) // stride + 1, (columns - side) // stride + 1
        if min(rows, columns) < 1:
            raise ValueError(f"this student sees pictures of at least 96x96 pixels, not {height}x{width}")
        self.width = inputs * rows * columns

    def see(self, pictures: Tensor) -> Tensor:
        """Pictures `[..., height, width, 3]` uint8 in the size that the network sees."""
        return shrink(pictures, self.shrink)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features `[B, width]` of stacked pictures `[B, height, width, 3 * frames]` float32 in 0..255."""
        features = pixels.permute(0, 3, 1, 2)
        weights: list[Tensor] = list(self.weights)
        biases: list[Tensor] = list(self.biases)
        # The network sees pixels / 128 - 1; to scale the few weights is cheaper than to scale the pictures.
        weights[0], biases[0] = weights[0] / 128, biases[0] - weights[0].sum((1, 2, 3))
        for weight, bias, (_, side, stride) in zip(weights, biases, self.layers, strict=True):
            if features.shape[2:] == (side, side):  # one window: a matrix product, whose gradients are faster
                features = F.linear(features.permute(0, 2, 3, 1).flatten(1), weight.flatten(1), bias)[:, :, None, None]
            else:
                features = F.conv2d(features, weight.permute(0, 3, 1, 2), bias, stride)
            features = F.relu_(features)
        return features.permute(0, 2, 3, 1).flatten(1)


class PictureNetwork(Network):
    """What networks on pictures share: convolutions, and Beta distributions over bounded actions.

    Args:
        observation_space: of one environment, with a picture `image`.
        action_space: a bounded box `[A]`.
        torso: which convolutions.
        frames: pictures that they see at once.
        rng: draws the initial weights.

    Raises:
        ValueError: if it cannot see or act in these spaces.
    """

    def __init__(
        self,
        observation_space: gymnasium.spaces.Dict,
        action_space: gymnasium.Space[Any],
        torso: Torso,
        frames: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        if not isinstance(action_space, gymnasium.spaces.Box) or len(action_space.shape) != 1:
            raise ValueError(f"this student takes continuous actions [A], not {action_space}")
        if not action_space.is_bounded():
            raise ValueError(f"this student takes actions within bounds, not {action_space}")
        image = observation_space.spaces.get("image")
        if not isinstance(image, gymnasium.spaces.Box) or image.dtype != np.uint8 or image.shape[2:] != (3,):
            raise ValueError(f"this student sees `image`, uint8 [height, width, 3], not {observation_space}")
        self.torso = PixelTorso(image.shape[0], image.shape[1], torso, rng, frames)
        self.register_buffer("low", torch.as_tensor(action_space.low), persistent=False)
        self.register_buffer("high", torch.as_tensor(action_space.high), persistent=False)
        self.low: Tensor
        self.high: Tensor

    def _make_heads(self, features: int, head: int, rng: torch.Generator) -> None:
        """One hidden layer each for the actor and the critic, over so many features."""
        actions = len(self.low)
        # Small last weights: at first, actions hardly depend on what is seen.
        self.actor = linear(features, head, rng, math.sqrt(2))
        self.alpha, self.beta = linear(head, actions, rng, 0.01), linear(head, actions, rng, 0.01)
        self.critic = nn.Sequential(linear(features, head, rng, math.sqrt(2)), nn.ReLU(), linear(head, 1, rng))

    def _heads(self, features: Tensor) -> tuple[ScaledBeta, Tensor]:
        hidden = F.relu(self.actor(features))
        alpha, beta = F.softplus(self.alpha(hidden)) + 1, F.softplus(self.beta(hidden)) + 1
        return ScaledBeta(alpha, beta, self.low, self.high), self.critic(features).squeeze(-1)


class PixelActorCritic(PictureNetwork):
    """Convolutions over stacked pictures, then one hidden layer each for the actor and the critic, without memory.

    Args:
        observation_space: of one environment, with a picture `image`.
        action_space: a bounded box `[A]`.
        torso: which convolutions.
        head: width of the hidden layers of actor and critic.
        rng: draws the initial weights.

    Raises:
        ValueError: if it cannot see or act in these spaces.
    """

    def __init__(
        self,
        observation_space: gymnasium.spaces.Dict,
        action_space: gymnasium.Space[Any],
        torso: Torso,
        head: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__(observation_space, action_space, torso, FRAMES, rng)
        self._make_heads(self.torso.width, head, rng)

    @property
    def chunk(self) -> int | None:
        """See `Network`."""
        rows, columns, channels = self.torso.picture
        return CHUNK_BYTES // (4 * rows * columns * channels * FRAMES) if self.low.device.type == "cpu" else None

    def initial_state(self, n: int) -> Tensor:
        """Black frames `[n, FRAMES - 1, height, width, 3]` uint8."""
        return torch.zeros(n, FRAMES - 1, *self.torso.picture, dtype=torch.uint8, device=self.low.device)

    def samples(self, column: Tensor) -> Tensor:
        """`[1, T * N, ...]`: without memory, each step stands for itself."""
        return column.flatten(0, 1).unsqueeze(0)

    def prepare(self, observations: Observation, episode_starts: Tensor) -> Stacks:
        """See `Network`; frames are copied only if they are shrunk."""
        return Stacks.of(self.torso.see(observations["image"]), episode_starts)

    def forward(self, prepared: Stacks, episode_starts: Tensor) -> tuple[ScaledBeta, Tensor]:
        """See `Network`."""
        return self._heads(self.torso(prepared.pixels()).view(*episode_starts.shape, -1))

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[ScaledBeta, Tensor, Tensor]:
        """See `Network`; the state is the frames before this one, `[N, FRAMES - 1, height, width, 3]` uint8."""
        stacks = torch.cat([state, self.torso.see(observation["image"]).unsqueeze(1)], 1)
        if stacks.device.type == "cpu":
            every = torch.arange(len(stacks) * FRAMES).view(-1, FRAMES)
            pixels = stacked(stacks.flatten(0, 1), every, torch.ones_like(every, dtype=torch.bool))
        else:
            pixels = stacks.permute(0, 2, 3, 1, 4).float().flatten(3)
        return *self._heads(self.torso(pixels)), stacks[:, 1:]
