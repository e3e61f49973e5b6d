"""Levels from files, suites and runs, for people: listed, drawn, written, played."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clutr.envs.capabilities import Text, require
from clutr.envs.domain import DOMAINS, Domain, LevelBatch, LevelError
from clutr.envs.level_files import read_levels
from clutr.experiments.files import as_directory, require_writable
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, write_atomically

GAP = 8
KEYS: dict[str, dict[str, Any]] = {
    "maze": {"a": 0, "d": 1, "w": 2},
    "car": {
        "a": np.array([-1, 0, 0], np.float32),
        "d": np.array([1, 0, 0], np.float32),
        "w": np.array([0, 1, 0], np.float32),
        "s": np.array([0, 0, 0.8], np.float32),
        "aw": np.array([-1, 1, 0], np.float32),
        "dw": np.array([1, 1, 0], np.float32),
    },
}
"""What the keys do that a person plays with: turn, and go or brake."""
IDS = {"maze": "clutr/Maze-v0", "car": "clutr/CarRacing-v0"}


def levels_of(source: str, domain: str | None = None) -> tuple[str, LevelBatch]:
    """Levels, and the domain that they belong to.

    Args:
        source: a file, or a suite (`small`) or a level of one (`small/Labyrinth`).
        domain: the name of the domain; by default the first that reads them.

    Raises:
        LevelError: if no domain reads them, naming file, line and reason.
    """
    names = [domain] if domain is not None else [name for name in DOMAINS if isinstance(DOMAINS[name](), Text)]
    for name in names:
        found = _of_suite(source, DOMAINS[name]())
        if found is not None:
            return name, found
    problems = []
    for name in names:
        try:
            return name, read_levels(Path(source), require(DOMAINS[name](), Text, "reading levels"))
        except LevelError as error:
            problems.append((name, str(error)))
    if len({said for _, said in problems}) == 1:  # such as a file that is not there
        raise LevelError(problems[0][1])
    raise LevelError("; ".join(f"as {name}: {said}" for name, said in problems))


def _of_suite(source: str, domain: Domain) -> LevelBatch | None:
    suite, _, level = source.partition("/")
    suites = domain.suites()
    if suite not in suites or Path(source).exists():
        return None
    tasks = [task for task in suites[suite].tasks if level in ("", task.name)]
    if not tasks:
        raise LevelError(f"{suite} has no level {level!r}; there are: {', '.join(t.name for t in suites[suite].tasks)}")
    drawn = [task.draw(1, torch.Generator().manual_seed(1)) for task in tasks]
    if any(not isinstance(levels, domain.level_type) for levels in drawn):
        raise LevelError(f"the levels of {suite} are somebody else's environments, which cannot be written")
    try:
        return drawn[0].concatenate(drawn)
    except RuntimeError:
        names = ", ".join(task.name for task in tasks)
        raise LevelError(f"the levels of {suite} have several sizes; name one as {suite}/LEVEL: {names}") from None


def domain_of(name: str, levels: LevelBatch) -> Domain:
    """A domain whose levels are as large as these."""
    domain: Any = DOMAINS[name]()
    sizes = {side: getattr(levels, side) for side in ("height", "width") if hasattr(levels, side)}
    own = {field.name for field in fields(domain)}
    if sizes and "max_obstacles" in own:
        sizes["max_obstacles"] = min(domain.max_obstacles, sizes["height"] * sizes["width"] - 2)
    made: Domain = replace(domain, **{side: size for side, size in sizes.items() if side in own})
    return made


def described(name: str, levels: LevelBatch) -> Iterator[tuple[str, dict[str, float]]]:
    """Of each level its id and its properties."""
    properties = domain_of(name, levels).describe(levels)
    for row, key in enumerate(levels.key()):
        yield key, {what: float(values[row]) for what, values in properties.items()}


def sheet(name: str, levels: LevelBatch, columns: int) -> NDArray[np.uint8]:
    """Pictures of levels in rows of `columns`, `[H, W, 3]`."""
    pictures = domain_of(name, levels).render(levels).numpy()
    columns = min(columns, len(pictures))
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    drawn = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (GAP + (index // columns) * (height + GAP), GAP + (index % columns) * (width + GAP))
        drawn[top : top + height, left : left + width] = picture
    return drawn


def draw(name: str, levels: LevelBatch, path: Path, columns: int = 8) -> None:
    """Write pictures of levels as one PNG. Raises `RunError` if it cannot be written."""
    buffer = io.BytesIO()
    Image.fromarray(sheet(name, levels, columns)).save(buffer, "png")
    write_atomically(path, buffer.getvalue())


def as_text(name: str, levels: LevelBatch, as_json: bool = False) -> str:
    """Levels as text or JSON that `levels_of` reads back without loss."""
    text = require(domain_of(name, levels), Text, "writing levels").format(levels)
    if not as_json or text.startswith("["):
        return text
    maze: Any = levels
    if name == "maze":
        return _json_lines([_maze_object(maze[row]) for row in range(len(levels))])
    return _json_lines([{"points": maze.points[row, : maze.count[row]].tolist()} for row in range(len(levels))])


def _maze_object(level: Any) -> dict[str, Any]:
    def cell(number: int) -> list[int]:
        return [number % level.width + 1, number // level.width + 1]

    walls = level.walls.flatten().nonzero().flatten().tolist()
    return {
        "width": level.width + 2,
        "height": level.height + 2,
        "walls": [cell(number) for number in walls],
        "agent": cell(int(level.agent)),
        "heading": int(level.heading),
        "goal": cell(int(level.goal)),
    }


def _json_lines(objects: Sequence[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(each) for each in objects) + "\n]\n"


def export_curriculum(run: RunDirectory, folder: Path, as_json: bool = False) -> list[Path]:
    """Write what a run's curriculum proposed, a file for each recorded update. Raises `RunError` if none was."""
    name = DOMAINS.name_of(type(run.domain()))
    records = run.proposals()
    if not records:
        raise RunError(f"{run.path} has recorded no proposed levels")
    require_writable(folder := as_directory(folder), "Nothing was written.")
    paths = []
    for record in records:
        path = folder / f"steps-{record.steps:09d}.{'json' if as_json else 'txt'}"
        write_atomically(path, as_text(name, record.levels, as_json).encode())
        paths.append(path)
    return paths


class OneAfterAnother(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Plays levels in turn, the next one at each reset."""

    def __init__(self, env: Any, levels: LevelBatch) -> None:
        super().__init__(env)
        self._levels, self._next = levels, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As Gymnasium's; the level is the next one."""
        del options
        level = self._levels[self._next]
        self._next = (self._next + 1) % len(self._levels)
        observation, info = self.env.reset(seed=seed, options={"level": level})
        return observation, info


def play_levels(name: str, levels: LevelBatch, zoom: float = 2.0, callback: Any = None) -> None:
    """Let a person play levels in a window (`gymnasium.utils.play`); closing it ends the play.

    Args:
        name: of the domain.
        levels: played in turn.
        zoom: how much larger than drawn.
        callback: as `gymnasium.utils.play.play` takes it.

    Raises:
        RunError: if there is no screen, or nobody can play this domain.
    """
    from gymnasium.utils.play import play  # noqa: PLC0415 (it opens pygame)

    if name not in KEYS:
        raise RunError(f"no keys are known for the domain {name}; there are: {', '.join(KEYS)}")
    environment = OneAfterAnother(gymnasium.make(IDS[name], render_mode="rgb_array"), levels)
    still: Any = 6 if name == "maze" else np.zeros(3, np.float32)
    options: dict[str, Any] = {"keys_to_action": KEYS[name], "noop": still, "zoom": zoom, "callback": callback}
    try:
        play(environment, wait_on_player=name == "maze", **options)
    except Exception as error:
        if type(error).__module__.startswith("pygame"):
            raise RunError(f"no window can be opened: {error}") from None
        raise
