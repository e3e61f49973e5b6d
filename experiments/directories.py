"""What a directory or a file holds, looked at from outside: so a wrong path is told before torch is imported."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clutr.experiments.files import RunError, as_directory
from clutr.experiments.plain_config import options_in, read_text
from clutr.experiments.pretrained import Kind, card, is_name, require_kind, require_no_name

RUN_KINDS: tuple[Kind, ...] = ("student", "manifold")
"""Models that ship and stand for runs."""
WORLD_KINDS: tuple[Kind, ...] = ("world-model",)
"""Those that stand for world models."""


def require_run(path: Path) -> None:
    """Raise `RunError` unless a directory holds a run."""
    if (path / "world.yaml").is_file():
        raise RunError(
            f"{path} is a world model, not a run: `clutr world train {path}` goes on with it, "
            + f"`clutr world report {path}` shows it, `clutr inspect {path}` opens it"
        )
    if not (path / "config.yaml").is_file():
        raise RunError(f"{path} is not a run: it has no config.yaml. `clutr train PRESET` makes one.")


def require_world_model(path: Path) -> None:
    """Raise `RunError` unless a directory holds a world model."""
    if (path / "config.yaml").is_file():
        raise RunError(f"{path} is a curriculum run, not a world model: `clutr report {path}` shows it")
    if not (path / "world.yaml").is_file():
        raise RunError(f"{path} holds no world model: `clutr world record {path}` begins one")


def require_no_run(path: Path | str) -> Path:
    """The directory of a new run. Raises `RunError` if there is one already, or it can be no directory."""
    require_no_name(path)
    path = as_directory(path)
    if (path / "config.yaml").exists():
        raise RunError(f"{path} already holds a run: `clutr resume {path}` continues it, --run names another")
    return path


def look_at_run(path: Path | str) -> None:
    """Raise `RunError` unless this is the directory of a run, or the name of a model that stands for one."""
    _look_at(as_directory(path), require_run, RUN_KINDS)


def look_at_world_model(path: Path | str) -> None:
    """Raise `RunError` unless this is the directory of a world model, or the name of one that ships."""
    _look_at(as_directory(path), require_world_model, WORLD_KINDS)


def _look_at(path: Path, require: Callable[[Path], None], kinds: tuple[Kind, ...]) -> None:
    if is_name(path):
        require_kind(card(str(path)), *kinds)
    else:
        require(path)


def is_file(source: str | Path) -> bool:
    """Whether a source of an experiment is a file rather than a preset."""
    path = Path(source)
    return isinstance(source, Path) or path.suffix in (".yaml", ".yml") or os.sep in str(source)


def look_at_options(path: Path) -> None:
    """Raise `RunError` unless a file can be read and holds options by name."""
    options_in(read_text(path), str(path))


def look_at_file(path: Path) -> None:
    """Raise `RunError` unless this is a file such as a `config.yaml`."""
    with suppress(OSError):  # a name that is too long is told by who reads it
        if path.is_dir():
            raise RunError(
                f"{path} is a directory: `clutr resume {path}` goes on with a run, "
                + f"`clutr train {path}/config.yaml` repeats it"
            )
    look_at_options(path)
