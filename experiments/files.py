"""Paths and files: what cannot be read or written is one error that says so, before any work if possible.

Without torch: a path that is wrong is told at once.
"""

import contextlib
import json
import logging
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any


class RunError(Exception):
    """Something about a run directory that the user can mend; the message says how."""


class CorruptFileError(RunError):
    """A file is truncated, damaged or not ours."""


def expanded(path: Path | str) -> Path:
    """The path, `~` expanded. Raises `RunError` if it begins with the home of nobody."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise RunError(f"{str(path)[:60]!r} is no path: {error}") from None


def as_directory(path: Path | str) -> Path:
    """The path of a directory that is there or could be, `~` expanded. Raises `RunError` if it can be none."""
    try:
        found = Path(path).expanduser()
        is_file = found.exists() and not found.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long, no home, a zero byte
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{str(path)[:60]!r} cannot be a directory: {reason}") from None
    if is_file:
        raise RunError(f"{path} is a file, not a directory")
    return found


def _there(path: Path) -> Path:
    """The path or the nearest folder above it that exists. Raises `OSError` if a name is too long, `ValueError`."""
    path.exists()  # a name that is too long
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def can_write(folder: Path) -> bool:
    """Whether files can be written into a folder, which need not exist yet."""
    try:
        there = _there(folder)
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except (OSError, ValueError):
        return False


def require_writable(folder: Path, otherwise: str) -> None:
    """Ask before any work whether files can be written into a folder, which need not exist yet; nothing is left there.

    Args:
        folder: where files will be written.
        otherwise: what the error ends with, such as `Nothing was played.`

    Raises:
        RunError: if they cannot.
    """
    try:
        TemporaryFile(dir=_there(folder)).close()
    except (OSError, ValueError) as error:  # a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"cannot write to {_short(folder)}: {reason}. {otherwise}") from error


def as_output(path: Path | str, otherwise: str = "Nothing was done.") -> Path:
    """The path of a file that can be written, `~` expanded; it is asked before any work, and nothing is left there.

    Args:
        path: of the file; its folder need not exist yet.
        otherwise: what the error ends with.

    Raises:
        RunError: if it cannot.
    """
    found = expanded(path)
    try:
        if found.is_dir():
            raise RunError(f"{found} is a directory, not a file. {otherwise}")
        found.exists()
        TemporaryFile(dir=_there(found.parent)).close()
    except (OSError, ValueError) as error:  # a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"cannot write {_short(found)}: {reason}. {otherwise}") from error
    return found


def _short(path: Path) -> str:
    shown = str(path)
    return shown if len(shown) <= 200 else f"{shown[:60]}...{shown[-57:]}"


def write_atomically(path: Path, content: bytes, then: str = "try again") -> None:
    """Write `content` to `path` so that a reader sees either the old file or the whole new one.

    Args:
        path: of the file; its folder is made.
        content: of the file.
        then: what a user does after making room, in the error's words.

    Raises:
        RunError: if the file cannot be written (disk full, read-only directory, ...). What was there before stays.
    """
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with_reason = f"cannot write {path}: {error.strerror or error}"
        with contextlib.suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        raise RunError(
            f"{with_reason}. Nothing written before is lost; free space or permissions, then {then}."
        ) from error


def read_json(path: Path, **entries: type) -> dict[str, Any]:
    """The object that a JSON file holds, with at least these `entries`, each of its type.

    Raises:
        CorruptFileError: if the file is damaged, or holds something else.
        RunError: if it cannot be read.
        FileNotFoundError: if it is not there.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # text that is not UTF-8 is a `ValueError`, too
        raise CorruptFileError(f"{path} is damaged: it is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise CorruptFileError(f"{path} is damaged: it does not hold an object")
    for name, kind in entries.items():
        if not isinstance(found.get(name), kind):
            raise CorruptFileError(f"{path} is damaged: {name!r} is missing or is not what it should be")
    return found


@cache
def warn_once(message: str) -> None:
    """Log a line, unless this process has: a file that is read again is as broken as before."""
    logging.getLogger("clutr").warning("%s", message)
