"""Where students play and learn: in this process, or on many machines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from clutr.agents.student import Student, StudentConfig
from clutr.envs.domain import Domain, Engine
from clutr.envs.registry import Registry


class Backend(Protocol):
    """A frozen dataclass of options, registered in `BACKENDS`. It changes where things happen, not what happens."""

    def require_fit(self, config: StudentConfig, device: torch.device) -> None:
        """Check what can be known before anything starts. Raises as `students` does."""
        ...

    def students(
        self,
        config: StudentConfig,
        names: Sequence[str],
        domain: Domain,
        engine: Engine,
        seed: int,
        device: torch.device,
    ) -> dict[str, Student]:
        """Make the students of one experiment.

        Args:
            config: what all of them are made from.
            names: what they are called.
            domain: what they play.
            engine: of this process, on which students that play here will play.
            seed: of the run.
            device: where students of this process play and learn.

        Raises:
            ImportError: if something is not installed; the message says what.
            ValueError: if the options do not fit each other.
        """
        ...


BACKENDS: Registry[type[Backend]] = Registry("backend", "clutr.agents.*")


@BACKENDS.register("native")
@dataclass(frozen=True)
class NativeBackend:
    """In this process alone."""

    def require_fit(self, config: StudentConfig, device: torch.device) -> None:
        """See `Backend`. Whatever can be built fits."""

    def students(
        self,
        config: StudentConfig,
        names: Sequence[str],
        domain: Domain,  # noqa: ARG002
        engine: Engine,
        seed: int,
        device: torch.device,
    ) -> dict[str, Student]:
        """See `Backend`."""
        spaces = engine.observation_space, engine.action_space
        return {name: config.build(*spaces, seed, name, device) for name in names}
