"""What a domain may offer beyond `clutr.envs.domain.Domain`: each capability is a protocol of its own.

What needs a capability asks for it by `require`; what can do without asks `isinstance(domain, Capability)`.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.domain import Domain, Engine, LevelBatch

Capability = TypeVar("Capability", bound=Domain)


def require(domain: Domain, capability: type[Capability], who: str) -> Capability:
    """`domain`, known to have a capability. Raises `ValueError`, naming what is missing, if it has not.

    Args:
        domain: who is asked.
        capability: one of this module's protocols.
        who: needs it, in words that fit into "... needs a domain with".
    """
    if isinstance(domain, capability):
        return domain
    missing = [name for name in vars(capability) if not name.startswith("_") and not hasattr(domain, name)]
    raise ValueError(
        f"{who} needs a domain with the capability {capability.__name__}, "
        + f"but {type(domain).__name__} has no {', '.join(missing)}"
    )


class Repairs(NamedTuple):
    """How often `Tokens.from_tokens` had to mend its input, by reason, each `[B]` int64."""

    counts: dict[str, Tensor]


@runtime_checkable
class Tokens(Domain, Protocol):
    """Levels as token sequences: what task manifolds and level-building teachers work on."""

    @property
    def vocabulary(self) -> int:
        """Number of content tokens C. Token 0 is padding, 1..C are content."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longest content of a task."""
        ...

    @property
    def ordered_suffix_length(self) -> int:
        """How many tokens at the end of a task have a part of their own; those before them are a sorted set."""
        ...

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of the grid whose cells the content tokens 1..C number row by row."""
        ...

    def to_tokens(self, levels: LevelBatch) -> Tensor:
        """Canonical token sequences `[B, max_tokens]` int64, padded with 0 on the right."""
        ...

    def from_tokens(self, tokens: Tensor) -> tuple[LevelBatch, Repairs]:
        """Build levels from ANY token sequences `[B, L]` (values outside 1..C are ignored); repairs are counted."""
        ...


@runtime_checkable
class Mutation(Domain, Protocol):
    """Edits of levels: what ACCEL works on."""

    def mutate(self, levels: LevelBatch, edits: int, rng: torch.Generator) -> LevelBatch:
        """Copies of `levels` with `edits` random edits each."""
        ...


class Parameter(NamedTuple):
    """One of the numbers that tell what kind of level to draw."""

    name: str
    low: float
    high: float
    """`low <= high`; both belong to the range."""
    about: str
    """What it sets, in a few words."""


@runtime_checkable
class Parameters(Domain, Protocol):
    """Levels drawn by continuous parameters: what teachers of competence choose."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters, at least one. The low end of the first makes the plainest levels."""
        ...

    def sample_at(self, parameters: Tensor, rng: torch.Generator) -> LevelBatch:
        """Draw a random level for each row of `parameters` `[n, P]`, in the order of `Parameters.parameters`.

        Any finite numbers will do: those out of range count as the end that they passed. Raises
        `ValueError` for another shape and for numbers that are not finite.
        """
        ...


def clamp_parameters(parameters: Tensor, ranges: Sequence[Parameter]) -> Tensor:
    """Parameters `[n, P]` with those out of range moved to its end, float64 on the CPU.

    Raises:
        ValueError: their shape does not fit, or one is not finite.
    """
    if parameters.ndim != 2 or parameters.shape[1] != len(ranges):
        raise ValueError(f"parameters must be [n, {len(ranges)}], got {list(parameters.shape)}")
    if not bool(parameters.isfinite().all()):
        raise ValueError("parameters must be finite")
    low, high = (torch.tensor([getattr(one, end) for one in ranges], dtype=torch.float64) for end in ("low", "high"))
    return parameters.cpu().double().clamp(low, high)


SIDE = 64
"""Pixels along either side of a picture of a `PrivilegedObserver`."""


class PrivilegedObserver(Protocol):
    """Looks at the environments of one engine, and tells of their state as it is now. Students never see this."""

    objects: tuple[str, ...]
    """Names of what a pixel can show, by number; number 0 is the background."""
    quantities: dict[str, str]
    """Names of the numbers of the true state, and their units ("" for none)."""

    def reset(self, mask: Tensor | None = None) -> None:
        """Take note that episodes began in the environments of `mask` `[N]` bool (None: all)."""
        ...

    def expert_action(self, aggressiveness: Tensor) -> Tensor:
        """Actions `[N, ...]` of an expert who knows the true state.

        Args:
            aggressiveness: `[N]` in [0, 1]: how fast to go, in environments with speeds.
        """
        ...

    def pictures(self) -> Tensor:
        """What the students saw last, `[N, SIDE, SIDE, 3]` uint8."""
        ...

    def masks(self) -> Tensor:
        """Which object each pixel shows for the most part, `[N, SIDE, SIDE]` uint8."""
        ...

    def privileged_state(self) -> dict[str, Tensor]:
        """The true state, `[N]` float32 for each of `quantities`."""
        ...


@runtime_checkable
class PrivilegedState(Domain, Protocol):
    """Pictures, objects on them and the true state of running environments: what world models and probes work on."""

    def observer(self, engine: Engine) -> PrivilegedObserver:
        """An observer of one of this domain's training engines. Raises `TypeError` for another domain's engine."""
        ...


@runtime_checkable
class Text(Domain, Protocol):
    """Levels as text that a person can read and write."""

    def parse(self, source: str) -> LevelBatch:
        """Read levels from text or JSON. Raises `clutr.envs.domain.LevelError` naming line and reason."""
        ...

    def format(self, levels: LevelBatch) -> str:
        """Write levels as text that `parse` reads back without loss."""
        ...


class RenderingEngine(Engine, Protocol):
    """An engine that draws its environments as they are now: what films and Gymnasium's `render` show."""

    render_fps: float
    """Pictures a second, one a step, at which time goes by as it should."""

    def render(self) -> NDArray[np.uint8]:
        """Pictures of the current states `[N, rows, columns, 3]`, each call's own.

        Raises:
            RuntimeError: the engine was not reset yet.
        """
        ...


@runtime_checkable
class OptimalReturn(Domain, Protocol):
    """Optimal returns: what the exact regret is measured against."""

    def optimal_return(self, levels: LevelBatch, discount: float = 1.0) -> Tensor:
        """The return of the best episode that is possible from each level's start, `[B]` float32.

        Args:
            levels: B levels.
            discount: gamma; the reward of the episode's first step is not discounted.
        """
        ...


class PathScale(NamedTuple):
    """What the colours along a path stand for."""

    colours: tuple[str, ...]
    """Hexadecimal, from `low` to `high`."""
    low: str
    high: str


class Paths(NamedTuple):
    """Episodes drawn on their levels."""

    pictures: Tensor
    """`[B, height, width, 3]` uint8."""
    remarks: tuple[str, ...]
    """A few words about each."""
    about: str
    """A sentence that says what is drawn."""
    scale: PathScale | None = None


@runtime_checkable
class PathDrawing(Domain, Protocol):
    """Drawings of where agents went: what reports and the live page show of episodes."""

    def draw_paths(self, levels: LevelBatch, positions: Tensor) -> Paths | None:
        """Draw where agents went, on any levels of the suites; None for a kind of level that cannot be drawn.

        Args:
            levels: B levels.
            positions: `[B, L, ...]`, the `Engine.agent_position` before and after every step, padded at the end: with
                -1 where positions are whole numbers, with NaN elsewhere.
        """
        ...
