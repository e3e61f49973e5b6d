"""How many threads work: torch's own, which wait for each other often, and those that work on parts of their own."""

import contextlib
import ctypes
import os

import torch

from clutr.envs.workers import use_workers
from clutr.experiments.storage import RunError


def use_cores(cores: int | None = None) -> None:
    """Let students play and learn on that many cores (`clutr.envs.workers`), and torch use one thread for each part.

    Args:
        cores: None uses all that this process may use, or as many as the environment variable OMP_NUM_THREADS says.

    Raises:
        RunError: if it is not 1 or more.
    """
    if cores is not None and cores < 1:
        raise RunError(f"threads must be at least 1, got {cores}")
    torch.set_num_threads(1)
    use_workers(cores)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let the allocator keep what tensors free for the next ones.

    Every gradient step frees tensors of some megabytes. By default, glibc gives them back to the system, thread by
    thread, and has them fetched again page by page.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library, or none that can be asked
        c_library = ctypes.CDLL(None)
        c_library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never
        c_library.mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD: the highest that is allowed


def use_threads(threads: int | None = None) -> None:
    """Let torch's operations use that many threads.

    Args:
        threads: None uses one, the fastest for small networks, or what the environment variable OMP_NUM_THREADS says.

    Raises:
        RunError: if it is not 1 or more.
    """
    if threads is not None and threads < 1:
        raise RunError(f"threads must be at least 1, got {threads}")
    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        threads = 1
    if threads is not None:
        torch.set_num_threads(threads)
