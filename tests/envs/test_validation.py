"""The bounds of options: ends belong to ranges or do not, as said, and NaN is in none."""

import math
from dataclasses import dataclass

import pytest

from clutr.envs.validation import require_above, require_at_least, require_one_of, require_within


@dataclass
class Options:
    count: float = 1
    kind: str = "grid"


def test_what_is_allowed_passes() -> None:
    require_at_least(Options(), 1, "count")
    require_above(Options(), 0, "count")
    require_within(Options(), 1, 1, "count")
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
