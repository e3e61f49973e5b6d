"""Files that survive a kill at any instant: written under a temporary name, then renamed.

State is kept as safetensors (tensors) with a JSON skeleton (everything else) in the same file's header, so that one
rename publishes both and loading a stranger's file cannot run code.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor


class RunError(Exception):
    """Something about a run directory that the user can mend; the message says how."""


class CorruptFileError(RunError):
    """A file is truncated, damaged or not ours."""


def as_directory(path: Path | str) -> Path:
    """The path of a directory that is there or could be, `~` expanded. Raises `RunError` if it can be none."""
    try:
        expanded = Path(path).expanduser()
        is_file = expanded.exists() and not expanded.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long, no home, a zero byte
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{str(path)[:60]!r} cannot be a directory: {reason}") from None
    if is_file:
        raise RunError(f"{path} is a file, not a directory")
    return expanded


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees either the old file or the whole new one.

    Raises:
        RunError: if the file cannot be written (disk full, read-only directory, ...). What was there before stays.
    """
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with_reason = f"cannot write {path}: {error.strerror or error}"
        with contextlib.suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        raise RunError(
            f"{with_reason}. Nothing written before is lost; free space or permissions, then resume."
        ) from error


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


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested dicts, lists and tuples of tensors and plain values as one safetensors file.

    Raises:
        RunError: if the file cannot be written.
        TypeError: if the state holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_pack(state, "", tensors))
    metadata = {"format": "clutr-state-1", "state": skeleton, "sha256": _digest(tensors, skeleton)}
    write_atomically(path, safetensors.torch.save(tensors, metadata=metadata))


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
