"""Sampling for learnability: train on the levels that the student solves sometimes.

Source: "No Regrets: Investigating and Improving Regret Approximations for Curriculum Discovery", arXiv 2408.15099,
algorithm 1. In turns, many random levels are played without learning and the most learnable are kept; then students
train on batches of kept and of random levels. Every step of the scoring counts as an environment step here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.curricula.base import CURRICULA, Context, Outcome, Pending, Proposal
from clutr.curricula.scores import Scorer, require_score
from clutr.envs.domain import Domain, LevelBatch
from clutr.envs.state import Stateful
from clutr.envs.validation import require_at_least, require_within


@dataclass(frozen=True)
class ScreeningOptions:
    """How random levels are screened for good ones."""

    score: str = "learnability"
    """What levels are kept for: see `clutr.curricula.scores`."""
    candidates: int = 256
    """Random levels that are screened each time."""
    environments: int = 2
    """Environments in which each candidate is played, so that the solved fraction of its episodes is known."""
    kept: int = 64
    """Best levels that are kept."""
    train_updates: int = 50
    """Updates of the students between two screenings."""

    def __post_init__(self) -> None:
        require_score(self.score)
        require_at_least(self, 1, "candidates", "environments", "kept", "train_updates")


class Screening(Stateful):
    """Plays random levels without learning, a batch at a time, and remembers their scores until there are enough.

    Args:
        options: how many are played, and how they are scored.
        domain: of the levels.
        rng: draws the levels.
    """

    saved = ("_levels", "_scores", "rng")

    def __init__(self, options: ScreeningOptions, domain: Domain, rng: torch.Generator) -> None:
        self.options = options
        self.domain = domain
        self.rng = rng
        self.score = Scorer(options.score, domain)
        self._levels: LevelBatch | None = None
        self._scores = torch.zeros(0)

    @property
    def done(self) -> bool:
        """Whether enough levels were scored."""
        return len(self._scores) >= self.options.candidates

    def propose(self, n: int) -> Proposal:
        """The next candidates, each in as many environments as asked for, if there are as many."""
        levels = self.domain.sample(max(1, n // self.options.environments), self.rng)
        return Proposal(levels, (torch.arange(n) % len(levels))[None], torch.zeros(len(levels), dtype=torch.bool))

    def observe(self, outcome: Outcome) -> Tensor:
        """Score the candidates `[B]`."""
        levels, statistics = outcome.proposal.levels, outcome.by_level()
        scores = self.score(levels, statistics, statistics.best_return)
        known = [] if self._levels is None else [self._levels]
        self._levels = self.domain.level_type.concatenate([*known, levels])
        self._scores = torch.cat([self._scores, scores])
        return scores

    def take(self) -> tuple[LevelBatch, Tensor]:
        """All levels scored since the last time, and their scores; then it starts again."""
        assert self._levels is not None
        found = self._levels, self._scores
        self._levels, self._scores = None, torch.zeros(0)
        return found


@CURRICULA.register("sfl")
@dataclass(frozen=True)
class SFLConfig(ScreeningOptions):
    """SFL. The paper screens 5,000 levels for 2,000 steps each; the defaults fit rollouts of 32 x 256 steps."""

    kept_fraction: float = 0.5
    """Fraction of the training environments that play kept levels; the others play random ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within(self, 0, 1, "kept_fraction")

    def build(self, context: Context) -> "SFL":
        """Make the curriculum. Raises `ValueError` if the domain cannot compute the score."""
        return SFL(self, context)


class SFL(Stateful):
    """Training on learnable and random levels, with screenings in between.

    Args:
        config: the options.
        context: the experiment.
    """

    students: tuple[str, ...] = ("protagonist",)
    saved = ("_pending", "screening", "kept", "trained", "rng")

    def __init__(self, config: SFLConfig, context: Context) -> None:
        self.config = config
        self.domain = context.domain
        self.rng = context.generator("levels")
        self.screening = Screening(config, context.domain, context.generator("candidates"))
        self.kept: LevelBatch | None = None
        """The most learnable levels of the last screening."""
        self.trained = 0
        """Updates since that screening."""
        self._pending: Pending[bool] = Pending()  # whether the proposal is for screening

    def propose(self, n: int) -> Proposal:
        """Candidates while a screening is due, else kept and random levels to train on."""
        self._pending.require_none()
        screen = self.kept is None or self.trained >= self.config.train_updates
        self._pending.put(screen)
        return self.screening.propose(n) if screen else self._training_batch(n)

    def _training_batch(self, n: int) -> Proposal:
        assert self.kept is not None
        learnable = round(self.config.kept_fraction * n)
        chosen = self.kept[torch.randint(len(self.kept), (learnable,), generator=self.rng)]
        random = self.domain.sample(n - learnable, self.rng)
        return Proposal.everyone(self.domain.level_type.concatenate([chosen, random]), len(self.students))

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Keep the best candidates once a screening is done.

        Returns:
            `score` `[B]` of candidates; `screening`, 1 or 0; after a screening the mean score of what was `kept`.
        """
        if not self._pending.take():
            self.trained += 1
            return {"screening": torch.tensor(0.0)}
        found = {"screening": torch.tensor(1.0), "score": self.screening.observe(outcome)}
        if self.screening.done:
            levels, scores = self.screening.take()
            best = scores.argsort(descending=True, stable=True)[: self.config.kept]
            self.kept, self.trained = levels[best], 0
            found["kept"] = scores[best].mean()
        return found
