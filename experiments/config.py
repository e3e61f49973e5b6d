"""An experiment as a value: written to `config.yaml`, it alone reproduces the run."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clutr.agents.backend import BACKENDS, Backend, NativeBackend
from clutr.agents.student import STUDENTS, StudentConfig
from clutr.curricula.base import CURRICULA, CurriculumConfig
from clutr.envs.domain import DOMAINS, Domain
from clutr.envs.registry import Registry
from clutr.envs.validation import MOST_SIDE_BY_SIDE, require_at_least, require_at_most
from clutr.experiments import plain_config
from clutr.manifold.base import MANIFOLDS, TRAINING_VERSION, ManifoldConfig

MOST_TOTAL_STEPS = 10**15
"""Up to here all counts are exact as floats, too."""


@dataclass(frozen=True)
class Experiment:
    """A curriculum experiment: a domain, who chooses its tasks, and the students who play them."""

    domain: Domain
    """Which environments."""
    curriculum: CurriculumConfig
    """Who chooses the next task."""
    student: StudentConfig
    """The students; every one of a curriculum's students is made from this."""
    manifold: ManifoldConfig | None = None
    """How a task becomes a point; None for curricula that do without."""
    seed: int = 1
    """Seed of everything but the manifold's pretraining."""
    manifold_seed: int = 1
    """Seed of the manifold's pretraining, so that runs of many seeds can share one manifold."""
    backend: Backend = field(default_factory=NativeBackend)
    """Whether this process does everything, or students play and learn on many machines."""
    device: str = "cpu"
    """Where students play and learn, such as cuda. Teachers and manifolds, which are small, stay on the CPU."""
    num_envs: int = 32
    """Environments of each student, so levels of each update."""
    total_steps: int = 10_000_000
    """Environment steps of ONE student. PAIRED-type curricula play twice as many in all."""
    evaluate_every: int = 50
    """Updates between zero-shot evaluations during training; 0 for none."""
    evaluate_suite: str = "dcd7"
    """The suite of these evaluations."""
    evaluate_episodes: int = 10
    """Episodes a level in these evaluations."""
    checkpoint_every: int = 20
    """Updates between checkpoints."""
    record_every: int = 20
    """Updates between records of the proposed levels under `levels/`."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "num_envs", "total_steps", "checkpoint_every", "record_every", "evaluate_episodes")
        require_at_least(self, 0, "evaluate_every", "seed", "manifold_seed")
        require_at_most(self, MOST_SIDE_BY_SIDE, "num_envs", "evaluate_episodes")
        require_at_most(self, MOST_TOTAL_STEPS, "total_steps")
        require_device_name(self.device)


def require_device_name(device: str) -> None:
    """Raise `ValueError` unless it is called as devices are on which something trains."""
    if re.fullmatch(r"cpu|cuda(:\d\d?)?", device) is None:
        raise ValueError(f"device must be cpu, cuda, or a GPU by its number such as cuda:1, got {device!r}")


REGISTRIES: dict[str, Registry[Any]] = {
    "domain": DOMAINS,
    "curriculum": CURRICULA,
    "student": STUDENTS,
    "manifold": MANIFOLDS,
    "backend": BACKENDS,
}
"""Where the kinds of an experiment's parts are registered, by field."""


def to_plain(experiment: Experiment) -> dict[str, Any]:
    """An experiment as nested plain data, complete: defaults are written out."""
    plain: dict[str, Any] = plain_config.to_plain(experiment, REGISTRIES)
    return plain


def from_plain(plain: Mapping[str, Any]) -> Experiment:
    """The inverse of `to_plain`. Raises `RunError` naming field, value and what is allowed."""
    experiment: Experiment = plain_config.from_plain(plain, REGISTRIES, Experiment)
    return experiment


def to_yaml(experiment: Experiment) -> str:
    """An experiment as the text of `config.yaml`."""
    return plain_config.to_yaml(experiment, REGISTRIES)


def from_yaml(text: str) -> Experiment:
    """The inverse of `to_yaml`. Raises `RunError` naming field, value and what is allowed."""
    experiment: Experiment = plain_config.from_yaml(text, REGISTRIES, Experiment, "config.yaml")
    return experiment


def read(path: Path) -> Experiment:
    """The experiment that a file holds. Raises `RunError` naming file, field, value and what is allowed."""
    experiment: Experiment = plain_config.read_yaml(path, REGISTRIES, Experiment)
    return experiment


def method_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run with this plain config tries: all but seeds, device and backend, in which repetitions may differ."""
    differing = ("seed", "manifold_seed", "device", "backend")
    return {name: value for name, value in config.items() if name not in differing}


def fixed_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint tells of this plain config: all but where it is trained, which results do not depend on."""
    return {name: value for name, value in config.items() if name not in ("device", "backend")}


def manifold_id(experiment: Experiment) -> str:
    """A short hash of all that the pretrained manifold depends on: domain, options, seed and `TRAINING_VERSION`."""
    plain = to_plain(experiment)
    parts = [plain["domain"], plain["manifold"], plain["manifold_seed"], TRAINING_VERSION]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()
