"""The bounds of options: ends belong to ranges or do not, as said, and NaN is in none."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from clutr.envs.validation import (
    require_above,
    require_at_least,
    require_at_most,
    require_one_of,
    require_types,
    require_within,
)


@dataclass
class Options:
    count: float = 1
    kind: str = "grid"


def test_what_is_allowed_passes() -> None:
    require_at_least(Options(), 1, "count")
    require_above(Options(), 0, "count")
    require_within(Options(), 1, 1, "count")
    require_at_most(Options(), 1, "count")
    require_types(Options())
    require_one_of(Options(), ("grid", "continuous"), "kind")


@pytest.mark.parametrize("value", [0, -1.5, math.nan])
def test_what_is_out_of_range_is_named(value: float) -> None:
    options = Options(count=value)
    with pytest.raises(ValueError, match=rf"^count must be at least 1, got {value}$"):
        require_at_least(options, 1, "count")
    with pytest.raises(ValueError, match=rf"^count must be above 0, got {value}$"):
        require_above(options, 0, "count")
    with pytest.raises(ValueError, match=rf"^count must be in 1\.\.2, got {value}$"):
        require_within(options, 1, 2, "count")


def test_a_choice_that_is_none_is_named_beside_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"^kind must be grid or continuous, got 'hex'$"):
        require_one_of(Options(kind="hex"), ("grid", "continuous"), "kind")


@dataclass
class Typed:
    seen: bool = True
    rows: int = 3
    rate: float = 1
    kind: Literal["grid", "hex"] = "grid"
    name: str = ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seen": "no"}, "seen must be true or false, got 'no'"),
        ({"seen": 0}, "seen must be true or false, got 0"),
        ({"rows": "3"}, "rows must be a whole number, got '3'"),
        ({"rows": 3.0}, r"rows must be a whole number, got 3\.0"),
        ({"rows": False}, "rows must be a whole number, got False"),
        ({"rate": "1e-4"}, "rate must be a number, got '1e-4'"),
        ({"rate": math.nan}, "rate must be a number, got nan"),
        ({"rate": 10**400}, "rate must be a number, got 1000"),
        ({"kind": "round"}, "kind must be grid or hex, got 'round'"),
        ({"name": 3}, "name must be text, got 3"),
    ],
)
def test_a_value_of_another_type_is_named(options: dict[str, Any], message: str) -> None:
    require_types(Typed())
    with pytest.raises(ValueError, match=f"^{message}"):
        require_types(Typed(**options))


def test_what_is_too_large_is_named() -> None:
    with pytest.raises(ValueError, match=r"^count must be at most 1,000, got 1001$"):
        require_at_most(Options(count=1001), 1000, "count")
