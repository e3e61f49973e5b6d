"""Zero-shot transfer: how a policy does on levels that nobody trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from clutr.agents.student import Policy
from clutr.envs.domain import Engine, LevelBatch, Metric, Observation, Suite, Task
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.experiments.evaluation import statistics

CHECK_EVERY = 8
"""Steps between two checks of which episodes go on: each check waits for the device."""

VIDEO_LEVELS = 20
"""Levels of a suite of which the first episode is recorded, until it is known which videos are kept."""
SMALLEST_PICTURE = 32
"""An observation is worth looking at if it is a picture of at least so many pixels a side."""

UNCERTAINTY = """\
{percent:g} % percentile bootstrap intervals, {resamples} resamples of the {resampled} within each level; where all \
episodes agree, a one-sided bound (Clopper-Pearson). They are about this run alone: other seeds vary more."""


@dataclass(frozen=True)
class Episodes:
    """What happened in E episodes."""

    returns: Tensor
    """`[E]` float32, undiscounted."""
    solved: Tensor
    """`[E]` bool: the episode ended with success."""
    lengths: Tensor
    """`[E]` int64, in steps."""
    positions: Tensor
    """`[K, L + 1, ...]`: `Engine.agent_position` in the first K episodes, start and end included, padded with -1
    or NaN."""
    video: Tensor
    """`[F, height, width, 3]` uint8: the pictures that the first episode showed; none if it was not recorded."""
    fps: float = 10.0
    """Pictures a second at which a video shows time as it goes by in the environment."""

    @classmethod
    def concatenate(cls, parts: Sequence["Episodes"]) -> "Episodes":
        """Join batches of episodes; recordings are those of the first batch."""
        kept = {name: getattr(parts[0], name) for name in ("positions", "video", "fps")}
        joined: dict[str, Any] = {
            f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls) if f.name not in kept
        }
        return cls(**joined, **kept)


@torch.no_grad()
def play(
    policy: Policy,
    engine: Engine,
    levels: LevelBatch,
    rng: torch.Generator,
    *,
    deterministic: bool = False,
    record: int = 0,
    video: bool = False,
) -> Episodes:
    """Play exactly one episode in each environment, so that short episodes are not preferred.

    The policy acts only where an episode still goes on; an environment whose episode has ended repeats its last action.

    Args:
        policy: plays.
        engine: N environments.
        levels: N levels, one an environment.
        rng: draws the actions.
        deterministic: take the likeliest action instead of sampling.
        record: of how many episodes to keep the positions.
        video: keep the pictures of the first episode, if the engine shows any.
    """
    observation = engine.reset(levels)
    num_envs, device = engine.num_envs, engine.device
    record = min(record, num_envs)
    camera = _Camera(engine.observation_space if video else None)
    alive = torch.ones(num_envs, dtype=torch.bool, device=device)
    solved = torch.zeros_like(alive)
    returns = torch.zeros(num_envs, device=device)
    lengths = torch.zeros(num_envs, dtype=torch.int64, device=device)
    active = torch.arange(num_envs, device=device)
    state = policy.initial_state(num_envs)
    actions: Tensor | None = None
    path = [_positions(engine, alive, record)]
    camera.look(observation)
    while len(active):
        for _ in range(CHECK_EVERY):
            seen = {name: value[active] for name, value in observation.items()}
            chosen, state = policy.act(seen, state, rng, deterministic)
            chosen = chosen.to(device)
            actions = chosen if actions is None else actions.index_copy(0, active, chosen)
            observation, reward, terminated, truncated = engine.step(actions)
            path.append(_positions(engine, alive, record))
            if camera.name and bool(alive[0]):
                camera.look(observation)
            returns += torch.where(alive, reward, 0.0)
            lengths += alive
            solved |= alive & engine.solved
            alive &= ~(terminated | truncated)
        still = alive[active]
        active, state = active[still], state[still.to(state.device)]
    positions = torch.stack(path, dim=1).cpu()
    longest = int(lengths[:record].max()) if record else 0
    fps = float(getattr(engine, "render_fps", Episodes.fps))
    return Episodes(returns.cpu(), solved.cpu(), lengths.cpu(), positions[:, : longest + 1], camera.video(), fps)


def _positions(engine: Engine, playing: Tensor, record: int) -> Tensor:
    """`[record, ...]`: where the first environments' agents are; -1 or NaN where no episode goes on."""
    if not record:
        return torch.empty(0)
    position = engine.agent_position[:record]
    here = playing[:record].view(-1, *(1,) * (position.ndim - 1))
    return torch.where(here, position, torch.nan if position.is_floating_point() else -1)


class _Camera:
    """Keeps what the first environment shows, if the observations of a space hold a picture."""

    def __init__(self, space: gymnasium.spaces.Dict | None) -> None:
        pictures = (name for name, part in (space.items() if space else ()) if _is_picture(part))
        self.name = next(pictures, "")
        self._frames: list[Tensor] = []

    def look(self, observation: Observation) -> None:
        if self.name:
            self._frames.append(observation[self.name][0].cpu().clone())

    def video(self) -> Tensor:
        return torch.stack(self._frames) if self._frames else torch.empty(0, 0, 0, 3, dtype=torch.uint8)


def _is_picture(space: gymnasium.Space[Any]) -> bool:
    return (
        isinstance(space, gymnasium.spaces.Box)
        and space.dtype == np.uint8
        and len(space.shape) == 3
        and space.shape[2] == 3
        and min(space.shape[:2]) >= SMALLEST_PICTURE
    )


def play_in_batches(
    policy: Policy,
    task: Task,
    levels: LevelBatch,
    rng: torch.Generator,
    *,
    deterministic: bool = False,
    record: int = 0,
    video: bool = False,
) -> Episodes:
    """One episode on each level, at most `task.max_num_envs` at once. Recorded are the first batch's."""
    parts: list[Episodes] = []
    engine: Engine | None = None
    for start in range(0, len(levels), task.max_num_envs):
        batch = levels[start : start + task.max_num_envs]
        if engine is None or engine.num_envs != len(batch):
            engine = task.engine(len(batch))
        on_device = batch.to(engine.device)
        options = {"deterministic": deterministic, "video": video and not parts}
        parts.append(play(policy, engine, on_device, rng, record=0 if parts else record, **options))
    return Episodes.concatenate(parts)


@dataclass(frozen=True)
class LevelEvaluation:
    """The episodes on one test level."""

    level: str
    episodes: Episodes
    recorded: LevelBatch
    """The levels of the episodes in `episodes.positions`; none if nothing was recorded."""

    def to_json(self, metric: Metric) -> dict[str, Any]:
        """One row of `clutr eval --json`. `solved` is a fraction; the deviation is that of the episodes (n - 1).

        Where returns are the metric, those of all episodes are added: their means' intervals cannot be had without.
        """
        returns = self.episodes.returns.double()
        row = {
            "level": self.level,
            "episodes": len(returns),
            "solved": float(self.episodes.solved.double().mean()),
            "return_mean": float(returns.mean()),
            "return_std": float(returns.std()) if len(returns) > 1 else 0.0,
        }
        return row | ({"returns": returns.tolist()} if metric == "return" else {})


@dataclass(frozen=True)
class SuiteEvaluation:
    """One policy on one suite."""

    suite: str
    levels: tuple[LevelEvaluation, ...]
    seed: int
    """Initial seed of the generator that was passed: a fresh generator with it gives the same evaluation."""
    deterministic: bool
    metric: Metric = "solved"
    """Its metric: see `clutr.envs.domain.Metric`."""

    @property
    def mean_solved(self) -> float:
        """Fraction of solved episodes, averaged over levels."""
        return float(self._values("solved").mean())

    @property
    def mean_return(self) -> float:
        """Mean return, averaged over levels."""
        return float(self._values("returns").mean())

    @property
    def mean_metric(self) -> float:
        """The suite's metric, averaged over levels."""
        return self.mean_solved if self.metric == "solved" else self.mean_return

    def by_level(self) -> dict[str, float]:
        """The suite's metric on each level, by name."""
        column = "solved" if self.metric == "solved" else "returns"
        return {level.level: float(getattr(level.episodes, column).double().mean()) for level in self.levels}

    def _values(self, what: str) -> statistics.Scores:
        """`[episodes, levels]`."""
        columns = [getattr(level.episodes, what).double().numpy() for level in self.levels]
        return np.stack(columns, axis=1)

    def summary(self) -> dict[str, Any]:
        """Aggregates over levels with intervals, and how these were computed."""
        rng = named_generator(self.seed, "bootstrap", self.suite)
        solved = statistics.Sample(self._values("solved")[None])
        returns = statistics.Sample(self._values("returns")[None])
        _, episodes, levels = solved.values.shape
        everything, half = episodes * levels, episodes * (levels // 2 + 1)  # a median may hang on half of the levels
        aggregates: list[tuple[str, Callable[..., statistics.Scores], statistics.Sample, int | None]] = [
            ("mean_solved", statistics.mean, solved, everything),
            ("median_solved", statistics.median, solved, half),
            ("iqm_solved", statistics.interquartile_mean, solved, half),
            ("optimality_gap", statistics.optimality_gap, solved, everything),
            ("mean_return", statistics.mean, returns, None),
        ]
        if self.metric == "return":
            aggregates.append(("median_return", statistics.median, returns, None))
            aggregates.append(("iqm_return", statistics.interquartile_mean, returns, None))
        summary: dict[str, Any] = {}
        for name, statistic, sample, units in aggregates:
            interval = statistics.estimate(statistic, sample, rng=rng, units=units)
            summary[name] = interval.value
            summary[f"{name}_interval"] = [interval.low, interval.high]
        return summary | {
            "metric": self.metric,
            "mean_length": float(self._values("lengths").mean()),
            "seed": self.seed,
            "deterministic": self.deterministic,
            "resampled": "episodes",
            "uncertainty": UNCERTAINTY.format(
                percent=100 * statistics.CONFIDENCE, resampled="episodes", resamples=statistics.RESAMPLES
            ),
        }

    def to_json(self, run: str) -> dict[str, Any]:
        """What `clutr eval --json` prints: plain values only."""
        levels = [level.to_json(self.metric) for level in self.levels]
        return {"run": run, "suite": self.suite, "levels": levels, "summary": self.summary()}

    def recordings(self) -> list[dict[str, Any]]:
        """The recorded episodes: `level` (name), `levels`, `positions` `[K, L, ...]`, `solved` and `returns` `[K]`."""
        return [
            {
                "level": level.level,
                "levels": level.recorded,
                "positions": level.episodes.positions,
                "solved": level.episodes.solved[: len(level.recorded)],
                "returns": level.episodes.returns[: len(level.recorded)],
            }
            for level in self.levels
            if len(level.recorded)
        ]

    def videos(self) -> list[dict[str, Any]]:
        """Of the recorded episodes that of the median return and the best: `level`, `frames`, `fps` and result."""
        recorded = [level for level in self.levels if len(level.episodes.video)]
        recorded.sort(key=lambda level: float(level.episodes.returns[0]))
        chosen = sorted({(len(recorded) - 1) // 2, len(recorded) - 1}) if recorded else []
        return [
            {
                "level": recorded[index].level,
                "frames": recorded[index].episodes.video,
                "fps": recorded[index].episodes.fps,
                "solved": bool(recorded[index].episodes.solved[0]),
                "return": float(recorded[index].episodes.returns[0]),
            }
            for index in chosen
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
    video: bool = False,
) -> SuiteEvaluation:
    """Let a policy play every level of a suite.

    Each level has its own generators, derived from one number of `rng`. So two policies evaluated with the same seed
    meet the same levels, and a level's result does not depend on the others of its suite.

    Args:
        policy: plays, sampling its actions unless `deterministic`.
        suite: what is played.
        episodes: on each level.
        rng: source of all randomness.
        deterministic: take the likeliest action instead.
        progress: called after each level with the levels done and the mean of the suite's metric so far.
        record: of how many episodes a level to keep the positions.
        video: keep pictures, of one episode of each of the first levels, where engines show any.

    Raises:
        ValueError: if there is nothing to play.
    """
    if episodes < 1:
        raise ValueError(f"an evaluation needs at least 1 episode a level, got {episodes}")
    if not suite.tasks:
        raise ValueError(f"the suite {suite.name!r} has no levels")
    source = draw_seed(rng)
    results: list[LevelEvaluation] = []
    for task in suite.tasks:
        levels = task.draw(episodes, named_generator(source, "levels", task.name))
        actions = named_generator(source, "actions", task.name, device=rng.device)
        options = {"deterministic": deterministic, "video": video and len(results) < VIDEO_LEVELS}
        played = play_in_batches(policy, task, levels, actions, record=record, **options)
        results.append(LevelEvaluation(task.name, played, levels[: len(played.positions)]))
        evaluation = SuiteEvaluation(suite.name, tuple(results), rng.initial_seed(), deterministic, suite.metric)
        if progress is not None:
            progress(len(results), len(suite.tasks), {suite.metric: evaluation.mean_metric})
    return evaluation


def draw_seed(rng: torch.Generator) -> int:
    """A seed for generators that are derived from one, as every level of an evaluation has its own."""
    return int(torch.randint(2**62, (), generator=rng, device=rng.device))
