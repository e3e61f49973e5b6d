"""State in files that survive a kill at any instant: written under a temporary name, then renamed.

It is kept as safetensors (tensors) with a JSON skeleton (everything else) in the same file's header, so that one
rename publishes both and loading a stranger's file cannot run code.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.experiments.files import CorruptFileError, RunError, as_directory, write_atomically

__all__ = ["CorruptFileError", "RunError", "as_directory", "load_state", "save_state", "write_atomically"]


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a NumPy archive, by name. Raises as `read_json` does."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CorruptFileError(f"{path} is damaged or not a NumPy archive ({error})") from None


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Replace the tensors in nested containers by references, collecting them in `tensors`."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"$tensor": path}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _pack(item, f"{path}/{key}", tensors) for key, item in value.items()}
        return {"$items": [[key, _pack(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"$tuple": [_pack(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]}
    if isinstance(value, list):
        return [_pack(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state at {path!r} is a {type(value).__name__}; only tensors and plain values can be saved")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if "$tensor" in value:
            return tensors[value["$tensor"]]
        if "$items" in value:
            return {key: _unpack(item, tensors) for key, item in value["$items"]}
        if "$tuple" in value:
            return tuple(_unpack(item, tensors) for item in value["$tuple"])
        return {key: _unpack(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    return value


def _digest(tensors: dict[str, Tensor], skeleton: str) -> str:
    digest = hashlib.sha256(skeleton.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_state(path: Path, state: Mapping[str, Any], then: str = "try again") -> None:
    """Write nested dicts, lists and tuples of tensors and plain values as one safetensors file.

    Args:
        path: of the file.
        state: what is kept.
        then: what a user does after making room, in the error's words.

    Raises:
        RunError: if the file cannot be written.
        TypeError: if the state holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_pack(state, "", tensors))
    metadata = {"format": "clutr-state-1", "state": skeleton, "sha256": _digest(tensors, skeleton)}
    write_atomically(path, safetensors.torch.save(tensors, metadata=metadata), then)


def load_state(path: Path) -> dict[str, Any]:
    """The inverse of `save_state`.

    Raises:
        CorruptFileError: if the file is truncated, damaged or not a state file.
        RunError: if it cannot be read.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise RunError(f"there is no file {path}") from None
    except (safetensors.SafetensorError, ValueError) as error:
        raise CorruptFileError(f"{path} is damaged or not a safetensors file ({error})") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    if metadata.get("format") != "clutr-state-1":
        raise CorruptFileError(f"{path} is a safetensors file, but not one that this program wrote")
    if _digest(tensors, metadata.get("state", "")) != metadata.get("sha256"):
        raise CorruptFileError(f"{path} is damaged: its checksum does not match")
    state: dict[str, Any] = _unpack(json.loads(metadata["state"]), tensors)
    return state
