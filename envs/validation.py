"""What the options of a dataclass may be: one clear error names the field, what is allowed and what was given.

Called from `__post_init__`. A value that is not a number is in no range.
"""

from collections.abc import Iterable
from typing import Any


def require_at_least(options: Any, least: float, *names: str) -> None:
    """Raise `ValueError` unless each named field is `least` or more."""
    for name in names:
        if not getattr(options, name) >= least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(options, name)}")


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
