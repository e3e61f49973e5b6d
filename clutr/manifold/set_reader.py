"""The recurrent encoder of sets of cells: two LSTMs, of which every state counts."""

import torch
from torch import Tensor, nn

from clutr.envs.capabilities import Tokens
from clutr.manifold.corpus import lengths

REMEMBER = 3.0
"""Bias of the encoder's forget gates at the start: it remembers a whole task (Jozefowicz et al. 2015, "An Empirical
Exploration of Recurrent Network Architectures")."""
TOKENS_SUMMED = 25.0
"""About the square of what a sum over a task's tokens is divided by, so that it starts with about unit variance."""


class CellEmbedding(nn.Module):
    """Tokens as the sum of embeddings of their number, row, column and part.

    Args:
        domain: the domain; 0 is padding, 1..C are cells, C + 1 starts a decoder.
        width: of the embedding.
    """

    row_of: Tensor
    column_of: Tensor

    def __init__(self, domain: Tokens, width: int) -> None:
        super().__init__()
        rows, columns = domain.token_grid
        cells = domain.vocabulary
        self.cell = nn.Embedding(cells + 2, width)
        self.row = nn.Embedding(rows + 1, width)
        self.column = nn.Embedding(columns + 1, width)
        self.part = nn.Embedding(domain.ordered_suffix_length + 1, width)
        # symbols that are no cell have a row and a column of their own
        number = torch.arange(-1, cells + 1)
        inside = (number >= 0) & (number < cells)
        self.register_buffer("row_of", torch.where(inside, number // columns, rows), persistent=False)
        self.register_buffer("column_of", torch.where(inside, number % columns, columns), persistent=False)

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Normal, so that the sum has about unit variance."""
        for each in (self.cell, self.row, self.column, self.part):
            nn.init.normal_(each.weight, 0, 0.6, generator=rng)

    def forward(self, tokens: Tensor, part: Tensor) -> Tensor:
        """Embeddings `[B, L, width]` of tokens `[B, L]` and their parts `[B, L]`: 0 in the set, then 1, 2, ..."""
        place: Tensor = self.cell(tokens) + self.row(self.row_of[tokens]) + self.column(self.column_of[tokens])
        role: Tensor = self.part(part.clamp(0, self.part.num_embeddings - 1))
        return place + role


class SetReader(nn.Module):
    """Two LSTMs, one a direction; the mean of the posterior is linear in their last states and in a sum over all.

    The sum also has a linear function of each token's embedding, past the LSTMs (a residual connection).

    Args:
        domain: the domain.
        embedding: width of a token's embedding.
        hidden: width of each LSTM.
        latent: dimensions of the latent.
    """

    def __init__(self, domain: Tokens, embedding: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.tail = domain.ordered_suffix_length
        self.embedding = CellEmbedding(domain, embedding)
        self.ahead = nn.LSTM(embedding, hidden, batch_first=True)
        self.back = nn.LSTM(embedding, hidden, batch_first=True)
        self.value = nn.Linear(embedding, 2 * hidden)
        self.mean = nn.Linear(4 * hidden, latent)

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Embeddings, and forget gates that remember."""
        self.embedding.initialise(rng)
        for lstm in (self.ahead, self.back):
            lstm.get_parameter("bias_ih_l0")[lstm.hidden_size : 2 * lstm.hidden_size] = REMEMBER

    def forward(self, tokens: Tensor) -> Tensor:
        """Means `[B, dim]` of tasks `[B, L]`.

        Each direction starts at a task's first or last token, so padding behind a task changes nothing.
        """
        count = lengths(tokens).unsqueeze(1)
        position = torch.arange(tokens.shape[1], device=tokens.device)
        embedded = self.embedding(tokens, position - (count - self.tail) + 1)
        reversed_order = (count - 1 - position).clamp(min=0).unsqueeze(2).expand_as(embedded)
        ahead, _ = self.ahead(embedded)
        back, _ = self.back(embedded.gather(1, reversed_order))
        states = torch.cat([ahead, back], 2)
        inside = (position < count).unsqueeze(2)
        summed = ((states + self.value(embedded)) * inside).sum(1) / TOKENS_SUMMED**0.5
        last = states[torch.arange(len(tokens), device=tokens.device), (count[:, 0] - 1).clamp(min=0)]
        mean: Tensor = self.mean(torch.cat([last, summed], 1))
        return mean
