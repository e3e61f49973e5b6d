"""The protocol of backbones: a frame to a Gaussian over k latents, and back.

Frames are `[N, H, W, 3]` uint8 outside of a backbone,
and pictures that it gives are float32 in about [0, 1], not clamped, so that linear ones stay linear.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from clutr.envs.progress import Progress
from clutr.envs.registry import Registry

BATCH = 500
"""Frames that are held in floating point at a time while a backbone is fitted."""


def to_uint8(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1], clamped to it, as uint8 of the same shape."""
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


class Frames(Protocol):
    """Frames by number: a tensor, or memory-mapped ones (`clutr.world_model.dataset.FrameSource`)."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: Tensor) -> Tensor:
        """`[n, H, W, 3]` uint8 for numbers `[n]` int64."""
        ...


class Backbone(Protocol):
    """Encodes and decodes frames."""

    latents: int
    """k."""
    size: tuple[int, int]
    """Rows H and columns W of a picture."""
    masked_rows: int
    """Rows at the bottom that it never sees: black in what it encodes and decodes, and left out of every error."""

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[N, k]` of the posterior of frames `[N, H, W, 3]` uint8."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[N, H, W, 3]` of latents `[N, k]`."""
        ...

    def pixel_maps(self) -> Tensor | None:
        """`[k, H, W, 3]`: by how much a picture changes for one unit of each latent; None if no formula says so."""
        ...

    def parameters(self) -> Iterable[Tensor]:
        """The numbers that fitting found: a network's weights, or the closed form's tensors."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that fitting found."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """The inverse of `state_dict`."""
        ...


class Fitting(Protocol):
    """The fitting of one backbone, which can be stopped and resumed bit for bit."""

    metrics: dict[str, Any]
    """What was found at the end: plain values."""

    def run(self, progress: Progress = ...) -> None:
        """Fit to the end."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        ...


class BackboneConfig(Protocol):
    """A frozen dataclass of a backbone's options, registered in `BACKBONES`."""

    def build(self, size: tuple[int, int], seed: int) -> Backbone:
        """An unfitted backbone for pictures of so many rows and columns."""
        ...

    def fitting(self, backbone: Any, frames: Frames, seed: int) -> Fitting:
        """The fitting of `backbone`, which this configuration built. Raises `ValueError` for less than 2 frames."""
        ...


BACKBONES: Registry[type[BackboneConfig]] = Registry("backbone", "clutr.world_model.backbones.*")


def to_float(frames: Tensor) -> Tensor:
    """Frames uint8 as float32 in [0, 1]."""
    return frames.float() / 255


def blacken(pictures: Tensor, masked_rows: int) -> Tensor:
    """Pictures `[N, H, W, 3]` with their last rows set to 0, in place."""
    pictures[:, pictures.shape[1] - masked_rows :] = 0
    return pictures


def visible(frames: Tensor, masked_rows: int) -> Tensor:
    """Frames uint8 as float32 in [0, 1], their last rows black."""
    return blacken(to_float(frames), masked_rows)


def count_visible(size: tuple[int, int], masked_rows: int) -> int:
    """Numbers of a picture that are seen. Raises `ValueError` if that is none, or the mask negative."""
    if not 0 <= masked_rows < size[0]:
        raise ValueError(f"masked_rows must be in 0..{size[0] - 1}, got {masked_rows}")
    return (size[0] - masked_rows) * size[1] * 3


def require_frames(frames: Frames) -> Frames:
    """The same frames. Raises `ValueError` if there are less than 2."""
    if len(frames) < 2:
        raise ValueError(f"a backbone is fitted on at least 2 frames, got {len(frames)}")
    return frames


def batches(frames: Frames, most: int, seed: int) -> list[Tensor]:
    """Numbers of at most `most` frames, drawn without replacement, in batches of `BATCH` and in ascending order."""
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(frames), generator=rng)[:most].sort().values
    return list(chosen.split(BATCH))


class Tensors:
    """A backbone that is a few tensors: its state, in which a list of tensors is as good as one."""

    FOUND: ClassVar[tuple[str, ...]]
    """Names of the attributes that fitting finds."""

    def parameters(self) -> Iterator[Tensor]:
        """The floating point ones."""
        for name in self.FOUND:
            yield from (each for each in _listed(getattr(self, name)) if each.is_floating_point())

    def state_dict(self) -> dict[str, Any]:
        """Copies of the tensors by name."""
        return {name: _copied(getattr(self, name)) for name in self.FOUND}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`. Raises `ValueError` if the state is of another kind or shape."""
        if set(state) != set(self.FOUND):
            raise ValueError(f"the state holds {', '.join(sorted(state))} instead of {', '.join(sorted(self.FOUND))}")
        for name in self.FOUND:
            mine, theirs = ([list(each.shape) for each in _listed(x)] for x in (getattr(self, name), state[name]))
            if mine != theirs:
                raise ValueError(f"the state's {name} has the shape {theirs} instead of {mine}")
        for name in self.FOUND:
            setattr(self, name, _copied(state[name]))


def _listed(value: Any) -> list[Tensor]:
    return value if isinstance(value, list) else [value]


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(each) for each in value]
    return value.clone(memory_format=torch.contiguous_format)


class Once:
    """The fitting of a backbone that needs no more than a pass or two: too short to be stopped in between.

    Args:
        backbone: has a method `fit(frames, seed, progress)` that gives metrics.
        frames: what it is fitted on.
        seed: of the choice of frames.
    """

    def __init__(self, backbone: Any, frames: Frames, seed: int) -> None:
        self._backbone, self._frames, self._seed = backbone, require_frames(frames), seed
        self.metrics: dict[str, Any] = {}

    def run(self, progress: Progress = lambda *_: None) -> None:
        """Fit, unless that was done before."""
        if not self.metrics:
            self.metrics = self._backbone.fit(self._frames, self._seed, progress)

    def state_dict(self) -> dict[str, Any]:
        """The backbone and what was found."""
        return {"backbone": self._backbone.state_dict(), "metrics": self.metrics}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._backbone.load_state_dict(state["backbone"])
        self.metrics = dict(state["metrics"])


def require_latents(latents: int, most: int) -> None:
    """Raises `ValueError` unless 1 <= latents <= most."""
    if not 1 <= latents <= most:
        raise ValueError(f"latents must be in 1..{most}, got {latents}")
