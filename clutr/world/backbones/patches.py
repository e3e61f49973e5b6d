"""A local hierarchy of patch modes: a deep convolutional encoder whose kernels are eigenvectors.

In the spirit of arXiv 2012.03531 (weights computed from the data instead of trained). In each layer the field is cut
into 2x2 patches, whose covariance over all places and frames is diagonalised (disentangling), and the leading modes are
kept (decimating): a convolution with stride 2 and orthonormal kernels, whose adjoint decodes. What each layer discards
is known exactly, so it can be said in which layer something is lost. On the last field principal modes are the latents.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.manifold.base import Progress
from clutr.world.backbones.base import BACKBONES, Frames, Once, batches, require_latents, to_float
from clutr.world.backbones.modes import FLOOR
from clutr.world.backbones.moments import principal_modes
from envs.randomness import named_generator


@BACKBONES.register("patches")
@dataclass(frozen=True)
class PatchesConfig:
    """The hierarchy of patch modes."""

    latents: int = 32
    """Principal modes of the last field."""
    channels: tuple[int, ...] = (8, 16, 24, 32)
    """Modes that are kept of the patches of each layer."""
    fitted_on: int = 10_000
    """Most frames that the modes are found from."""

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must be at least one number above 0, got {self.channels}")

    def build(self, size: tuple[int, int], seed: int) -> "PatchesBackbone":  # noqa: ARG002 (nothing is drawn yet)
        """An unfitted backbone. Raises `ValueError` if the picture cannot be halved once a layer."""
        return PatchesBackbone(size, self)

    def fitting(self, backbone: "PatchesBackbone", frames: Frames, seed: int) -> Once:
        """A pass a layer."""
        return Once(backbone, frames, seed)


def cut(field: Tensor) -> Tensor:
    """A field `[N, h, w, m]` as patches `[N, h / 2, w / 2, 4 m]`."""
    n, rows, columns, channels = field.shape
    blocks = field.view(n, rows // 2, 2, columns // 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, rows // 2, columns // 2, 4 * channels)


def paste(patches: Tensor) -> Tensor:
    """The inverse of `cut`."""
    n, rows, columns, numbers = patches.shape
    blocks = patches.view(n, rows, columns, 2, 2, numbers // 4).permute(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, 2 * rows, 2 * columns, numbers // 4)


class PatchesBackbone:
    """Layers of patch modes, and modes of the last field.

    Args:
        size: rows and columns of a picture.
        config: the options.
    """

    def __init__(self, size: tuple[int, int], config: PatchesConfig) -> None:
        layers = len(config.channels)
        if size[0] % (1 << layers) or size[1] % (1 << layers):
            raise ValueError(f"pictures of {size[0]}x{size[1]} pixels cannot be halved {layers} times")
        inputs = (3, *config.channels)
        for layer, kept in enumerate(config.channels):
            if kept > 4 * inputs[layer]:
                raise ValueError(
                    f"layer {layer + 1} has patches of {4 * inputs[layer]} numbers, of which {kept} cannot be kept"
                )
        self.size, self.config, self.latents = size, config, config.latents
        self.field = (size[0] >> layers, size[1] >> layers, config.channels[-1])
        dimensions = self.field[0] * self.field[1] * self.field[2]
        require_latents(config.latents, dimensions)
        self.mean = torch.zeros(*size, 3)
        self.kernels = [torch.eye(kept, 4 * before) for before, kept in zip(inputs, config.channels, strict=False)]
        """`[m', 4 m]` of each layer: orthonormal rows."""
        self.directions = torch.eye(config.latents, dimensions)
        self.variances = torch.ones(config.latents)
        self.noise = torch.tensor(FLOOR)

    def lift(self, pictures: Tensor, layers: int | None = None) -> Tensor:
        """The field `[N, h, w, m]` after so many layers (None: all) of pictures `[N, H, W, 3]`."""
        field = pictures - self.mean
        for kernel in self.kernels[:layers]:
            field = cut(field) @ kernel.T
        return field

    def lower(self, field: Tensor) -> Tensor:
        """The picture of a last field, by the adjoint kernels."""
        for kernel in reversed(self.kernels):
            field = paste(field @ kernel)
        return field + self.mean

    def fit(self, frames: Frames, seed: int, progress: Progress) -> dict[str, Any]:
        """Take the mean picture away, diagonalise patches layer by layer, then the last field.

        Returns:
            `discarded`, in each layer and at the top the share of the pictures' variance that is lost there; together
            with `kept_variance` they add up to 1, since kernels are orthonormal.
        """
        chosen, layers = batches(frames, self.config.fitted_on, seed), len(self.kernels)
        count = sum(map(len, chosen))
        total = torch.zeros(self.mean.shape, dtype=torch.float64)
        for index in chosen:
            total += to_float(frames[index]).double().sum(0)
        self.mean = (total / count).float()
        lost: list[float] = []
        for layer in range(layers):
            numbers = self.kernels[layer].shape[1]
            products = torch.zeros(numbers, numbers, dtype=torch.float64)
            for index in chosen:
                rows = cut(self.lift(to_float(frames[index]), layer)).flatten(0, 2).double()
                products += rows.T @ rows
            values, vectors = torch.linalg.eigh(products / count)
            kept = values.argsort(descending=True)[: len(self.kernels[layer])]
            kernel = vectors[:, kept].T
            largest = kernel.gather(1, kernel.abs().argmax(1, keepdim=True))
            self.kernels[layer] = (kernel * torch.where(largest < 0, -1.0, 1.0)).float()
            lost.append(max(float(values.sum() - values[kept].sum()), 0.0))
            progress(layer + 1, layers + 1, {})
        return self._fit_top(frames, chosen, seed, lost, progress)

    def _fit_top(
        self, frames: Frames, chosen: list[Tensor], seed: int, lost: list[float], progress: Progress
    ) -> dict[str, Any]:
        def chunks() -> Any:
            return (self.lift(to_float(frames[index])).flatten(1) for index in chosen)

        top = principal_modes(chunks, self.latents, named_generator(seed, "patches"))
        self.directions, self.variances = top.directions, top.variances
        kept = float(top.variances.double().sum())
        lost.append(max(top.total - kept, 0.0))
        everything, pixels = max(kept + sum(lost), 1e-30), self.size[0] * self.size[1] * 3
        self.noise = torch.tensor(max(sum(lost) / (pixels - self.latents), FLOOR))
        progress(len(lost), len(lost), {})
        discarded = [each / everything for each in lost]
        return {"kept_variance": kept / everything, "discarded": discarded, "noise": float(self.noise)}

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Principal coordinates of the last field in standard deviations, each known up to the noise."""
        field = self.lift(to_float(frames)).flatten(1)
        spread = self.variances.clamp(min=float(self.noise)).sqrt()
        mean = field @ self.directions.T / spread
        return mean, (self.noise / spread.square()).log().expand(len(mean), -1)

    def decode(self, latents: Tensor) -> Tensor:
        """The picture of the field that the latents tell."""
        spread = self.variances.clamp(min=float(self.noise)).sqrt()
        field = (latents * spread) @ self.directions
        return self.lower(field.view(-1, *self.field))

    def pixel_maps(self) -> Tensor:
        """`[k, H, W, 3]`: each latent's pixel filter, the product of all kernels."""
        return self.decode(torch.eye(self.latents)) - self.decode(torch.zeros(1, self.latents))

    def state_dict(self) -> dict[str, Any]:
        """Kernels, modes and noise."""
        names = ("mean", "directions", "variances", "noise")
        kernels = [kernel.clone() for kernel in self.kernels]
        return {name: getattr(self, name).clone() for name in names} | {"kernels": kernels}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, value in state.items():
            setattr(self, name, [each.clone() for each in value] if isinstance(value, list) else value.clone())
