"""State probes: what can be read of the true state from a world model's latents and memory, with controls.

Probed are the backbone's latents and the memory's features, states and cells; beside them the features of a memory
whose core was never trained, and as many principal modes of the pixels as there are latents. Splits are by level. A
control task gives each cell a random value; what can be read of it was memorised (Hewitt & Liang, arXiv 1909.03368).
The causal test moves the memory's state along a probe's direction and reads from its dream, in the quantity's units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.envs.randomness import named_generator
from clutr.probes.linear_probes import CausalTest, LinearProbeResult, causal_test, probe
from clutr.world_model.backbones.base import visible
from clutr.world_model.backbones.covariance import principal_components
from clutr.world_model.dataset import EpisodeDataset, EpisodeInfo
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe

READABLE = 0.1
"""R^2 below which a probe or a read-out tells too little to ask whether what it reads is used."""


@dataclass(frozen=True)
class StateProbeData:
    """Steps of the probed episodes, with everything that is read from them."""

    representations: dict[str, Tensor]
    """`[n, H]` by name, the same steps in each."""
    privileged_state: Tensor
    """`[n, Q]`."""
    ahead: Tensor
    """`[n, Q]`: the true state `horizon` steps later; NaN past an episode's end."""
    groups: Tensor
    """`[n]` int64: levels."""
    cells: Tensor
    """`[n]` int64: where each step is, for the control task."""
    rows: Tensor
    """`[n]` int64: of the dataset."""
    horizon: int


def grid_cells(privileged_state: Tensor, quantities: Sequence[str], bins: int = 8) -> Tensor:
    """The cell `[n]` int64 of each step in a grid over x and y, or row and column."""
    cells = torch.zeros(len(privileged_state), dtype=torch.int64)
    pair = ("x", "y") if "x" in quantities else ("row", "column")
    for name in pair:
        values = privileged_state[:, list(quantities).index(name)]
        edges = torch.quantile(values.double(), torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1])
        cells = cells * bins + torch.bucketize(values.double(), edges)
    return cells


@torch.no_grad()
def collect(
    dataset: EpisodeDataset,
    episodes: Sequence[tuple[EpisodeInfo, LatentEpisode]],
    dreamers: Mapping[str, Dreamer],
    horizon: int,
    most: int,
    rng: torch.Generator,
) -> StateProbeData:
    """Let memories observe episodes, and keep random steps of them.

    Args:
        dataset: where they are.
        episodes: as recorded and as the backbone encodes them; memories observe each from its first frame.
        dreamers: memories by name; the first one's states are probed too, and the first core's cells of an LSTM.
        horizon: steps ahead at which the true state is also taken.
        most: steps, at most.
        rng: chooses them.
    """
    columns: dict[str, list[Tensor]] = {}
    privileged_state, ahead, groups, rows = [], [], [], []
    names = sorted({episode.key for episode, _ in episodes})
    keys = {key: number for number, key in enumerate(names)}
    share = min(1.0, most / max(sum(len(seen) for _, seen in episodes), 1))
    first = next(iter(dreamers))
    for episode, seen in episodes:
        count = len(seen)
        chosen = (torch.rand(count, generator=rng) < share).nonzero().flatten()
        if not len(chosen):
            continue
        columns.setdefault("latents", []).append(seen.mean[:-1][chosen])
        for name, dreamer in dreamers.items():
            memory = dreamer.memory
            normal = torch.cat([dreamer.scale.normalise(seen.mean[:-1]), seen.actions], 1)[:, None]
            _, features = memory.core.scan(memory.initial_state(1), normal)
            columns.setdefault(f"features, {name}", []).append(features[chosen, 0])
            if name == first and hasattr(memory.core, "lstm"):
                state, cells = memory.initial_state(1), []
                for x in normal:
                    state, _ = memory.core.step(state, x)
                    cells.append(state[0, memory.core.width :])
                columns.setdefault(f"cells, {name}", []).append(torch.stack(cells)[chosen])
        every = dataset.column("privileged_state", torch.arange(episode.first, episode.first + count + 1))
        privileged_state.append(every[:-1][chosen])
        later = torch.full_like(every[:-1], torch.nan)
        if count + 1 > horizon:
            later[: count + 1 - horizon] = every[horizon:][:count]
        ahead.append(later[chosen])
        groups.append(torch.full((len(chosen),), keys[episode.key]))
        rows.append(episode.first + chosen)
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    true = torch.cat(privileged_state)
    return StateProbeData(
        joined,
        true,
        torch.cat(ahead),
        torch.cat(groups),
        grid_cells(true, dataset.quantities),
        torch.cat(rows),
        horizon,
    )


def pixel_pca(dataset: EpisodeDataset, rows: Tensor, count: int, masked_rows: int, fitted_on: int = 1_000) -> Tensor:
    """The first principal components of the pixels, `[n, count]`: a control of what the backbone adds."""
    chunks = list(rows.split(250))
    few = list(rows[torch.linspace(0, len(rows) - 1, min(len(rows), fitted_on)).long()].split(250))

    def shown(index: Tensor) -> Tensor:
        return visible(dataset.column("frames", index), masked_rows).flatten(1)

    found = principal_components(lambda: (shown(index) for index in few), count, named_generator(0, "probe", "modes"))
    return torch.cat([(shown(index) - found.mean) @ found.directions.T for index in chunks])


@dataclass(frozen=True)
class ProbeScore:
    """How well one quantity is read from one representation."""

    representation: str
    quantity: str
    when: str
    """"now", or so many steps ahead."""
    score: float
    """R^2 on levels that no probe was fitted on."""
    control: float
    """The same for the control task."""
    selectivity: float
    rows: int
    levels: int


def probe_state(
    found: StateProbeData, quantities: Sequence[str], seed: int
) -> tuple[list[ProbeScore], dict[str, LinearProbe]]:
    """Probe every representation for the true state now and ahead, all with the same split.

    Returns:
        The scores, and the probes by representation and when ("latents now").
    """
    readings, probes = [], {}
    later = ~found.ahead.isnan().any(1)
    levels = len(found.groups.unique())
    for when, targets, kept in (
        ("now", found.privileged_state, torch.ones_like(later)),
        (f"{found.horizon} ahead", found.ahead, later),
    ):
        if len(found.groups[kept].unique()) < 3:
            continue  # episodes too short to look ahead
        for name, states in found.representations.items():
            rng = named_generator(seed, "probe", when)  # the same split and control for all
            made = probe(states[kept], targets[kept], found.groups[kept], found.cells[kept], rng)
            probes[f"{name} {when}"] = made.probe
            columns = zip(
                quantities, made.score.tolist(), made.control.tolist(), made.selectivity.tolist(), strict=True
            )
            readings += [
                ProbeScore(name, quantity, when, score, control, selectivity, int(kept.sum()), levels)
                for quantity, score, control, selectivity in columns
            ]
    return readings, probes


@dataclass(frozen=True)
class CausalEffect:
    """Whether the memory goes on with what a probe reads from its state."""

    quantity: str
    steps: int
    """Of dreaming before the change is read."""
    score: float
    """R^2 of the probe of the state on other levels: a push along a probe that reads nothing says nothing."""
    test: CausalTest
    """Pushed along the probe's weights."""
    typical: CausalTest
    """Pushed along how states typically differ where the quantity does (their covariance with the reading; Haufe et al.
    2014): the same change of the reading, along directions in which states vary."""


@torch.no_grad()
def causal_effects(
    dreamer: Dreamer,
    starts: LatentState,
    actions: Tensor,
    state_probe: LinearProbeResult,
    read_out: LinearProbe,
    quantities: Sequence[str],
    spreads: Tensor,
    rng: torch.Generator,
) -> list[CausalEffect]:
    """Push states along the directions in which quantities are read from them, dream on, and read what came of it.

    Args:
        dreamer: the memory.
        starts: `[n]` latent states to start from.
        actions: `[H, n, A]`: taken meanwhile; the same with and without the push.
        state_probe: reads the quantities from states.
        read_out: reads them from latents, in the backbone's units.
        quantities: their names.
        spreads: `[Q]`: standard deviations of the true quantities; pushes are of half and of all of it, either way.
        rng: draws the random directions of the control.
    """
    horizon, reader = len(actions), state_probe.probe
    covariance = torch.cov(starts.state.T)
    found = []
    for column, quantity in enumerate(quantities):
        if float(spreads[column]) <= 0 or float(reader.weights[:, column].norm()) <= 1e-9:
            continue

        def says(states: Tensor, column: int = column) -> Tensor:
            dreamt = dreamer.dream(LatentState(states, starts.latent), actions, horizon)
            return read_out(dreamt.latents[-1])[:, column]

        amounts = float(spreads[column]) * torch.tensor([-1.0, -0.5, 0.5, 1.0])
        typical = covariance @ reader.weights[:, column]
        tests = (causal_test(reader, column, starts.state, says, amounts, rng, along=way) for way in (None, typical))
        found.append(CausalEffect(quantity, horizon, float(state_probe.score[column]), *tests))
    return found


@torch.no_grad()
def fit_causal_probe(
    dataset: EpisodeDataset,
    episodes: Sequence[tuple[EpisodeInfo, LatentEpisode]],
    dreamer: Dreamer,
    horizon: int,
    most: int,
    rng: torch.Generator,
) -> tuple[LinearProbeResult, LatentState, Tensor]:
    """A probe of the memory's whole state on some episodes, and states to push, with the actions that followed.

    The state is the one before the present frame is taken in. Returns the probe, latent states `[n]` and actions
    `[horizon, n, A]`. Raises `ValueError` if too few levels are long enough.
    """
    states, privileged_state, latents, actions, levels = [], [], [], [], []
    for number, (episode, seen) in enumerate(episodes):
        count = len(seen) - horizon + 1
        if count < 2:
            continue
        memory = dreamer.memory
        normal = dreamer.scale.normalise(seen.mean[:-1])
        state = memory.initial_state(1)
        every = dataset.column("privileged_state", torch.arange(episode.first, episode.first + count))
        for step in range(count):
            if step and step % 3 == 0:
                states.append(state[0])
                privileged_state.append(every[step])
                latents.append(normal[step])
                actions.append(seen.actions[step : step + horizon])
                levels.append(number)
            state, _ = memory.core.step(state, torch.cat([normal[step], seen.actions[step]])[None])
        if len(states) >= 20 * most:
            break
    if len(set(levels)) < 3:
        raise ValueError(f"fewer than 3 episodes have enough steps to dream {horizon} on")
    joined, groups = torch.stack(states), torch.tensor(levels)
    found = probe(joined, torch.stack(privileged_state), groups, groups, rng)
    chosen = torch.linspace(0, len(states) - 1, min(most, len(states))).long()
    starts = LatentState(joined[chosen], torch.stack(latents)[chosen])
    return found, starts, torch.stack(actions)[chosen].transpose(0, 1)


def to_plain(readings: Sequence[ProbeScore], causal: Sequence[CausalEffect]) -> dict[str, Any]:
    """Both as plain values."""
    return {
        "readings": [vars(reading) for reading in readings],
        "causal": [
            {"quantity": each.quantity, "steps": each.steps, "score": each.score}
            | each.test._asdict()
            | {f"typical_{name}": value for name, value in each.typical._asdict().items()}
            for each in causal
        ],
    }


def is_known(reading: Mapping[str, Any], untrained: float) -> bool:
    """Whether the memory holds what is read: selectivity above 0.1, and R^2 0.05 above that of the untrained core."""
    return bool(reading["selectivity"] > 0.1 and reading["score"] > max(untrained, 0.0) + 0.05)


def is_used(causal: Mapping[str, Any]) -> bool:
    """Whether a state that is pushed along a probe that reads something, answers in a dream that can be read.

    Along the probe's weights or as states typically differ, by half of the push, and thrice as much as at random.
    """
    if min(causal["score"], causal["read_out"]) < READABLE:
        return False
    return any(
        causal[f"{kind}slope"] > max(0.5, 3 * abs(causal[f"{kind}control_slope"]))
        and causal[f"{kind}correlation"] > 0.5
        for kind in ("", "typical_")
    )
