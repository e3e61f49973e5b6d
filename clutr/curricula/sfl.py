"""Sampling for learnability: train on the levels that the student solves sometimes.

Source: "No Regrets: Investigating and Improving Regret Approximations for Curriculum Discovery", arXiv 2408.15099,
algorithm 1. In turns, many random levels are played without learning and the most learnable are kept; then students
train on batches of kept and of random levels. Every step of the scoring counts as an environment step here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.curricula.base import CURRICULA, Context, Outcome, Pending, Proposal
from clutr.curricula.scores import Scorer, require_score
from clutr.envs.domain import Domain, LevelBatch


@dataclass(frozen=True)
class ScreeningOptions:
    """How random levels are screened for good ones."""

    score: str = "learnability"
    """What levels are kept for: see `clutr.curricula.scores`."""
    candidates: int = 256
    """Random levels that are screened each time."""
    environments: int = 2
    """Environments in which each candidate is played, so that a share of solved episodes can be told."""
    kept: int = 64
    """Best levels that are kept."""
    train_updates: int = 50
    """Updates of the students between two screenings."""

    def __post_init__(self) -> None:
        require_score(self.score)
        for name in ("candidates", "environments", "kept", "train_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Screening:
    """Plays random levels without learning, a batch at a time, and remembers their scores until there are enough.

    Args:
        options: how many are played, and how they are scored.
        domain: the world.
        rng: draws the levels.
    """

    def __init__(self, options: ScreeningOptions, domain: Domain, rng: torch.Generator) -> None:
        self.options = options
        self.domain = domain
        self.rng = rng
        self.score = Scorer(options.score, domain)
        self._levels: list[LevelBatch] = []
        self._scores: list[Tensor] = []

    @property
    def done(self) -> bool:
        """Whether enough levels were scored."""
        return sum(map(len, self._scores)) >= self.options.candidates

    def propose(self, n: int) -> Proposal:
        """The next candidates, each in as many environments as asked for, if there are as many."""
        levels = self.domain.sample(max(1, n // self.options.environments), self.rng)
        return Proposal(levels, (torch.arange(n) % len(levels))[None], torch.zeros(len(levels), dtype=torch.bool))

    def observe(self, outcome: Outcome) -> Tensor:
        """Score the candidates `[B]`."""
        levels, statistics = outcome.proposal.levels, outcome.by_level()
        scores = self.score(levels, statistics, statistics.best_return)
        self._levels.append(levels)
        self._scores.append(scores)
        return scores

    def take(self) -> tuple[LevelBatch, Tensor]:
        """All levels scored since the last time, and their scores; then it starts anew."""
        levels, scores = self.domain.level_type.concatenate(self._levels), torch.cat(self._scores)
        self._levels, self._scores = [], []
        return levels, scores

    def state_dict(self) -> dict[str, Any]:
        """Candidates so far, and the generator."""
        levels = self.domain.level_type.concatenate(self._levels).tensors() if self._levels else {}
        scores = torch.cat(self._scores) if self._scores else torch.zeros(0)
        return {"levels": levels, "scores": scores, "rng": self.rng.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._levels = [self.domain.level_type.from_tensors(dict(state["levels"]))] if state["levels"] else []
        self._scores = [state["scores"]] if state["levels"] else []
        self.rng.set_state(state["rng"])


@CURRICULA.register("sfl")
@dataclass(frozen=True)
class SFLConfig(ScreeningOptions):
    """SFL. The paper screens 5,000 levels for 2,000 steps each; the defaults fit rollouts of 32 x 256 steps."""

    share: float = 0.5
    """Share of the training environments that play kept levels; the others play random ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be in 0..1, got {self.share}")

    def build(self, context: Context) -> "SFL":
        """Make the curriculum. Raises `ValueError` if the world cannot compute the score."""
        return SFL(self, context)


class SFL:
    """Training on learnable and random levels, with screenings in between.

    Args:
        config: the options.
        context: the experiment.
    """

    students: tuple[str, ...] = ("protagonist",)

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
        learnable = round(self.config.share * n)
        chosen = self.kept[torch.randint(len(self.kept), (learnable,), generator=self.rng)]
        random = self.domain.sample(n - learnable, self.rng)
        return Proposal.everyone(self.domain.level_type.concatenate([chosen, random]), len(self.students))

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Keep the best candidates once a screening is done.

        Returns:
            `score` `[B]` of candidates; `screening`, 1 or 0; after a screening the mean score of what was `kept`.

        Raises:
            RuntimeError: if nothing was proposed since the last call.
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

    def state_dict(self) -> dict[str, Any]:
        """Kept levels, screening, counter and generator. Raises `RuntimeError` between `propose` and `observe`."""
        self._pending.require_settled()
        kept = {} if self.kept is None else self.kept.tensors()
        state = {"screening": self.screening.state_dict(), "kept": kept, "trained": self.trained}
        return state | {"rng": self.rng.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`; a proposal under way is forgotten."""
        self.screening.load_state_dict(state["screening"])
        self.kept = self.domain.level_type.from_tensors(dict(state["kept"])) if state["kept"] else None
        self.trained = state["trained"]
        self.rng.set_state(state["rng"])
        self._pending.clear()
