"""Policy ranking: the correlation of returns in dreams with returns in the environment, over policies.

A policy here takes the latent of the present frame and the memory's state, so that the same policy can act in both.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # its parts are imported at their first use, which takes a second
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.capabilities import PrivilegedState
from clutr.envs.domain import LevelBatch
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.dream import Dreamer, LatentPolicy, LatentState

RESAMPLES = 4000
"""Of the policies, for an interval."""


@torch.no_grad()
def real_returns(
    policy: LatentPolicy,
    domain: PrivilegedState,
    levels: LevelBatch,
    backbone: Backbone,
    dreamer: Dreamer,
    horizon: int,
) -> Tensor:
    """Returns `[N]` of at most `horizon` actions in the environment, one environment a level."""
    engine = domain.engine(len(levels))
    engine.reset(levels)
    observer = domain.observer(engine)
    observer.reset()
    state = dreamer.memory.initial_state(len(levels))
    total, alive = torch.zeros(len(levels)), torch.ones(len(levels), dtype=torch.bool)
    for _ in range(horizon):
        latents = backbone.encode(observer.pictures())[0]
        actions = policy(latents, state)
        state, _ = dreamer.memory.step(state, dreamer.scale.normalise(latents), actions)
        result = engine.step(actions)
        total += torch.where(alive, result.reward.cpu(), 0.0)
        alive &= ~(result.terminated | result.truncated).cpu()
        if not alive.any():
            break
    return total


@torch.no_grad()
def dream_returns(
    policy: LatentPolicy, dreamer: Dreamer, starts: LatentState, horizon: int, rng: torch.Generator
) -> Tensor:
    """Returns `[N]` of N dreams of `horizon` steps; rewards count by the probability that the episode still goes on."""
    dream = dreamer.dream(starts, policy, horizon, temperature=1.0, rng=rng)
    going_on = torch.cat([torch.ones(1, dream.terminations.shape[1]), (1 - dream.terminations).cumprod(0)[:-1]])
    return (dream.rewards * going_on).sum(0)


class PolicyRanking(NamedTuple):
    """How returns in dreams go with returns in the environment, over policies."""

    policies: int
    pearson: float
    spearman: float
    """Rank correlation: whether the dream would choose the right policy."""
    spearman_interval: tuple[float, float]
    """95 %, by resampling policies."""
    slope: float
    """Of the least-squares line of real over dream returns: 1 if the dream's units are right."""
    slope_interval: tuple[float, float]
    """95 %, by resampling policies."""
    real: list[float]
    dream: list[float]


def policy_ranking(real: Sequence[float], dream: Sequence[float]) -> PolicyRanking:
    """Compare mean returns of policies, in both places in the same order. Raises `ValueError` for fewer than 3."""
    if len(real) != len(dream) or len(real) < 3:
        raise ValueError(f"a ranking needs at least 3 policies with both returns, got {len(real)} and {len(dream)}")
    x, y = np.asarray(dream, dtype=np.float64), np.asarray(real, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(x), size=(RESAMPLES, len(x)))
    return PolicyRanking(
        policies=len(real),
        pearson=float(scipy.stats.pearsonr(x, y).statistic) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0,
        spearman=float(_spearman(x[None], y[None])[0]),
        spearman_interval=_interval(_spearman(x[drawn], y[drawn])),
        slope=float(np.polyfit(x, y, 1)[0]) if np.ptp(x) > 0 else 0.0,
        slope_interval=_interval(_slopes(x[drawn], y[drawn])),
        real=[float(value) for value in y],
        dream=[float(value) for value in x],
    )


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _slopes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the least-squares line of each row of `[N, P]`; 0 where x does not vary."""
    a, b = (each - each.mean(1, keepdims=True) for each in (x, y))
    square = (a**2).sum(1)
    found: NDArray[np.float64] = (a * b).sum(1) / np.where(square > 0, square, 1.0)
    return found


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row of `[N, P]`: the correlation of ranks, ties sharing their mean; 0 where nothing varies."""
    ranks = [scipy.stats.rankdata(each, axis=1) for each in (x, y)]
    a, b = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    correlation: NDArray[np.float64] = (a * b).sum(1) / np.where(scale > 0, scale, 1.0)
    return correlation
