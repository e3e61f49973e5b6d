"""What the options of a dataclass may be: one clear error names the field, what is allowed and what was given.

Called from `__post_init__`. A value that is not a number is in no range.
"""

import dataclasses
import math
import numbers
from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

MOST_STEPS = 1_000_000_000
"""Of an episode."""
MOST_SIDE_BY_SIDE = 1_000_000
"""Environments, or episodes of a level."""


def fits(value: Any, hint: Any) -> tuple[bool, str]:
    """Whether a value fits the annotation of a simple field, and in words what does: a word is neither number nor bool.

    Args:
        value: what was given.
        hint: `bool`, `int`, `float`, `str`, or `Literal` of texts; whatever else is taken for a list.
    """
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint), " or ".join(get_args(hint))
    if hint is bool:
        return isinstance(value, bool), "true or false"
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool), "a whole number"
    if hint is float:
        return _is_number(value), "a number"
    return isinstance(value, str), "text" if hint is str else "a list"


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that is too long
        return False


def require_types(options: Any) -> None:
    """Raise `ValueError` unless each field of a dataclass fits its annotation."""
    kind: Any = type(options)
    for name, hint in _hints(kind).items():
        value = getattr(options, name)
        fitting, allowed = fits(value, hint)
        if not fitting:
            raise ValueError(f"{name} must be {allowed}, got {value!r}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The fields' annotations."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def require_at_least(options: Any, least: float, *names: str) -> None:
    """Raise `ValueError` unless each named field is `least` or more."""
    for name in names:
        if not getattr(options, name) >= least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(options, name)}")


def require_at_most(options: Any, most: int, *names: str) -> None:
    """Raise `ValueError` unless each named field is `most` or less."""
    for name in names:
        if not getattr(options, name) <= most:
            raise ValueError(f"{name} must be at most {most:,}, got {getattr(options, name)}")


def require_above(options: Any, bound: float, *names: str) -> None:
    """Raise `ValueError` unless each named field is more than `bound`."""
    for name in names:
        if not getattr(options, name) > bound:
            raise ValueError(f"{name} must be above {bound}, got {getattr(options, name)}")


def require_within(options: Any, low: float, high: float, *names: str) -> None:
    """Raise `ValueError` unless each named field is in `low..high`, both ends included."""
    for name in names:
        if not low <= getattr(options, name) <= high:
            raise ValueError(f"{name} must be in {low}..{high}, got {getattr(options, name)}")


def require_one_of(options: Any, choices: Iterable[Any], *names: str) -> None:
    """Raise `ValueError` unless each named field is one of `choices`."""
    allowed = list(choices)
    for name in names:
        if getattr(options, name) not in allowed:
            raise ValueError(f"{name} must be {' or '.join(map(str, allowed))}, got {getattr(options, name)!r}")
