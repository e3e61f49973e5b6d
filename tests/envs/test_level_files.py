"""Files of levels: whatever is wrong with one, the error names it."""

from pathlib import Path
from typing import Any

import gymnasium
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from longer import examples
from maze_reader import assert_read_or_refused

import clutr
from clutr.envs.capabilities import Text, require
from clutr.envs.car.domain import CarDomain
from clutr.envs.domain import LevelError
from clutr.envs.level_files import read_levels
from clutr.envs.maze.domain import MazeDomain

CORRIDOR = "#####\n#>.G#\n#####\n"
NAMES = ("clutr/Maze-v0", "clutr/CarRacing-v0")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    def refused(level: Any, message: str) -> None:
        for given_as in (level, str(level)):
            with pytest.raises(LevelError, match=message) as caught:
                gymnasium.make(name, level=given_as)
            assert "\n" not in str(caught.value)

    def file(content: bytes) -> Path:
        (tmp_path / "file.txt").write_bytes(content)
        return tmp_path / "file.txt"

    refused(Path("levels/typo.txt"), "^levels/typo.txt: no such file$")
    refused(tmp_path, f"^{tmp_path} is a directory; name a file in it$")
    refused(Path("x" * 5000), r"^x{60}\.\.\.x{57} cannot be read: File name too long$")
    refused(Path("a\0b"), r"^a\\x00b cannot be read: embedded null byte$")
    refused(file("x,y\n1,2\n# Nürburg".encode("latin-1")), r"file.txt is not UTF-8: line 3 has byte 0xfc; save it as")
    refused(file(CORRIDOR.encode("utf-16")), "file.txt is not UTF-8: it is UTF-16; save it as UTF-8")
    refused(file(b"1,2\n\0"), "file.txt is no text: line 2 has a null byte")
    refused(file(b"1 2\n?? 3\n"), r"file.txt: line \d: \w")
    refused(file(b""), "file.txt: line 1: no \\w+ found: the source is empty")


def test_a_string_is_text_or_the_name_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corridor").write_text(CORRIDOR)
    expected = MazeDomain().parse(CORRIDOR).key()
    assert read_levels("corridor", MazeDomain()).key() == expected
    assert clutr.read_levels("corridor").key() == expected
    assert read_levels(CORRIDOR, MazeDomain()).key() == expected
    with pytest.raises(LevelError, match=r"^line 1: road 0"):
        read_levels("[1]", CarDomain())
    with pytest.raises(LevelError, match="the source is empty"):
        read_levels("", MazeDomain())


@given(st.sampled_from(["maze", "car"]), st.binary(max_size=60))
@pytest.mark.mutations
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_level_or_a_level_error(tmp_path: Path, kind: str, content: bytes) -> None:
    file = tmp_path / "level"
    file.write_bytes(content)
    refusal = ""
    try:
        levels = clutr.read_levels(file, kind)
    except LevelError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith(str(file))
        assert refusal.isprintable()
    else:
        assert len(levels) > 0
        assert (
            require(clutr.DOMAINS[kind](), Text, "this test").parse(content.decode("utf-8-sig")).key() == levels.key()
        )


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 3), st.sampled_from([*"#.GA><\n {[\0x"])), min_size=1, max_size=4
    )
)
@pytest.mark.mutations
@settings(max_examples=examples(60), deadline=None)
def test_a_damaged_maze_is_a_maze_or_a_level_error(changes: list[tuple[int, int, str]]) -> None:
    source = CORRIDOR
    for position, removed, added in changes:
        place = position % (len(source) + 1)
        source = source[:place] + added + source[place + removed :]
    assert_read_or_refused(source)
