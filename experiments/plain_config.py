"""Configurations, frozen dataclasses, as plain data and as YAML, and back: every value is checked against its field.

A field that is named in `registries` has several kinds: as plain data it says its `kind`, the name under which it is
registered.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from clutr.envs.registry import Registry, no_such
from clutr.envs.validation import fits
from clutr.experiments.files import RunError

Registries = Mapping[str, Registry[Any]]

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
"""Numbers such as 1e-4, which YAML 1.1 takes for text."""


def to_plain(value: Any, registries: Registries, name: str = "") -> Any:
    """A configuration, or its field `name`, as nested plain data, complete: defaults are written out."""
    if not dataclasses.is_dataclass(value):
        return value
    kind = {"kind": registries[name].name_of(type(value))} if name in registries else {}
    fields = (field.name for field in dataclasses.fields(value))
    return kind | {field: to_plain(getattr(value, field), registries, field) for field in fields}


def from_plain(plain: Mapping[str, Any], registries: Registries, config: Any, where: str = "", path: str = "") -> Any:
    """The inverse of `to_plain` for a configuration of the type `config`.

    Args:
        plain: options by name; those that are absent have their defaults.
        registries: of the fields that have several kinds.
        config: a dataclass.
        where: what the options come from, such as a file, and how the fields are reached, for errors.
        path: how the fields are reached from there, such as `student.`.

    Raises:
        RunError: naming `where`, the field, its value and what is allowed.
    """
    said = f"{where}: " if where else ""
    fields = {field.name: field for field in dataclasses.fields(config)}
    for name in plain:
        if name not in fields:
            raise RunError(f"{said}{no_such('option', f'{path}{name}', [f'{path}{field}' for field in fields])}")
    missing = [name for name, field in fields.items() if name not in plain and _is_required(field)]
    if missing:
        raise RunError(f"{said}{path}{missing[0]} is missing")
    hints = get_type_hints(config)
    values = {name: _value(value, hints[name], registries, where, f"{path}{name}") for name, value in plain.items()}
    try:
        return config(**values)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise RunError(f"{said}{path}{error}") from None


def _is_required(field: Any) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(value: Any, hint: Any, registries: Registries, where: str, path: str) -> Any:
    """A value that fits the annotation `hint` of its field."""
    hints = (hint, *get_args(hint))
    if any(dataclasses.is_dataclass(each) or getattr(each, "_is_protocol", False) for each in hints):
        if value is None and type(None) in get_args(hint):
            return None
        return _part(value, hint, registries, where, path)
    if get_origin(hint) is tuple and isinstance(value, list | tuple):  # YAML has no tuples
        return tuple(_value(each, get_args(hint)[0], registries, where, path) for each in value)
    fits, allowed = _fits(value, hint)
    if not fits:
        raise RunError(f"{where}{': ' if where else ''}{path} must be {allowed}, got {value!r}")
    if hint is float and isinstance(value, str):
        return float(value)
    return int(value) if hint is int else value


def _fits(value: Any, hint: Any) -> tuple[bool, str]:
    """As `fits`, but that a text in YAML may be a number with an exponent."""
    if hint is float and isinstance(value, str):
        return _EXPONENT.fullmatch(value) is not None and math.isfinite(float(value)), "a number"
    return fits(value, hint)


def _part(value: Any, hint: Any, registries: Registries, where: str, path: str) -> Any:
    """A configuration inside another one."""
    name, said = path.rpartition(".")[2], f"{where}: " if where else ""
    if not isinstance(value, Mapping):
        example = f", such as {{kind: {next(iter(registries[name]))}}}" if name in registries else ""
        raise RunError(f"{said}{path} must hold options by name{example}, got {value!r}")
    options = dict(value)
    if name in registries:
        kind = options.pop("kind", None)
        if not isinstance(kind, str) or kind not in registries[name]:
            raise RunError(f"{said}{path}.kind: {no_such(registries[name].kind, kind, registries[name])}")
        hint = registries[name][kind]
    return from_plain(options, registries, hint, where, f"{path}.")


def differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Which options of two plain configurations differ: `student.hidden (64, now 32)`.

    Of parts of different kinds only the kind is named; what one of the two lacks is no difference.
    """
    for name in [name for name in before if name in after]:
        old, new = before[name], after[name]
        if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("kind") == new.get("kind"):
            yield from differences(old, new, f"{path}{name}.")
        elif old != new:
            old, new = (each.get("kind") if isinstance(each, Mapping) else each for each in (old, new))
            yield f"{path}{name} ({old}, now {new})"


def to_yaml(config: Any, registries: Registries) -> str:
    """A configuration as text."""
    plain = json.loads(json.dumps(to_plain(config, registries)))  # tuples become lists, which YAML can say safely
    return yaml.safe_dump(plain, sort_keys=False)


def from_yaml(text: str, registries: Registries, config: Any, file: str) -> Any:
    """The inverse of `to_yaml` for the text of `file`. Raises `RunError` naming `file` and what is wrong."""
    return from_plain(options_in(text, file), registries, config, file)


def options_in(text: str, file: str) -> dict[str, Any]:
    """The options by name in the YAML of `file`, unchecked. Raises `RunError` naming `file` if it holds no such."""
    try:
        plain = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RunError(f"{file} is not valid YAML: {error}") from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RunError(f"{file} is not valid YAML: {error}") from None  # PyYAML lets these pass: a 32nd of May
    if not isinstance(plain, dict):
        raise RunError(f"{file} does not hold options by name")
    return plain


def read_yaml(path: Path, registries: Registries, config: Any) -> Any:
    """The configuration that a file holds. Raises `RunError` naming the file and what is wrong."""
    return from_yaml(read_text(path), registries, config, str(path))


def read_text(path: Path) -> str:
    """The text of a file. Raises `RunError` if it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which PyYAML would take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
        if twice is not None:
            raise yaml.MarkedYAMLError(problem=f"{twice} is there twice", problem_mark=node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping
