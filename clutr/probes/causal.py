"""Whether a model uses what can be read of it: push memory and latent together, dream on, and read the dream.

A memory's state and the present latent tell the same things. Pushing one of them and leaving the other asks which of
the two the model believes, not whether it uses what they tell. So both are pushed, along how they typically differ
where the quantity does (their covariance with the reading; Haufe et al. 2014). What comes of it is read from two
successive dreamt latents, which tell motion too. As a measure: how much of it lasts so long in the recordings.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.probes.intervals import Interval, mean_over
from clutr.probes.linear_probes import probe
from clutr.world_model.dataset import EpisodeDataset, EpisodeInfo
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe

READABLE = 0.1
"""R^2 that a reading's interval must reach, for asking what becomes of it."""
LASTS = 0.2
"""Share of a quantity that must last in the recordings, for asking whether it lasts in the dream."""
SHARE = 0.5
"""Share of what lasts in the recordings that must last in the dream."""
DIRECTIONS = 8
"""Random pushes of the control."""
AMOUNTS = (-1.0, -0.5, 0.5, 1.0)
"""Pushes, in standard deviations of the quantity."""


@dataclass(frozen=True)
class CausalStarts:
    """Recorded moments, and what followed: n of them."""

    states: Tensor
    """`[n, S]`: the memory's before the present latent is taken in."""
    latents: Tensor
    """`[n, D]`: normalised, the present."""
    before: Tensor
    """`[n, D]`: of one step earlier."""
    actions: Tensor
    """`[H, n, A]`: that were taken."""
    quantities: Tensor
    """`[n, Q]`: the true state now."""
    later: Tensor
    """`[n, Q]`: and after the actions."""
    groups: Tensor
    """`[n]` int64: levels."""


@torch.no_grad()
def collect_starts(
    dataset: EpisodeDataset,
    episodes: Sequence[tuple[EpisodeInfo, LatentEpisode]],
    dreamer: Dreamer,
    steps: int,
    most: int,
    rng: torch.Generator,
) -> CausalStarts:
    """Random moments of episodes that are long enough.

    Args:
        dataset: where they are.
        episodes: as recorded and as encoded.
        dreamer: its memory observes them from their beginnings.
        steps: H, of dreaming.
        most: n, at most.
        rng: chooses the moments.

    Raises:
        ValueError: if fewer than three levels are long enough.
    """
    keys = {key: number for number, key in enumerate(sorted({episode.key for episode, _ in episodes}))}
    share = max(1, most // max(len(episodes), 1))
    parts: list[list[Tensor]] = [[] for _ in range(7)]
    for episode, seen in episodes:
        count = len(seen) - steps
        if count < 2:
            continue
        normal, memory = dreamer.scale.normalise(seen.mean), dreamer.memory
        chosen = (1 + torch.randperm(count, generator=rng)[:share]).sort().values.tolist()
        state, done = memory.initial_state(1), 0
        inputs = torch.cat([normal[:-1], seen.actions], 1)[:, None]
        every = dataset.column("privileged_state", torch.arange(episode.first, episode.first + len(seen) + 1))
        for step in chosen:
            state, _ = memory.core.scan(state, inputs[done:step])
            done = step
            found = (
                state[0], normal[step], normal[step - 1], seen.actions[step : step + steps], every[step],
                every[step + steps], torch.tensor(keys[episode.key]),
            )  # fmt: skip
            for part, value in zip(parts, found, strict=True):
                part.append(value)
    if len({int(group) for group in parts[6]}) < 3:
        raise ValueError(f"fewer than 3 levels have enough steps to dream {steps} on")
    states, latents, before, actions, now, later, groups = (torch.stack(part) for part in parts)
    return CausalStarts(states, latents, before, actions.transpose(0, 1), now, later, groups)


@dataclass(frozen=True)
class CausalEffect:
    """Whether the dream goes on with what is read of memory and latent."""

    quantity: str
    steps: int
    """Of dreaming before the change is read."""
    score: Interval
    """R^2 of the reading of memory and latent, on other levels."""
    read_out: Interval
    """R^2 of the reading of two successive latents."""
    recorded: float
    """Slope of the quantity so many steps later on the quantity now, in the recordings."""
    slope: Interval
    """Change of the dream's reading over the change that was pushed, in the quantity's units, over levels."""
    control: float
    """Root mean square of the same for random directions that leave the reading as it is."""
    copied: float
    """The same if the pushed latent simply stayed."""
    asked: bool
    """Whether both readings, and what lasts, tell enough to ask."""
    passed: bool
    why: str

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {name: list(getattr(self, name)) for name in ("score", "read_out", "slope")}


@torch.no_grad()
def causal_effects(
    dreamer: Dreamer,
    starts: CausalStarts,
    quantities: Sequence[str],
    rng: torch.Generator,
    known: Sequence[str] | None = None,
) -> list[CausalEffect]:
    """Push and read each quantity that changes.

    Args:
        dreamer: the model.
        starts: moments to start from.
        quantities: their names.
        rng: of splits and of the control's directions.
        known: quantities that the memory tells beyond its controls; of others it is not asked. None: all.
    """
    joint = torch.cat([starts.states, starts.latents], 1)
    spread = joint.std(0).clamp(min=1e-6)
    standard = (joint - joint.mean(0)) / spread
    pairs = torch.cat([starts.before, starts.latents], 1)
    places = torch.zeros_like(starts.groups)
    reader = probe(standard, starts.quantities, starts.groups, places, rng)
    seer = probe(pairs, starts.quantities, starts.groups, places, rng)
    away = starts.quantities - starts.quantities.mean(0)
    recorded = (away * (starts.later - starts.later.mean(0))).sum(0) / away.square().sum(0).clamp(min=1e-12)
    others = torch.randperm(len(joint), generator=rng)[: 2 * DIRECTIONS]
    noise = standard[others[::2][: len(others) // 2]] - standard[others[1::2]]
    found = []
    for column, quantity in enumerate(quantities):
        weights = reader.probe.weights[:, column]
        typical = standard.T @ (standard @ weights)
        along = float(typical @ weights)
        amount = float(starts.quantities[:, column].std())
        if amount <= 0 or along <= 1e-12:
            continue
        unit = typical / along  # along it the reading changes by one
        ways = [each - (each @ weights) * unit for each in noise]
        ways = [each / each.norm().clamp(min=1e-9) * unit.norm() for each in ways]
        slopes = _slopes(dreamer, starts, seer.probe, column, amount, [unit, *ways], spread)
        slope = mean_over(slopes[0], starts.groups)
        control = float(slopes[1:].mean(1).square().mean().sqrt())
        copied = _copied(seer.probe, column, unit[starts.states.shape[1] :] * spread[starts.states.shape[1] :])
        lasts, score, read_out = float(recorded[column]), reader.score[column], seer.score[column]
        asked, passed, why = _verdict(quantity, known, score, read_out, lasts, slope, control, copied)
        found.append(CausalEffect(
            quantity, len(starts.actions), score, read_out, lasts, slope, control, copied, asked, passed, why
        ))  # fmt: skip
    return found


def _slopes(
    dreamer: Dreamer,
    starts: CausalStarts,
    seer: LinearProbe,
    column: int,
    amount: float,
    ways: Sequence[Tensor],
    spread: Tensor,
) -> Tensor:
    """Of each way and start the change of the dream's reading over that of the push: `[W, n]`."""

    def says(states: Tensor, latents: Tensor) -> Tensor:
        clipped = dreamer.clip(latents)
        dreamt = dreamer.dream(LatentState(states, clipped), starts.actions, len(starts.actions)).latents
        normal = [clipped, *dreamer.scale.normalise(dreamt)]
        return seer(torch.cat(normal[-2:], 1))[:, column]

    still = says(starts.states, starts.latents)
    width, power = starts.states.shape[1], sum(each**2 for each in AMOUNTS) * amount
    found = []
    for way in ways:
        pushed = (way * spread).split([width, len(way) - width])
        total = torch.zeros_like(still)
        for each in AMOUNTS:
            size = each * amount
            total += each * (says(starts.states + size * pushed[0], starts.latents + size * pushed[1]) - still)
        found.append(total / power)
    return torch.stack(found)


def _copied(seer: LinearProbe, column: int, push: Tensor) -> float:
    """What is read of a push that both latents of a pair have."""
    return float(torch.cat([push, push]) @ seer.weights[:, column])


def _verdict(
    quantity: str,
    known: Sequence[str] | None,
    score: Interval,
    read_out: Interval,
    lasts: float,
    slope: Interval,
    control: float,
    copied: float,
) -> tuple[bool, bool, str]:
    """Whether it was asked, whether it passed, and why in words."""
    if known is not None and quantity not in known:
        return False, False, "not asked: the memory tells no more of it than its controls"
    if not score.low > READABLE:
        return False, False, f"cannot tell: memory and latent tell little of it (R^2 {score})"
    if not read_out.low > READABLE:
        return False, False, f"cannot tell: two pictures tell little of it (R^2 {read_out})"
    if lasts < LASTS:
        return False, False, f"cannot tell: {lasts:.2f} of it lasts so long in the recordings"
    limit = max(SHARE * lasts, 2 * control)
    compared = f"of a push {slope} is left, {lasts:.2f} in the recordings, {control:.2f} of random pushes, "
    compared += f"{copied:.2f} if the pushed picture simply stayed"
    better = max(abs(slope.low - lasts), abs(slope.high - lasts)) < abs(copied - lasts)
    return True, slope.low > limit and better, compared
