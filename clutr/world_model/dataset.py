"""Datasets of recorded episodes: frames, masks, actions, rewards and true states in memory-mapped Arrow files.

A dataset is a folder. `dataset.json` says what is in it; each `part-NNNN.arrow` holds the frames of a few episodes,
one row a frame, and each `part-NNNN.safetensors` their levels. A part is written at once and never changed, so an
interrupted recording goes on with the next. Splits are by level: no level has frames in two of them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SPLITS = ("train", "valid", "test")
SHARES = (0.8, 0.1, 0.1)
"""Of the levels, about."""
CONTINUES, TERMINATED, TRUNCATED = 0, 1, 2
"""What an action did to its episode."""


class DamagedDatasetError(ValueError):
    """A file of a dataset was cut short, or changed by another program; the message names it."""


def split_of(key: str) -> str:
    """The split of a level, by its key: the same one in every dataset."""
    place = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
    return SPLITS[int(np.searchsorted(np.cumsum(SHARES)[:-1], place, side="right"))]


@dataclass(frozen=True)
class Part:
    """The rows of one part, all of equal length R, in the order of time within each episode.

    An episode of L actions has L + 1 rows: the last one shows where the last action led, and its own action is 0.
    """

    frames: Tensor
    """`[R, side, side, 3]` uint8."""
    masks: Tensor
    """`[R, side, side]` uint8, numbers of objects."""
    actions: Tensor
    """`[R, A]` float32: taken in this frame; whole numbers where actions are discrete."""
    rewards: Tensor
    """`[R]` float32: for that action."""
    ended: Tensor
    """`[R]` uint8: what that action did (`CONTINUES`, `TERMINATED`, `TRUNCATED`)."""
    privileged_state: Tensor
    """`[R, Q]` float32."""
    episodes: Tensor
    """`[R]` int64: which of the part's episodes."""


@dataclass(frozen=True)
class EpisodeInfo:
    """One recorded episode."""

    part: int
    first: int
    """Its first row, over all parts."""
    rows: int
    """Frames: one more than actions."""
    key: str
    """Of its level."""
    policy: str
    """The behaviour policy."""

    @property
    def split(self) -> str:
        """Which split its level belongs to."""
        return split_of(self.key)

    @property
    def indices(self) -> Tensor:
        """Its rows, `[rows]` int64."""
        return torch.arange(self.first, self.first + self.rows)


_COLUMNS: dict[str, Any] = {
    "frames": np.uint8,
    "masks": np.uint8,
    "actions": np.float32,
    "privileged_state": np.float32,
}


def write_part(path: Path, part: Part) -> None:
    """Write the rows of a part in one go: to a temporary name, then renamed."""
    rows = len(part.frames)
    arrays, names = [], []
    for name in _COLUMNS:
        values = getattr(part, name).numpy().reshape(rows, -1)
        width = values.shape[1] * values.dtype.itemsize
        arrays.append(pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(values.copy())]))
        names.append(name)
    for name in ("rewards", "ended", "episodes"):
        arrays.append(pa.array(getattr(part, name).numpy()))
        names.append(name)
    batch = pa.record_batch(arrays, names=names)
    temporary = path.with_suffix(".temporary")
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    temporary.replace(path)


class EpisodeDataset:
    """Reads a dataset, of which only what is asked for is loaded.

    Args:
        path: its folder.

    Raises:
        FileNotFoundError: if there is no dataset, or a part of it is missing.
        DamagedDatasetError: if a file is damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        known = self.path / "recording.json"
        if not known.is_file():
            raise FileNotFoundError(f"{self.path} holds no dataset: `clutr world record` makes one")
        try:
            self.about: dict[str, Any] = json.loads(known.read_text(encoding="utf-8"))
            self._rows = [int(part["rows"]) for part in self.about["parts"]]
            self._firsts = np.cumsum([0, *self._rows])
            self.episodes = [each for number in range(len(self._rows)) for each in self._episodes(number)]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedDatasetError(f"{known} is damaged: {_reason(error)}") from None
        self._parts = [self._read(number) for number in range(len(self._rows))]

    def _episodes(self, number: int) -> "list[EpisodeInfo]":
        """The episodes of a part. Raises `ValueError` if they do not fill its rows."""
        found, place = [], int(self._firsts[number])
        for each in self.about["parts"][number]["episodes"]:
            found.append(EpisodeInfo(number, place, int(each["rows"]), str(each["key"]), str(each["policy"])))
            place += found[-1].rows
        if place != self._firsts[number + 1]:
            raise ValueError(f"the episodes of part {number} do not have its {self._rows[number]} rows")
        return found

    def _read(self, number: int) -> dict[str, NDArray[Any]]:
        """The columns of a part. Raises `DamagedDatasetError` if they cannot be read, or are others than expected."""
        path = self.path / f"part-{number:04d}.arrow"
        try:
            found = self._map(path)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, KeyError, TypeError) as error:
            raise DamagedDatasetError(f"{path} is damaged: {_reason(error)}") from None
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} is missing") from None
        except OSError as error:  # Arrow's own, for what it cannot make sense of
            raise DamagedDatasetError(f"{path} cannot be read: {_reason(error)}") from None
        if len(found["frames"]) != self._rows[number]:
            raise DamagedDatasetError(
                f"{path} is damaged: it has {len(found['frames'])} rows, recording.json says {self._rows[number]}"
            )
        return found

    def _map(self, path: Path) -> dict[str, NDArray[Any]]:
        """The columns of a part as arrays on mapped memory."""
        with pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        side, actions, privileged_state = self.about["side"], self.about["actions"], len(self.about["quantities"])
        shapes = {
            "frames": (side, side, 3),
            "masks": (side, side),
            "actions": (actions,),
            "privileged_state": (privileged_state,),
        }
        found: dict[str, NDArray[Any]] = {}
        for name, dtype in _COLUMNS.items():
            width, wanted = batch.column(name).type.byte_width, int(np.prod(shapes[name]))
            if width != wanted * np.dtype(dtype).itemsize:
                raise ValueError(f"its {name} have {width} bytes a row")
            found[name] = np.frombuffer(batch.column(name).buffers()[1], dtype)[: batch.num_rows * wanted]
            found[name] = found[name].reshape(batch.num_rows, *shapes[name])
        for name in ("rewards", "ended", "episodes"):
            found[name] = batch.column(name).to_numpy()
        return found

    def __len__(self) -> int:
        """Frames, over all parts."""
        return int(self._firsts[-1])

    def column(self, name: str, rows: Tensor) -> Tensor:
        """One column (a field of `Part`) of any `rows` `[n]` int64: `[n, ...]`."""
        wanted = rows.numpy()
        parts = np.searchsorted(self._firsts, wanted, side="right") - 1
        sample = self._parts[0][name]
        found = np.empty((len(wanted), *sample.shape[1:]), sample.dtype)
        for part in np.unique(parts):
            mine = parts == part
            found[mine] = self._parts[part][name][wanted[mine] - self._firsts[part]]
        return torch.from_numpy(found)

    def rows(self, split: str) -> Tensor:
        """The rows `[n]` int64 of all frames of a split."""
        pieces = [episode.indices for episode in self.of_split(split)]
        return torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.int64)

    def of_split(self, split: str) -> "list[EpisodeInfo]":
        """The episodes of a split."""
        return [episode for episode in self.episodes if episode.split == split]

    def played(self, split: str) -> "list[EpisodeInfo]":
        """Those in which something was done."""
        return [episode for episode in self.of_split(split) if episode.rows > 1]

    @property
    def action_width(self) -> int:
        """Numbers of an action as a memory takes it: see `actions`."""
        return int(self.about["discrete"]) or int(self.about["actions"])

    def actions(self, rows: Tensor) -> Tensor:
        """The actions of `rows` `[n]` as a memory takes them, `[n, A]` float32: one-hot where they are discrete."""
        found = self.column("actions", rows)
        return F.one_hot(found[:, 0].long(), self.action_width).float() if self.about["discrete"] else found

    def mean_frame(self, most: int = 1_000) -> Tensor:
        """The mean of at most so many training frames, evenly chosen: `[side, side, 3]` float32 in 0..255."""
        rows = self.rows("train")
        parts = rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).long()].split(200)
        total = torch.stack([self.column("frames", part).float().sum(0) for part in parts]).sum(0)
        return total / sum(map(len, parts))

    def frames(self, split: str) -> "FrameSource":
        """The frames of a split, by their place in it."""
        return FrameSource(self, self.rows(split))

    @cached_property
    def quantities(self) -> list[str]:
        """Names of the columns of `privileged_state`."""
        return list(self.about["quantities"])

    @property
    def objects(self) -> Sequence[str]:
        """Names of the numbers in `masks`."""
        names: list[str] = self.about["objects"]
        return names


def _reason(error: Exception) -> str:
    """What is wrong, in a line."""
    said = " ".join(str(error).split())
    return f"it lacks {said}" if isinstance(error, KeyError) else said


class FrameSource:
    """Frames by number, as backbones take them.

    Args:
        dataset: where they are.
        rows: `[n]` int64: which of its rows.
    """

    def __init__(self, dataset: EpisodeDataset, rows: Tensor) -> None:
        self.dataset = dataset
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        """`[n, side, side, 3]` uint8 for numbers `[n]` int64."""
        return self.dataset.column("frames", self.rows[index])


def describe(
    side: int, actions: int, quantities: Mapping[str, str], objects: Sequence[str], **more: Any
) -> dict[str, Any]:
    """The contents of `dataset.json` before any part is there."""
    known = {"side": side, "actions": actions, "quantities": dict(quantities), "objects": list(objects)}
    return known | {"parts": []} | more
