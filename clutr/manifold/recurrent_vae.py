"""The recurrent task VAE of CLUTR (arXiv 2210.10243): tasks are read and written token by token.

The encoder is a highway network and a bidirectional LSTM, the decoder an LSTM that sees the latent at every step. A
strong autoregressive decoder can ignore its latent, since the tokens before a token say much about it. Three things
stand against such a collapse: the reconstruction counts 79 times per mean token, the weight of the KL term rises only
after the decoder has learnt to use the latent, and the decoder's own input embeddings are thinned by dropout.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.envs.capabilities import Tokens, require
from clutr.envs.domain import Domain
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_above, require_at_least, require_within
from clutr.manifold.base import MANIFOLDS
from clutr.manifold.corpus import lengths
from clutr.manifold.posterior import kl_to_standard_normal, sample_posterior
from clutr.manifold.pretrain import PretrainOptions
from clutr.manifold.vae import Squash, VAEManifold, into_box

PADDING = 0


@MANIFOLDS.register("recurrent-vae")
@dataclass(frozen=True)
class RecurrentVAEConfig(PretrainOptions[VAEManifold]):
    """A recurrent VAE: bidirectional LSTM encoder, autoregressive LSTM decoder."""

    by_length: ClassVar[bool] = True

    latent: int = 64
    """Dimensions of the latent box."""
    embedding: int = 64
    """Width of a token's embedding."""
    encoder: int = 128
    """Width of the encoder's LSTM in each direction."""
    decoder: int = 256
    """Width of the decoder's LSTM."""
    decoder_layers: int = 1
    """Layers of the decoder's LSTM."""
    dropout: float = 0.0
    """Fraction of the elements of the decoder's input embeddings that is dropped in training."""
    reconstruction_weight: float = 79.0
    """Weight of the cross-entropy, which is a mean over tokens."""
    kl_middle: float = 3_500.0
    """Iteration at which the weight of the KL term is one half."""
    kl_width: float = 1_000.0
    """Iterations over which that weight rises."""
    bound: float = 4.0
    """The box is [-bound, bound]^latent."""
    squash: Squash = "tanh"
    """How the Gaussian latent becomes a point of the box."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "latent", "embedding", "encoder", "decoder", "decoder_layers")
        require_within(self, 0, 1, "dropout")
        require_at_least(self, 0, "reconstruction_weight", "kl_middle")
        require_above(self, 0, "kl_width", "bound")

    def build(self, domain: Domain, seed: int) -> VAEManifold:
        """An untrained manifold."""
        tokens = require(domain, Tokens, "the recurrent VAE")
        return VAEManifold(RecurrentNetwork(self, tokens, seed), tokens, self.latent, self.bound, self.squash)


CLUTR_PAPER = RecurrentVAEConfig(
    iterations=1_000_000,
    batch_size=32,
    learning_rate=5e-5,
    schedule="constant",
    max_gradient_norm=0.0,
    corpus_size=1_000_000,
    embedding=300,
    encoder=600,
    decoder=800,
    decoder_layers=2,
    dropout=0.3,
)
"""The published model and training: days on a laptop."""


def kl_weight(iteration: int, middle: float = 3_500.0, width: float = 1_000.0) -> float:
    """k(i) = (tanh((i - middle) / width) + 1) / 2, the weight of the KL term."""
    return (math.tanh((iteration - middle) / width) + 1) / 2


def token_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy in nats over the tokens of `target` `[B, L]` that are not padding; logits `[B, L, V]`."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PADDING)


class Highway(nn.Module):
    """gate * relu(A x) + (1 - gate) * B x, where the carried branch B is learned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)
        self.change = nn.Linear(width, width)
        self.carry = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., width]` to `[..., width]`."""
        gate: Tensor = self.gate(x).sigmoid()
        carried: Tensor = (1 - gate) * self.carry(x)
        return gate * F.relu(self.change(x)) + carried


class RecurrentNetwork(nn.Module):
    """Encoder and decoder; see the module's docstring.

    Args:
        config: the options.
        domain: the domain; to its content tokens 1..C this adds go = C + 1 and end = C + 2.
        seed: of the initial weights.
    """

    def __init__(self, config: RecurrentVAEConfig, domain: Tokens, seed: int) -> None:
        super().__init__()
        self.config = config
        self.max_tokens = domain.max_tokens
        self.go = domain.vocabulary + 1
        self.end = domain.vocabulary + 2
        width, symbols = config.embedding, domain.vocabulary + 3
        self.embedding = nn.Embedding(symbols, width)
        self.highway = nn.Sequential(Highway(width), Highway(width))
        self.encoder = nn.LSTM(width, config.encoder, batch_first=True, bidirectional=True)
        self.mean = nn.Linear(2 * config.encoder, config.latent)
        self.log_variance = nn.Linear(2 * config.encoder, config.latent)
        self.decoder = nn.LSTM(width + config.latent, config.decoder, config.decoder_layers, batch_first=True)
        self.output = nn.Linear(config.decoder, symbols)
        self._initialise(named_generator(seed, "recurrent-vae", "weights"))

    @torch.no_grad()
    def _initialise(self, rng: torch.Generator) -> None:
        """PyTorch's own ranges, drawn from the given generator."""
        nn.init.normal_(self.embedding.weight, generator=rng)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.LSTM):
                scale = (layer.in_features if isinstance(layer, nn.Linear) else layer.hidden_size) ** -0.5
                for parameter in layer.parameters():
                    nn.init.uniform_(parameter, -scale, scale, generator=rng)

    def posterior(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[B, dim]` of the Gaussian posterior of tasks `[B, L]`, from the final cell states."""
        x = self.highway(self.embedding(tokens))
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths(tokens).cpu(), batch_first=True, enforce_sorted=False)
        _, (_, cell) = self.encoder(packed)
        sentence = torch.cat([cell[0], cell[1]], 1)
        return self.mean(sentence), self.log_variance(sentence)

    def logits(self, x: Tensor, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """What follows each prefix of tasks `[B, L]`, teacher-forced: `[B, L + 1, C + 3]`.

        Args:
            x: Gaussian latents `[B, dim]`.
            tokens: the tasks.
            keep: factors on the input embeddings `[B, L + 1, embedding]` (dropout); None leaves them.
        """
        embedded = self.embedding(F.pad(tokens, (1, 0), value=self.go))
        if keep is not None:
            embedded = embedded * keep
        z = into_box(x, self.config.squash, self.config.bound)
        hidden, _ = self.decoder(torch.cat([embedded, z.unsqueeze(1).expand(-1, embedded.shape[1], -1)], 2))
        logits: Tensor = self.output(hidden)
        return logits

    def loss(
        self, tokens: Tensor, iteration: int, total: int, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted cross-entropy per token plus k(iteration) times the KL term, of tasks `[B, L]`, and its parts.

        `reconstruction` among the parts is in nats a task. `total` plays no part: the schedule is in iterations.
        """
        del total
        config = self.config
        mean, log_variance = self.posterior(tokens)
        keep = None
        if self.training and config.dropout:
            shape = (len(tokens), tokens.shape[1] + 1, config.embedding)
            keep = (torch.rand(shape, generator=rng) >= config.dropout) / (1 - config.dropout)
        logits = self.logits(sample_posterior(mean, log_variance, rng), tokens, keep)
        target = self._target(tokens)
        reconstruction = token_cross_entropy(logits, target)
        kl = kl_to_standard_normal(mean, log_variance).sum(1).mean()
        weight = kl_weight(iteration, config.kl_middle, config.kl_width)
        per_task = reconstruction * lengths(target).float().mean()
        loss = config.reconstruction_weight * reconstruction + weight * kl
        return loss, {"reconstruction": per_task.detach(), "kl": kl.detach()}

    def _target(self, tokens: Tensor) -> Tensor:
        """Tasks `[B, L]` and their end, `[B, L + 1]`."""
        return F.pad(tokens, (0, 1)).scatter(1, lengths(tokens).unsqueeze(1), self.end)

    def nats(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Code length of tasks `[B, L]` under the decoder, given Gaussian latents `[B, dim]`: `[B]` nats.

        Teacher-forced: the decoder knows the tokens before each token.
        """
        target, logits = self._target(tokens), self.logits(x, tokens)
        return F.cross_entropy(logits.transpose(1, 2), target, ignore_index=PADDING, reduction="none").sum(1)

    def spectrum(self, tokens: Tensor) -> None:
        """None: the spectrum of tasks `[B, L]` does not say what the earlier tokens leave to the latent."""

    def decode_tokens(self, x: Tensor) -> Tensor:
        """The greedily decoded task `[B, max_tokens]` for Gaussian latents `[B, dim]`, 0 after its end."""
        z = into_box(x, self.config.squash, self.config.bound).unsqueeze(1)
        token = torch.full((len(x),), self.go, dtype=torch.int64, device=x.device)
        going = torch.ones(len(x), dtype=torch.bool, device=x.device)
        state: tuple[Tensor, Tensor] | None = None
        decoded = []
        for _ in range(self.max_tokens):
            hidden, state = self.decoder(torch.cat([self.embedding(token).unsqueeze(1), z], 2), state)
            logits = self.output(hidden[:, 0])
            logits[:, PADDING] = -torch.inf
            logits[:, self.go] = -torch.inf
            token = logits.argmax(1)
            going = going & (token != self.end)
            decoded.append(torch.where(going, token, PADDING))
        return torch.stack(decoded, 1)
