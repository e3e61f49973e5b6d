"""A convolutional autoencoder whose latents are classes: groups of which one class each holds, as in DreamerV3.

Source: Hafner et al. 2023 (arXiv 2301.04104): categorical latents, gradients straight through the draw (Bengio et al.
2013, arXiv 1308.3432), one percent of every distribution spread evenly. Encoder, decoder and the calibrated likelihood
are those of `vae`; the prior is even. A frame's latents are its likeliest classes.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_at_least
from clutr.world_model.backbones.base import BACKBONES, Frames, count_visible, visible
from clutr.world_model.backbones.vae import MEASURED_ON, VAEBackbone, VAEConfig, VAETraining, _layer, squared_error
from clutr.world_model.categories import even_log_probs

LOG_VARIANCE = -12.0
"""Of a latent, which is certain."""


@BACKBONES.register("categorical")
@dataclass(frozen=True)
class CategoricalConfig:
    """A convolutional autoencoder with categorical latents."""

    latents: int = 256
    """Groups times classes."""
    classes: int = 16
    """Of each group; must divide `latents`."""
    channels: tuple[int, ...] = (16, 32, 64, 128)
    """Of the convolutions; those of the decoder mirror them."""
    iterations: int = 4_000
    """Gradient steps."""
    batch_size: int = 64
    """Frames of each."""
    learning_rate: float = 1e-3
    """Adam's step size at the start; it falls to 0 along a cosine."""
    masked_rows: int = 0
    """Rows at the bottom that are masked, such as indicators."""

    def __post_init__(self) -> None:
        require_at_least(self, 2, "classes")
        if self.latents < 1 or self.latents % self.classes:
            raise ValueError(f"latents must be groups of {self.classes} classes, got {self.latents}")
        self.network  # noqa: B018 (it checks the other options)

    @property
    def network(self) -> VAEConfig:
        """The options of encoder and decoder."""
        return VAEConfig(
            self.latents,
            self.channels,
            self.iterations,
            self.batch_size,
            self.learning_rate,
            masked_rows=self.masked_rows,
        )

    def build(self, size: tuple[int, int], seed: int) -> "CategoricalBackbone":
        """An untrained backbone. Raises `ValueError` if a side cannot be halved once a convolution."""
        return CategoricalBackbone(size, self, named_generator(seed, "categorical", "weights"))

    def fitting(self, backbone: "CategoricalBackbone", frames: Frames, seed: int) -> "CategoricalTraining":
        """Gradient descent."""
        return CategoricalTraining(backbone, self.network, frames, seed)


class CategoricalBackbone(VAEBackbone):
    """See `CategoricalConfig`. Latents are one-hot, group by group.

    Args:
        size: rows and columns of a picture.
        config: the options.
        rng: draws the initial weights.
    """

    def __init__(self, size: tuple[int, int], config: CategoricalConfig, rng: torch.Generator) -> None:
        super().__init__(size, config.network, rng)
        self.classes = config.classes
        self.posterior = _layer(nn.Linear, rng, self.posterior.in_features, config.latents)

    def log_probs(self, frames: Tensor) -> Tensor:
        """Logarithms `[N, G, C]` of the classes' probabilities, differentiable."""
        shown = visible(frames.to(self.posterior.weight.device), self.masked_rows)
        numbers = self.posterior(self.down(shown.permute(0, 3, 1, 2)).flatten(1))
        return even_log_probs(numbers.unflatten(-1, (-1, self.classes)))

    def posterior_of(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest classes `[N, k]`, one-hot, with gradients straight through, and a constant log-variance."""
        log_probs = self.log_probs(frames)
        chances = log_probs.exp()
        latents = (F.one_hot(log_probs.argmax(-1), self.classes) + chances - chances.detach()).flatten(1)
        return latents, torch.full_like(latents, LOG_VARIANCE)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest classes `[N, k]`, exactly one-hot, and a constant log-variance, of frames `[N, H, W, 3]`."""
        latents = F.one_hot(self.log_probs(frames).argmax(-1), self.classes).flatten(1).float()
        return latents, torch.full_like(latents, LOG_VARIANCE)


class CategoricalTraining(VAETraining):
    """Gradient descent on batches of frames; see `VAETraining`."""

    backbone: CategoricalBackbone

    def loss(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, classes drawn, and its parts."""
        log_probs = self.backbone.log_probs(frames)
        chances = log_probs.exp()
        flat = chances.detach().flatten(0, 1).cpu()
        drawn = torch.multinomial(flat, 1, generator=self.rng).view(log_probs.shape[:-1]).to(chances.device)
        latents = F.one_hot(drawn, self.backbone.classes) + chances - chances.detach()
        wrong = squared_error(self.backbone, self.backbone.picture(latents.flatten(1)), frames)
        even = torch.log(torch.tensor(float(self.backbone.classes)))
        kl = (chances * (log_probs + even)).sum((1, 2)).mean()
        pixels = count_visible(self.backbone.size, self.backbone.masked_rows)
        return 0.5 * pixels * (wrong + 1e-6).log() + kl, {"mse": wrong, "kl": kl}

    def measured(self) -> dict[str, Any]:
        """`mse` of the likeliest classes; and `perplexity`, how many classes of a group are used, on average."""
        numbers = torch.linspace(0, len(self.frames) - 1, min(len(self.frames), MEASURED_ON)).long()
        wrong, used = 0.0, torch.zeros(self.backbone.latents // self.backbone.classes, self.backbone.classes)
        for index in numbers.split(200):
            latents = self.backbone.encode(self.frames[index])[0]
            error = squared_error(self.backbone, self.backbone.decode(latents), self.frames[index])
            wrong += float(error) * len(index) / len(numbers)
            used += latents.cpu().view(len(index), *used.shape).sum(0)
        share = used / len(numbers)
        entropy = -(share * share.clamp(min=1e-12).log()).sum(1)
        return {"mse": wrong, "perplexity": float(entropy.exp().mean())}
