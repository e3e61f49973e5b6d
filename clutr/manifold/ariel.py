"""AriEL: tasks own volumes of the box, as large as a learned sequence model thinks them likely.

Source: AriEL (Celotti et al.), which is arithmetic coding in a k-d tree. A task is written token by token. Each token
splits what is left of the box along the next axis into one part a possible token, as wide as the model makes that token
likely, and keeps its own part. A task's code is the centre of the last part. A uniform point of the box is then a draw
of the sequence model, and nothing that was encoded is lost.

The model sees tasks in their canonical order (obstacles ascending, then goal and agent) and knows which tokens can
follow, so every point is a valid task; its chances are the same to the last bit whenever they are asked for (see
`sequence_model`), so every code decodes to its task.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clutr.envs.capabilities import Tokens, require
from clutr.envs.domain import Domain, LevelBatch
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_at_least, require_within
from clutr.manifold.base import MANIFOLDS
from clutr.manifold.coder import MOST_BITS, Coder, inside
from clutr.manifold.pretrain import PretrainOptions
from clutr.manifold.sequence_model import Chances, SequenceModel
from clutr.manifold.sets import TaskShape


@MANIFOLDS.register("ariel")
@dataclass(frozen=True)
class ArielConfig(PretrainOptions["ArielManifold"]):
    """AriEL: exact coding of tasks under a learned sequence model."""

    iterations: int = 1_000
    """Gradient steps."""
    batch_size: int = 128
    """Tasks of each gradient step."""
    learning_rate: float = 1e-2
    """Adam's step size at the start."""
    hidden: int = 128
    """Width of the sequence model."""
    dim: int = 0
    """Axes of the box; 0 takes one a token. With fewer, axes take turns and each holds several tokens."""
    bits: int = 16
    """The chances of a token are multiples of 2^-bits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within(self, 1, 1_024, "hidden")
        require_at_least(self, 0, "dim")
        require_within(self, 1, MOST_BITS, "bits")
        if self.shuffle:
            raise ValueError("shuffle must be False: the sequence model reads tasks in their canonical order")

    def build(self, domain: Domain, seed: int) -> "ArielManifold":
        """An untrained manifold. Raises `ValueError` if an axis would hold more than a latent can."""
        return ArielManifold(self, require(domain, Tokens, "AriEL"), seed)


class ArielManifold(Coder):
    """See the module's docstring. Token t of a task lies on axis t mod dim.

    Args:
        config: the options.
        domain: the domain.
        seed: of the initial weights.
    """

    saved = (*Coder.saved, "network")

    def __init__(self, config: ArielConfig, domain: Tokens, seed: int) -> None:
        shape = TaskShape.of(domain)
        steps = shape.most + shape.tail
        dim = min(config.dim or steps, steps)
        tokens_per_axis = math.ceil(steps / dim)
        if tokens_per_axis * config.bits > MOST_BITS:
            least = math.ceil(steps / (MOST_BITS // config.bits))
            raise ValueError(
                f"{tokens_per_axis} tokens an axis of {config.bits} bits each exceed the {MOST_BITS} bits that "
                + f"a latent holds safely; choose dim >= {least} or fewer bits"
            )
        if 2**config.bits < 4 * (shape.cells + 1):
            raise ValueError(f"{config.bits} bits are too few for {shape.cells + 1} tokens")
        super().__init__(domain, shape, dim)
        self.bits = config.bits
        self.network = SequenceModel(shape, config.hidden, named_generator(seed, "ariel", "weights"))
        self.network.train(False)

    def decode_tokens(self, latents: Tensor) -> Tensor:
        """The task `[B, L]` of each point of the box."""
        shape, model = self.shape, self.network
        points = inside(latents).clone()
        chances = Chances(model, len(points), self.bits)
        members = torch.zeros(len(points), shape.cells + 1, dtype=torch.bool)
        last = torch.zeros(len(points), shape.tail, dtype=torch.int64)
        ended = torch.zeros(len(points), dtype=torch.bool)
        for step in range(model.steps):
            going = ~ended if step < shape.most else torch.ones_like(ended)
            if not bool(going.any()):
                continue
            counts = chances.next(step)
            ends = counts.cumsum(1)
            u = points[:, step % self.dim] * chances.total
            symbol = (ends <= u.unsqueeze(1)).sum(1)
            width = counts.gather(1, symbol.unsqueeze(1))[:, 0]
            rescaled = (u - (ends.gather(1, symbol.unsqueeze(1))[:, 0] - width)) / width
            points[:, step % self.dim] = torch.where(going, rescaled, points[:, step % self.dim])
            symbol = torch.where(going, symbol, -1)
            chances.add(symbol)
            if step < shape.most:
                members |= nn.functional.one_hot(symbol.clamp(min=0), shape.cells + 1).bool() & going.unsqueeze(1)
                ended |= symbol == model.stop
            else:
                last[:, step - shape.most] = symbol
        return shape.join(members[:, :-1], last)

    def cells(self, levels: LevelBatch) -> tuple[Tensor, Tensor]:
        """Centre and width of each level's cell along each axis, two tensors `[B, dim]` float64.

        A set of a size that the domain does not draw is coded as the nearest one (see `TaskShape.split`).
        """
        model = self.network
        symbols = model.symbols(*self.shape.split(self.domain.to_tokens(levels)))
        chances = Chances(model, len(symbols), self.bits)
        parts = []
        for step, symbol in enumerate(symbols.unbind(1)):
            come = symbol >= 0
            index = symbol.clamp(min=0).unsqueeze(1)
            counts = chances.next(step)
            width = counts.gather(1, index)[:, 0].double() / chances.total
            end = counts.cumsum(1).gather(1, index)[:, 0].double() / chances.total
            parts.append((torch.where(come, end - width, 0.0), torch.where(come, width, 1.0)))
            chances.add(symbol)
        centre = torch.full((len(symbols), self.dim), 0.5, dtype=torch.float64)
        size = torch.ones_like(centre)
        for step in reversed(range(model.steps)):  # from the innermost part outwards
            start, width = parts[step]
            axis = step % self.dim
            centre[:, axis] = start + width * centre[:, axis]
            size[:, axis] *= width
        return centre, size
