"""What files of mazes say, read a second time, in a few lines and without the parser that is tested."""

import json
import re
from typing import Any

import pytest

from clutr.envs.domain import LevelError
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.level import MazeLevels

FIELDS = {"width", "height", "walls", "agent", "heading", "goal"}
Drawing = tuple[int, str, int]
"""A level's rows, its cells inside the ring with walls and goal as they are drawn, and the agent's heading."""


def read_drawings(source: str) -> list[Drawing] | None:
    """The levels that a text draws; None if it draws none, or something is wrong with one of them."""
    text = "\n".join(line.rstrip(" \t\r") for line in source.removeprefix("\ufeff").split("\n")).strip("\n")
    blocks = [block.split("\n") for block in re.split(r"\n\n+", text)]
    found: list[Drawing] = []
    for rows in blocks:
        inner = "".join(row[1:-1] for row in rows[1:-1])
        agents = re.findall("[A>v<^]", inner)
        ring = rows[0] + rows[-1] + "".join(row[:1] + row[-1:] for row in rows)
        whole = len({len(row) for row in rows}) == 1 and 3 <= len(rows) <= 1000 and 3 <= len(rows[0]) <= 1000
        if not (whole and set(ring) == {"#"} and len(agents) == 1 and re.fullmatch("[^G]*G[^G]*", inner)):
            return None
        if not set(inner) <= set("#.GA>v<^"):
            return None
        found.append((len(rows), inner, ">v<^".index(agents[0].replace("A", ">"))))
    return found if len({(rows, len(inner)) for rows, inner, _ in found}) == 1 else None


def read_json(source: str) -> list[Drawing] | None:
    """The levels that JSON tells of; None if it tells of none, or something is wrong with one of them."""
    try:
        value = json.loads(source.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None
    levels = value if isinstance(value, list) else [value]
    found = [drawn for level in levels if (drawn := _of_json(level))]
    if not found or len(found) < len(levels) or len(found) * len(found[0][1]) > 2**24:
        return None
    return found if len({(level["width"], level["height"]) for level in levels}) == 1 else None


def _of_json(level: Any) -> Drawing | None:
    if not isinstance(level, dict) or set(level) != FIELDS or not isinstance(level["walls"], list):
        return None
    sizes = [level[name] for name in ("width", "height", "heading")]
    pairs = [*level["walls"], level["agent"], level["goal"]]
    whole = all(isinstance(pair, list) and [*map(type, pair)] == [int, int] for pair in pairs)
    if not whole or [*map(type, sizes)] != [int, int, int]:
        return None
    (width, height, heading), (*walls, agent, goal) = sizes, map(tuple, pairs)
    fits = 3 <= width <= 1000 and 3 <= height <= 1000 and 0 <= heading <= 3
    inside = all(1 <= x <= width - 2 and 1 <= y <= height - 2 for x, y in [*walls, agent, goal])
    if not (fits and inside) or agent == goal or agent in walls or goal in walls:
        return None
    drawn = {**dict.fromkeys(walls, "#"), goal: "G", agent: ">v<^"[heading]}
    cells = [drawn.get((x, y), ".") for y in range(1, height - 1) for x in range(1, width - 1)]
    return height, "".join(cells), heading


def drawings_of(levels: MazeLevels) -> list[Drawing]:
    """The same of levels that were parsed."""
    found = []
    for walls, agent, heading, goal in zip(levels.walls, levels.agent, levels.heading, levels.goal, strict=True):
        cells = ["#" if wall else "." for wall in walls.flatten().tolist()]
        cells[goal], cells[agent] = "G", ">v<^"[heading]
        found.append((walls.shape[0] + 2, "".join(cells), int(heading)))
    return found


def assert_read_or_refused(source: str) -> None:
    """Parse: levels are those that the text shows; what shows none is refused in a line that names a line of it."""
    is_json = source.removeprefix("\ufeff").lstrip()[:1] in ("{", "[")
    expected = read_json(source) if is_json else read_drawings(source)
    if expected is None:
        with pytest.raises(LevelError) as refused:
            MazeDomain().parse(source)
        message = str(refused.value)
        number = re.match(r"line (\d+): \S", message)
        assert number, message
        assert 1 <= int(number[1]) <= source.count("\n") + 1
        assert message.isascii()
        assert message.isprintable()
        assert len(message) < 300
    else:
        levels = MazeDomain().parse(source)
        levels.check()
        assert drawings_of(levels) == [(rows, inner.replace("A", ">"), heading) for rows, inner, heading in expected]
