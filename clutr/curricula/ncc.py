"""NCC: the distribution over a buffer of levels is itself optimised, by projected gradient ascent.

Source: "An Optimisation Framework for Unsupervised Environment Design", arXiv 2505.20659. The adversary's strategy is a
distribution y over levels, and its objective y . s + alpha H(y) is strongly concave for scores s and entropy H; the
student is its opponent. In the practical form the buffer changes, too: every so often random levels are screened, and
replace those that score less.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.curricula.base import CURRICULA, Context, Outcome, Pending, Proposal
from clutr.curricula.scores import Scorer
from clutr.curricula.sfl import Screening, ScreeningOptions
from clutr.envs.domain import LevelBatch
from clutr.envs.state import Stateful
from clutr.envs.validation import require_above


@CURRICULA.register("ncc")
@dataclass(frozen=True)
class NCCConfig(ScreeningOptions):
    """NCC: `kept` levels in the buffer, refreshed by each screening."""

    learning_rate: float = 0.01
    """Step of the gradient ascent on the distribution."""
    entropy: float = 0.05
    """Weight alpha of the distribution's entropy."""
    adaptive: bool = False
    """Whether a level's step shrinks with the gradients that it has had, as in the released code (`adapted_step`)."""
    rescore: bool = False
    """Whether the whole buffer is played, without learning, and scored anew after each update, as in the released code:
    `kept` times `environments` rollouts an update, which count as steps."""
    floor: float = 0.1
    """Least probability of a level, as a fraction of the uniform one: at 0 the entropy's gradient is unbounded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_above(self, 0, "learning_rate", "entropy", "floor")
        if self.floor >= 1:
            raise ValueError(f"floor must be below 1, got {self.floor}")

    def build(self, context: Context) -> "NCC":
        """Make the curriculum. Raises `ValueError` if the domain cannot compute the score."""
        return NCC(self, context)


def project(point: Tensor, floor: float) -> Tensor:
    """The nearest distribution to `point` `[K]` that gives no outcome less than `floor`. `[K]`.

    Shifted by the floor it is the projection onto a simplex of what is left of the mass: sort, and subtract the
    threshold that leaves this much above zero (Held, Wolfe & Crowder 1974).
    """
    left = 1 - floor * len(point)
    ordered = (point - floor).sort(descending=True).values
    thresholds = (ordered.cumsum(0) - left) / torch.arange(1, len(point) + 1, dtype=point.dtype)
    support = int((ordered > thresholds).sum())
    return (point - floor - thresholds[support - 1]).clamp(min=0) + floor


def gradient_of(distribution: Tensor, scores: Tensor, entropy: float) -> Tensor:
    """Of the objective y . s + entropy H(y) at `distribution` `[K]`. `[K]`."""
    return scores - entropy * (distribution.log() + 1)


def ascend(distribution: Tensor, scores: Tensor, step: float | Tensor, entropy: float, floor: float) -> Tensor:
    """One step of projected gradient ascent on y . s + entropy H(y) from `distribution` `[K]`. `[K]` float64.

    `step` is one for all, or each level's own, `[K]`.
    """
    return project(distribution + step * gradient_of(distribution, scores, entropy), floor)


def adapted_step(step: float, squares: Tensor) -> Tensor:
    """TiAda's step of the maximising player (arXiv 2210.17478, algorithm 1): step / (0.1 + sum of squares)^0.4. `[K]`.

    The exponent, and the 0.1 that the sum starts from, are those of the released code of arXiv 2505.20659.
    """
    return step * (0.1 + squares).pow(-0.4)


class NCC(Stateful):
    """Training on levels drawn from an optimised distribution, with screenings in between.

    Args:
        config: the options.
        context: the experiment.
    """

    students: tuple[str, ...] = ("protagonist",)
    saved = ("_pending", "levels", "scores", "distribution", "squares", "trained", "unscored", "screening", "rng")

    def __init__(self, config: NCCConfig, context: Context) -> None:
        self.config = config
        self.level_type = context.domain.level_type
        self.rng = context.generator("levels")
        self.screening = Screening(config, context.domain, context.generator("candidates"))
        self.score = Scorer(config.score, context.domain)
        self.levels: LevelBatch | None = None
        """The buffer of K levels."""
        self.scores = torch.zeros(0)
        """Their last scores `[K]`."""
        self.distribution = torch.zeros(0, dtype=torch.float64)
        """The adversary's strategy y `[K]`."""
        self.squares = torch.zeros(0, dtype=torch.float64)
        """Sum of the squared gradients that each level has had, `[K]`."""
        self.trained = 0
        """Updates since the last screening."""
        self.unscored = 0
        """How many of the buffer's levels, its last ones, are still to be scored anew."""
        self._pending: Pending[Tensor] = Pending()  # the rows that are played, none while screening

    def propose(self, n: int) -> Proposal:
        """Levels to score anew, or candidates, while they are due; else draws from the distribution to train on."""
        self._pending.require_none()
        if self.levels is not None and self.unscored:
            rows = torch.arange(len(self.levels))[-self.unscored :][: max(1, n // self.config.environments)]
            self._pending.put(rows)
            looked_at = torch.zeros(len(rows), dtype=torch.bool)
            return Proposal(self.levels[rows], (torch.arange(n) % len(rows))[None], looked_at)
        if self.levels is None or self.trained >= self.config.train_updates:
            self._pending.put(torch.zeros(0, dtype=torch.int64))
            return self.screening.propose(n)
        drawn = torch.multinomial(self.distribution, n, replacement=True, generator=self.rng)
        rows, index = drawn.unique(return_inverse=True)
        self._pending.put(rows)
        return Proposal(self.levels[rows], index[None], torch.ones(len(rows), dtype=torch.bool))

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Score what was played, then improve the distribution, or the buffer once a screening is done.

        Returns:
            `score` `[B]`; `screening`, 1 or 0; and the distribution's `entropy` as a fraction of the largest possible.
        """
        rows = self._pending.take()
        if not len(rows):
            found = {"screening": torch.tensor(1.0), "score": self.screening.observe(outcome)}
            if self.screening.done:
                self._refresh()
            return found
        statistics = outcome.by_level()
        score = self.score(outcome.proposal.levels, statistics, statistics.best_return)
        self.scores[rows] = score
        if self.unscored:
            self.unscored -= len(rows)
        else:
            self.trained += 1
            self.unscored = len(self.scores) if self.config.rescore else 0
        if not self.unscored:
            self._ascend()
        return {"screening": torch.tensor(0.0), "score": score, "entropy": self._entropy()}

    def _ascend(self) -> None:
        config = self.config
        scores, step = self.scores.double(), torch.tensor(config.learning_rate, dtype=torch.float64)
        if config.adaptive:
            self.squares = self.squares + gradient_of(self.distribution, scores, config.entropy).square()
            step = adapted_step(config.learning_rate, self.squares)
        floor = config.floor / len(self.distribution)
        self.distribution = ascend(self.distribution, scores, step, config.entropy, floor)

    def _entropy(self) -> Tensor:
        levels = len(self.distribution)
        entropy = -(self.distribution * self.distribution.log()).sum()
        return entropy / math.log(levels) if levels > 1 else torch.ones_like(entropy)

    def _refresh(self) -> None:
        """Keep the best of old and new levels, each key once; newcomers start at the uniform probability.

        A level that was screened again keeps its probability and its past gradients, and has the newest of its scores.
        """
        levels, scores = self.screening.take()
        chances = torch.full((len(levels),), 1 / self.config.kept, dtype=torch.float64)
        squares = torch.zeros_like(chances)
        if self.levels is not None:
            levels = self.level_type.concatenate([self.levels, levels])
            scores = torch.cat([self.scores, scores])
            chances = torch.cat([self.distribution, chances])
            squares = torch.cat([self.squares, squares])
        first: dict[str, int] = {}
        newest: dict[str, int] = {}
        for row, key in enumerate(levels.key()):
            first.setdefault(key, row)
            newest[key] = row  # the order of `first`: a key keeps its position in a dict
        different, scores = torch.tensor(list(first.values())), scores[list(newest.values())]
        order = scores.argsort(descending=True, stable=True)[: self.config.kept]
        best = different[order]
        self.levels, self.scores, self.trained = levels[best], scores[order], 0
        self.squares = squares[best]
        self.distribution = project(chances[best], self.config.floor / len(best))
