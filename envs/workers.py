"""Work on several cores of this machine, by threads: what takes long releases the interpreter.

The threads of torch's own operations wait for each other after each operation, which costs small networks more than it
gains them. Here whole parts of a rollout or of a gradient run side by side, each with single-threaded arithmetic, and
threads without work sleep. How work is divided must not depend on the number of threads, so that results do not.
"""

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

_chosen: list[int] = []
_within = threading.local()
"""Of each thread: the `share` of the threads that the part has on which it works."""


def use_workers(workers: int | None) -> None:
    """Let `run_parts` use that many threads; None: as many as there are cores, or as OMP_NUM_THREADS says.

    Raises:
        ValueError: if it is not 1 or more.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    _chosen[:] = [] if workers is None else [workers]


def worker_count() -> int:
    """How many threads `run_parts` uses at most; inside of a part, the part's share of them."""
    share: int | None = getattr(_within, "share", None)
    return share or (_chosen[0] if _chosen else _default_count())


@cache
def _default_count() -> int:
    limit = os.environ.get("OMP_NUM_THREADS", "")
    # the cores that this process may use, which in a container are fewer than the machine's; not known on macOS
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, int(limit)) if limit.isdecimal() and int(limit) > 0 else cores


def run_parts(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """What a function returns for each part, in their order; the calling thread works too.

    It may be called inside of itself. Raises what the function raised for the first part for which it did, once no
    part is being worked on any more.
    """
    count = worker_count()
    others = min(count, len(parts)) - 1
    if others < 1:
        return [function(part) for part in parts]
    share = count // (others + 1)
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}
    turn = itertools.count()  # its next number is taken by one thread only

    def work() -> None:
        before = getattr(_within, "share", None)
        _within.share = share
        while (number := next(turn)) < len(parts) and not errors:
            try:
                results[number] = function(parts[number])
            except BaseException as error:
                errors[number] = error
        _within.share = before

    helpers = [_pool(os.getpid()).submit(work) for _ in range(others)]
    work()
    for helper in helpers:
        if not helper.cancel():  # one that has not begun has nothing left to do
            helper.result()
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(parts))]


@cache
def _pool(process: int) -> ThreadPoolExecutor:  # noqa: ARG001  # a forked process has none of its parent's threads
    return ThreadPoolExecutor(max_workers=64, thread_name_prefix="clutr")
