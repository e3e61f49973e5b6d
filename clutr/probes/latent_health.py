"""The health of a backbone's latents, measured by the same code as that of the task manifolds.

A backbone's frames stand in for tasks (`clutr.manifold.posterior.posterior_health`): how many latents are active, mixed
and passive, how many the spectrum of the frames predicts, and the latent-use gap. Beside
it stands how far points of the prior lie from the codes of what they decode to (`clutr.manifold.health`).
"""

import math
from typing import Any

import torch
from torch import Tensor

from clutr.envs.randomness import named_generator
from clutr.manifold.health import HOLE, agreement
from clutr.manifold.posterior import kl_to_standard_normal, posterior_health, sample_posterior
from clutr.world_model.backbones.base import Backbone, count_visible, to_uint8, visible
from clutr.world_model.backbones.covariance import principal_components

CHUNK = 256
SPECTRUM = 1_000
"""Most frames of which the spectrum is found."""


class FrameNetwork:
    """A backbone as `posterior_health` takes a task's network: frames `[B, H, W, 3]` uint8 instead of tokens.

    Args:
        backbone: what encodes and decodes.
        noise: variance of the decoder, as its mean squared error on draws from the posterior says.
    """

    def __init__(self, backbone: Backbone, noise: float) -> None:
        self.backbone, self.noise = backbone, noise

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[B, k]`."""
        parts = [self.backbone.encode(chunk) for chunk in frames.split(CHUNK)]
        return torch.cat([mean for mean, _ in parts]), torch.cat([spread for _, spread in parts])

    def nats(self, x: Tensor, frames: Tensor) -> Tensor:
        """What it takes the decoder to tell each frame, given latents `[B, k]`: `[B]` nats, of a density."""
        return torch.cat(
            [self._nats(latents, chunk) for latents, chunk in zip(x.split(CHUNK), frames.split(CHUNK), strict=True)]
        )

    def _nats(self, x: Tensor, frames: Tensor) -> Tensor:
        wrong = (self.backbone.decode(x) - visible(frames, self.backbone.masked_rows)).square().flatten(1).sum(1)
        numbers = count_visible(self.backbone.size, self.backbone.masked_rows)
        return 0.5 * (wrong / self.noise + numbers * math.log(2 * math.pi * self.noise))

    def loss(
        self, frames: Tensor, _iteration: int, _total: int, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The evidence lower bound's parts, as the task networks name them."""
        mean, log_variance = self.posterior(frames)
        told = self.nats(sample_posterior(mean, log_variance, rng), frames).mean()
        kl = kl_to_standard_normal(mean, log_variance).sum(1).mean()
        return told + kl, {"reconstruction": told, "kl": kl}

    def spectrum(self, frames: Tensor) -> tuple[Tensor, float]:
        """Eigenvalues of the frames' covariance, and the decoder's noise, which a linear VAE's must exceed."""
        chosen = frames[torch.linspace(0, len(frames) - 1, min(len(frames), SPECTRUM)).long()]
        rows = visible(chosen, self.backbone.masked_rows).flatten(1)
        count = min(4 * self.backbone.latents, rows.shape[1], len(rows))
        found = principal_components(lambda: rows.split(CHUNK), count, named_generator(0, "spectrum"))
        return found.variances, self.noise


@torch.no_grad()
def frame_health(backbone: Backbone, frames: Tensor, rng: torch.Generator) -> dict[str, Any]:
    """The health of a backbone on held-out frames `[N, H, W, 3]` uint8, as plain values.

    Returns:
        What `posterior_health` does, with frames for tasks; `mse` of decoded means and `noise`, that of decoded draws
        from the posterior; and of draws from the prior, decoded and encoded again, `agreement` and `hole_rate`, the
        share that moves by more than three posterior standard deviations (root mean square over active latents).
    """
    network = FrameNetwork(backbone, 1.0)
    mean, log_variance = network.posterior(frames)
    numbers = count_visible(backbone.size, backbone.masked_rows)

    def mse(latents: Tensor) -> float:
        nats = network.nats(latents, frames) - 0.5 * numbers * math.log(2 * math.pi)
        return float(2 * nats.mean() / numbers)

    noise = max(mse(sample_posterior(mean, log_variance, rng)), 1e-9)
    found = posterior_health(FrameNetwork(backbone, noise), frames, rng)
    prior = torch.randn(min(len(frames), 500), backbone.latents, generator=rng)
    pictures = to_uint8(backbone.decode(prior))
    again, spread = network.posterior(pictures)
    active = torch.tensor([kind == "active" for kind in found["kinds"]])
    if active.any():
        moved = ((again - prior) / (0.5 * spread).exp())[:, active].square().mean(1).sqrt()
        found["prior"] = {
            "agreement": agreement(prior[:, active], again[:, active]),
            "hole_rate": float((moved > HOLE).float().mean()),
            "deviation": float(moved.median()),
        }
    return found | {"mse": mse(mean), "noise": noise, "frames": len(frames)}
