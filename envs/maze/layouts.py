"""Fixed test mazes, drawn in text files: a maze's name, then its rows.

'#' wall, '.' floor, 'A' start (looking east), 'G' goal, 'g' one of several possible goals, of which one is in use.
The outer ring of walls is part of a drawing.
"""

from importlib import resources

from clutr.envs.maze.level import MazeLevels
from clutr.envs.maze.text import parse


def _read(name: str) -> dict[str, str]:
    """The drawings of a file by their names."""
    text = resources.files("clutr.envs.maze").joinpath(name).read_text(encoding="utf-8")
    return dict(drawing.split("\n", 1) for drawing in text.strip().split("\n\n"))


BENCHMARK = _read("benchmark_mazes.txt")
"""The fixed mazes of the published DCD and ACCEL test sets (arXiv 2110.02439 and 2203.01302)."""
SMALL = _read("small_mazes.txt")
"""This project's own, for quick runs on small mazes."""


def fixed_levels(drawing: str) -> MazeLevels:
    """The mazes of a drawing: one for each possible goal, in the order of the drawing, row by row."""
    goals = [index for index, character in enumerate(drawing) if character in "gG"]
    variants = []
    for goal in goals:
        floor = drawing.replace("g", ".").replace("G", ".")
        variants.append(floor[:goal] + "G" + floor[goal + 1 :])
    return parse("\n\n".join(variants))
