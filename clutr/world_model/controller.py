"""C: a linear controller on latents and memory states, evolved in the environment.

Source: Ha & Schmidhuber 2018, "World Models": actions are a squashed linear map of [z, h], evolved by CMA-ES (Hansen;
here by the package `cma`). With and without the memory, and with an untrained one, it tells what the memory is good
for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.capabilities import PrivilegedState
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_above, require_at_least, require_one_of
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.dream import Dreamer

Sees = Literal["latent", "both"]


@dataclass(frozen=True)
class ControllerOptions:
    """How a controller is evolved."""

    sees: Sees = "both"
    """The latent alone, or latent and memory."""
    population: int = 16
    """Controllers of each generation."""
    episodes: int = 4
    """Episodes by which each is judged, the same levels for all of a generation."""
    generations: int = 50
    """Generations."""
    spread: float = 0.1
    """First standard deviation of the weights."""
    horizon: int = 125
    """Most actions of an episode."""

    def __post_init__(self) -> None:
        require_one_of(self, ("latent", "both"), "sees")
        require_at_least(self, 2, "population")
        require_at_least(self, 1, "episodes", "generations", "horizon")
        require_above(self, 0, "spread")


class LinearController:
    """Squashed linear maps, one for each of P controllers.

    Args:
        weights: `[P, (I + 1) * A]`, the constant last.
        space: of one environment's actions, a box.
    """

    def __init__(self, weights: Tensor, space: spaces.Box) -> None:
        actions = int(space.shape[0])
        self._maps = weights.view(len(weights), -1, actions)
        low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
        self._middle, self._reach = (low + high) / 2, (high - low) / 2

    def __call__(self, inputs: Tensor) -> Tensor:
        """Actions `[P, E, A]` for inputs `[P, E, I]`."""
        linear = inputs @ self._maps[:, :-1] + self._maps[:, -1:]
        return self._middle + self._reach * torch.tanh(linear)


@torch.no_grad()
def controller_returns(
    weights: Tensor,
    domain: PrivilegedState,
    backbone: Backbone,
    dreamer: Dreamer,
    options: ControllerOptions,
    rng: torch.Generator,
) -> Tensor:
    """Mean returns `[P]` of P controllers in the environment, all on the same freshly drawn levels, side by side."""
    population, episodes = len(weights), options.episodes
    levels = domain.sample(episodes, rng)
    engine = domain.engine(population * episodes)
    space = engine.action_space
    if not isinstance(space, spaces.Box):
        raise TypeError(f"a linear controller steers in a box of actions, not in {space}")
    engine.reset(levels[torch.arange(episodes).repeat(population)])
    observer, controller = domain.observer(engine), LinearController(weights, space)
    observer.reset()
    state = dreamer.memory.initial_state(population * episodes)
    total, alive = torch.zeros(population * episodes), torch.ones(population * episodes, dtype=torch.bool)
    for _ in range(options.horizon):
        normal = dreamer.scale.normalise(backbone.encode(observer.pictures())[0])
        inputs = normal if options.sees == "latent" else torch.cat([normal, state], 1)
        actions = controller(inputs.view(population, episodes, -1)).flatten(0, 1)
        if options.sees == "both":
            state, _ = dreamer.memory.step(state, normal, actions)
        result = engine.step(actions)
        total += torch.where(alive, result.reward.cpu(), 0.0)
        alive &= ~(result.terminated | result.truncated).cpu()
        if not alive.any():
            break
    return total.view(population, episodes).mean(1)


@dataclass(frozen=True)
class Evolved:
    """What evolution found."""

    weights: Tensor
    """`[(I + 1) * A]`: the mean of the last generation's distribution."""
    history: list[float]
    """Mean return of each generation."""


def evolve(
    domain: PrivilegedState,
    backbone: Backbone,
    dreamer: Dreamer,
    options: ControllerOptions,
    seed: int,
    progress: Progress = lambda *_: None,
    returns: Callable[..., Tensor] = controller_returns,
) -> Evolved:
    """Evolve a controller by CMA-ES.

    Args:
        domain: of the environment.
        backbone: encodes frames.
        dreamer: whose memory is used.
        options: how.
        seed: of levels and of the evolution.
        progress: told after each generation.
        returns: judges weights `[P, ...]`; replaced in tests.
    """
    import cma  # noqa: PLC0415  # takes half a second

    space: Any = domain.engine(1).action_space
    inputs = backbone.latents + (dreamer.memory.initial_state(1).shape[1] if options.sees == "both" else 0)
    size = (inputs + 1) * int(space.shape[0])
    # a diagonal covariance: a full one of hundreds of weights is neither learnt nor quickly decomposed
    settings = {"popsize": options.population, "seed": seed + 1, "verbose": -9, "CMA_diagonal": True}
    search = cma.CMAEvolutionStrategy(np.zeros(size), options.spread, settings)
    history: list[float] = []
    for generation in range(options.generations):
        asked: list[NDArray[np.float64]] = search.ask()
        weights = torch.from_numpy(np.stack(asked)).float()
        rng = named_generator(seed, "controller", generation)
        found = returns(weights, domain, backbone, dreamer, options, rng)
        search.tell(asked, (-found.double()).tolist())
        history.append(float(found.mean()))
        progress(generation + 1, options.generations, {"return": history[-1]})
    return Evolved(torch.from_numpy(np.asarray(search.mean)).float(), history)
