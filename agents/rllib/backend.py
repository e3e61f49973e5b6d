"""The backend of a distributed experiment."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clutr.agents.backend import BACKENDS
from clutr.agents.ppo import PPOOptions
from clutr.agents.rllib.config import ClusterOptions, require_ray
from clutr.agents.student import Student, StudentConfig
from clutr.envs.domain import Domain, Engine


@BACKENDS.register("rllib")
@dataclass(frozen=True)
class RLlibBackend(ClusterOptions):
    """Students play and learn in processes of Ray RLlib, on this machine or on a cluster."""

    def require_fit(self, config: StudentConfig, device: torch.device) -> None:
        """See `clutr.agents.backend.Backend`."""
        if not isinstance(config, PPOOptions):
            raise ValueError(f"the backend rllib trains the students ppo and pixel-ppo, not a {type(config).__name__}")
        if device.type != "cpu":
            raise ValueError(
                f"the backend rllib gives GPUs to learners (gpus_per_learner); device is {device}, not cpu"
            )
        require_ray()

    def students(
        self,
        config: StudentConfig,
        names: Sequence[str],
        domain: Domain,
        engine: Engine,
        seed: int,
        device: torch.device,
    ) -> dict[str, Student]:
        """See `clutr.agents.backend.Backend`."""
        self.require_fit(config, device)
        assert isinstance(config, PPOOptions)
        from clutr.agents.rllib.student import make_students  # noqa: PLC0415 (it imports Ray)

        return dict(make_students(self, config, names, domain, engine, seed))
