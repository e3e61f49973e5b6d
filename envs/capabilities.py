"""What an observer of a world model may know of running environments: pictures, objects on them, and the true state.

Students never see this. A `PrivilegedObserver` belongs to one engine and tells of its state as it is now.
"""

from typing import Protocol

from torch import Tensor

SIDE = 64
"""Pixels along either side of a picture."""


class PrivilegedObserver(Protocol):
    """Looks at the environments of one engine."""

    objects: tuple[str, ...]
    """Names of what a pixel can show, by number; number 0 is the background."""
    quantities: dict[str, str]
    """Names of the true numbers, and their units ("" for none)."""

    def reset(self, mask: Tensor | None = None) -> None:
        """Take note that episodes began in the environments of `mask` `[N]` bool (None: all)."""
        ...

    def expert_action(self, aggressiveness: Tensor) -> Tensor:
        """Actions `[N, ...]` of a driver or walker who knows the true state.

        Args:
            aggressiveness: `[N]` in [0, 1]: how fast to go, in worlds with speeds.
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
