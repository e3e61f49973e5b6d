"""Files of levels: what cannot be read is one error that names the file."""

from pathlib import Path

from clutr.envs.capabilities import Text
from clutr.envs.domain import LevelBatch, LevelError
from clutr.envs.home import at_home

_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_level_text(path: Path | str) -> str:
    """The text of a file.

    Raises:
        LevelError: there is no such file, or it is no UTF-8 text; the message names the file.
    """
    name = _short(str(path))
    try:
        content = at_home(path).read_bytes()
    except IsADirectoryError:
        raise LevelError(f"{name} is a directory; name a file in it") from None
    except FileNotFoundError:
        raise LevelError(f"{name}: no such file") from None
    except (OSError, ValueError) as error:  # a null byte in the name is a ValueError
        raise LevelError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = _MARKS.get(content[:2])
    if found is None and b"\0" in content:
        raise LevelError(f"{name} is no text: line {_line(content, content.index(0))} has a null byte")
    try:
        if found is None:
            return content.decode("utf-8")
        position = 0
    except UnicodeDecodeError as error:
        position = error.start
    what = f"it is {found}" if found else f"line {_line(content, position)} has byte 0x{content[position]:02x}"
    raise LevelError(f"{name} is not UTF-8: {what}; save it as UTF-8")


def read_levels(source: Path | str, domain: Text) -> LevelBatch:
    """Levels from a file, or from text as such.

    A string of one line that is not JSON names a file: no level is written in one line.

    Raises:
        LevelError: the file or the level cannot be read; the message names the file if it is one, line and reason.
    """
    if isinstance(source, str) and ("\n" in source.strip() or "\r" in source.strip() or _is_json(source)):
        return domain.parse(source)
    if isinstance(source, str) and not source.strip():
        return domain.parse(source)
    text = read_level_text(source)
    try:
        return domain.parse(text)
    except LevelError as error:
        raise LevelError(f"{_short(str(source))}: {error}") from error


def _is_json(text: str) -> bool:
    return text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[")


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _short(name: str) -> str:
    shown = ascii(name)[1:-1] if not name.isprintable() else name
    return shown if len(shown) <= 120 else f"{shown[:60]}...{shown[-57:]}"
