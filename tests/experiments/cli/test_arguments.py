"""What the command line takes out of its arguments before the rest is parsed."""

from pathlib import Path

import pytest

from clutr.experiments.cli import world
from clutr.experiments.cli.arguments import take
from clutr.experiments.cli.main import main


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


@pytest.mark.parametrize("part", sorted(set(world.PARTS) - {"record", "refit"}))  # which begin new ones
def test_a_world_model_is_named_with_and_without_its_option(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for given in ([str(tmp_path / "none")], ["--run", str(tmp_path / "none")]):
        assert main(["world", part, *given]) != 0
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert "none` begins one" in said[0]
