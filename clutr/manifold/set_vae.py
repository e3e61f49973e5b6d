"""A VAE for tasks that are sets: nothing in it depends on the order of the tokens.

The encoder is linear in the task's indicator vector, so a latent is a set of random-like measurements of it, and the
aggregate posterior is close to a Gaussian by itself. The decoder is the hard half, recovering a sparse vector from
fewer measurements than it has entries, and is built like an unrolled sparse-recovery algorithm (Gregor and LeCun 2010,
"Learning Fast Approximations of Sparse Coding"): it starts from a linear guess and refines it a few times, each time
looking at the latent and at its own guess.

Posterior collapse is avoided by a weight of the KL term well below 1, raised from 0 over the first part of the
training: a task of 25 obstacles has 79 nats of information, for which a weight of 1 would charge too much.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.envs.capabilities import Tokens, require
from clutr.envs.domain import Domain
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_above, require_at_least, require_within
from clutr.manifold.base import MANIFOLDS
from clutr.manifold.posterior import kl_to_standard_normal, sample_posterior
from clutr.manifold.pretrain import PretrainOptions
from clutr.manifold.vae import VAEManifold


@MANIFOLDS.register("set-vae")
@dataclass(frozen=True)
class SetVAEConfig(PretrainOptions[VAEManifold]):
    """A permutation-invariant VAE: linear encoder, decoder by repeated refinement."""

    latent: int = 64
    """Dimensions of the latent box."""
    refinements: int = 6
    """How often the decoder corrects its guess."""
    hidden: int = 128
    """Width of each refinement."""
    kl_weight: float = 0.05
    """Weight of the KL term at the end of its warm-up."""
    warm_up: float = 0.25
    """Fraction of the training over which the KL weight rises from 0."""
    bound: float = 4.0
    """The box is [-bound, bound]^latent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "latent", "hidden")
        require_at_least(self, 0, "refinements")
        require_at_least(self, 0, "kl_weight")
        require_within(self, 0, 1, "warm_up")
        require_above(self, 0, "bound")

    def build(self, domain: Domain, seed: int) -> VAEManifold:
        """An untrained manifold."""
        tokens = require(domain, Tokens, "the set VAE")
        return VAEManifold(SetNetwork(self, tokens, seed), tokens, self.latent, self.bound, "cdf")


class SetNetwork(nn.Module):
    """Encoder and decoder; see the module's docstring.

    Args:
        config: the options.
        domain: the domain; tasks are its token sets, with `domain.ordered_suffix_length` tokens that have a part of
            their own.
        seed: of the initial weights.
    """

    def __init__(self, config: SetVAEConfig, domain: Tokens, seed: int) -> None:
        super().__init__()
        self.config = config
        self.domain = domain
        self.tokens = domain.vocabulary
        self.parts = 1 + domain.ordered_suffix_length
        width = self.parts * self.tokens
        rng = named_generator(seed, "set-vae", "weights")
        self.mean = nn.Linear(width, config.latent)
        self.log_variance = nn.Parameter(torch.full((config.latent,), -4.0))
        self.guess = nn.Linear(config.latent, width)
        self.look_at_guess = nn.ModuleList(nn.Linear(width, config.hidden) for _ in range(config.refinements))
        self.look_at_latent = nn.ModuleList(nn.Linear(config.latent, config.hidden) for _ in range(config.refinements))
        self.correct = nn.ModuleList(nn.Linear(config.hidden, width) for _ in range(config.refinements))
        self.fewest = 0
        self._initialise(rng)

    @torch.no_grad()
    def _initialise(self, rng: torch.Generator) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, layer.in_features**-0.5, generator=rng)
                nn.init.zeros_(layer.bias)
        for layer in self.correct:
            nn.init.normal_(layer.weight, 0, 0.02, generator=rng)  # type: ignore[arg-type]  # ModuleList forgets types
        # Measurements of about unit variance over random tasks, from the set and its special tokens alike.
        levels = self.domain.sample(256, rng)
        tokens = self.domain.to_tokens(levels)
        sizes = (tokens > 0).sum(1) - self.domain.ordered_suffix_length
        self.fewest = int(sizes.min()) if int(sizes.min()) == int(sizes.max()) else 0
        indicators = self.indicators(tokens)
        frequency = indicators[:, : self.tokens].mean()
        nn.init.normal_(self.mean.weight, 0, 0.5, generator=rng)
        self.mean.weight[:, : self.tokens] /= 0.5 * (self.tokens * frequency.clamp(min=1 / self.tokens)).sqrt()
        self.mean.bias.copy_(-(self.mean.weight[:, : self.tokens].sum(1) * frequency))

    def indicators(self, tokens: Tensor) -> Tensor:
        """Indicator vectors `[B, parts * C]` of tasks `[B, L]`: the set's, then one for each special token."""
        batch, longest = tokens.shape
        count = (tokens > 0).sum(1)
        position = torch.arange(longest, device=tokens.device)
        part = (position - (count.unsqueeze(1) - self.parts)).clamp(0, self.parts - 1)  # padding falls on column 0
        index = part * (self.tokens + 1) + tokens
        flat = torch.zeros(batch, self.parts * (self.tokens + 1), device=tokens.device)
        flat.scatter_(1, index, 1.0)
        by_part: Tensor = flat.unflatten(1, (self.parts, -1))
        return by_part[:, :, 1:].flatten(1)

    def refine(self, x: Tensor) -> Tensor:
        """Logits `[B, parts, C]` for Gaussian latents `[B, dim]`."""
        logits: Tensor = self.guess(x)
        steps = zip(self.look_at_guess, self.look_at_latent, self.correct, strict=True)
        for look_at_guess, look_at_latent, correct in steps:
            parts = logits.unflatten(1, (self.parts, -1))
            believed = torch.cat([parts[:, :1].sigmoid(), parts[:, 1:].softmax(2)], 1).flatten(1)
            logits = logits + correct(F.relu(look_at_guess(believed) + look_at_latent(x)))
        by_part: Tensor = logits.unflatten(1, (self.parts, -1))
        return by_part

    def loss(
        self, tokens: Tensor, iteration: int, total: int, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative evidence bound with a weighted KL term, mean over tasks `[B, L]`, and its parts.

        Args:
            tokens: the tasks.
            iteration: number of this gradient step, for the KL weight.
            total: gradient steps of the whole training.
            rng: draws the posterior's samples.
        """
        target = self.indicators(tokens)
        mean = self.mean(target)
        logits = self.refine(sample_posterior(mean, self.log_variance, rng))
        in_set, special = self._surprise(logits, target)
        kl = kl_to_standard_normal(mean, self.log_variance.expand_as(mean)).sum(1)
        weight = self.config.kl_weight * min(1.0, iteration / (self.config.warm_up * total))
        # Special tokens are two of many, but a task without them is no task.
        loss = (in_set + 2 * special + weight * kl).mean()
        return loss, {"reconstruction": (in_set + special).mean().detach(), "kl": kl.mean().detach()}

    def _surprise(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Nats `[B]` of the set and of the special tokens of indicators `[B, parts * C]`, by logits `[B, parts, C]`."""
        parts = target.unflatten(1, (self.parts, -1))
        in_set = F.binary_cross_entropy_with_logits(logits[:, 0], parts[:, 0], reduction="none").sum(1)
        return in_set, -(logits[:, 1:].log_softmax(2) * parts[:, 1:]).sum((1, 2))

    def nats(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Code length of tasks `[B, L]` under the decoder, given Gaussian latents `[B, dim]`: `[B]` nats."""
        in_set, special = self._surprise(self.refine(x), self.indicators(tokens))
        return in_set + special

    def spectrum(self, tokens: Tensor) -> tuple[Tensor, float] | None:
        """Eigenvalues `[parts * C]`, descending, of the standardised indicators of tasks `[B, L]`; the KL weight.

        Indicators are divided by the noise of the decoder's own distribution (see `clutr.manifold.posterior`); those of
        special tokens count twice, as in the loss.
        """
        by_part = self.indicators(tokens).double().unflatten(1, (self.parts, -1))
        frequency = by_part.mean(0)
        noise = torch.cat([frequency[:1] * (1 - frequency[:1]), frequency[1:] / 2])
        scaled = ((by_part - frequency) / noise.clamp(min=1e-12).sqrt()).flatten(1)
        eigenvalues = torch.linalg.eigvalsh(scaled.T @ scaled / len(scaled))
        return eigenvalues.flip(0), self.config.kl_weight

    def posterior(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[B, dim]` of the Gaussian posterior of tasks `[B, L]`."""
        mean: Tensor = self.mean(self.indicators(tokens))
        return mean, self.log_variance.expand_as(mean)

    def decode_tokens(self, x: Tensor) -> Tensor:
        """A likely task `[B, max_tokens]` for Gaussian latents: the members with a probability above one half.

        Where all of the domain's tasks are of one size, the likeliest members make up that size.
        """
        logits = self.refine(x)
        room = self.domain.max_tokens - self.domain.ordered_suffix_length
        members = logits[:, 0].topk(min(room, self.tokens), 1)
        nothing = self.tokens + 1
        wanted = (members.values > 0) | (torch.arange(members.values.shape[1], device=x.device) < self.fewest)
        chosen = torch.where(wanted, members.indices + 1, nothing).sort(1).values
        special = logits[:, 1:].argmax(2) + 1
        return torch.cat([chosen.masked_fill(chosen == nothing, 0), special], 1)
