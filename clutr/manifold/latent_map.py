"""From a latent to a logit a cell: a linear guess that is refined a few times."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LatentMap(nn.Module):
    """Logits of each part's cells; every refinement looks at the latent and at the chances guessed so far.

    An unrolled sparse-recovery algorithm, as in `clutr.manifold.set_vae`.

    Args:
        latent: dimensions of the latent.
        hidden: width of each refinement.
        refinements: how many; 0 leaves the linear guess.
        parts: the set, and one for each token with a part of its own.
        cells: number of cells C.
    """

    def __init__(self, latent: int, hidden: int, refinements: int, parts: int, cells: int) -> None:
        super().__init__()
        self.parts, self.cells = parts, cells
        width = parts * cells
        self.guess = nn.Linear(latent, width)
        self.look_at_guess = nn.ModuleList(nn.Linear(width, hidden) for _ in range(refinements))
        self.look_at_latent = nn.ModuleList(nn.Linear(latent, hidden) for _ in range(refinements))
        self.correct = nn.ModuleList(nn.Linear(hidden, width) for _ in range(refinements))

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Corrections start small."""
        for layer in self.correct.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.02, generator=rng)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[B, parts, C]` for Gaussian latents `[B, dim]`."""
        logits: Tensor = self.guess(x)
        steps = zip(self.look_at_guess, self.look_at_latent, self.correct, strict=True)
        for look_at_guess, look_at_latent, correct in steps:
            by_part = logits.unflatten(1, (self.parts, self.cells))
            believed = torch.cat([by_part[:, :1].sigmoid(), by_part[:, 1:].softmax(2)], 1).flatten(1)
            logits = logits + correct(F.relu(look_at_guess(believed) + look_at_latent(x)))
        out: Tensor = logits.unflatten(1, (self.parts, self.cells))
        return out
