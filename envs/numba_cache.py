"""Compiled functions on disk where that is possible, thrown away when any of their sources has changed.

Numba keeps compiled functions beside their source, in the user's cache or in NUMBA_CACHE_DIR, and looks at the time of
that one file only. But a compiled function holds what it calls, from other files too, and would go on with the old code
after they were edited or updated. Where no folder can be written (a read-only installation and no home), it refuses.
"""

import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

STAMP = "kernels.stamp"

Function = TypeVar("Function", bound=Callable[..., Any])


def njit(**options: Any) -> Callable[[Function], Function]:
    """`numba.njit` with a cache on disk that is never stale; without one where no folder can be written."""

    def compiled(function: Function) -> Function:
        try:
            dispatcher: Any = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # "no locator available"
            return numba.njit(**options)(function)  # type: ignore[no-any-return]
        _renew(_package(Path(function.__code__.co_filename)), Path(dispatcher.stats.cache_path))
        return dispatcher  # type: ignore[no-any-return]

    return compiled


def will_compile(dispatcher: Any) -> str | None:
    """Why a function will be compiled rather than loaded, in words that follow "compiling"; None: it will be loaded."""
    folder, function = dispatcher.stats.cache_path, dispatcher.py_func
    if folder is None:
        return "in every process, as no folder for compiled code can be written: name one with NUMBA_CACHE_DIR"
    known = Path(folder).glob(f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}-*.nbi")
    return None if any(known) else "once"


def _package(source: Path) -> Path:
    """The environment's folder that a source belongs to."""
    here = Path(__file__).parent
    return here / source.relative_to(here).parts[0] if source.is_relative_to(here) else source.parent


@cache
def _renew(package: Path, folder: Path) -> None:
    forget_stale_kernels(_digest(package), folder)


@cache
def _digest(package: Path) -> str:
    """Of a folder's sources; elsewhere than here also of the environments', which its functions may call."""
    here = Path(__file__).parent
    return digest_of(package) + ("" if package.is_relative_to(here) else digest_of(here))


def digest_of(package: Path) -> str:
    """A hash of a package's sources."""
    digest = hashlib.blake2b(digest_size=16)
    for source in sorted(package.rglob("*.py")):
        digest.update(source.relative_to(package).as_posix().encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()


def forget_stale_kernels(digest: str, folder: Path) -> bool:
    """Remove the compiled functions in a folder unless they were made from sources with this digest.

    Returns:
        Whether they were (or may have been) stale.
    """
    with contextlib.suppress(OSError):
        if (folder / STAMP).read_text() == digest:
            return False
    with contextlib.suppress(OSError):
        for index in folder.glob("*.nbi"):
            index.unlink(missing_ok=True)
        (folder / STAMP).write_text(digest)
    return True
