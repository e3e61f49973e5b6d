"""Experiments and manifolds by name, and with other options: what `clutr train NAME --field value` asks for."""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from clutr.envs.domain import DOMAINS
from clutr.envs.registry import Registry, no_such
from clutr.experiments import pretrained
from clutr.experiments.config import REGISTRIES, Experiment, from_plain, from_yaml, read, to_plain
from clutr.experiments.directories import is_file, look_at_file
from clutr.experiments.files import expanded
from clutr.experiments.plain_config import to_plain as part_to_plain
from clutr.experiments.storage import RunError
from clutr.experiments.training.presets import MANIFOLD_PRESETS_BY_DOMAIN, PRESETS
from clutr.manifold.base import MANIFOLDS, ManifoldConfig

T = TypeVar("T")


def preset(name: str) -> Experiment:
    """The preset called `name`. Raises `RunError` naming all of them if there is none."""
    return entry("preset", PRESETS, name)


def named_experiment(source: str | Path) -> tuple[str, Experiment]:
    """An experiment and what its runs are called: the name of a preset, or that of a file such as a `config.yaml`.

    Raises:
        RunError: if there is no such preset, or the file cannot be read or does not fit, naming field and value.
    """
    if not is_file(source):
        return str(source), preset(str(source))
    path = expanded(source)
    look_at_file(path)
    return (path.absolute().parent.name if path.stem == "config" else path.stem), read(path)


def entry(kind: str, known: Mapping[str, T] | Registry[T], name: str) -> T:
    """What is `known` as `name`. Raises `RunError` naming all that are."""
    if name not in known:
        raise RunError(no_such(kind, name, known))
    return known[name]


def manifold_presets(domain: str) -> dict[str, ManifoldConfig]:
    """The manifold presets of `domain` by name. Raises `RunError` for a domain without presets."""
    if domain not in MANIFOLD_PRESETS_BY_DOMAIN:
        raise RunError(
            f"no manifold preset is made for the domain {domain!r}; there are: {', '.join(MANIFOLD_PRESETS_BY_DOMAIN)}"
        )
    return MANIFOLD_PRESETS_BY_DOMAIN[domain][1]


def manifold_experiment(domain: str, preset: str) -> Experiment:
    """An experiment around a manifold of `domain`. Raises `RunError` for an unknown domain or preset.

    Args:
        domain: the name of a domain.
        preset: one of its manifold presets, or the name of a registered manifold.
    """
    manifold = entry("preset", manifolds_of(domain), preset)
    return replace(PRESETS["maze-clutr"], domain=MANIFOLD_PRESETS_BY_DOMAIN[domain][0], manifold=manifold)


def manifolds_of(domain: str) -> dict[str, ManifoldConfig]:
    """The manifold presets of `domain`, and every other registered manifold with its usual options, by name."""
    presets = manifold_presets(domain)
    return presets | {name: MANIFOLDS[name]() for name in MANIFOLDS if name not in presets}


def override(experiment: Experiment, **fields: Any) -> Experiment:
    """The experiment with other `fields`, of which parts can be given in three ways.

    A part (`domain`, `curriculum`, `student`, `manifold`, `backend`) is a value; or the name of a registered one, for
    `manifold` also that of a preset; or a mapping with those options of the present part that change.

    Raises:
        RunError: if a field, a name or an option is unknown, or a value does not fit.
    """
    plain = to_plain(experiment)
    return from_plain(plain | {name: _part(experiment, name, value) for name, value in fields.items()})


def _shipped(experiment: Experiment, name: str) -> Any:
    """The options of a manifold that ships: runs with these find it instead of pretraining. It has its own domain."""
    found = pretrained.card(name, "manifold")
    made = from_yaml(found.config)
    if made.domain != experiment.domain:
        raise RunError(f"{name} was trained on another domain than this experiment's: {made.domain}")
    if made.manifold_seed != experiment.manifold_seed:
        raise RunError(f"{name} was trained with --manifold-seed {made.manifold_seed}, not {experiment.manifold_seed}")
    return to_plain(made)["manifold"]


def _part(experiment: Experiment, name: str, value: Any) -> Any:
    if name not in REGISTRIES:
        return value
    present = getattr(experiment, name)
    if isinstance(value, Mapping):
        if present is None:
            raise RunError(f"there is no {name} whose options could change")
        plain = part_to_plain(present, REGISTRIES, name)
        return dict(value) if value.get("kind", plain["kind"]) != plain["kind"] else plain | value
    if not isinstance(value, str):
        return part_to_plain(value, REGISTRIES, name)
    if name == "manifold":
        if present is None:
            raise RunError("there is no manifold to replace: the curriculum chooses no latents")
        if pretrained.is_name(value):
            return _shipped(experiment, value)
        known = manifolds_of(DOMAINS.name_of(type(experiment.domain)))
        return part_to_plain(entry(name, known, value), REGISTRIES, name)
    config = entry(name, REGISTRIES[name], value)
    # how long a level is played and what its rewards are like belongs to the preset, not to the student's algorithm
    offered = {field.name for field in dataclasses.fields(config)}
    kept = {"rollout_steps", "normalise_returns"} & offered if name == "student" else set()
    options = {option: getattr(present, option) for option in kept if hasattr(present, option)}
    return part_to_plain(config(**options), REGISTRIES, name)
