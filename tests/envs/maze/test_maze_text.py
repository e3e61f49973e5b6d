import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longer import examples
from maze_reader import assert_read_or_refused

from clutr.envs.domain import LevelError
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import MazeLevels
from clutr.envs.maze.text import format_levels, parse

DRAWING = """\
######
#A..G#
#.##.#
######
"""


@st.composite
def level_batches(draw: st.DrawFn) -> MazeLevels:
    height, width = draw(st.integers(1, 6)), draw(st.integers(2, 7))
    obstacles = draw(st.integers(0, height * width - 2))
    domain = MazeDomain(height=height, width=width, max_obstacles=obstacles)
    return domain.sample(draw(st.integers(1, 5)), torch.Generator().manual_seed(draw(st.integers(0, 2**32))))


def format_json(levels: MazeLevels) -> str:
    width, height = levels.width, levels.height

    def pair(cell: int) -> list[int]:
        return [cell % width + 1, cell // width + 1]

    found = [
        {
            "width": width + 2,
            "height": height + 2,
            "walls": [pair(cell) for cell, wall in enumerate(levels.walls[row].flatten().tolist()) if wall],
            "agent": pair(int(levels.agent[row])),
            "heading": int(levels.heading[row]),
            "goal": pair(int(levels.goal[row])),
        }
        for row in range(len(levels))
    ]
    return json.dumps(found)


@given(level_batches())
@settings(max_examples=150, deadline=None)
def test_round_trips_are_lossless(levels: MazeLevels) -> None:
    for written in (format_levels(levels), format_json(levels)):
        back = parse(written)
        assert back.key() == levels.key()
        assert all(torch.equal(back.tensors()[name], value) for name, value in levels.tensors().items())


def test_a_drawing_is_read_as_drawn() -> None:
    levels = parse(DRAWING)
    assert levels.walls.tolist() == [[[False] * 4, [False, True, True, False]]]
    assert (levels.agent.tolist(), levels.heading.tolist(), levels.goal.tolist()) == ([0], [0], [3])
    assert format_levels(levels) == DRAWING.replace("A", ">")


@pytest.mark.parametrize(("character", "heading"), [("A", 0), (">", 0), ("v", 1), ("<", 2), ("^", 3)])
def test_headings(character: str, heading: int) -> None:
    assert parse(DRAWING.replace("A", character)).heading.tolist() == [heading]


def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_matter() -> None:
    source = "\ufeff\n\n" + DRAWING.replace("\n", " \r\n") + "\r\n \t\r\n\n" + DRAWING.replace("A", "^").rstrip()
    assert parse(source).heading.tolist() == [0, 3]


def test_json_is_read_as_documented() -> None:
    source = '{"width": 6, "height": 4, "walls": [[2, 2], [3, 2]], "agent": [1, 1], "heading": 0, "goal": [4, 1]}'
    assert parse(source).key() == parse(DRAWING).key()
    assert parse(f"[\n{source},\n{source}]").key() == parse(DRAWING).key() * 2
    assert json.loads(format_json(parse(DRAWING))) == [json.loads(source)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "line 1: no level found: the source is empty"),
        (" \n\n", "line 1: no level found"),
        ("\n" + DRAWING.replace("#.##.#", "#.##.##"), "line 4: the row has 7 columns, the level's first row has 6"),
        (DRAWING.replace("..G", ".?G"), r"line 2: unknown character '\?' in column 4"),
        (DRAWING.replace("..G", ".éG"), r"line 2: unknown character '\\xe9' in column 4"),
        (DRAWING.replace("G", "."), "line 1: the level has no goal"),
        (DRAWING.replace("A", "."), "line 1: the level has no agent"),
        (DRAWING.replace("#.##", "#v##"), "line 3: a second agent"),
        (DRAWING.replace("#.##", "#G##"), "line 3: a second goal"),
        (DRAWING.replace("#.##.#", "#.##.."), "line 3: the outer ring must be all walls"),
        (DRAWING.replace("#A", "A."), "line 2: the outer ring must be all walls"),
        ("\n".join(DRAWING.split("\n")[1:]), "line 1: the outer ring must be all walls"),
        ("##\n##", "line 1: a level has 3 to 1000 columns and rows, ring included; this one is 2x2"),
        ("#" * 10_000, "line 1: a level has 3 to 1000 columns and rows, ring included; this one is 10000x1"),
        (DRAWING + "\n####\n#AG#\n####\n", "line 6: all levels must have one size; the first is 6x4, this one 4x3"),
        (DRAWING + "\n" + DRAWING.replace("G", "."), "line 6: the level has no goal"),
        ("\x00\x01\x02", r"line 1: unknown character '\\x00' in column 1"),
        ("{", "line 1: not valid JSON"),
        ("[]", "line 1: no level found"),
        ("[\n1]", "line 2: a level must be an object"),
        ("[" * 100_000, "line 1: not valid JSON"),
        ('{"width": 1' + "0" * 5000 + "}", "line 1: not valid JSON"),
        ("{}", "line 1: the level has no field 'width'"),
    ],
)
def test_bad_sources_get_one_clear_error(source: str, message: str) -> None:
    with pytest.raises(LevelError, match=message):
        parse(source)


GOOD: dict[str, Any] = json.loads(format_json(parse(DRAWING)))[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": "6"}, "line 3: width must be a whole number, got '6'"),
        ({"height": 4.0}, "line 3: height must be a whole number, got 4.0"),
        ({"heading": True}, "line 3: heading must be a whole number, got True"),
        ({"heading": 4}, "line 3: heading must be 0, 1, 2 or 3, got 4"),
        ({"width": 10_000}, "line 3: a level has 3 to 1000 columns"),
        ({"width": 0}, "line 3: a level has 3 to 1000 columns"),
        ({"width": 7}, "line 3: all levels must have one size; the first is 6x4, this one 7x4"),
        ({"walls": None}, "line 3: walls must be a list"),
        ({"walls": [[1, 2], [1]]}, r"line 3: walls\[1\] must be a pair"),
        ({"walls": [[0, 2]]}, r"line 3: walls\[0\] must lie inside the ring, column 1..4, row 1..2, got \[0, 2\]"),
        ({"agent": [2, 2]}, r"line 3: the agent stands in a wall, at \[2, 2\]"),
        ({"goal": [1, 1]}, r"line 3: agent and goal share the cell \[1, 1\]"),
        ({"goal": {"x": 1}}, "line 3: goal must be a pair"),
        ({"colour": 1}, "line 3: unknown field 'colour'"),
    ],
)
def test_bad_json_fields_name_line_and_reason(change: dict[str, Any], message: str) -> None:
    source = f"[\n{json.dumps(GOOD)},\n{json.dumps(GOOD | change)}\n]"
    with pytest.raises(LevelError, match=message):
        parse(source)


@pytest.mark.parametrize("tail", [",]", "] x", " 1]", ""])
def test_broken_json_lists_are_refused(tail: str) -> None:
    with pytest.raises(LevelError, match="line 1: not valid JSON"):
        parse(f"[{json.dumps(GOOD)}{tail}")


def test_json_cannot_ask_for_more_memory_than_there_is() -> None:
    huge = {"width": 1000, "height": 1000, "walls": [], "agent": [1, 1], "heading": 0, "goal": [2, 1]}
    with pytest.raises(LevelError, match="line 1: the levels have more than 16777216 cells in all"):
        parse(json.dumps([huge] * 17))


@given(st.text())
@pytest.mark.mutations
@settings(max_examples=examples(60), deadline=None)
def test_any_text_is_read_or_refused(source: str) -> None:
    assert_read_or_refused(source)


@given(level_batches(), st.booleans(), st.data())
@pytest.mark.mutations
@settings(max_examples=examples(60), deadline=None)
def test_damaged_levels_are_read_or_refused(levels: MazeLevels, as_json: bool, data: st.DataObject) -> None:
    source = format_json(levels) if as_json else format_levels(levels)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(source)))
        end = data.draw(st.integers(start, min(len(source), start + 6)))
        inserted = data.draw(st.text(alphabet='#.GA>v<^\n[]{},:"0123456789-e \x00é', max_size=5))
        source = source[:start] + inserted + source[end:]
    assert_read_or_refused(source)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(GOOD)), json_values, max_size=3))
@pytest.mark.mutations
@settings(max_examples=examples(60), deadline=None)
def test_json_of_wrong_types_is_read_or_refused(change: dict[str, Any]) -> None:
    assert_read_or_refused(json.dumps(GOOD | change))


def test_inconsistent_levels_are_not_written() -> None:
    levels = parse(DRAWING)
    wrong = MazeLevels(levels.walls, levels.goal, levels.heading, levels.goal)
    with pytest.raises(ValueError, match="agent and goal share a cell"):
        format_levels(wrong)
