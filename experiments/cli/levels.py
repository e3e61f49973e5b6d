"""`clutr levels`: files of mazes and roads, and the levels of suites and curricula."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from clutr.envs.registry import no_such
from clutr.experiments.cli.arguments import Arguments, UsageError, choose, command, first_line
from clutr.experiments.cli.names import registered
from clutr.experiments.files import expanded

if TYPE_CHECKING:
    from clutr.envs.domain import LevelBatch


def levels(args: Arguments) -> None:
    """Levels as files: list, check, draw, convert them, export a curriculum's, and play them in a window."""
    PARTS[choose("part", PARTS, lambda name: first_line(PARTS[name]), "levels", args)](args[1:])


def _look(domain: str | None, source: str = "") -> None:
    """Tell of a domain or a file that is not there before anything is imported that takes long."""
    if domain is not None and domain not in registered("domains"):
        raise UsageError(no_such("domain", domain, registered("domains")))
    with suppress(OSError):  # a name that is too long is told by who reads it
        if Path(source).suffix and not expanded(source).exists():
            raise UsageError(f"{source}: no such file")


def _read(source: str, domain: str | None) -> "tuple[str, LevelBatch]":
    from clutr.experiments.reports.levels import levels_of

    return levels_of(source, domain)


@command("levels list")
def _list(source: str, /, domain: str | None = None) -> None:
    """List levels with their properties.

    Args:
        source: A file, a suite whose levels have one size, or a level of one (small/Labyrinth11).
        domain: The domain: maze or car; by default the first that reads them.
    """
    _look(domain, source)
    from rich.table import Table

    from clutr.experiments.display import console
    from clutr.experiments.reports.levels import described

    name, found = _read(source, domain)
    rows = list(described(name, found))
    table = Table("level", *(what.replace("_", " ") for what in rows[0][1]), box=None)
    for key, properties in rows:
        table.add_row(key, *(f"{value:.4g}" for value in properties.values()))
    console.print(table)


@command("levels validate")
def _validate(files: tuple[Path, ...], /, domain: str | None = None) -> None:
    """Check files of levels; what is wrong is told with file, line and reason, and the exit status is 2.

    Args:
        files: The files.
        domain: The domain: maze or car; by default the first that reads them.
    """
    _look(domain)
    import clutr
    from clutr.experiments.display import say

    if not files:
        raise UsageError("name at least one file: `clutr levels validate FILE`")
    wrong = []
    for path in files:
        try:
            name, found = _read(str(path), domain)
        except clutr.LevelError as error:
            wrong.append(str(error))
            say(f"wrong: {error}")
        else:
            say(f"{path}: {len(found)} level{'s' * (len(found) != 1)} of {name}")
    if wrong:
        raise UsageError(wrong[0] if len(files) == 1 else f"{len(wrong)} of {len(files)} files are wrong")


@command("levels draw")
def _draw(source: str, /, output: Path = Path("levels.png"), columns: int = 8, domain: str | None = None) -> None:
    """Draw levels as one PNG.

    Args:
        source: A file, a suite whose levels have one size, or a level of one (small/Labyrinth11).
        output: The picture.
        columns: Levels in a row.
        domain: The domain: maze or car; by default the first that reads them.
    """
    _look(domain, source)
    from clutr.experiments.display import say
    from clutr.experiments.files import as_output
    from clutr.experiments.reports.levels import draw

    if columns < 1:
        raise UsageError(f"columns must be at least 1, got {columns}")
    as_output(output, "Nothing was drawn.")
    draw(*_read(source, domain), output, columns)
    say(f"open {output}")


@command("levels convert")
def _convert(source: str, output: Path, /, domain: str | None = None) -> None:
    """Write levels of a file or a suite as text, or as JSON if the new file's name ends with .json.

    Args:
        source: A file, a suite whose levels have one size, or a level of one (small/Labyrinth11).
        output: The new file.
        domain: The domain: maze or car; by default the first that reads them.
    """
    _look(domain, source)
    from clutr.experiments.display import say
    from clutr.experiments.files import as_output
    from clutr.experiments.reports.levels import as_text
    from clutr.experiments.storage import write_atomically

    as_output(output, "Nothing was written.")
    name, found = _read(source, domain)
    write_atomically(output, as_text(name, found, output.suffix == ".json").encode())
    say(f"{output}: {len(found)} level{'s' * (len(found) != 1)} of {name}")


@command("levels export")
def _export(run: Path, /, output: Path = Path("levels"), json: bool = False) -> None:
    """Write what a run's curriculum proposed, a file for each recorded update.

    Args:
        run: The run's directory.
        output: The directory of the files.
        json: Write JSON instead of text.
    """
    from clutr.experiments.directories import look_at_run

    look_at_run(run)
    import clutr
    from clutr.experiments.display import say
    from clutr.experiments.reports.levels import export_curriculum

    say(f"{len(export_curriculum(clutr.load_run(run), output, json))} files in {output}")


@command("levels play")
def _play(source: str, /, zoom: float = 2.0, domain: str | None = None) -> None:
    """Play levels in a window, one after another, with the keys w, a, d (and s to brake).

    Args:
        source: A file, a suite whose levels have one size, or a level of one (small/Labyrinth11).
        zoom: How much larger than drawn.
        domain: The domain: maze or car; by default the first that reads them.
    """
    _look(domain, source)
    from clutr.experiments.display import say
    from clutr.experiments.reports.levels import play_levels

    name, found = _read(source, domain)
    say("w goes, a and d turn, s brakes; closing the window ends it")
    play_levels(name, found, zoom)


PARTS = {
    "list": _list,
    "validate": _validate,
    "draw": _draw,
    "convert": _convert,
    "export": _export,
    "play": _play,
}
"""The parts of `clutr levels`."""
