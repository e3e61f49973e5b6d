"""What holds for the project as a whole."""

import importlib.metadata
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import gymnasium
import pytest

from clutr.experiments.cli.main import COMMANDS
from clutr.experiments.training.presets import PRESETS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def source_files() -> list[Path]:
    """The project's modules, without what the package links to twice."""
    rooms = [ROOT / room for room in ("envs", "agents", "clutr", "experiments", "examples", "tests")]
    return [path for room in rooms for path in sorted(room.rglob("*.py")) if path.resolve() == path]


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


@pytest.mark.parametrize("page", [path.relative_to(ROOT).as_posix() for path in PAGES])
def test_pages_name_commands_presets_and_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    for command, first in re.findall(r"(?:^|`)clutr ([a-z]+)(?: ([a-z][\w-]*)(?![\w./-]))?", text, flags=re.MULTILINE):
        assert command in COMMANDS, command
        if command == "train" and first:
            assert first in PRESETS
    for path in re.findall(r"`((?:envs|agents|clutr|experiments|tests|docs|examples)/[\w./*-]*)`", text):
        # environments of Gymnasium are named like files
        assert path in gymnasium.registry or any(ROOT.glob(path)), path


def test_the_index_lists_every_page_of_the_docs() -> None:
    listed = re.findall(r"^- \[[\w.-]+\]\(([\w.-]+)\): .+\.$", (ROOT / "docs/index.md").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name != "index.md")


def test_the_glossary_names_what_is_in_the_code() -> None:
    code = {word for path in source_files() for word in re.findall(r"\w+", path.read_text())}
    files = {path.stem for path in source_files()}
    for line in (ROOT / "docs/glossary.md").read_text().splitlines():
        for name in re.findall(r"`(\w+)`", line.rsplit("| ", 1)[-1]):
            assert name in code | files, name


PRIVATE_WORDS = ("tail_tokens", "boldness", "lapse", "Sight", "parcels", "bundles", "REACH", "Guided")
"""Names of earlier code for which the field has a term (see the glossary)."""


def test_private_words_do_not_come_back() -> None:
    for path in source_files():
        if not any(word in path.read_text() for word in PRIVATE_WORDS):
            continue  # tokens take longer to find
        with tokenize.open(path) as file:
            names = {token.string for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.NAME}
        assert not names & set(PRIVATE_WORDS), path
    words = re.compile(rf"\b(?:{'|'.join(PRIVATE_WORDS)})\b|--[\w.-]*\bdreamt\b")
    for path in PAGES:
        assert not (found := words.findall(path.read_text())), f"{path}: {found}"


def test_the_files_that_are_tested_first_are_there(pytestconfig: pytest.Config) -> None:
    names = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    order = next(plugin for plugin in pytestconfig.pluginmanager.get_plugins() if hasattr(plugin, "LONGEST_FIRST"))
    assert all((ROOT / folder).is_dir() for folder in order.TOGETHER)
    assert set(order.LONGEST_FIRST) <= names | {Path(folder).name for folder in order.TOGETHER}


def test_no_file_is_long() -> None:
    """Long files are two modules in one; data files of test levels are not meant."""
    for path in source_files():
        if "tests" not in path.parts:
            assert len(path.read_text().splitlines()) <= 500, path
