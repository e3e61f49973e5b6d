"""How much there is to learn on a level: the scores by which replay and learnability methods choose.

Each score is a pure function of what one student did on B levels. Value-based ones are in the units of the rewards that
the student learns from, so those that set them against returns (`max_mc`, `grounded_positive`) want a student whose
rewards are not normalised.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from clutr.agents.student import SCORE_DISCOUNT, EpisodeStatistics
from clutr.envs.capabilities import OptimalReturn, require
from clutr.envs.domain import Domain, LevelBatch


class Played(NamedTuple):
    """What is known of B levels after the student played them."""

    statistics: EpisodeStatistics
    """What the student did just now."""
    best_return: Tensor
    """`[B]`: the best return of any episode that the student ever finished on the level; 0 where none."""
    optimal_return: Tensor | None
    """`[B]`: the best return that is possible, in domains that can compute it; discounted for `discounted_regret`."""


def value_l1(played: Played) -> Tensor:
    """Mean |A|: the size of the value function's error (PLR, arXiv 2010.03934, section 3.1). `[B]`."""
    return played.statistics.scores["value_l1"]


def positive_value_loss(played: Played) -> Tensor:
    """Mean max(A, 0): how often the student did better than it thought (arXiv 2110.02439, section 4). `[B]`."""
    return played.statistics.scores["positive_value_loss"]


def negative_advantage(played: Played) -> Tensor:
    """Mean max(-A, 0): how often the student did worse than it thought it would. `[B]`.

    The part of the advantage that positive value loss leaves out (arXiv 2601.14957).
    """
    return played.statistics.scores["negative_value_loss"]


def max_mc(played: Played) -> Tensor:
    """Best return ever minus V, averaged over steps: MaxMC (arXiv 2110.02439, section 4). `[B]`."""
    return played.best_return - played.statistics.scores["mean_value"]


def grounded_positive(played: Played) -> Tensor:
    """`max_mc`, at least 0 (REPAIRED on car racing, arXiv 2110.02439). `[B]`."""
    return max_mc(played).clamp(min=0)


def learnability(played: Played) -> Tensor:
    """Variance p (1 - p) of success, where the fraction p of episodes was solved (SFL, arXiv 2408.15099). `[B]`."""
    solved = played.statistics.solved
    return solved * (1 - solved)


def return_variance(played: Played) -> Tensor:
    """Variance of an episode's return: learnability where nothing is solved or failed but driven well or badly. `[B]`.

    For returns of 0 and 1 it is p (1 - p). It needs more than one episode a level.
    """
    statistics = played.statistics
    return (statistics.square_return - statistics.mean_return.square()).clamp(min=0)


def regret(played: Played) -> Tensor:
    """Optimal return minus mean return: the regret itself, where the domain knows the optimum. `[B]`."""
    assert played.optimal_return is not None
    return played.optimal_return - played.statistics.mean_return


def discounted_regret(played: Played) -> Tensor:
    """Optimal minus mean discounted return, as in the released code of NCC (arXiv 2505.20659). `[B]`.

    Of two levels that are not solved, it prefers the one whose goal is nearer, more than `regret` does. The release
    adds up whole rollouts, in which a level that is solved at once is solved again and again; here only first episodes
    count.
    """
    assert played.optimal_return is not None
    return played.optimal_return - played.statistics.scores["discounted_return"]


SCORES: dict[str, Callable[[Played], Tensor]] = {
    "value_l1": value_l1,
    "positive_value_loss": positive_value_loss,
    "negative_advantage": negative_advantage,
    "max_mc": max_mc,
    "grounded_positive": grounded_positive,
    "learnability": learnability,
    "return_variance": return_variance,
    "regret": regret,
    "discounted_regret": discounted_regret,
}
"""Scores by name."""

_DISCOUNTS = {"regret": 1.0, "discounted_regret": SCORE_DISCOUNT}
"""Of the optimal return, for the scores that need it."""


def require_score(name: str) -> None:
    """Raises `ValueError` naming all scores if `name` is none of them."""
    if name not in SCORES:
        raise ValueError(f"score must be one of {', '.join(SCORES)}, got {name!r}")


class Scorer:
    """Scores levels by the score called `name`.

    Args:
        name: one of `SCORES`.
        domain: of the levels; `regret` and `discounted_regret` need its optimal returns.

    Raises:
        ValueError: if the score needs the optimal return and the domain cannot compute it.
    """

    def __init__(self, name: str, domain: Domain) -> None:
        self._score = SCORES[name]
        self._discount = _DISCOUNTS.get(name, 1.0)
        self._optimum = require(domain, OptimalReturn, f"the score {name!r}") if name in _DISCOUNTS else None

    def __call__(self, levels: LevelBatch, statistics: EpisodeStatistics, best_return: Tensor) -> Tensor:
        """Scores `[B]` of B levels from what a student did on them, and its best returns there ever."""
        optimum = None if self._optimum is None else self._optimum.optimal_return(levels, self._discount)
        return self._score(Played(statistics, best_return, optimum))
