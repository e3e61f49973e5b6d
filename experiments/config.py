"""An experiment as a value: written to `config.yaml`, it alone reproduces the run."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import yaml

from clutr.agents.backend import BACKENDS, Backend, NativeBackend
from clutr.agents.student import STUDENTS, StudentConfig
from clutr.curricula.base import CURRICULA, CurriculumConfig
from clutr.envs.domain import DOMAINS, Domain
from clutr.envs.registry import Registry
from clutr.experiments.storage import RunError
from clutr.manifold.base import MANIFOLDS, ManifoldConfig


@dataclass(frozen=True)
class Experiment:
    """A curriculum experiment: a world, who chooses its tasks, and the students who play them."""

    domain: Domain
    """The world."""
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
        for name in ("num_envs", "total_steps", "checkpoint_every", "record_every", "evaluate_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        try:
            torch.device(self.device)
        except RuntimeError:
            raise ValueError(f"device must be one that torch knows, such as cpu or cuda, got {self.device!r}") from None
        if self.evaluate_every < 0:
            raise ValueError(f"evaluate_every must be 0 (never) or more, got {self.evaluate_every}")


_PARTS: dict[str, Registry[Any]] = {
    "domain": DOMAINS,
    "curriculum": CURRICULA,
    "student": STUDENTS,
    "manifold": MANIFOLDS,
    "backend": BACKENDS,
}


def part_to_plain(part: str, value: Any) -> dict[str, Any] | None:
    """A part of an experiment as plain data, with the name it is registered under as `kind`."""
    if value is None:
        return None
    return {"kind": _PARTS[part].name_of(type(value)), **dataclasses.asdict(value)}


def part_from_plain(part: str, plain: Mapping[str, Any] | None) -> Any:
    """The inverse of `part_to_plain`. Raises `RunError` naming what is wrong."""
    if plain is None:
        return None
    options = dict(plain)
    try:
        config = _PARTS[part][options.pop("kind", "")]
    except KeyError as error:
        raise RunError(f"{part}: {error.args[0]}") from None
    return _build(config, part, options)


def _build(config: Any, where: str, options: dict[str, Any]) -> Any:
    fields = {field.name: field for field in dataclasses.fields(config)}
    unknown = sorted(set(options) - set(fields))
    if unknown:
        raise RunError(f"{where} has no option {', '.join(unknown)}; it has: {', '.join(fields)}")
    # YAML has no tuples
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    try:
        return config(**options)
    except (TypeError, ValueError) as error:
        raise RunError(f"{where}: {error}") from None


def to_plain(experiment: Experiment) -> dict[str, Any]:
    """An experiment as nested plain data, complete: defaults are written out."""
    return {
        field.name: part_to_plain(field.name, value) if field.name in _PARTS else value
        for field in dataclasses.fields(Experiment)
        for value in [getattr(experiment, field.name)]
    }


def from_plain(plain: Mapping[str, Any]) -> Experiment:
    """The inverse of `to_plain`. Raises `RunError` naming what is wrong."""
    options = {name: part_from_plain(name, value) if name in _PARTS else value for name, value in plain.items()}
    experiment: Experiment = _build(Experiment, "the experiment", options)
    return experiment


def to_yaml(experiment: Experiment) -> str:
    """An experiment as the text of `config.yaml`."""
    plain = json.loads(json.dumps(to_plain(experiment)))  # tuples become lists, which YAML can say safely
    return yaml.safe_dump(plain, sort_keys=False)


def from_yaml(text: str) -> Experiment:
    """The inverse of `to_yaml`. Raises `RunError` naming what is wrong."""
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RunError(f"config.yaml is not valid YAML: {error}") from None
    if not isinstance(plain, dict):
        raise RunError("config.yaml does not hold an experiment")
    return from_plain(plain)


def method_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run with this plain config tries: all but seeds, device and backend, in which repetitions may differ."""
    differing = ("seed", "manifold_seed", "device", "backend")
    return {name: value for name, value in config.items() if name not in differing}


def manifold_id(experiment: Experiment) -> str:
    """A short hash of all that the pretrained manifold depends on."""
    parts = [part_to_plain("domain", experiment.domain), part_to_plain("manifold", experiment.manifold)]
    text = json.dumps([*parts, experiment.manifold_seed], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
