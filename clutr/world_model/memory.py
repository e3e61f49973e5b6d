"""M: the recurrent model that predicts the next latent, the reward and the termination from latents and actions.

Source: Ha & Schmidhuber 2018, "World Models", with heads for reward and termination. Any core of
`clutr.world_model.cores` can be the recurrent part.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from clutr.agents.networks import linear
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_at_least
from clutr.world_model.categories import Categories
from clutr.world_model.cores.base import Core, CoreConfig, MovingCore, ProposingCore
from clutr.world_model.cores.lstm_gru import LSTMConfig
from clutr.world_model.mixture import GaussianMixture


@dataclass(frozen=True)
class MemoryConfig:
    """The recurrent model."""

    core: CoreConfig = field(default_factory=LSTMConfig)
    """The recurrent part."""
    gaussians: int = 5
    """Of each dimension's mixture."""
    residual: bool = True
    """Whether means are predicted as changes of the present latent."""
    classes: int = 0
    """Classes of each group of categorical latents, whose probabilities are predicted; 0: latents are numbers."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "gaussians")
        require_at_least(self, 0, "classes")

    def build(self, latents: int, actions: int, seed: int) -> "Memory":
        """Make the model for `latents` dimensions and `actions` numbers an action."""
        return Memory(self, latents, actions, named_generator(seed, "memory", "weights"))


class Prediction(NamedTuple):
    """What is expected of the next step."""

    latent: GaussianMixture | Categories
    reward: Tensor
    """`[...]`, in the scale's units."""
    termination: Tensor
    """`[...]`: logit of the episode's termination."""
    motion: Tensor | None = None
    """`[..., 3]`: the viewer's motion in the step, of a core that predicts it, in standard deviations."""


PASSIVE = 0.05
"""A latent is passive if its mean varies less than this share of its aggregate variance."""


@dataclass(frozen=True)
class Scale:
    """Means and standard deviations by which latents and rewards are made comparable."""

    latent_mean: Tensor
    """`[D]`."""
    latent_std: Tensor
    """`[D]`: of draws from the backbone's posteriors over the data."""
    signal_std: Tensor
    """`[D]`: of the posteriors' means."""
    reward_std: float

    @classmethod
    def of(cls, means: Tensor, log_variances: Tensor, rewards: Tensor) -> "Scale":
        """Of posteriors `[n, D]` and rewards `[m]`; a dimension that never moves keeps the scale 1."""
        signal = means.var(0, correction=0)
        std = (signal + log_variances.exp().mean(0)).sqrt()
        reward_std = float(rewards.std(correction=0))
        return cls(
            latent_mean=means.mean(0),
            latent_std=torch.where(std > 1e-6, std, 1.0),
            signal_std=signal.sqrt(),
            reward_std=reward_std if reward_std > 1e-6 else 1.0,
        )

    @property
    def active(self) -> Tensor:
        """`[D]` bool: dimensions that tell something of a frame."""
        return self.signal_std.square() >= PASSIVE * self.latent_std.square()

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents `[..., D]` with mean 0 and standard deviation 1 over the data."""
        return (latents - self.latent_mean) / self.latent_std

    def restore(self, normal: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return normal * self.latent_std + self.latent_mean

    def to(self, device: torch.device) -> "Scale":
        """The same on a device."""
        mean, std, signal = (each.to(device) for each in (self.latent_mean, self.latent_std, self.signal_std))
        return Scale(mean, std, signal, self.reward_std)

    def state_dict(self) -> dict[str, Any]:
        """The numbers."""
        return dataclasses.asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Scale":
        """The inverse of `state_dict`."""
        return cls(**state)


class Memory(nn.Module):
    """A core between its inputs, normalised latent and action, and the heads of `Prediction`.

    Args:
        config: the options.
        latents: dimensions D.
        actions: numbers A an action.
        rng: draws the initial weights.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: MemoryConfig, latents: int, actions: int, rng: torch.Generator) -> None:
        super().__init__()
        self.config, self.latents, self.actions = config, latents, actions
        self.core: Core = config.core.build(latents + actions, rng)
        self._proposes = isinstance(self.core, ProposingCore)  # asked once, since it is looked up slowly
        self._moves = isinstance(self.core, MovingCore)
        width = self.proposing.head_width if self.proposing is not None else self.core.width
        if config.classes:
            if self.proposing is not None or latents % config.classes:
                raise ValueError(
                    f"{latents} latents are no groups of {config.classes} classes, or the core's latents are numbers"
                )
            self.categories = linear(width, latents, rng, gain=0.1)
            self.register_buffer("latent_mean", torch.zeros(latents))
            self.register_buffer("latent_std", torch.ones(latents))
        else:
            self.mixture = linear(width, 3 * latents * config.gaussians, rng, gain=0.1)
        self.outcome = linear(width, 2, rng, gain=0.1)

    @property
    def proposing(self) -> ProposingCore | None:
        """The core, if it is one that proposes what comes next."""
        return cast("ProposingCore", self.core) if self._proposes else None

    @property
    def moving(self) -> MovingCore | None:
        """The core, if it is one that predicts its motion."""
        return cast("MovingCore", self.core) if self._moves else None

    def initial_state(self, n: int) -> Tensor:
        """`[n, S]`: the state at an episode's start."""
        return self.core.initial_state(n).to(self.outcome.weight.device)

    def _predict(self, features: Tensor, latent: Tensor) -> Prediction:
        if self.proposing is not None:  # the heads say how sure it is, and nothing else of the latent
            parts = self.proposing.parts(features, self.latents)
            mixture = GaussianMixture.from_numbers(self.mixture(parts.features), self.latents)
            mixture = mixture._replace(means=parts.proposal[..., None].expand_as(mixture.means))
            reward, termination = self.outcome(parts.features).unbind(-1)
            return Prediction(mixture, reward, termination, parts.motion)
        if self.config.classes:
            numbers, classes = self.categories(features), self.config.classes
            expected = Categories.from_numbers(numbers, classes, self.latent_mean, self.latent_std)
            return Prediction(expected, *self.outcome(features).unbind(-1))
        mixture = GaussianMixture.from_numbers(self.mixture(features), self.latents)
        if self.config.residual:
            mixture = mixture._replace(means=mixture.means + latent[..., None])
        reward, termination = self.outcome(features).unbind(-1)
        return Prediction(mixture, reward, termination)

    def use_scale(self, scale: Scale) -> None:
        """Tell whoever wants to know of the latents' scale."""
        if self.config.classes:
            self.latent_mean.copy_(scale.latent_mean)
            self.latent_std.copy_(scale.latent_std)
        if self.moving is not None:
            self.moving.use_scale(scale.latent_mean, scale.latent_std)

    def dreaming(self, state: Tensor, on: bool) -> Tensor:
        """The state `[N, S]` of a memory that from here on is fed with its own predictions, or no longer is."""
        return state if self.moving is None else self.moving.dreaming(state, on)

    def seen(self, state: Tensor) -> Tensor | None:
        """`[N, rows, columns]`: how much of each cell of the view was seen; None if the core cannot tell."""
        return None if self.moving is None else self.moving.seen(state)

    def step(self, state: Tensor, latent: Tensor, action: Tensor) -> tuple[Tensor, Prediction]:
        """One step: normalised latents `[N, D]` and actions `[N, A]`. The next state, and what is expected."""
        state, features = self.core.step(state, torch.cat([latent, action], -1))
        return state, self._predict(features, latent)

    def scan(self, state: Tensor, latents: Tensor, actions: Tensor) -> tuple[Tensor, Prediction]:
        """T steps at once: `[T, N, D]` and `[T, N, A]`."""
        state, features = self.core.scan(state, torch.cat([latents, actions], -1))
        return state, self._predict(features, latents)

    def freeze_core(self) -> None:
        """Leave the core untrained and let only the heads learn: the control that every claim must beat."""
        for parameter in self.core.parameters():
            parameter.requires_grad_(False)
