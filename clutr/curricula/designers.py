"""Networks of PAIRED's teacher: the level so far, the step and noise go in, the next token and a value come out.

Both are those of arXiv 2110.02439 (appendix D) and its code: a convolution and an LSTM for mazes; two convolutions, and
no memory, for roads. The hidden layers' tanh on roads is assumed.
"""

from abc import ABC, abstractmethod
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from clutr.agents.losses import ActionEvaluation
from clutr.agents.networks import initialised, linear
from clutr.envs.capabilities import Tokens

State = tuple[Tensor, Tensor] | None
"""Of an LSTM; None at a level's start, and always where there is none."""


class Designer(nn.Module, ABC):
    """What both networks share.

    Args:
        domain: the domain whose tokens it writes.
        masked: whether a token that was written has probability 0.
    """

    def __init__(self, domain: Tokens, masked: bool) -> None:
        super().__init__()
        self.grid = height, width = domain.token_grid
        if min(height, width) < 3:
            raise ValueError(f"PAIRED's convolution needs a grid of at least 3x3 cells, this one is {height}x{width}")
        self.vocabulary, self.masked = domain.vocabulary, masked
        self.step: nn.Linear

    @abstractmethod
    def look(self, grid: Tensor, features: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Logits `[T, B, vocabulary]`, values `[T, B]` and the state afterwards.

        Args:
            grid: `[T, B, 1, height, width]`, the level so far.
            features: `[T, B, F]`, the step and the noise.
            state: before the first of the steps.
        """

    def forward(
        self, canvas: Tensor, steps: Tensor, noise: Tensor, state: State = None
    ) -> tuple[Categorical, Tensor, State]:
        """Look at T steps of B levels.

        Args:
            canvas: `[T, B, vocabulary]` float32, 1 for each token written before the step.
            steps: `[T]` int64, which step each one is.
            noise: `[B, noise]`.
            state: before the first of the steps; None at a level's start.

        Returns:
            Distribution of the next token's index (token - 1) `[T, B]`, value `[T, B]`, and the state afterwards.
        """
        length, batch, _ = canvas.shape
        # a linear layer on a one-hot step is a look-up
        step = (self.step.weight.t()[steps] + self.step.bias)[:, None].expand(-1, batch, -1)
        features = torch.cat([step, noise.expand(length, -1, -1)], dim=-1)
        logits, values, state = self.look(canvas.view(length, batch, 1, *self.grid), features, state)
        if self.masked:
            logits = logits.masked_fill(canvas.bool(), -torch.inf)
        return Categorical(logits=logits, validate_args=False), values, state

    def evaluate(self, canvas: Tensor, noise: Tensor, actions: Tensor) -> ActionEvaluation:
        """Log-probability, value and entropy of whole levels' `actions` `[T, B]`, each `[T, B]`."""
        distribution, values, _ = self(canvas, torch.arange(len(actions)), noise)
        return ActionEvaluation(distribution.log_prob(actions), values, distribution.entropy())


class RecurrentDesigner(Designer):
    """A 3x3 convolution, an LSTM, and one hidden layer each for actor and critic.

    Args:
        domain: the domain whose tokens it writes.
        noise: width of the noise.
        filters: of the convolution.
        recurrent: width of the LSTM.
        rng: draws the initial weights.
        masked: whether a token that was written has probability 0.
    """

    STEP_FEATURES = 10
    HIDDEN = 32

    def __init__(
        self, domain: Tokens, noise: int, filters: int, recurrent: int, rng: torch.Generator, masked: bool = False
    ) -> None:
        super().__init__(domain, masked)
        height, width = self.grid
        self.conv = _convolution(1, filters, 3, rng)
        self.step = linear(domain.max_tokens, self.STEP_FEATURES, rng)
        features = filters * (height - 2) * (width - 2) + self.STEP_FEATURES + noise
        with torch.random.fork_rng(devices=[]):  # torch's own initialisation takes nothing of the global generator
            self.lstm = nn.LSTM(features, recurrent)
        for name, parameter in self.lstm.named_parameters():
            if "weight" in name:
                nn.init.orthogonal_(parameter, generator=rng)
            else:
                nn.init.zeros_(parameter)
        self.actor = _head(recurrent, self.HIDDEN, self.vocabulary, rng, gain=0.01)
        self.critic = _head(recurrent, self.HIDDEN, 1, rng)

    def look(self, grid: Tensor, features: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """See `Designer`."""
        seen = torch.relu(self.conv(grid.flatten(0, 1))).reshape(*grid.shape[:2], -1)
        memory, state = self.lstm(torch.cat([seen, features], dim=-1), state)
        return self.actor(memory), self.critic(memory).squeeze(-1), state


class ConvolutionalDesigner(Designer):
    """Two 2x2 convolutions without padding, and one hidden layer each for actor and critic; no memory.

    On the 10x10 grid of roads: 16 * 8 * 8 features, 8 of the step and the noise make 1,036 with 4 numbers of noise.

    Args:
        domain: the domain whose tokens it writes.
        noise: width of the noise.
        rng: draws the initial weights.
        masked: whether a token that was written has probability 0.
    """

    STEP_FEATURES = 8
    FILTERS = 8, 16
    HIDDEN = 256

    def __init__(self, domain: Tokens, noise: int, rng: torch.Generator, masked: bool = False) -> None:
        super().__init__(domain, masked)
        height, width = self.grid
        first, second = self.FILTERS
        self.convs = nn.Sequential(
            _convolution(1, first, 2, rng), nn.ReLU(), _convolution(first, second, 2, rng), nn.ReLU()
        )
        self.step = linear(domain.max_tokens, self.STEP_FEATURES, rng)
        features = second * (height - 2) * (width - 2) + self.STEP_FEATURES + noise
        self.actor = _head(features, self.HIDDEN, self.vocabulary, rng, gain=0.01)
        self.critic = _head(features, self.HIDDEN, 1, rng)

    def look(self, grid: Tensor, features: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """See `Designer`."""
        seen = self.convs(grid.flatten(0, 1)).reshape(*grid.shape[:2], -1)
        joined = torch.cat([seen, features], dim=-1)
        return self.actor(joined), self.critic(joined).squeeze(-1), state


def _convolution(inputs: int, outputs: int, size: int, rng: torch.Generator) -> nn.Conv2d:
    return initialised(nn.Conv2d, partial(nn.init.xavier_uniform_, generator=rng), inputs, outputs, kernel_size=size)


def _head(inputs: int, hidden: int, outputs: int, rng: torch.Generator, gain: float = 1.0) -> nn.Sequential:
    return nn.Sequential(linear(inputs, hidden, rng), nn.Tanh(), linear(hidden, outputs, rng, gain))
