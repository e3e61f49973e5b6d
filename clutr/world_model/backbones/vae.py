"""V: the convolutional variational autoencoder, the black box beside the transparent backbones.

Source: Ha & Schmidhuber 2018, "World Models": four convolutions of stride 2 to 32 latents, and back. By default the
decoder's variance is calibrated (sigma-VAE, arXiv 2006.13202: its best value is the mean squared error), so that there
is no weight to choose; `published` is the original loss, squared error summed over the picture and a floor under the
KL.

Unlike the original's, convolutions are padded by 1 and the decoder mirrors the encoder, so that pictures of any
multiple of 16 pixels fit (64: fields of 32, 16, 8, 4 pixels instead of 31, 14, 6, 2; 96: down to 6), and the step size
starts at 1e-3 and falls instead of staying at 1e-4.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.agents.adam import Adam
from clutr.agents.networks import initialised
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_above, require_at_least, require_one_of
from clutr.manifold.posterior import kinds_of_variables, kl_to_standard_normal, sample_posterior
from clutr.world_model.backbones.base import BACKBONES, Frames, blacken, count_visible, require_frames, visible

MEASURED_ON = 2_000
"""Most frames that are looked at afterwards."""


@BACKBONES.register("vae")
@dataclass(frozen=True)
class VAEConfig:
    """The convolutional VAE."""

    latents: int = 32
    """Latents k."""
    channels: tuple[int, ...] = (32, 64, 128, 256)
    """Of the convolutions; those of the decoder mirror them."""
    iterations: int = 4_000
    """Gradient steps."""
    batch_size: int = 64
    """Frames of each."""
    learning_rate: float = 1e-3
    """Adam's step size at the start; it falls to 0 along a cosine."""
    loss: Literal["calibrated", "published"] = "calibrated"
    """Gaussian likelihood with the best variance, or summed squared error with free nats."""
    free_nats: float = 0.5
    """Of each latent, with the published loss: less KL than this in all costs nothing."""
    masked_rows: int = 0
    """Rows at the bottom that are masked, such as indicators."""

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must be at least one number above 0, got {self.channels}")
        require_at_least(self, 1, "latents", "iterations", "batch_size")
        require_above(self, 0, "learning_rate")
        require_at_least(self, 0, "free_nats", "masked_rows")
        require_one_of(self, ("calibrated", "published"), "loss")

    def build(self, size: tuple[int, int], seed: int) -> "VAEBackbone":
        """An untrained backbone. Raises `ValueError` if a side cannot be halved once a convolution."""
        return VAEBackbone(size, self, named_generator(seed, "vae", "weights"))

    def fitting(self, backbone: "VAEBackbone", frames: Frames, seed: int) -> "VAETraining":
        """Gradient descent."""
        return VAETraining(backbone, self, frames, seed)


def _layer(kind: type[nn.Module], rng: torch.Generator, *shape: int, **options: int) -> Any:
    """A layer with weights from our generator: Kaiming's for rectifiers, and zero biases."""
    return initialised(kind, partial(nn.init.kaiming_uniform_, nonlinearity="relu", generator=rng), *shape, **options)


class VAEBackbone(nn.Module):
    """Encoder and decoder.

    Args:
        size: rows and columns of a picture.
        config: the options.
        rng: draws the initial weights.
    """

    def __init__(self, size: tuple[int, int], config: VAEConfig, rng: torch.Generator) -> None:
        super().__init__()
        halvings = len(config.channels)
        if size[0] % (1 << halvings) or size[1] % (1 << halvings):
            raise ValueError(f"pictures of {size[0]}x{size[1]} pixels cannot be halved {halvings} times")
        count_visible(size, config.masked_rows)  # raises if there is nothing to see
        self.size, self.latents, self.masked_rows = size, config.latents, config.masked_rows
        self.field = (config.channels[-1], size[0] >> halvings, size[1] >> halvings)
        down: list[nn.Module] = []
        for before, after in zip((3, *config.channels), config.channels, strict=False):
            down += [_layer(nn.Conv2d, rng, before, after, kernel_size=4, stride=2, padding=1), nn.ReLU()]
        self.down = nn.Sequential(*down).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        numbers = math.prod(self.field)
        self.posterior = _layer(nn.Linear, rng, numbers, 2 * config.latents)
        self.spread = _layer(nn.Linear, rng, config.latents, numbers)
        up: list[nn.Module] = []
        for before, after in zip(config.channels[::-1], (*config.channels[-2::-1], 3), strict=True):
            up += [nn.ReLU(), _layer(nn.ConvTranspose2d, rng, before, after, kernel_size=4, stride=2, padding=1)]
        self.up = nn.Sequential(*up).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def posterior_of(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, differentiable."""
        shown = visible(frames.to(self.posterior.weight.device), self.masked_rows)
        pictures = shown.permute(0, 3, 1, 2)  # rows of channels: channels_last without a copy
        mean, log_variance = self.posterior(self.down(pictures).flatten(1)).chunk(2, 1)
        return mean, log_variance.clamp(-12, 6)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[N, k]` of frames `[N, H, W, 3]` uint8."""
        return self.posterior_of(frames)

    def picture(self, latents: Tensor) -> Tensor:
        """Pictures `[N, H, W, 3]` in (0, 1), differentiable."""
        field = self.spread(latents).view(-1, *self.field).contiguous(memory_format=torch.channels_last)
        shown: Tensor = torch.sigmoid(self.up(field)).permute(0, 2, 3, 1)
        return shown

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[N, H, W, 3]` of latents `[N, k]`."""
        return blacken(self.picture(latents), self.masked_rows)

    def pixel_maps(self) -> None:
        """None: no formula says what a latent changes."""


class VAETraining:
    """Gradient descent on batches of frames.

    Args:
        backbone: what is trained.
        config: how.
        frames: on what.
        seed: of batches and noise.
    """

    def __init__(self, backbone: VAEBackbone, config: VAEConfig, frames: Frames, seed: int) -> None:
        self.backbone, self.config, self.frames = backbone, config, require_frames(frames)
        self.optimiser = Adam(backbone.parameters(), config.learning_rate)
        self.rng = named_generator(seed, "vae", "training")
        self.iteration = 0
        self.metrics: dict[str, Any] = {}

    def run(self, progress: Progress = lambda *_: None) -> None:
        """Train to the end, then measure."""
        while self.iteration < self.config.iterations:
            parts = self.step()
            if self.iteration % 20 == 0 or self.iteration == self.config.iterations:
                progress(self.iteration, self.config.iterations, {name: float(value) for name, value in parts.items()})
        if not self.metrics:
            self.metrics = self.measured()

    def measured(self) -> dict[str, Any]:
        """What became of the latents: see `measure`."""
        return measure(self.backbone, self.frames)

    def step(self) -> dict[str, Tensor]:
        """One gradient step; the parts of the loss."""
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * self.iteration / config.iterations))
        frames = self.frames[torch.randint(len(self.frames), (config.batch_size,), generator=self.rng)]
        loss, parts = self.loss(frames)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.backbone.parameters(), 100.0)
        self.optimiser.step()
        self.iteration += 1
        return {name: value.detach() for name, value in parts.items()}

    def loss(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, latents drawn, and its parts."""
        return self.variational_loss(frames, *self.backbone.posterior_of(frames))

    def variational_loss(self, frames: Tensor, mean: Tensor, log_variance: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The same of frames whose posteriors `[N, k]` are known."""
        config = self.config
        latents = sample_posterior(mean, log_variance, self.rng)
        wrong = squared_error(self.backbone, self.backbone.picture(latents), frames)
        kl = kl_to_standard_normal(mean, log_variance).sum(1).mean()
        pixels = count_visible(self.backbone.size, self.backbone.masked_rows)
        if config.loss == "calibrated":  # the best variance of the decoder put into its likelihood
            loss = 0.5 * pixels * (wrong + 1e-6).log() + kl
        else:
            loss = pixels * wrong + kl.clamp(min=config.free_nats * config.latents)
        return loss, {"mse": wrong, "kl": kl}

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, generator and place."""
        return {
            "backbone": dict(self.backbone.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.get_state(),
            "iteration": self.iteration,
            "metrics": self.metrics,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.backbone.load_state_dict(state["backbone"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.set_state(state["rng"])
        self.iteration, self.metrics = state["iteration"], dict(state["metrics"])


def squared_error(backbone: VAEBackbone, pictures: Tensor, frames: Tensor) -> Tensor:
    """Mean squared error of pictures `[N, H, W, 3]` over the rows that are seen."""
    seen = backbone.size[0] - backbone.masked_rows
    shown = visible(frames.to(pictures.device), backbone.masked_rows)
    return F.mse_loss(pictures[:, :seen], shown[:, :seen])


def measure(backbone: VAEBackbone, frames: Frames) -> dict[str, Any]:
    """What became of the latents, and errors, on frames that are spread evenly over all.

    Returns:
        `mse` of decoded means; `noise`, that of decoded draws from the posterior, which is the best variance of the
        decoder; `kl` of each latent in nats; how many latents are `active`, `mixed` and `passive`.
    """
    numbers = torch.linspace(0, len(frames) - 1, min(len(frames), MEASURED_ON)).long()
    rng = named_generator(0, "vae", "measure")  # the same draws whenever this is asked
    means, spreads, wrong = [], [], torch.zeros(2, dtype=torch.float64)
    for index in numbers.split(200):
        shown = frames[index]
        mean, log_variance = backbone.encode(shown)
        both = mean, sample_posterior(mean, log_variance, rng)
        errors = [squared_error(backbone, backbone.decode(latents), shown).double().cpu() for latents in both]
        wrong += torch.stack(errors) * len(index)
        means.append(mean.cpu())
        spreads.append(log_variance.cpu())
    mean, log_variance = torch.cat(means), torch.cat(spreads)
    kinds = kinds_of_variables(mean, log_variance)
    mse, noise = (wrong / len(numbers)).tolist()
    return {
        "mse": mse,
        "noise": noise,
        "kl": kl_to_standard_normal(mean, log_variance).mean(0).tolist(),
        **{kind: kinds.count(kind) for kind in ("active", "mixed", "passive")},
    }
