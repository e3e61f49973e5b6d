"""What travels between machines: numpy arrays, which Ray hands on without copying, nested in dicts and lists."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clutr.agents.student import Trajectories
from clutr.envs.domain import LevelBatch


def pack(value: Any) -> Any:
    """Tensors as numpy arrays, all else as it is."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, dict):
        return {key: pack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(pack(item) for item in value)
    return value


def unpack(value: Any) -> Any:
    """The inverse of `pack`. Tensors are copies: what Ray hands out cannot be written to."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return {key: unpack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(unpack(item) for item in value)
    return value


def pack_levels(levels: LevelBatch) -> dict[str, Any]:
    """Levels with the keys that they are known by."""
    return {"type": type(levels), "keys": levels.key(), "tensors": pack(levels.tensors())}


def unpack_levels(payload: dict[str, Any]) -> LevelBatch:
    """The inverse of `pack_levels`. Raises `RuntimeError` if these are not the levels of the keys."""
    levels: LevelBatch = payload["type"].from_tensors(unpack(payload["tensors"]))
    if levels.key() != payload["keys"]:
        raise RuntimeError("levels arrived that are not those of their keys")
    return levels


def pack_trajectories(played: Trajectories) -> dict[str, Any]:
    """Columns by name."""
    return {column.name: pack(getattr(played, column.name)) for column in fields(Trajectories)}


def unpack_trajectories(payloads: Sequence[dict[str, Any]], device: torch.device | str = "cpu") -> Trajectories:
    """Trajectories of several shards, `[T, n]` each, side by side on `device`."""

    def join(columns: Sequence[Any]) -> Any:
        if isinstance(columns[0], dict):
            return {name: join([column[name] for column in columns]) for name in columns[0]}
        return torch.from_numpy(np.concatenate(columns, axis=1)).to(device)

    return Trajectories(**join(payloads))


def select(played: Trajectories, envs: Tensor) -> Trajectories:
    """The trajectories of some environments."""

    def of(column: Any) -> Any:
        return {name: of(item) for name, item in column.items()} if isinstance(column, dict) else column[:, envs]

    return Trajectories(**{each.name: of(getattr(played, each.name)) for each in fields(Trajectories)})


def generator(state: np.ndarray) -> torch.Generator:
    """A generator in this state."""
    rng = torch.Generator()
    rng.set_state(torch.from_numpy(state.copy()))
    return rng
