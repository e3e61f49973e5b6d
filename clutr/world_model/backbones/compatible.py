"""V fitted anew without fitting M anew: a VAE whose latents agree with those of an existing one.

Source: CV-VAE (arXiv 2405.20279), which keeps a video VAE in the latent space of an image VAE. There the frozen
decoder has to draw what the new encoder sees; here the posterior means themselves are held together, frame by frame.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from clutr.envs.validation import require_above
from clutr.world_model.backbones.base import Backbone, Frames
from clutr.world_model.backbones.vae import VAEBackbone, VAEConfig, VAETraining


class Anchor(NamedTuple):
    """Whose latents a VAE has to agree with."""

    backbone: Backbone
    """A fitted one, which stays as it is."""
    std: Tensor
    """`[k]`: standard deviations of its latents, by which distances are divided; `Scale.latent_std` of the memory."""
    weight: float
    """Of the distance in the loss."""


def distance(means: Tensor, others: Tensor, std: Tensor) -> Tensor:
    """Half the squared distance of posterior means `[N, k]`, in units of `std` `[k]`: summed over k, mean over N."""
    return 0.5 * ((means - others) / std).square().sum(1).mean()


class CompatibleVAETraining(VAETraining):
    """Gradient descent on the loss of a VAE and the distance of its posterior means from those of another.

    Args:
        backbone: what is trained.
        config: how.
        frames: on what; the other one sees the same batches.
        seed: of batches and noise.
        anchor: the other one. It is no part of the state: a training is resumed with the same one.

    Raises:
        ValueError: if the two have other numbers of latents, or the weight is not above 0.
    """

    def __init__(self, backbone: VAEBackbone, config: VAEConfig, frames: Frames, seed: int, anchor: Anchor) -> None:
        super().__init__(backbone, config, frames, seed)
        if backbone.latents != anchor.backbone.latents:
            raise ValueError(
                f"a backbone of {backbone.latents} latents cannot agree with one of {anchor.backbone.latents}"
            )
        require_above(anchor, 0, "weight")
        self.anchor = anchor

    def loss(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, latents drawn, and its parts."""
        mean, log_variance = self.backbone.posterior_of(frames)
        loss, parts = self.variational_loss(frames, mean, log_variance)
        with torch.no_grad():
            others = self.anchor.backbone.encode(frames)[0].to(mean.device)
        apart = distance(mean, others, self.anchor.std.to(mean.device))
        return loss + self.anchor.weight * apart, parts | {"distance": apart}
