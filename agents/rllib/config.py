"""What can be set about a distributed experiment."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clutr.agents.backend import BACKENDS
from clutr.agents.ppo import PPOOptions
from clutr.agents.student import Student, StudentConfig
from clutr.envs.domain import Domain, Engine

EXTRA = 'the backend rllib needs Ray: install it with `pip install "clutr[distributed]"`'


def require_ray() -> None:
    """Import it. Raises `ImportError` saying what to install."""
    try:
        importlib.import_module("ray.rllib")
    except ImportError as error:
        raise ImportError(EXTRA) from error


@BACKENDS.register("rllib")
@dataclass(frozen=True)
class RLlibBackend:
    """Env runners and learners of Ray RLlib, on this machine or on a cluster."""

    address: str = "local"
    """Of the cluster: "local" starts one on this machine, "auto" finds the one that this machine belongs to."""
    runners: int = 2
    """Processes that play. The levels of an update are shared between them."""
    learners: int = 0
    """Processes that learn, each on its shard of the environments; 0: this process learns."""
    shards: int = 0
    """Into how many parts levels are split; 0: one for each runner. Results depend on it by rounding alone where
    actions are discrete, and by the random draws where they are continuous; on the number of runners they do not."""
    cpus_per_runner: float = 1.0
    """Processors that Ray sets aside for each runner."""
    cpus_per_learner: float = 1.0
    """Processors that Ray sets aside for each learner."""
    gpus_per_learner: float = 0.0
    """GPUs of each learner. Runners play on processors."""
    object_store_mb: int = 256
    """Shared memory of a cluster that is started on this machine, in MiB."""
    sample_timeout_s: float = 20.0
    """Seconds after which a shard that takes three times as long as the others is given to a second runner too. At the
    start, seconds to wait for all runners; those that come later join in."""
    timeout: float = 300.0
    """Seconds without any runner, or any answer, after which training gives up."""

    def __post_init__(self) -> None:
        for name, least in (("runners", 1), ("learners", 0), ("shards", 0), ("object_store_mb", 80)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("cpus_per_runner", "sample_timeout_s", "timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("cpus_per_learner", "gpus_per_learner"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.gpus_per_learner and not self.learners:
            raise ValueError("gpus_per_learner needs learners, and there are 0 of them")
        if not self.address:
            raise ValueError("address must be local, auto, or that of a cluster's head")

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
        if not isinstance(config, PPOOptions):
            raise ValueError(f"the backend rllib trains the students ppo and pixel-ppo, not a {type(config).__name__}")
        if device.type != "cpu":
            raise ValueError(
                f"the backend rllib gives GPUs to learners (gpus_per_learner); device is {device}, not cpu"
            )
        require_ray()
        from clutr.agents.rllib.student import make_students  # noqa: PLC0415 (it imports Ray)

        return dict(make_students(self, config, names, domain, engine, seed))
