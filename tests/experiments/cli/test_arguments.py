"""What the command line takes out of its arguments before the rest is parsed."""

import pytest

from clutr.experiments.cli.arguments import take


@pytest.mark.parametrize(
    ("args", "value", "rest"),
    [
        (["--steps", "3"], None, ["--steps", "3"]),
        (["--preset", "car", "--steps", "3"], "car", ["--steps", "3"]),
        (["--steps", "3", "--preset=car"], "car", ["--steps", "3"]),
        (["--preset=a=b"], "a=b", []),
        (["--preset"], "", []),
        (["--preset="], "", []),
        (["--preset.width", "3"], None, ["--preset.width", "3"]),
    ],
)
def test_an_option_is_taken_in_both_spellings(args: list[str], value: str | None, rest: list[str]) -> None:
    assert take("preset", args) == (value, rest)
