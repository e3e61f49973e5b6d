"""ACCEL: levels worth replaying are edited, so that difficulty grows by small steps.

Source: "Evolving Curricula with Regret-Based Environment Design", arXiv 2203.01302, algorithm 1. It is robust PLR whose
replayed levels have children: after each replayed batch, edits of some of its levels are scored without learning and
offered to the buffer. In the parallel form (arXiv 2311.12716, section 4.1) a batch holds new levels, replayed ones and
children of those replayed before.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import CURRICULA, Context, Outcome, Proposal
from clutr.curricula.plr import PLR, PLRConfig
from clutr.envs.capabilities import Mutation, Parameters, require
from clutr.envs.domain import LevelBatch
from clutr.envs.validation import require_at_least, require_one_of

EASY_LEVELS = 4
"""Parents of a batch of children, with `parents` "easy"."""


@CURRICULA.register("accel")
@dataclass(frozen=True)
class ACCELConfig(PLRConfig):
    """ACCEL. The defaults are the published ones for mazes of 60 blocks, but for the levels that it starts from."""

    score: str = "positive_value_loss"
    """What a level is kept for: see `clutr.curricula.scores`."""
    temperature: float = 0.3
    """Weights are raised to one over this; towards 0 only the best level is replayed."""
    replay_probability: float = 0.8
    """How often a batch is replayed instead of new (the parallel form: the ratio of replayed to replayed and new)."""
    train_on_new: bool = False
    """Whether students learn on new and edited levels, too, or only have them scored."""
    edits: int = 5
    """Edits that make a child."""
    parents: Literal["easy", "batch"] = "easy"
    """The four replayed levels with the highest return minus value loss, each with as many children; or all of them."""
    start: Literal["random", "simple"] = "random"
    """New levels are random, or those of the domain's least first parameter (mazes without obstacles, as published)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "edits")
        require_one_of(self, ("easy", "batch"), "parents")
        require_one_of(self, ("random", "simple"), "start")

    def build(self, context: Context) -> "ACCEL":
        """Make the curriculum. Raises `ValueError` if the domain lacks `Mutation` or what the score needs."""
        require(context.domain, Mutation, "ACCEL")
        return ACCEL(self, context)


def easiness(statistics: EpisodeStatistics) -> Tensor:
    """Mean return minus mean |A|, of which at most 1 counts: high where the student does well and knows it. `[B]`.

    The release's rule for "easy" (DCD, runs with `--base_levels easy`), with the highest taken, as the word says.
    """
    return statistics.mean_return - statistics.scores["value_l1"].clamp(max=1)


class ACCEL(PLR):
    """Replay of levels from a buffer, and edits of what was replayed.

    Args:
        config: the options.
        context: the experiment.
    """

    saved = (*PLR.saved, "edits_rng", "parents")

    def __init__(self, config: ACCELConfig, context: Context) -> None:
        super().__init__(config, context)
        self.options = config
        self.simple = require(context.domain, Parameters, "ACCEL's simple start") if config.start == "simple" else None
        self.edits_rng = context.generator("edits")
        self.parents: LevelBatch | None = None
        """Levels replayed last, whose children come next."""

    def propose(self, n: int) -> Proposal:
        """Children of the levels replayed last, if there are any; otherwise new or replayed levels."""
        self._pending.require_none()
        replays, children = self._plan(n)
        new = self._new(n - replays - children)
        if self.parents is not None and children:
            parents = self.parents[torch.arange(children) % len(self.parents)]
            new = self.domain.level_type.concatenate([new, self.edit(parents)])
        self.parents = None
        return self._offer(new, replays)

    def _plan(self, n: int) -> tuple[int, int]:
        """How many of n environments replay, and how many play children."""
        if self.config.parallel:
            # the mix of the serial form: for each p replayed levels p children and 1 - p new ones
            chance = self.buffer.replay_chance
            replays = round(n * chance / (1 + chance))
            return replays, 0 if self.parents is None else min(replays, n - replays)
        return (self._replays(n), 0) if self.parents is None else (0, n)

    def _new(self, n: int) -> LevelBatch:
        if self.simple is None:
            return self.domain.sample(n, self.levels_rng)
        low, high = (torch.tensor([getattr(p, end) for p in self.simple.parameters]) for end in ("low", "high"))
        parameters = low + (high - low) * torch.rand(n, len(low), generator=self.levels_rng)
        parameters[:, 0] = low[0]
        return self.simple.sample_at(parameters, self.levels_rng)

    def edit(self, parents: LevelBatch) -> LevelBatch:
        """A child of each parent."""
        return require(self.domain, Mutation, "ACCEL").mutate(parents, self.options.edits, self.edits_rng)

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Score as PLR does, and choose parents among what was replayed. Returns what PLR returns."""
        batch, assignment = self._pending.take(), outcome.proposal.first[0]
        replayed = assignment[assignment >= batch.new]
        if len(replayed):
            self.parents = outcome.proposal.levels[self._choose(outcome.by_level(), replayed)]
        return self._score(outcome, batch)

    def _choose(self, statistics: EpisodeStatistics, replayed: Tensor) -> Tensor:
        """Which levels have children, of those that the environments `replayed`, one level each."""
        if self.options.parents == "batch":
            return replayed
        different: Tensor = replayed.unique()
        best = easiness(statistics)[different].argsort(descending=True, stable=True)
        return different[best[:EASY_LEVELS]]
