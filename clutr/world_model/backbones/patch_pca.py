"""A local hierarchy of patch PCAs: a deep convolutional encoder whose kernels are eigenvectors.

In the spirit of arXiv 2012.03531 (weights computed from the data instead of trained). In each layer the field is cut
into 2x2 patches, whose covariance over all places and frames is diagonalised, and the leading components are
kept: a convolution with stride 2 and orthonormal kernels, whose adjoint decodes. What each layer discards
is known exactly, so it can be said in which layer something is lost. The principal components of the last field are
the latents.

Between layers the field may pass an invertible nonlinearity. Then decoding is still layer by layer the inverse of
encoding, but no longer linear: no map tells what a latent shows, and what layers discard is measured on pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_at_least, require_one_of
from clutr.world_model.backbones.base import (
    BACKBONES,
    Frames,
    Once,
    Tensors,
    batches,
    blacken,
    count_visible,
    require_latents,
    visible,
)
from clutr.world_model.backbones.covariance import principal_components
from clutr.world_model.backbones.ppca import FLOOR

SLOPE = 0.5
"""Of the leaky nonlinearity below 0: far enough from 1 to tell signs apart, and undone without enlarging errors
much."""


def leaky(field: Tensor) -> Tensor:
    """The identity above 0, less steep below."""
    return torch.where(field < 0, SLOPE * field, field)


def unleaky(field: Tensor) -> Tensor:
    """The inverse of `leaky`."""
    return torch.where(field < 0, field / SLOPE, field)


NONLINEARITIES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "leaky": (leaky, unleaky),
    "arcsinh": (torch.arcsinh, torch.sinh),
}
"""Each with its inverse."""


@BACKBONES.register("patch-pca")
@dataclass(frozen=True)
class PatchPCAConfig:
    """The hierarchy of patch PCAs."""

    latents: int = 32
    """Principal components of the last field."""
    channels: tuple[int, ...] = (8, 16, 24, 32)
    """Components that are kept of the patches of each layer."""
    fitted_on: int = 10_000
    """Most frames that are used for fitting."""
    nonlinearity: Literal["none", "leaky", "arcsinh"] = "none"
    """Nonlinearity of the field between layers."""
    masked_rows: int = 0
    """Rows at the bottom that are masked, such as indicators."""

    def __post_init__(self) -> None:
        require_at_least(self, 2, "fitted_on")
        require_at_least(self, 1, "latents")
        require_at_least(self, 0, "masked_rows")
        require_one_of(self, ("none", *NONLINEARITIES), "nonlinearity")
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must be at least one number above 0, got {self.channels}")

    def build(self, size: tuple[int, int], seed: int) -> "PatchPCABackbone":  # noqa: ARG002 (nothing is drawn yet)
        """An unfitted backbone. Raises `ValueError` if the picture cannot be halved once a layer."""
        return PatchPCABackbone(size, self)

    def fitting(self, backbone: "PatchPCABackbone", frames: Frames, seed: int) -> Once:
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


class PatchPCABackbone(Tensors):
    """Layers of patch PCA, and PCA of the last field.

    Args:
        size: rows and columns of a picture.
        config: the options.
    """

    FOUND: ClassVar = ("mean", "kernels", "offsets", "centre", "directions", "variances", "noise")

    def __init__(self, size: tuple[int, int], config: PatchPCAConfig) -> None:
        layers = len(config.channels)
        if size[0] % (1 << layers) or size[1] % (1 << layers):
            raise ValueError(f"pictures of {size[0]}x{size[1]} pixels cannot be halved {layers} times")
        inputs = (3, *config.channels)
        for layer, kept in enumerate(config.channels):
            if kept > 4 * inputs[layer]:
                raise ValueError(
                    f"layer {layer + 1} has patches of {4 * inputs[layer]} numbers, of which {kept} cannot be kept"
                )
        self.size, self.config = size, config
        self.latents, self.masked_rows = config.latents, config.masked_rows
        self.field = (size[0] >> layers, size[1] >> layers, config.channels[-1])
        dimensions = self.field[0] * self.field[1] * self.field[2]
        require_latents(config.latents, min(dimensions, count_visible(size, config.masked_rows)))
        self.mean = torch.zeros(*size, 3)
        self.kernels = [torch.eye(kept, 4 * before) for before, kept in zip(inputs, config.channels, strict=False)]
        """`[m', 4 m]` of each layer: orthonormal rows."""
        self.offsets = [torch.zeros(4 * before) for before in inputs[:-1]]
        """`[4 m]` of each layer: the mean patch, which is 0 unless there is a nonlinearity."""
        self.centre = torch.zeros(dimensions)
        """The mean last field, likewise."""
        self.directions = torch.eye(config.latents, dimensions)
        self.variances = torch.ones(config.latents)
        self.noise = torch.tensor(FLOOR)

    def lift(self, pictures: Tensor, layers: int | None = None) -> Tensor:
        """The field `[N, h, w, m]` after so many layers (None: all) of pictures `[N, H, W, 3]`."""
        field = pictures - self.mean
        for layer, kernel in enumerate(self.kernels[:layers]):
            field = (self._patches(field, layer) - self.offsets[layer]) @ kernel.T
        return field

    def _patches(self, field: Tensor, layer: int) -> Tensor:
        """What a layer's kernels see."""
        return cut(NONLINEARITIES[self.config.nonlinearity][0](field) if self._is_nonlinear and layer else field)

    def lower(self, field: Tensor, layers: int | None = None) -> Tensor:
        """The picture of a field after so many layers (None: all), by the adjoint kernels."""
        known = list(enumerate(self.kernels[:layers]))
        for layer, kernel in reversed(known):
            field = paste(field @ kernel + self.offsets[layer])
            if self._is_nonlinear and layer:
                field = NONLINEARITIES[self.config.nonlinearity][1](field)
        return field + self.mean

    def fit(self, frames: Frames, seed: int, progress: Progress) -> dict[str, Any]:
        """Take the mean picture away, diagonalise patches layer by layer, then the last field.

        Returns:
            `discarded`, in each layer and at the top the share of the pictures' variance that is lost there; together
            with `kept_variance` they add up to 1. Without a nonlinearity they are sums of eigenvalues, since kernels
            are orthonormal; with one, what each further layer adds to the squared error of pictures. Where a patch
            lies half on masked rows, what it puts there counts as lost although decoded pictures are black there.
        """
        chosen, layers = batches(frames, self.config.fitted_on, seed), len(self.kernels)
        count = sum(map(len, chosen))
        total = torch.zeros(self.mean.shape, dtype=torch.float64)
        for index in chosen:
            total += visible(frames[index], self.masked_rows).double().sum(0)
        self.mean = (total / count).float()
        lost: list[float] = []
        for layer in range(layers):
            numbers = self.kernels[layer].shape[1]
            products, added = torch.zeros(numbers, numbers, dtype=torch.float64), torch.zeros(numbers).double()
            places = self.size[0] * self.size[1] >> 2 * (layer + 1)
            for index in chosen:
                field = self.lift(visible(frames[index], self.masked_rows), layer)
                rows = self._patches(field, layer).flatten(0, 2).double()
                products += rows.T @ rows
                added += rows.sum(0)
            covariance = products / count
            if self._is_nonlinear:
                offset = added / (count * places)
                self.offsets[layer] = offset.float()
                covariance -= places * torch.outer(offset, offset)
            values, vectors = torch.linalg.eigh(covariance)
            kept = values.argsort(descending=True)[: len(self.kernels[layer])]
            kernel = vectors[:, kept].T.contiguous()  # as it comes back from a file: products agree bit for bit
            largest = kernel.gather(1, kernel.abs().argmax(1, keepdim=True))
            self.kernels[layer] = (kernel * torch.where(largest < 0, -1.0, 1.0)).float()
            lost.append(max(float(values.sum() - values[kept].sum()), 0.0))
            progress(layer + 1, layers + 1, {})
        return self._fit_top(frames, chosen, seed, lost, progress)

    def _fit_top(
        self, frames: Frames, chosen: list[Tensor], seed: int, lost: list[float], progress: Progress
    ) -> dict[str, Any]:
        def chunks() -> Any:
            return (self.lift(visible(frames[index], self.masked_rows)).flatten(1) for index in chosen)

        top = principal_components(chunks, self.latents, named_generator(seed, "patches"))
        self.directions, self.variances = top.directions, top.variances
        kept = float(top.variances.double().sum())
        lost.append(max(top.total - kept, 0.0))
        if self._is_nonlinear:
            self.centre = top.mean
            kept, lost = self._lost_pictures(frames, chosen)
        everything, pixels = max(kept + sum(lost), 1e-30), count_visible(self.size, self.masked_rows)
        self.noise = torch.tensor(max(sum(lost) / max(pixels - self.latents, 1), FLOOR))
        progress(len(lost), len(lost), {})
        discarded = [each / everything for each in lost]
        return {"kept_variance": kept / everything, "discarded": discarded, "noise": float(self.noise)}

    @property
    def _is_nonlinear(self) -> bool:
        return self.config.nonlinearity != "none"

    def _lost_pictures(self, frames: Frames, chosen: list[Tensor]) -> tuple[float, list[float]]:
        """Squared error of pictures: what is explained in the end, and what each layer and the top add to the error."""
        layers = len(self.kernels)
        variance, wrong = 0.0, [0.0] * (layers + 1)
        for index in chosen:
            pictures = visible(frames[index], self.masked_rows)
            variance += float((pictures - self.mean).double().square().sum())
            fields = [self.lift(pictures, layer + 1) for layer in range(layers)]
            shown = [self.lower(field, layer + 1) for layer, field in enumerate(fields)]
            flat = fields[-1].flatten(1) - self.centre
            told = flat @ self.directions.T @ self.directions + self.centre
            shown.append(self.lower(told.view(-1, *self.field)))
            for stage, picture in enumerate(shown):
                wrong[stage] += float((picture - pictures).double().square().sum())
        count = sum(map(len, chosen))
        lost = [(after - before) / count for before, after in zip([0.0, *wrong], wrong, strict=False)]
        return (variance - wrong[-1]) / count, lost

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Principal coordinates of the last field in standard deviations, each known up to the noise.

        With a nonlinearity the noise is still that of pictures: about right where the nonlinearity is weak.
        """
        field = self.lift(visible(frames, self.masked_rows)).flatten(1) - self.centre
        spread = self.variances.clamp(min=float(self.noise)).sqrt()
        mean = field @ self.directions.T / spread
        return mean, (self.noise / spread.square()).log().expand(len(mean), -1)

    def decode(self, latents: Tensor) -> Tensor:
        """The picture of the field that the latents tell."""
        spread = self.variances.clamp(min=float(self.noise)).sqrt()
        field = (latents * spread) @ self.directions + self.centre
        return blacken(self.lower(field.view(-1, *self.field)), self.masked_rows)

    def pixel_maps(self) -> Tensor | None:
        """`[k, H, W, 3]`: each latent's pixel filter, the product of all kernels; None with a nonlinearity."""
        if self._is_nonlinear:
            return None
        return self.decode(torch.eye(self.latents)) - self.decode(torch.zeros(1, self.latents))
