"""Prioritised level replay: random levels are tried, and those with much to learn are played again.

Sources: PLR, arXiv 2010.03934, algorithm 1; robust PLR (PLR with a bent T: students learn on replayed levels only),
arXiv 2110.02439, algorithm 1. A level stays in its environment for a whole rollout, over all its episodes, unless
`levels_per_rollout` lets replayed ones change with the episode, as in the original. In the parallel form every batch
holds new and replayed levels in the same mix (arXiv 2311.12716, section 4.1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import CURRICULA, Context, Outcome, Pending, Proposal
from clutr.curricula.buffer import LevelBuffer, ReplayOptions
from clutr.curricula.scores import Scorer
from clutr.envs.domain import LevelBatch
from clutr.envs.state import Stateful
from clutr.envs.validation import require_at_least


@CURRICULA.register("plr")
@dataclass(frozen=True)
class PLRConfig(ReplayOptions):
    """PLR: students learn on every level, new or replayed."""

    train_on_new: bool = True
    """Whether students learn on new levels, too, or only have them scored."""
    parallel: bool = False
    """Whether new and replayed levels share each batch instead of taking turns."""
    levels_per_rollout: int = 1
    """How many replayed levels an environment plays one after the other, an episode each; the last one goes on until
    the rollout's end. The original draws one whenever an episode ends."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "levels_per_rollout")

    def build(self, context: Context) -> "PLR":
        """Make the curriculum. Raises `ValueError` if the domain cannot compute the score."""
        return PLR(self, context)


@CURRICULA.register("robust-plr")
@dataclass(frozen=True)
class RobustPLRConfig(PLRConfig):
    """Robust PLR: students learn on replayed levels only, and new ones are just scored."""

    train_on_new: bool = False
    """Whether students learn on new levels, too, or only have them scored."""


class Batch(NamedTuple):
    """What is kept of a proposal until its outcome is known."""

    new: int
    """How many of its environments, the first ones, play new levels."""
    rows: Tensor
    """Of the buffer, in the order in which they were drawn, `[K (n - new)]`: see `Proposal.assignment`."""
    last_drawn: Tensor
    """Of the buffer before that."""


class PLR(Stateful):
    """Replay of levels from a buffer.

    Args:
        config: the options.
        context: the experiment.
    """

    students: tuple[str, ...] = ("protagonist",)
    saved: ClassVar[tuple[str, ...]] = ("_pending", "buffer", "levels_rng", "replay_rng")

    def __init__(self, config: PLRConfig, context: Context) -> None:
        self.config = config
        self.domain = context.domain
        self.buffer = LevelBuffer(config, context.domain.level_type)
        self.score: Callable[[LevelBatch, EpisodeStatistics, Tensor], Tensor] = Scorer(config.score, context.domain)
        self.levels_rng = context.generator("levels")
        self.replay_rng = context.generator("replay")
        self._pending: Pending[Batch] = Pending()

    def propose(self, n: int) -> Proposal:
        """New random levels, or levels from the buffer; both in the parallel form."""
        self._pending.require_none()
        replays = self._replays(n)
        return self._offer(self.domain.sample(n - replays, self.levels_rng), replays)

    def _replays(self, n: int) -> int:
        """How many of n environments replay."""
        chance = self.buffer.replay_chance
        if self.config.parallel:
            return round(chance * n)
        return n if float(torch.rand((), generator=self.replay_rng)) < chance else 0

    def _offer(self, new: LevelBatch, replays: int) -> Proposal:
        """A proposal of new levels, one an environment, and of draws for `replays` environments, which may repeat."""
        episodes, last_drawn = self.config.levels_per_rollout if replays else 1, self.buffer.last_drawn.clone()
        drawn = self.buffer.draw(episodes * replays, self.replay_rng)
        rows, index = drawn.unique(return_inverse=True)
        levels = self.domain.level_type.concatenate([new, self.buffer.levels[rows]]) if replays else new
        train = torch.cat([torch.full((len(new),), self.config.train_on_new), torch.ones(len(rows), dtype=torch.bool)])
        stays = torch.arange(len(new)).expand(episodes, -1)
        assignment = torch.cat([stays, len(new) + index.view(episodes, -1)], 1).view(1, -1)
        self._pending.put(Batch(len(new), drawn, last_drawn))
        return Proposal(levels, assignment, train, levels_per_rollout=episodes)

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Score the levels: new ones are offered to the buffer, replayed ones get their new score there.

        Returns:
            `score` `[B]`; `buffer/replayed`, the fraction of environments that replayed, and `buffer/fill`.
        """
        return self._score(outcome, self._pending.take())

    def _score(self, outcome: Outcome, batch: Batch) -> dict[str, Tensor]:
        proposal, statistics = outcome.proposal, outcome.by_level()
        levels = proposal.levels
        best = self.buffer.best_return(levels, statistics)
        score = self.score(levels, statistics, best)
        if proposal.levels_per_rollout > 1 and outcome.steps is not None:  # a rollout may not come to its last levels
            reached = outcome.steps[0].view(proposal.levels_per_rollout, -1)[:, batch.new :].flatten() > 0
            self.buffer.undo(batch.rows, reached, batch.last_drawn)
        assert statistics.steps is not None
        played = statistics.steps > 0
        score[~played] = self.buffer.scores[self.buffer.find(levels[~played])]
        self.buffer.insert(levels[played], score[played], best_return=best[played])
        replayed = (proposal.first[0] >= batch.new).float().mean()
        fill = torch.tensor(len(self.buffer) / self.config.capacity)
        return {"score": score, "buffer/replayed": replayed, "buffer/fill": fill}
