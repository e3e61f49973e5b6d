"""Zero-shot transfer: how a policy does on levels that nobody trained on."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.student import Policy
from clutr.manifold.base import Progress
from envs.domain import Engine, LevelBatch, Suite, Task
from envs.randomness import named_generator
from experiments import statistics

MAX_SLOTS = 2_048
"""Environments that play at once."""
CHECK_EVERY = 8
"""Steps between two looks at who still plays: each look waits for the device."""

UNCERTAINTY = """\
{percent:g} % percentile bootstrap intervals, {resamples} resamples of the {resampled} within each level \
(arXiv 2108.13264). They speak of this run alone: other seeds vary more."""


@dataclass(frozen=True)
class Episodes:
    """What happened in E episodes."""

    returns: Tensor
    """`[E]` float32, undiscounted."""
    solved: Tensor
    """`[E]` bool: the world ended the episode with a positive reward."""
    lengths: Tensor
    """`[E]` int64, in steps."""
    cells: Tensor
    """`[K, L + 1]` int64: the cells that the first K episodes visited, start and end included, padded with -1."""

    @classmethod
    def concatenate(cls, parts: Sequence["Episodes"]) -> "Episodes":
        """Join batches of episodes; recorded cells are those of the first batch."""
        joined = {
            f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls) if f.name != "cells"
        }
        return cls(**joined, cells=parts[0].cells)


@torch.no_grad()
def play(
    policy: Policy,
    engine: Engine,
    levels: LevelBatch,
    rng: torch.Generator,
    *,
    deterministic: bool = False,
    record: int = 0,
) -> Episodes:
    """Play exactly one episode in each environment, so that short episodes are not preferred.

    The policy acts only where an episode still goes on; an environment whose episode has ended repeats its last action.

    Args:
        policy: who plays.
        engine: N environments.
        levels: N levels, one an environment.
        rng: draws the actions.
        deterministic: take the likeliest action instead of sampling.
        record: of how many episodes to keep the visited cells, if the engine has an attribute `cell`.
    """
    observation = engine.reset(levels)
    num_envs, device = engine.num_envs, engine.device
    record = min(record, num_envs) if hasattr(engine, "cell") else 0
    alive = torch.ones(num_envs, dtype=torch.bool, device=device)
    solved = torch.zeros_like(alive)
    returns = torch.zeros(num_envs, device=device)
    lengths = torch.zeros(num_envs, dtype=torch.int64, device=device)
    active = torch.arange(num_envs, device=device)
    state = policy.initial_state(num_envs)
    actions: Tensor | None = None
    path = [_cells(engine, alive, record)]
    while len(active):
        for _ in range(CHECK_EVERY):
            seen = {name: value[active] for name, value in observation.items()}
            chosen, state = policy.act(seen, state, rng, deterministic)
            chosen = chosen.to(device)
            actions = chosen if actions is None else actions.index_copy(0, active, chosen)
            observation, reward, terminated, truncated = engine.step(actions)
            path.append(_cells(engine, alive, record))
            returns += torch.where(alive, reward, 0.0)
            lengths += alive
            solved |= alive & terminated & (reward > 0)
            alive &= ~(terminated | truncated)
        still = alive[active]
        active, state = active[still], state[still.to(state.device)]
    cells = torch.stack(path, dim=1).cpu()
    longest = int(lengths[:record].max()) if record else 0
    return Episodes(returns.cpu(), solved.cpu(), lengths.cpu(), cells[:, : longest + 1])


def _cells(engine: Engine, playing: Tensor, record: int) -> Tensor:
    """`[record]`: where the first environments' agents stand, -1 where no episode goes on."""
    if not record:
        return torch.empty(0, dtype=torch.int64)
    cell: Tensor = engine.cell  # type: ignore[attr-defined]  # optional in the contract: `play` has looked for it
    return torch.where(playing[:record], cell[:record].to(torch.int64), -1)


def play_in_batches(
    policy: Policy,
    task: Task,
    levels: LevelBatch,
    rng: torch.Generator,
    *,
    deterministic: bool = False,
    record: int = 0,
) -> Episodes:
    """One episode on each of any number of levels, at most `MAX_SLOTS` at once. Recorded are the first batch's."""
    parts: list[Episodes] = []
    engine: Engine | None = None
    for start in range(0, len(levels), MAX_SLOTS):
        batch = levels[start : start + MAX_SLOTS]
        if engine is None or engine.num_envs != len(batch):
            engine = task.engine(len(batch))
        on_device = batch.to(engine.device)
        recorded = 0 if parts else record
        parts.append(play(policy, engine, on_device, rng, deterministic=deterministic, record=recorded))
    return Episodes.concatenate(parts)


@dataclass(frozen=True)
class LevelEvaluation:
    """The episodes on one test level."""

    level: str
    episodes: Episodes
    recorded: LevelBatch
    """The levels of the episodes in `episodes.cells`; none if nothing was recorded."""

    def to_json(self) -> dict[str, Any]:
        """One row of `clutr eval --json`. `solved` is a share; the deviation is that of the episodes (n - 1)."""
        returns = self.episodes.returns.double()
        return {
            "level": self.level,
            "episodes": len(returns),
            "solved": float(self.episodes.solved.double().mean()),
            "return_mean": float(returns.mean()),
            "return_std": float(returns.std()) if len(returns) > 1 else 0.0,
        }


@dataclass(frozen=True)
class Evaluation:
    """One policy on one suite."""

    suite: str
    levels: tuple[LevelEvaluation, ...]
    seed: int
    """Initial seed of the generator that was passed: a fresh generator with it gives the same evaluation."""
    deterministic: bool

    @property
    def mean_solved(self) -> float:
        """Share of solved episodes, averaged over levels."""
        return float(self._values("solved").mean())

    def _values(self, what: str) -> statistics.Scores:
        """`[episodes, levels]`."""
        columns = [getattr(level.episodes, what).double().numpy() for level in self.levels]
        return np.stack(columns, axis=1)

    def summary(self) -> dict[str, Any]:
        """Aggregates over levels with intervals, and how these were computed."""
        rng = named_generator(self.seed, "bootstrap", self.suite)
        solved = statistics.Sample(self._values("solved"), "episodes")
        returns = statistics.Sample(self._values("returns"), "episodes")
        figures = {
            "mean_solved": statistics.estimate(statistics.mean, solved, rng=rng),
            "median_solved": statistics.estimate(statistics.median, solved, rng=rng),
            "iqm_solved": statistics.estimate(statistics.interquartile_mean, solved, rng=rng),
            "optimality_gap": statistics.estimate(statistics.optimality_gap, solved, rng=rng),
            "mean_return": statistics.estimate(statistics.mean, returns, rng=rng),
        }
        summary: dict[str, Any] = {}
        for name, interval in figures.items():
            summary[name] = interval.value
            summary[f"{name}_interval"] = [interval.low, interval.high]
        return summary | {
            "mean_length": float(self._values("lengths").mean()),
            "seed": self.seed,
            "deterministic": self.deterministic,
            "resampled": solved.resampled,
            "uncertainty": UNCERTAINTY.format(
                percent=100 * statistics.CONFIDENCE, resampled=solved.resampled, resamples=statistics.RESAMPLES
            ),
        }

    def to_json(self, run: str) -> dict[str, Any]:
        """What `clutr eval --json` prints: plain values only."""
        levels = [level.to_json() for level in self.levels]
        return {"run": run, "suite": self.suite, "levels": levels, "summary": self.summary()}

    def recordings(self) -> list[dict[str, Any]]:
        """The recorded episodes: `level` (name), `levels`, `cells` `[K, L]` padded with -1, `solved` `[K]` bool."""
        return [
            {
                "level": level.level,
                "levels": level.recorded,
                "cells": level.episodes.cells,
                "solved": level.episodes.solved[: len(level.recorded)],
            }
            for level in self.levels
            if len(level.recorded)
        ]


def evaluate(
    policy: Policy,
    suite: Suite,
    episodes: int,
    rng: torch.Generator,
    *,
    deterministic: bool = False,
    progress: Progress | None = None,
    record: int = 0,
) -> Evaluation:
    """Let a policy play every level of a suite.

    Each level has its own generators, derived from one number of `rng`. So two policies evaluated with the same seed
    meet the same levels, and a level's result does not depend on the others of its suite.

    Args:
        policy: who plays, sampling its actions unless `deterministic`.
        suite: what is played.
        episodes: on each level.
        rng: source of all randomness.
        deterministic: take the likeliest action instead.
        progress: called after each level with the levels done and `solved`, the mean share solved so far.
        record: of how many episodes a level to keep the visited cells.

    Raises:
        ValueError: if there is nothing to play.
    """
    if episodes < 1:
        raise ValueError(f"an evaluation needs at least 1 episode a level, got {episodes}")
    if not suite.tasks:
        raise ValueError(f"the suite {suite.name!r} has no levels")
    source = _draw_seed(rng)
    results: list[LevelEvaluation] = []
    solved = 0.0
    for task in suite.tasks:
        levels = task.draw(episodes, named_generator(source, "levels", task.name))
        actions = named_generator(source, "actions", task.name, device=rng.device)
        played = play_in_batches(policy, task, levels, actions, deterministic=deterministic, record=record)
        results.append(LevelEvaluation(task.name, played, levels[: len(played.cells)]))
        solved += float(played.solved.double().mean())
        if progress is not None:
            progress(len(results), len(suite.tasks), {"solved": solved / len(results)})
    return Evaluation(suite.name, tuple(results), rng.initial_seed(), deterministic)


def _draw_seed(rng: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=rng, device=rng.device))


@dataclass(frozen=True)
class Robustness:
    """Solve rates on the levels that a policy finds hardest (conditional value at risk)."""

    task: str
    levels: int
    mean: float
    """Solve rate on all levels."""
    worst: dict[float, float]
    """Solve rate on the worst share alpha of the levels, by alpha."""
    episodes_select: int
    """Episodes a level by which the worst levels were picked; `mean` is taken from these too."""
    episodes_score: int
    """Fresh episodes a level on which the worst levels were then scored."""
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; the alphas become text."""
        return asdict(self) | {"worst": {str(alpha): value for alpha, value in self.worst.items()}}


def cvar(
    policy: Policy,
    task: Task,
    levels: int = 10_000,
    *,
    rng: torch.Generator,
    alphas: Sequence[float] = (0.1, 0.01, 0.001),
    episodes_select: int = 10,
    episodes_score: int = 10,
    progress: Progress | None = None,
) -> Robustness:
    """The risk protocol of Rutherford et al. 2024 ("No Regrets", arXiv 2408.15099).

    The worst levels are picked on one set of episodes and scored on another: scored on the episodes that picked them,
    they would also be those where luck was worst, and the figure would be too low.

    Args:
        policy: who plays, sampling its actions.
        task: draws the levels, which should all be solvable.
        levels: how many.
        rng: source of all randomness.
        alphas: shares of the levels, each in (0, 1].
        episodes_select: episodes on every level.
        episodes_score: episodes on each of the worst levels.
        progress: called as episodes are played, with `solved`, their mean share solved.

    Raises:
        ValueError: if a number is out of range.
    """
    if min(levels, episodes_select, episodes_score) < 1:
        raise ValueError("levels and episodes must be at least 1")
    if not alphas or not all(0 < alpha <= 1 for alpha in alphas):
        raise ValueError(f"each alpha must be in (0, 1], got {tuple(alphas)}")
    source = _draw_seed(rng)
    actions = named_generator(source, "actions", task.name, device=rng.device)
    drawn = task.draw(levels, named_generator(source, "levels", task.name))
    counts = {alpha: math.ceil(alpha * levels) for alpha in alphas}
    widest = max(counts.values())
    total = levels * episodes_select + widest * episodes_score
    done = 0

    def solve_rates(batch: LevelBatch, episodes: int) -> Tensor:
        nonlocal done
        solved = torch.zeros(len(batch), dtype=torch.float64)
        for episode in range(episodes):
            solved += play_in_batches(policy, task, batch, actions).solved
            done += len(batch)
            if progress is not None:
                progress(done, total, {"solved": float(solved.mean()) / (episode + 1)})
        return solved / episodes

    selected = solve_rates(drawn, episodes_select)
    # Levels are drawn independently, so keeping their order among equals breaks ties at random.
    hardest = selected.argsort(stable=True)[:widest]
    scored = solve_rates(drawn[hardest], episodes_score)
    worst = {alpha: float(scored[:count].mean()) for alpha, count in counts.items()}
    return Robustness(
        task.name, levels, float(selected.mean()), worst, episodes_select, episodes_score, rng.initial_seed()
    )
