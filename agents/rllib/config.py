"""Options of the processes of a distributed experiment."""

import importlib
from dataclasses import dataclass

from clutr.envs.validation import require_above, require_at_least

EXTRA = 'the backend rllib needs Ray: install it with `pip install "clutr[distributed]"`'


def require_ray() -> None:
    """Import it. Raises `ImportError` saying what to install."""
    try:
        importlib.import_module("ray.rllib")
    except ImportError as error:
        raise ImportError(EXTRA) from error


@dataclass(frozen=True)
class ClusterOptions:
    """Env runners and learners of Ray RLlib, and where they are."""

    address: str = "local"
    """Of the cluster: "local" starts one on this machine, "auto" finds the one that this machine belongs to."""
    runners: int = 2
    """Processes that play. The levels of an update are split between them."""
    learners: int = 0
    """Processes that learn, each on its shard of the environments; 0: this process learns."""
    shards: int = 0
    """Into how many shards levels are split; 0: one for each runner. Results depend on it by rounding alone where
    actions are discrete, and by the random numbers where they are continuous; on the number of runners they do not."""
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
    start, seconds to wait for all runners; those that start later join in."""
    timeout: float = 300.0
    """Seconds without any runner, or any answer, after which training gives up."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "runners")
        require_at_least(self, 0, "learners", "shards", "cpus_per_learner", "gpus_per_learner")
        require_at_least(self, 80, "object_store_mb")
        require_above(self, 0, "cpus_per_runner", "sample_timeout_s", "timeout")
        if self.gpus_per_learner and not self.learners:
            raise ValueError("gpus_per_learner needs learners, and there are 0 of them")
        if not self.address:
            raise ValueError("address must be local, auto, or that of a cluster's head")
