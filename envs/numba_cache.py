"""Compiled functions on disk where that is possible, thrown away when any of their sources has changed.

Numba keeps compiled functions beside their source, in the user's cache or in NUMBA_CACHE_DIR, and looks at the time of
that one file only. But a compiled function holds what it calls, from other files too, and would go on with the old code
after they were edited or updated. Where no folder can be written (a read-only installation and no home), it refuses.
And processes that begin side by side would all compile the same functions at the same time: here one does.
"""

import contextlib
import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.compiler_lock import global_compiler_lock

STAMP = "kernels.stamp"
LOCK = "kernels.lock"
PATIENCE = 120.0
"""Seconds to wait for another process that compiles, then it is thought to be stopped."""

Function = TypeVar("Function", bound=Callable[..., Any])


def njit(**options: Any) -> Callable[[Function], Function]:
    """`numba.njit` with a cache on disk that is never stale; without one where no folder can be written."""

    def compiled(function: Function) -> Function:
        try:
            dispatcher: Any = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # "no locator available"
            return numba.njit(**options)(function)  # type: ignore[no-any-return]
        folder = Path(dispatcher.stats.cache_path)
        _renew(_package(Path(function.__code__.co_filename)), folder)
        dispatcher.compile = _in_turn(dispatcher.compile, folder)
        return dispatcher  # type: ignore[no-any-return]

    return compiled


def _in_turn(compile_or_load: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """Have it wait for other processes that compile into the same folder: then there may be nothing left to do."""

    def compiled(signature: Any) -> Any:
        # numba's own lock first: so a thread that has it never waits for one that waits for it
        with global_compiler_lock, _turn(folder):
            return compile_or_load(signature)

    return compiled


_turns: list[Path] = []
"""The folder whose turn this process has: functions that are compiled on the way wait for nobody."""


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    if _turns:
        yield
        return
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # a folder that cannot be written, or one without locks
            file, begun = held.enter_context((folder / LOCK).open("w")), time.monotonic()
            while not _locked(file) and time.monotonic() - begun < PATIENCE:
                time.sleep(0.05)
        _turns.append(folder)
        try:
            yield
        finally:
            _turns.pop()


def _locked(file: Any) -> bool:
    """Whether this process has a file's lock now. Raises `OSError` where files cannot be locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
