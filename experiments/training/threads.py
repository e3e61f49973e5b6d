"""How many threads train: few, since the networks are small and machines are shared."""

import os

import torch

from clutr.experiments.storage import RunError


def use_threads(threads: int | None = None) -> None:
    """Let torch, and the car engine with it, use that many threads.

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
