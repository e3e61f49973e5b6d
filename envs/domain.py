"""The protocol that every environment offers, and the types that cross it.

An environment is a `Domain`: it samples, plays, describes and draws `LevelBatch`es. What it may offer beyond that is in
`clutr.envs.capabilities`; students and curricula see nothing else of it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, Protocol, Self

import gymnasium
import numpy as np
import torch
from torch import Tensor

from clutr.envs.registry import Registry

Observation = dict[str, Tensor]
"""What a batch of students sees: one tensor a name, each `[N, ...]`."""

Metric = Literal["solved", "return"]
"""What a test is told by: the share of its episodes that was solved, or their mean return."""


@dataclass(frozen=True)
class LevelBatch:
    """A batch of levels: one tensor a property, each with a leading batch axis `[B, ...]`.

    A batch, a replay buffer and a single level (`B = 1`) are the same type. Everything that makes a level replayable
    is in its fields.
    """

    def tensors(self) -> dict[str, Tensor]:
        """The fields by name, in the order of their declaration."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Self:
        """The inverse of `tensors`."""
        return cls(**tensors)

    def __len__(self) -> int:
        return next(iter(self.tensors().values())).shape[0]

    def __getitem__(self, index: Any) -> Self:
        """Select levels; the result is a batch, also for a single integer."""
        if isinstance(index, int):
            index = slice(index, index + 1) if index != -1 else slice(-1, None)
        return type(self)(**{name: value[index] for name, value in self.tensors().items()})

    @staticmethod
    def kind(name: str) -> "type[LevelBatch]":
        """The kind of level whose class is called `name`, among those that are imported. Raises `KeyError`."""
        kinds: list[type[LevelBatch]] = [LevelBatch]
        for kind in kinds:  # grows while it is walked
            if kind.__name__ == name:
                return kind
            kinds += kind.__subclasses__()
        raise KeyError(f"no kind of level is called {name!r}")

    @classmethod
    def concatenate(cls, batches: Sequence[Self]) -> Self:
        """Join batches along the batch axis."""
        columns = [batch.tensors() for batch in batches]
        return cls(**{name: torch.cat([column[name] for column in columns]) for name in columns[0]})

    def to(self, device: torch.device | str) -> Self:
        """The same levels on another device."""
        return type(self)(**{name: value.to(device) for name, value in self.tensors().items()})

    def key(self) -> list[str]:
        """A stable content hash for each level, 16 hexadecimal digits: the level's id everywhere."""
        if not len(self):
            return []
        parts = []
        for name, value in self.tensors().items():
            array = value.detach().cpu().contiguous().numpy()
            header = np.frombuffer(f"{name}:{array.dtype}:{array.shape[1:]}".encode(), dtype=np.uint8)
            rows = array.reshape(len(self), -1)
            rows = np.packbits(rows, axis=1) if array.dtype == bool else rows.view(np.uint8)
            parts += [np.broadcast_to(header, (len(self), len(header))), rows.reshape(len(self), -1)]
        kind, content = type(self).__name__.encode(), np.concatenate(parts, axis=1)
        return [hashlib.blake2b(kind + row.tobytes(), digest_size=8).hexdigest() for row in content]


@dataclass(frozen=True)
class SeedLevels(LevelBatch):
    """Levels of somebody else's environment, each named by the seed from which it is drawn there."""

    seed: Tensor
    """`[B]` int64, not negative."""

    @classmethod
    def draw(cls, n: int, rng: torch.Generator) -> Self:
        """N random seeds."""
        return cls(torch.randint(0, 2**31, (n,), generator=rng, device=rng.device).cpu())


class Step(NamedTuple):
    """What a batch of environments answers to a batch of actions."""

    observation: Observation
    reward: Tensor  # [N] float32
    terminated: Tensor  # [N] bool: the environment ended the episode
    truncated: Tensor  # [N] bool: the time limit ended it


class Engine(Protocol):
    """A batch of environments that play levels. It never resets itself: see `reset`."""

    num_envs: int
    device: torch.device
    observation_space: gymnasium.spaces.Dict
    """Space of ONE environment's observation; batches add a leading axis."""
    action_space: gymnasium.Space[Any]
    """Space of ONE environment's action."""

    @property
    def solved(self) -> Tensor:
        """`[N]` bool: whether an environment's last step ended its episode with success."""
        ...

    @property
    def agent_position(self) -> Tensor:
        """`[N, ...]`: where the agents are, in the domain's own terms; a map can be drawn from it."""
        ...

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        """Start episodes and return the observation of every environment.

        Args:
            levels: N levels, one an environment; None starts the levels again that the environments already hold.
            mask: `[N]` bool, the environments to reset; the others go on undisturbed. None resets all.
        """
        ...

    def step(self, actions: Tensor) -> Step:
        """Advance every environment by one action `[N, ...]`, also those whose episode has ended."""
        ...


@dataclass(frozen=True)
class Task:
    """A named test: a level, or a generator of levels, and the engine that plays it."""

    name: str
    draw: Callable[[int, torch.Generator], LevelBatch]
    """`draw(n, rng)` gives n levels: copies of a fixed level, or fresh ones."""
    engine: Callable[[int], Engine]
    """`engine(n)` gives n environments that can play what `draw` gives."""
    max_num_envs: int = 2_048
    """Environments that play at once at the most: fewer where each is dear in memory or time."""


@dataclass(frozen=True)
class Suite:
    """Named tests that nobody trains on."""

    name: str
    about: str
    tasks: tuple[Task, ...]
    metric: Metric = "solved"
    """What its results are told by."""

    def __getitem__(self, name: str) -> Task:
        for task in self.tasks:
            if task.name == name:
                return task
        raise KeyError(f"suite {self.name!r} has no level {name!r}; it has: {', '.join(t.name for t in self.tasks)}")


class Domain(Protocol):
    """An environment, as a frozen dataclass of its options. Registered in `DOMAINS`.

    This is what training by domain randomisation, evaluation and reports need. Other curricula, manifolds, probes and
    world models ask for more: see `clutr.envs.capabilities`.
    """

    @property
    def level_type(self) -> type[LevelBatch]:
        """The class of this domain's levels."""
        ...

    def sample(self, n: int, rng: torch.Generator) -> LevelBatch:
        """Draw n random levels (domain randomisation)."""
        ...

    def engine(self, n: int, device: torch.device | str = "cpu") -> Engine:
        """N training environments."""
        ...

    def suites(self) -> dict[str, Suite]:
        """The zero-shot test suites by name."""
        ...

    def describe(self, levels: LevelBatch) -> dict[str, Tensor]:
        """Descriptive numbers of each level, `[B]` float32 by name; `solvable` (0 or 1) is always among them."""
        ...

    def render(self, levels: LevelBatch) -> Tensor:
        """Pictures `[B, height, width, 3]` uint8."""
        ...


class LevelError(ValueError):
    """A level that cannot be read. The message names the line and the reason."""


DOMAINS: Registry[type[Domain]] = Registry("domain", "clutr.envs.*.domain")
"""Domains by name."""
