"""A recurrent task VAE that trains in minutes: LSTMs read and write a set of cells one by one.

The published network (`clutr.manifold.recurrent_vae`) needs days, because a set's members are nearly independent: what
the decoder has written says little about the next token, all of it must come through the latent, and the latent learns
from that decoder alone. Three things are different here.

- The encoder adds up what its LSTMs say at every token, beside their final states. A sum of one vector a member is what
  a latent of fewer numbers than cells can hold of a set (linear measurements of a sparse vector).
- The latent reaches the output directly, too. A map from the latent to one logit a cell, refined a few times, is added
  to what the decoder's LSTM says, and learns from the whole set at every gradient step (deep supervision: Lee et al.
  2015, "Deeply-Supervised Nets", arXiv 1409.5185).
- Members in ascending order are written by a hazard a cell (`clutr.manifold.next_member`), which knows what the order
  means, instead of a softmax, which must learn it.

Cells are embedded by number, row and column, and by their part in the task. As for `set-vae`, a small weight of the KL
term that rises over the first part of the training prevents posterior collapse.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clutr.envs.capabilities import Tokens, require
from clutr.envs.domain import Domain
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_above, require_at_least, require_one_of, require_within
from clutr.manifold.base import MANIFOLDS
from clutr.manifold.corpus import lengths
from clutr.manifold.latent_map import LatentMap
from clutr.manifold.next_member import AnyOrder, Ascending, Law, members_of
from clutr.manifold.posterior import kl_to_standard_normal, sample_posterior
from clutr.manifold.pretrain import PretrainOptions
from clutr.manifold.set_reader import CellEmbedding, SetReader
from clutr.manifold.sets import TaskShape
from clutr.manifold.vae import VAEManifold

GROUPS = 4
"""A batch of any lengths is read and written in so many groups of about one length, which spares padding. Batches of
one length would spare more, but each of their gradients would be about tasks of one size alone."""
TAIL_WEIGHT = 2.0
"""Tokens with a part of their own count twice: they are two of many, but a task without them is no task."""


@MANIFOLDS.register("recurrent-set-vae")
@dataclass(frozen=True)
class RecurrentSetVAEConfig(PretrainOptions[VAEManifold]):
    """A recurrent VAE of sets of cells: LSTM encoder and decoder, and a map from the latent to the output."""

    latent: int = 64
    """Dimensions of the latent box."""
    embedding: int = 32
    """Width of a token's embedding."""
    encoder: int = 48
    """Width of the encoder's LSTM in each direction."""
    decoder: int = 96
    """Width of the decoder's LSTM."""
    refinements: int = 6
    """How often the map from the latent to the output corrects its guess."""
    hidden: int = 128
    """Width of each refinement."""
    supervision: float = 1.0
    """Weight of the map's own reconstruction loss (deep supervision); 0 trains it through the decoder alone."""
    decoder_joins: float = 0.5
    """Fraction of the training after which the decoder's LSTM learns, too: until then only encoder and map do, which is
    several times as fast. 0 trains all from the start; without `supervision` it must be 0."""
    law: Literal["hazard", "softmax"] = "hazard"
    """How the next member is chosen. `hazard` needs ascending tasks, `softmax` none."""
    kl_weight: float = 0.05
    """Weight of the KL term at the end of its warm-up."""
    warm_up: float = 0.25
    """Fraction of the training over which the KL weight rises from 0."""
    bound: float = 4.0
    """The box is [-bound, bound]^latent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "latent", "embedding", "encoder", "decoder", "hidden")
        require_at_least(self, 0, "refinements", "supervision", "kl_weight")
        require_one_of(self, ("hazard", "softmax"), "law")
        require_within(self, 0, 1, "warm_up", "decoder_joins")
        require_above(self, 0, "bound")
        if self.decoder_joins and not self.supervision:
            raise ValueError("decoder_joins: must be 0 where supervision is 0, or nothing would be learnt until then")
        if self.shuffle and self.law == "hazard":
            raise ValueError("law: 'hazard' needs ascending tasks, and shuffle is on; choose law: softmax")

    def build(self, domain: Domain, seed: int) -> VAEManifold:
        """An untrained manifold."""
        tokens = require(domain, Tokens, "the recurrent set VAE")
        return VAEManifold(RecurrentSetNetwork(self, tokens, seed), tokens, self.latent, self.bound, "cdf")


class RecurrentSetNetwork(nn.Module):
    """Encoder and decoder; see the module's docstring.

    Args:
        config: the options.
        domain: the domain; to its content tokens 1..C this adds C + 1, which starts the decoder.
        seed: of the initial weights.
    """

    def __init__(self, config: RecurrentSetVAEConfig, domain: Tokens, seed: int) -> None:
        super().__init__()
        self.config = config
        self.shape = TaskShape.of(domain)
        self.cells, self.tail = domain.vocabulary, domain.ordered_suffix_length
        self.go = self.cells + 1
        self.law: Law = Ascending(self.cells) if config.law == "hazard" else AnyOrder(self.cells)
        rng = named_generator(seed, "recurrent-set-vae", "weights")
        self.reader = SetReader(domain, config.embedding, config.encoder, config.latent)
        self.log_variance = nn.Parameter(torch.full((config.latent,), -4.0))
        self.map = LatentMap(config.latent, config.hidden, config.refinements, 1 + self.tail, self.cells)
        self.embedding = CellEmbedding(domain, config.embedding)
        self.start = nn.Linear(config.latent, 2 * config.decoder)
        self.decoder = nn.LSTM(config.embedding + config.latent, config.decoder, batch_first=True)
        self.member = nn.Linear(config.decoder, self.law.outputs)
        self.last = nn.ModuleList(nn.Linear(config.decoder, self.cells) for _ in range(self.tail))
        self._initialise(rng)

    @torch.no_grad()
    def _initialise(self, rng: torch.Generator) -> None:
        """PyTorch's own ranges, drawn from the given generator; embeddings and the map have theirs."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.LSTM):
                scale = (layer.in_features if isinstance(layer, nn.Linear) else layer.hidden_size) ** -0.5
                for parameter in layer.parameters():
                    nn.init.uniform_(parameter, -scale, scale, generator=rng)
        for each in (self.reader, self.embedding, self.map):
            each.initialise(rng)

    def posterior(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[B, dim]` of the Gaussian posterior of tasks `[B, L]`."""
        mean: Tensor = self.reader(tokens)
        return mean, self.log_variance.expand_as(mean)

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
        by_length = lengths(tokens).argsort(stable=True)
        sums: list[Tensor] = []
        for group in tokens[by_length].tensor_split(min(GROUPS, len(tokens))):
            trimmed = group[:, : int(lengths(group).max())]
            sums.append(torch.stack([each.sum() for each in self._terms(trimmed, iteration, total, rng)]))
        loss, reconstruction, kl = torch.stack(sums).sum(0).div(len(tokens)).unbind()
        return loss, {"reconstruction": reconstruction.detach(), "kl": kl.detach()}

    def _terms(self, tokens: Tensor, iteration: int, total: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, reconstruction and KL term `[B]` of tasks `[B, L]`; see `loss`."""
        config = self.config
        mean, log_variance = self.posterior(tokens)
        x = sample_posterior(mean, log_variance, rng)
        logits = self.map(x)
        kl = kl_to_standard_normal(mean, log_variance).sum(1)
        loss = config.kl_weight * min(1.0, iteration / max(1.0, config.warm_up * total)) * kl
        in_set, last = self._guessed(logits, tokens)
        loss = loss + config.supervision * (in_set + TAIL_WEIGHT * last)
        if iteration >= config.decoder_joins * total or not self.training:
            in_set, last = self._written(x, logits, tokens)
            loss = loss + in_set + TAIL_WEIGHT * last
        return loss, in_set + last, kl

    def _written(self, x: Tensor, logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Nats `[B]` of the sets and of the last tokens of tasks `[B, L]`, teacher-forced.

        Args:
            x: Gaussian latents `[B, dim]`.
            logits: what the map makes of them `[B, parts, C]`.
            tokens: the tasks.
        """
        count = lengths(tokens)
        sizes = count - self.tail
        # with a suffix the last token need not be read, without one the end of the set must be
        read = F.pad(tokens, (1, 0), value=self.go)[:, : tokens.shape[1] + (self.tail == 0)]
        position = torch.arange(read.shape[1], device=tokens.device)
        embedded = self.embedding(read, position - sizes.unsqueeze(1))
        hidden = self._hidden(x, embedded, None)[0]
        in_set = self.law.nats(self._members(hidden, logits[:, None, 0]), tokens, sizes)
        last = in_set.new_zeros(len(tokens))
        rows = torch.arange(len(tokens), device=tokens.device)
        for part, layer in enumerate(self.last):
            at = sizes + part
            said = layer(hidden[rows, at]) + logits[:, 1 + part]
            last = last + F.cross_entropy(said, tokens[rows, at] - 1, reduction="none")
        return in_set, last

    def _guessed(self, logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Nats `[B]` of the sets and of the last tokens of tasks `[B, L]`, by the map's logits `[B, parts, C]`."""
        sizes = lengths(tokens) - self.tail
        members = members_of(tokens, sizes, self.cells).to(logits.dtype)
        in_set = F.binary_cross_entropy_with_logits(logits[:, 0], members, reduction="none").sum(1)
        last = in_set.new_zeros(len(tokens))
        for part in range(self.tail):
            target = tokens.gather(1, (sizes + part).unsqueeze(1)).squeeze(1) - 1
            last = last + F.cross_entropy(logits[:, 1 + part], target, reduction="none")
        return in_set, last

    def _hidden(
        self, x: Tensor, embedded: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The decoder's hidden states `[B, S, decoder]` and its state; None starts from the latents `[B, dim]`."""
        if state is None:
            hidden, cell = self.start(x).unsqueeze(0).chunk(2, 2)
            state = hidden.tanh(), cell.contiguous()
        at_each = x.unsqueeze(1).expand(-1, embedded.shape[1], -1)
        out: tuple[Tensor, tuple[Tensor, Tensor]] = self.decoder(torch.cat([embedded, at_each], 2), state)
        return out

    def _members(self, hidden: Tensor, mapped: Tensor) -> Tensor:
        """Logits of the next member `[..., outputs]`, given hidden states and the map's logits `[..., C]`."""
        out: Tensor = self.member(hidden)
        return out + F.pad(mapped, (0, self.law.outputs - self.cells))

    def nats(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Code length of tasks `[B, L]` under the decoder, given Gaussian latents `[B, dim]`: `[B]` nats.

        Teacher-forced: the decoder knows the tokens before each token.
        """
        in_set, last = self._written(x, self.map(x), tokens)
        return in_set + last

    def spectrum(self, tokens: Tensor) -> None:
        """None: the spectrum of tasks `[B, L]` does not say what the earlier tokens leave to the latent."""

    def decode_tokens(self, x: Tensor) -> Tensor:
        """The greedily decoded task `[B, max_tokens]` for Gaussian latents `[B, dim]`, 0 after its end."""
        shape, batch, device = self.shape, len(x), x.device
        mapped = self.map(x)
        state = None
        token = torch.full((batch,), self.go, device=device)
        last, size = torch.zeros_like(token), torch.zeros_like(token)
        part = torch.zeros_like(token)  # 0 while in the set, then the part of the last tokens, counted from 1
        taken = torch.zeros(batch, self.cells, dtype=torch.bool, device=device)
        decoded = torch.zeros(batch, shape.most + shape.tail, dtype=torch.int64, device=device)
        for step in range(decoded.shape[1]):
            hidden, state = self._hidden(x, self.embedding(token.unsqueeze(1), part.unsqueeze(1)), state)
            logits = self._members(hidden[:, 0], mapped[:, 0])
            chosen = self.law.choose(logits, last, taken, size >= shape.fewest)
            ends = (part == 0) & ((chosen > self.cells) | (size >= shape.most))
            part = torch.where(part > 0, part + 1, ends.long())
            token = torch.where(part == 0, chosen, 0)
            for index, layer in enumerate(self.last):
                said = (layer(hidden[:, 0]) + mapped[:, 1 + index]).argmax(1) + 1
                token = torch.where(part == index + 1, said, token)
            in_set = part == 0
            decoded[:, step] = token
            last, size = torch.where(in_set, torch.maximum(token, last), last), size + in_set.long()
            taken = taken | (F.one_hot(token, self.cells + 1)[:, 1:].bool() & in_set.unsqueeze(1))
        return decoded
