"""The Gaussian posterior of a task VAE, and which of its latents are used.

Kinds of latents follow "Be More Active!" (arXiv 2109.12679): the posterior's variance over the data set says more
than its mean. A latent is active if its variance is small for every task, passive if it is the prior's for every
task, and mixed if the latent is used for a part of them. Beside that stands the older count by the variance of the
posterior's mean (Burda, Grosse and Salakhutdinov 2015, "Importance Weighted Autoencoders", arXiv 1509.00519).

How many latents a model should use is predicted as for a linear VAE (Lucas et al. 2019, "Don't Blame the ELBO!", arXiv
1911.02469): with a KL term of weight b, a direction of the data stays active iff its eigenvalue exceeds b times the
decoder's noise variance. Tasks are indicators of tokens and their decoder is Bernoulli or categorical; to second order
about the tokens' frequencies p its loss is that of Gaussian noise with variance p (1 - p), or p for one-hot groups. So
the eigenvalues are those of indicators divided by that noise's standard deviation, and the threshold is b. The
assumptions are a decoder that is linear in the latent and logits near those of the frequencies. An autoregressive
decoder predicts most of a token from those before, which no such spectrum sees: there is no prediction for it.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from clutr.manifold.base import TrainableNetwork

ACTIVE = 0.01
"""A dimension counts as active if the variance of its posterior mean over tasks exceeds this (Burda et al.)."""
COLLAPSED = 0.1
"""A model with a smaller fraction of active dimensions has collapsed: most of the box's directions change nothing."""
WELL_KNOWN, ALMOST_PRIOR = 0.5, 0.9
"""Posterior variances below the first are far from the prior's 1, above the second they are hardly below it."""
TAIL = 0.05
"""Fraction of tasks that may be an exception in a latent's kind."""
TASKS = 500
"""Tasks of which the use of the latent is measured: it goes through the whole decoder."""


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each dimension, in nats; same shape."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def sample_posterior(mean: Tensor, log_variance: Tensor, rng: torch.Generator) -> Tensor:
    """A sample mean + noise * standard deviation, differentiable in both."""
    return mean + torch.randn(mean.shape, generator=rng).to(mean.device) * (log_variance / 2).exp()


class Posteriors(Protocol):
    """What `posterior_health` measures: it gives tasks, or frames, Gaussian posteriors, and decodes latents."""

    def posterior(self, tokens: Tensor, /) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[B, dim]` of the Gaussian posterior of tasks `[B, L]`."""
        ...

    def nats(self, x: Tensor, tokens: Tensor, /) -> Tensor:
        """Code length of tasks `[B, L]` under the decoder, given Gaussian latents `[B, dim]`: `[B]` nats."""
        ...

    def loss(
        self, tokens: Tensor, iteration: int, total: int, rng: torch.Generator, /
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `clutr.manifold.base.TrainableNetwork`; among the parts are `reconstruction` and `kl`."""
        ...

    def spectrum(self, tokens: Tensor, /) -> tuple[Tensor, float] | None:
        """How many latents a linear decoder would use, as the eigenvalues of tasks `[B, L]` and a threshold.

        A direction of the tasks is worth a latent where its eigenvalue exceeds the threshold (see
        `clutr.manifold.posterior`). Eigenvalues `[M]` descend. None where no such prediction holds.
        """
        ...


class TaskNetwork(Posteriors, TrainableNetwork, Protocol):
    """The part in which task VAEs differ; an `nn.Module`."""

    def decode_tokens(self, x: Tensor) -> Tensor:
        """The likeliest task `[B, max_tokens]` for Gaussian latents `[B, dim]`; bounded, deterministic, batched."""
        ...


def kinds_of_variables(mean: Tensor, log_variance: Tensor) -> list[str]:
    """Whether each latent is active, mixed or passive, from the posteriors `[B, dim]` of tasks.

    Active: the mean of its variance is below 1/2 and 95 % of them below 0.9. Passive: 95 % of its variances are above
    0.9 and the variance of its mean is below 0.01. Mixed: neither.
    """
    variance = log_variance.exp()
    low, high = torch.quantile(variance, torch.tensor([TAIL, 1 - TAIL]), dim=0)
    active = (variance.mean(0) < WELL_KNOWN) & (high < ALMOST_PRIOR)
    passive = (low > ALMOST_PRIOR) & (mean.var(0) < ACTIVE)
    named = {(True, False): "active", (False, True): "passive"}
    return [named.get(pair, "mixed") for pair in zip(active.tolist(), passive.tolist(), strict=True)]


@torch.no_grad()
def posterior_health(network: Posteriors, tokens: Tensor, rng: torch.Generator) -> dict[str, Any]:
    """Measures of the posteriors of held-out tasks `[B, L]`, as plain values.

    Returns:
        `reconstruction` and `kl` in nats a task; `kl_per_dimension`, `posterior_variance` and `kinds` by dimension;
        `variables`, how many are of each kind; `active_dimensions` by Burda's count, and `collapsed` if too few are;
        `predicted_active_dimensions` with `predicted`, the largest eigenvalues and the threshold, or None where the
        prediction does not hold; `latent_use_gap`, by how many nats a task's code is longer with another task's
        latent: 0 for a decoder that ignores it.
    """
    mean, log_variance = network.posterior(tokens)
    kl = kl_to_standard_normal(mean, log_variance).mean(0)
    dim = len(kl)
    _, parts = network.loss(tokens, 1, 1, rng)
    kinds = kinds_of_variables(mean, log_variance)
    active = int((mean.var(0) > ACTIVE).sum())
    x, given = sample_posterior(mean, log_variance, rng)[:TASKS], tokens[:TASKS]
    gap = (network.nats(x.roll(1, 0), given) - network.nats(x, given)).mean()
    found: dict[str, Any] = {
        "reconstruction": float(parts["reconstruction"]),
        "kl": float(kl.sum()),
        "active_dimensions": active,
        "predicted_active_dimensions": None,
        "collapsed": active < COLLAPSED * dim,
        "variables": {kind: kinds.count(kind) for kind in ("active", "mixed", "passive")},
        "latent_use_gap": float(gap),
        "kl_per_dimension": kl.tolist(),
        "posterior_variance": log_variance.exp().mean(0).tolist(),
        "kinds": kinds,
    }
    prediction = network.spectrum(tokens)
    if prediction is not None:
        eigenvalues, threshold = prediction
        found["predicted_active_dimensions"] = min(dim, int((eigenvalues > threshold).sum()))
        found["predicted"] = {"eigenvalues": eigenvalues[: 2 * dim].tolist(), "threshold": threshold}
    return found
