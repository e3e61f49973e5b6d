"""The home of whoever runs this, and folders for those who have none, such as a container's process."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path


def at_home(path: Path | str) -> Path:
    """A path, `~` expanded; where nobody has that home it is left as it is, and no such file."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # Path.expanduser would raise


def temporary_cache() -> Path:
    """This user's own folder in the directory for temporary files, such as `/tmp/clutr-1000`.

    Raises:
        OSError: if it cannot be made, or is somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / f"clutr-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{folder} is open to others")
    return folder


def has_home() -> bool:
    """Whether there is a home that can be written, or holds a cache."""
    try:
        home = Path.home()
        return os.access(home, os.W_OK | os.X_OK) or (home / ".cache").is_dir()
    except (OSError, RuntimeError):  # no HOME, and nobody has this user id
        return False


def give_caches() -> None:
    """Where there is no home, name folders for what libraries keep there, unless the user has.

    Numba would make a folder called `~` in the working directory, and matplotlib complain in every process.
    """
    if has_home():
        return
    with contextlib.suppress(OSError):
        folder = temporary_cache()
        os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
        if not Path(os.environ.get("XDG_CACHE_HOME", "")).is_absolute():
            os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "numba"))
