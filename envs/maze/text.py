"""Maze levels as text, read and written without loss, and read from JSON.

Text is the drawing, the outer ring of walls included: '#' wall, '.' floor, 'G' goal, and the agent as '>', 'v', '<' or
'^', where it looks ('A' also means east). Blank lines separate levels, which must have one size.

JSON is one object, or a list of them, with the fields `width`, `height`, `walls`, `agent`, `heading` and `goal`. Sizes
include the ring; cells are pairs [column, row] counted from 0 at the ring's top left corner, as in MiniGrid; `walls`
lists those inside the ring; `heading` is 0 east, 1 south, 2 west or 3 north.
"""

import json
from typing import Any, NoReturn

import torch

from clutr.envs.domain import LevelError
from clutr.envs.maze.level import MazeLevels

MAX_SIDE = 1000
"""Most rows or columns of a drawing, the ring included."""
MAX_CELLS = 2**24
"""Most cells of all levels of one JSON source: a few words can ask for a huge maze there."""

_HEADINGS = ">v<^"
_AGENTS = {"A": 0, ">": 0, "v": 1, "<": 2, "^": 3}
_FIELDS = ("width", "height", "walls", "agent", "heading", "goal")


def parse(source: str) -> MazeLevels:
    """Read levels from text, or from JSON if the first character is a bracket.

    Raises:
        LevelError: the source is no valid level; the message names line and reason. Nothing else is raised.
    """
    source = source.removeprefix("\ufeff")
    drawings = _parse_json(source) if source.lstrip()[:1] in ("{", "[") else _parse_drawings(source)
    if not drawings:
        _fail(1, "no level found: the source is empty")
    return MazeLevels.concatenate(drawings)


def format_levels(levels: MazeLevels) -> str:
    """Draw levels, separated by blank lines. `parse` reads them back without loss.

    Raises:
        ValueError: a level is inconsistent (see `MazeLevels.check`), so that no drawing shows it.
    """
    levels.check()
    width = levels.width
    ring = "#" * (width + 2)
    drawings = []
    columns = (levels.walls.flatten(1), levels.agent, levels.heading, levels.goal)
    for walls, agent, heading, goal in zip(*(column.tolist() for column in columns), strict=True):
        characters = ["#" if wall else "." for wall in walls]
        characters[goal], characters[agent] = "G", _HEADINGS[heading]
        inner = "".join(characters)
        rows = [f"#{inner[start : start + width]}#" for start in range(0, len(inner), width)]
        drawings.append("\n".join([ring, *rows, ring]) + "\n")
    return "\n".join(drawings)


def _fail(line: int, reason: str) -> NoReturn:
    raise LevelError(f"line {line}: {reason}")


def _level(size: tuple[int, int], walls: list[bool], agent: int, heading: int, goal: int) -> MazeLevels:
    """One level from plain values; `size` is width and height without the ring."""
    width, height = size
    return MazeLevels(
        walls=torch.frombuffer(bytearray(walls), dtype=torch.bool).view(1, height, width),
        agent=torch.tensor([agent]),
        heading=torch.tensor([heading]),
        goal=torch.tensor([goal]),
    )


def _check_size(line: int, width: int, height: int, first: MazeLevels | None) -> None:
    """Fail unless a level of this size (ring included) is allowed beside the first one."""
    size = f"{_brief(width)}x{_brief(height)}"
    if not (3 <= width <= MAX_SIDE and 3 <= height <= MAX_SIDE):
        _fail(line, f"a level has 3 to {MAX_SIDE} columns and rows, ring included; this one is {size}")
    if first is not None and (width - 2, height - 2) != (first.width, first.height):
        _fail(
            line, f"all levels must have one size; the first is {first.width + 2}x{first.height + 2}, this one {size}"
        )


def _parse_drawings(source: str) -> list[MazeLevels]:
    levels: list[MazeLevels] = []
    block: list[str] = []
    for number, line in enumerate([*source.split("\n"), ""], start=1):
        row = line.rstrip(" \t\r")
        if row:
            block.append(row)
        elif block:
            levels.append(_parse_drawing(block, number - len(block), levels[0] if levels else None))
            block = []
    return levels


def _parse_drawing(rows: list[str], start: int, first: MazeLevels | None) -> MazeLevels:
    """Read one drawing whose first row stands in line `start`."""
    width, height = len(rows[0]), len(rows)
    _check_rows(rows, start, first)
    walls: list[bool] = []
    agents: list[tuple[int, int]] = []
    goals: list[int] = []
    for line, row in enumerate(rows[1:-1], start + 1):
        for character in row[1:-1]:
            if character in _AGENTS:
                agents.append((len(walls), _AGENTS[character]))
            elif character == "G":
                goals.append(len(walls))
            if len(agents) > 1 or len(goals) > 1:
                _fail(line, f"a second {'agent' if len(agents) > 1 else 'goal'} in the level")
            walls.append(character == "#")
    if not agents:
        _fail(start, "the level has no agent (A > v < ^)")
    if not goals:
        _fail(start, "the level has no goal (G)")
    (agent, heading), goal = agents[0], goals[0]
    return _level((width - 2, height - 2), walls, agent, heading, goal)


def _check_rows(rows: list[str], start: int, first: MazeLevels | None) -> None:
    """Fail unless a drawing is a rectangle of known characters, of an allowed size, with a ring of walls."""
    width, height = len(rows[0]), len(rows)
    for line, row in enumerate(rows, start):
        for column, character in enumerate(row, 1):
            if character not in "#.G" and character not in _AGENTS:
                _fail(line, f"unknown character {character!a} in column {column}; known are # . G A > v < ^")
        if len(row) != width:
            _fail(line, f"the row has {len(row)} columns, the level's first row has {width}")
    _check_size(start, width, height, first)
    for line, row in enumerate(rows, start):
        border = row if line in (start, start + height - 1) else row[0] + row[-1]
        if border.strip("#"):
            _fail(line, "the outer ring must be all walls (#)")


def _parse_json(source: str) -> list[MazeLevels]:
    """Read JSON element by element, so that an error can name the line at which its level begins."""
    decoder = json.JSONDecoder()
    levels: list[MazeLevels] = []

    def skip(position: int) -> int:
        while source[position : position + 1] in (" ", "\t", "\r", "\n"):
            position += 1
        return position

    def line_of(position: int) -> int:
        return source.count("\n", 0, position) + 1

    start = skip(0)
    is_list = source[start] == "["
    position = skip(start + is_list)
    while not (is_list and not levels and source[position : position + 1] == "]"):
        try:
            value, end = decoder.raw_decode(source, position)
        except json.JSONDecodeError as error:
            _fail(error.lineno, f"not valid JSON: {error.msg}")
        except (ValueError, RecursionError) as error:
            _fail(line_of(position), f"not valid JSON: {str(error).splitlines()[0]}")
        levels.append(_parse_object(value, line_of(position), levels[0] if levels else None))
        if len(levels) * levels[0].walls.numel() > MAX_CELLS:
            _fail(line_of(position), f"the levels have more than {MAX_CELLS} cells in all")
        position = skip(end)
        if not is_list or source[position : position + 1] == "]":
            break
        if source[position : position + 1] != ",":
            _fail(line_of(position), "not valid JSON: a list of levels goes on with ',' or ends with ']'")
        position = skip(position + 1)
    rest = skip(position + is_list)
    if rest < len(source):
        _fail(line_of(rest), "not valid JSON: something follows the end")
    return levels


def _parse_object(value: Any, line: int, first: MazeLevels | None) -> MazeLevels:
    """Read one JSON level that begins in line `line`."""
    if not isinstance(value, dict):
        _fail(line, f"a level must be an object with {', '.join(_FIELDS)}, got {_brief(value)}")
    missing = [name for name in _FIELDS if name not in value]
    if missing:
        _fail(line, f"the level has no field {missing[0]!r}")
    unknown = [name for name in value if name not in _FIELDS]
    if unknown:
        _fail(line, f"unknown field {_brief(unknown[0])}; a level has {', '.join(_FIELDS)}")
    for name in ("width", "height", "heading"):
        if type(value[name]) is not int:
            _fail(line, f"{name} must be a whole number, got {_brief(value[name])}")
    width, height, heading = value["width"], value["height"], value["heading"]
    _check_size(line, width, height, first)
    size = width - 2, height - 2
    if not 0 <= heading <= 3:
        _fail(line, f"heading must be 0, 1, 2 or 3, got {_brief(heading)}")
    if not isinstance(value["walls"], list):
        _fail(line, f"walls must be a list of pairs [column, row], got {_brief(value['walls'])}")
    walls = [False] * (size[0] * size[1])
    for number, pair in enumerate(value["walls"]):
        walls[_cell(line, f"walls[{number}]", pair, size)] = True
    agent, goal = (_cell(line, name, value[name], size) for name in ("agent", "goal"))
    for name, cell in (("agent", agent), ("goal", goal)):
        if walls[cell]:
            _fail(line, f"the {name} stands in a wall, at {value[name]}")
    if agent == goal:
        _fail(line, f"agent and goal share the cell {value['agent']}")
    return _level(size, walls, agent, heading, goal)


def _cell(line: int, name: str, pair: Any, size: tuple[int, int]) -> int:
    """The number of the cell that a JSON pair names; `size` is width and height without the ring."""
    if not (isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair)):
        _fail(line, f"{name} must be a pair [column, row] of whole numbers, got {_brief(pair)}")
    x, y = pair
    width, height = size
    if not (1 <= x <= width and 1 <= y <= height):
        _fail(line, f"{name} must lie inside the ring, column 1..{width}, row 1..{height}, got {_brief(pair)}")
    return int((y - 1) * width + x - 1)


def _brief(value: Any) -> str:
    """A value as an error shows it: ASCII, short."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or a very deep list
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
