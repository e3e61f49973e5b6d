"""What travels between machines: numpy arrays, which Ray hands on without copying, nested in dicts and lists."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clutr.agents.distributions import Categorical, Distribution, sample_actions
from clutr.agents.networks import Network
from clutr.agents.student import Trajectories
from clutr.envs.domain import LevelBatch, Observation
from clutr.envs.randomness import named_generator


def pack(value: Any) -> Any:
    """Tensors as numpy arrays, all else as it is."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, dict):
        return {key: pack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(pack(item) for item in value)
    return value


def unpack(value: Any) -> Any:
    """The inverse of `pack`. Tensors are copies: what Ray hands out cannot be written to."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return {key: unpack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(unpack(item) for item in value)
    return value


def pack_levels(levels: LevelBatch) -> dict[str, Any]:
    """Levels with the keys that they are known by."""
    return {"type": type(levels), "keys": levels.key(), "tensors": pack(levels.tensors())}


def unpack_levels(payload: dict[str, Any]) -> LevelBatch:
    """The inverse of `pack_levels`. Raises `RuntimeError` if these are not the levels of the keys."""
    levels: LevelBatch = payload["type"].from_tensors(unpack(payload["tensors"]))
    if levels.key() != payload["keys"]:
        raise RuntimeError("levels arrived that are not those of their keys")
    return levels


def pack_trajectories(played: Trajectories) -> dict[str, Any]:
    """Columns by name."""
    return {column.name: pack(getattr(played, column.name)) for column in fields(Trajectories)}


def unpack_trajectories(payloads: Sequence[dict[str, Any]], device: torch.device | str = "cpu") -> Trajectories:
    """Trajectories of several shards, `[T, n]` each, side by side on `device`."""

    def join(columns: Sequence[Any]) -> Any:
        if isinstance(columns[0], dict):
            return {name: join([column[name] for column in columns]) for name in columns[0]}
        return torch.from_numpy(np.concatenate(columns, axis=1)).to(device)

    return Trajectories(**join(payloads))


def select(played: Trajectories, envs: Tensor) -> Trajectories:
    """The trajectories of some environments."""

    def of(column: Any) -> Any:
        return {name: of(item) for name, item in column.items()} if isinstance(column, dict) else column[:, envs]

    return Trajectories(**{each.name: of(getattr(played, each.name)) for each in fields(Trajectories)})


def generator(state: np.ndarray) -> torch.Generator:
    """A generator in this state."""
    rng = torch.Generator()
    rng.set_state(torch.from_numpy(state.copy()))
    return rng


@dataclass(frozen=True)
class Shard:
    """A network that plays environments `first` to `first + n` of `total`, with those environments' random draws.

    Where actions are discrete, each step takes one number an environment from the generator. A shard draws the numbers
    of all environments and uses its own, so that it acts as it would in one process, and leaves the generator as it
    would be there. Draws from a Beta distribution take who knows how many numbers; there, each shard but that of all
    environments has a generator of its own, made from the student's.
    """

    network: Network
    first: int
    total: int
    _own_generator: list[torch.Generator] = field(default_factory=list, init=False)

    def initial_state(self, n: int) -> Tensor:
        """See `Network`."""
        return self.network.initial_state(n)

    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """See `Network`."""
        policy, values, state = self.network.step(observation, state)
        return SharedDraws(policy, self.first, self.total, self._own), values, state

    def _own(self, rng: torch.Generator) -> torch.Generator:
        if not self._own_generator:
            seed = int(torch.randint(2**62, (), generator=rng))
            self._own_generator.append(named_generator(seed, "share", self.first))
        return self._own_generator[0]


class SharedDraws:
    """A distribution over the actions of a shard's environments; see `Shard`."""

    def __init__(
        self, policy: Distribution, first: int, total: int, own: Callable[[torch.Generator], torch.Generator]
    ) -> None:
        self.policy, self.first, self.total, self.own = policy, first, total, own
        self.mode, self.log_prob = policy.mode, policy.log_prob
        self.entropy, self.to_engine = policy.entropy, policy.to_engine

    def sample(self, rng: torch.Generator) -> Tensor:
        """See `Distribution`."""
        policy = self.policy
        if not isinstance(policy, Categorical):
            return policy.sample(self.own(rng))
        noise = torch.rand(self.total, generator=rng)
        return sample_actions(policy.log_probs, noise[self.first : self.first + len(policy.log_probs)])
