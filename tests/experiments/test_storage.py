"""State files: lossless, checked, written all or nothing."""

import contextlib
import errno
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from longer import examples

from clutr.experiments.files import read_json
from clutr.experiments.storage import (
    CorruptFileError,
    RunError,
    load_state,
    read_arrays,
    save_state,
    write_atomically,
)

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
tensors = st.sampled_from(
    [
        torch.tensor(1.5),
        torch.zeros(0, 3),
        torch.arange(6).reshape(2, 3).T,
        torch.tensor([True, False]),
        torch.full((2,), torch.nan),
        torch.arange(4, dtype=torch.uint8),
    ]
)
keys = st.text(max_size=6) | st.integers(-3, 3)
states = st.recursive(
    plain | tensors,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return (
            isinstance(right, torch.Tensor)
            and left.dtype == right.dtype
            and left.shape == right.shape
            and left.contiguous().reshape(-1).view(torch.uint8).equal(right.contiguous().reshape(-1).view(torch.uint8))
        )
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(keys, states, max_size=4))
def test_state_round_trips(tmp_path_factory: pytest.TempPathFactory, state: dict[Any, Any]) -> None:
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    save_state(path, state)
    assert same(load_state(path), state)


def test_state_refuses_what_could_run_code(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="state at '/a/f' is a function"):
        save_state(tmp_path / "s", {"a": {"f": same}})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "state.safetensors"
    save_state(path, {"weights": torch.arange(100.0), "step": 7})
    return path


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 50, 200, -1])
def test_truncated_file_is_reported(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CorruptFileError, match=r"state\.safetensors is damaged"):
        load_state(saved)


def test_flipped_bit_is_reported(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-5] ^= 1
    saved.write_bytes(bytes(content))
    with pytest.raises(CorruptFileError, match="checksum does not match"):
        load_state(saved)


@pytest.mark.mutations
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["cut", "flip", "insert", "repeat"]), st.integers(0, 2000), st.binary(max_size=9)),
        min_size=1,
        max_size=3,
    )
)
def test_a_mutated_checkpoint_is_read_as_it_was_or_refused(
    tmp_path: Path, mutations: list[tuple[str, int, bytes]]
) -> None:
    path = tmp_path / "state.safetensors"
    state = {"weights": torch.arange(100.0), "step": 7, "options": {"kind": "adam", "betas": (0.9, 0.999)}}
    save_state(path, state)
    content = path.read_bytes()
    for how, place, other in mutations:
        at = place % (len(content) + 1)
        start, rest = content[:at], content[at:]
        after = {
            "cut": start,
            "flip": start + bytes(byte ^ 1 << len(other) % 8 for byte in rest[:1]) + rest[1:],
            "insert": start + other + rest,
            "repeat": start + content[max(0, at - 40) :],
        }
        content = after[how]
    path.write_bytes(content)
    with contextlib.suppress(CorruptFileError):
        assert same(load_state(path), state)
    assert path.read_bytes() == content, "nobody repaired or removed it"


@pytest.mark.parametrize("name", ["state", "sha256"])
def test_a_damaged_name_in_the_header_is_reported(saved: Path, name: str) -> None:
    content = saved.read_bytes()
    assert content.count(f'"{name}":'.encode()) == 1
    saved.write_bytes(content.replace(f'"{name}":'.encode(), f'"{name[:-1]}?":'.encode()))
    with pytest.raises(CorruptFileError, match="checksum does not match"):
        load_state(saved)


def test_foreign_safetensors_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(1)}))
    with pytest.raises(CorruptFileError, match="not one that this program wrote"):
        load_state(path)


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no file"):
        load_state(tmp_path / "none")


def test_full_disk_keeps_the_old_file(saved: Path) -> None:
    """A real failing write: the process may not write files beyond 4 kB."""
    before = saved.read_bytes()
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old_limit[1]))
        with pytest.raises(RunError, match=r"cannot write .*state\.safetensors.*Nothing written before is lost"):
            save_state(saved, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_read_only_directory_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError, match=r"cannot write .*x: Read-only file system"):
        write_atomically(tmp_path / "x", b"content")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"rows": [1, 2', r"is not JSON \(Expecting"),
        (b"", r"is not JSON \(Expecting value"),
        (b'{"rows": "\xff"}', r"is not JSON \('utf-8' codec"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "does not hold an object"),
        (b'{"row": [1]}', "'rows' is missing or is not what it should be"),
        (b'{"rows": {}}', "'rows' is missing or is not what it should be"),
    ],
)
def test_damaged_json_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=rf"found\.json is damaged: .*{said}"):
        read_json(path, rows=list)
    path.write_text('{"rows": [1]}')
    assert read_json(path, rows=list) == {"rows": [1]}
    with pytest.raises(RunError, match=r"cannot read .*: Is a directory"):
        read_json(tmp_path)


@pytest.mark.parametrize("damage", [lambda _: b"", lambda _: b"no archive", lambda whole: whole[:-30]])
def test_damaged_arrays_are_named(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    np.savez_compressed(path, one=np.arange(3))
    assert read_arrays(path)["one"].tolist() == [0, 1, 2]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptFileError, match=r"found\.npz is damaged or not a NumPy archive \("):
        read_arrays(path)
