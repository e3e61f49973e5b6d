"""What holds for the project as a whole."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clutr.experiments.cli.main import COMMANDS
from clutr.experiments.training.presets import PRESETS

ROOT = Path(__file__).parent.parent


def test_imports_point_one_way() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_one_pygame_is_installed() -> None:
    """Two distributions provide the module `pygame`; installed together they overwrite each other's files."""
    installed = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    assert len(installed & {"pygame", "pygame-ce"}) == 1


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "clutr" / "py.typed").exists()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/method.md", "docs/sb3.md"])
def test_pages_name_commands_presets_and_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    for command, first in re.findall(r"(?:^|`)clutr ([a-z]+)(?: ([a-z][\w-]*))?", text, flags=re.MULTILINE):
        assert command in COMMANDS, command
        if command == "train":
            assert first in PRESETS
    for path in re.findall(r"`((?:envs|agents|clutr|experiments|tests|docs)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path


def test_no_file_is_long() -> None:
    """Long files are two rooms in one; data files of test levels are not meant."""
    for room in ("envs", "agents", "clutr", "experiments"):
        for path in (ROOT / room).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path
