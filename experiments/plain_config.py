"""Configurations, frozen dataclasses, as plain data and as YAML, and back.

A field that is named in `registries` has several kinds: as plain data it says its `kind`, the name under which it is
registered.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import yaml

from clutr.envs.registry import Registry
from clutr.experiments.storage import RunError

Registries = Mapping[str, Registry[Any]]


def to_plain(value: Any, registries: Registries, name: str = "") -> Any:
    """A configuration, or its field `name`, as nested plain data, complete: defaults are written out."""
    if not dataclasses.is_dataclass(value):
        return value
    kind = {"kind": registries[name].name_of(type(value))} if name in registries else {}
    fields = (field.name for field in dataclasses.fields(value))
    return kind | {field: to_plain(getattr(value, field), registries, field) for field in fields}


def from_plain(plain: Mapping[str, Any], registries: Registries, config: Any, where: str) -> Any:
    """The inverse of `to_plain` for a configuration of the type `config`.

    Raises:
        RunError: naming what is wrong, and `where`.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}
    unknown = sorted(set(plain) - set(fields))
    if unknown:
        raise RunError(f"{where} has no option {', '.join(unknown)}; it has: {', '.join(fields)}")
    options = {name: _field(name, value, registries, fields[name].type) for name, value in plain.items()}
    try:
        return config(**options)
    except (TypeError, ValueError) as error:
        raise RunError(f"{where}: {error}") from None


def _field(name: str, value: Any, registries: Registries, config: Any) -> Any:
    if isinstance(value, list):  # YAML has no tuples
        return tuple(value)
    if not isinstance(value, Mapping) or not (name in registries or dataclasses.is_dataclass(config)):
        return value
    options = dict(value)
    if name in registries:
        try:
            config = registries[name][options.pop("kind", "")]
        except KeyError as error:
            raise RunError(f"{name}: {error.args[0]}") from None
    return from_plain(options, registries, config, name)


def to_yaml(config: Any, registries: Registries) -> str:
    """A configuration as text."""
    plain = json.loads(json.dumps(to_plain(config, registries)))  # tuples become lists, which YAML can say safely
    return yaml.safe_dump(plain, sort_keys=False)


def from_yaml(text: str, registries: Registries, config: Any, file: str, where: str) -> Any:
    """The inverse of `to_yaml` for the text of `file`. Raises `RunError` naming what is wrong, and `where`."""
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RunError(f"{file} is not valid YAML: {error}") from None
    if not isinstance(plain, dict):
        raise RunError(f"{file} does not hold {where}")
    return from_plain(plain, registries, config, where)
