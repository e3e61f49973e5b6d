"""Stable-Baselines3 draws from the global generators of torch and numpy: here each student has its own of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextmanager
def fork_global_rng(device: torch.device) -> Iterator[None]:
    """Whatever is drawn from or done to the global generators inside, outside they are as before."""
    before = _get_state(device)
    try:
        yield
    finally:
        _set_state(before, device)


def seed_globally(seed: int) -> None:
    """Seed the global generators of torch and numpy. For use inside `fork_global_rng` alone."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


class OwnRandomness:
    """The states of the global generators as one student knows them.

    Args:
        seed: of the student.
        device: whose generator is meant beside the CPU's.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        with fork_global_rng(device):
            seed_globally(seed)
            self._state = _get_state(device)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Draws inside come from the student's own generators."""
        with fork_global_rng(self.device):
            _set_state(self._state, self.device)
            try:
                yield
            finally:
                self._state = _get_state(self.device)

    def state_dict(self) -> dict[str, Any]:
        """The states, as tensors and plain values."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._state = dict(state)


def _get_state(device: torch.device) -> dict[str, Any]:
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "numpy_position": [str(name), int(position), int(has_gauss), float(cached)],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_state(state: Mapping[str, Any], device: torch.device) -> None:
    keys: Tensor = state["numpy"]
    name, *rest = state["numpy_position"]
    torch.set_rng_state(state["torch"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
