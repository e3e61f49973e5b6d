"""State probes: what can be read of the true state from a world model's latents and memory, with controls.

Probed are the backbone's latents and the memory's features, states and cells; beside them the features of a memory
whose core was never trained, and as many principal modes of the pixels as there are latents. Splits are by level. A
control task gives each cell a random value; what can be read of it was memorised (Hewitt & Liang, arXiv 1909.03368).
A quantity that one frame cannot show, such as the offset from a road that is out of view, counts only where it can be
seen. Whether the memory uses what it tells asks `clutr.probes.causal`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.envs.randomness import named_generator
from clutr.probes.intervals import Interval
from clutr.probes.linear_probes import beyond, probe
from clutr.world_model.backbones.base import visible
from clutr.world_model.backbones.covariance import principal_components
from clutr.world_model.dataset import EpisodeDataset, EpisodeInfo
from clutr.world_model.dream import Dreamer
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe
from clutr.world_model.scene import visible_quantities

VISIBLE = 0.02
"""Share of steps in which a quantity must be in view to be asked for."""
ROWS = 30
"""Steps in which it must be."""
WORTH = 0.05
"""R^2 beyond the controls that is worth mentioning."""
TRAINED, UNTRAINED = "features, trained", "features, untrained core"
"""Representations: the memory's, and (all names that begin so) those of memories whose cores were only drawn."""


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
    visible: Tensor
    """`[n, Q]` bool: which quantities can be seen in the step's picture."""
    visible_ahead: Tensor
    """`[n, Q]` bool: the same `horizon` steps later; False past an episode's end."""


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
    needs: Mapping[str, str] | None = None,
) -> StateProbeData:
    """Let memories observe episodes, and keep random steps of them.

    Args:
        dataset: where they are.
        episodes: as recorded and as the backbone encodes them; memories observe each from its first frame.
        dreamers: memories by name; the first one's states are probed too, and the first core's cells of an LSTM.
        horizon: steps ahead at which the true state is also taken.
        most: steps, at most.
        rng: chooses them.
        needs: quantities that can be seen only where an object is in view, and which; see `visible_quantities`.
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
        after = torch.full_like(every[:-1], torch.nan)
        if count + 1 > horizon:
            after[: count + 1 - horizon] = every[horizon:][:count]
        ahead.append(after[chosen])
        groups.append(torch.full((len(chosen),), keys[episode.key]))
        rows.append(episode.first + chosen)
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    true, later, every = torch.cat(privileged_state), torch.cat(ahead), torch.cat(rows)
    inside = ~later.isnan().any(1)
    then = torch.zeros_like(later, dtype=torch.bool)
    then[inside] = _visible(dataset, every[inside] + horizon, needs)
    return StateProbeData(
        joined,
        true,
        later,
        torch.cat(groups),
        grid_cells(true, dataset.quantities),
        every,
        horizon,
        _visible(dataset, every, needs),
        then,
    )


def _visible(dataset: EpisodeDataset, rows: Tensor, needs: Mapping[str, str] | None) -> Tensor:
    """`[n, Q]` bool: which quantities can be seen in the pictures of `rows` `[n]`."""
    if not needs or not len(rows):
        return torch.ones(len(rows), len(dataset.quantities), dtype=torch.bool)
    return torch.cat(
        [
            visible_quantities(dataset.column("masks", part), dataset.objects, dataset.quantities, needs)
            for part in rows.split(2_000)
        ]
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
    score: Interval
    """R^2 on levels that the probe was not fitted on."""
    control: float
    """The same for the control task."""
    selectivity: Interval
    """Score beyond the control's."""
    beyond: Interval | None
    """Score beyond that of the best untrained core; None for representations that it is no control of."""
    visible: float
    """Share of the steps in which the quantity can be seen, now or then; the others do not count."""
    rows: int
    """Steps that count."""
    levels: int

    @property
    def seen(self) -> bool:
        """Whether the quantity can be seen often enough to ask."""
        return self.visible >= VISIBLE and self.rows >= ROWS

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        beyond = None if self.beyond is None else list(self.beyond)
        told = {"score": list(self.score), "selectivity": list(self.selectivity), "beyond": beyond, "seen": self.seen}
        return vars(self) | told | {"known": is_known(self), "why": in_words(self)}


def probe_state(
    found: StateProbeData, quantities: Sequence[str], seed: int
) -> tuple[list[ProbeScore], dict[str, LinearProbe]]:
    """Probe every representation for the true state now and ahead, all with the same folds.

    Returns:
        The scores, and the probes by representation and when ("latents now").
    """
    readings, probes = [], {}
    inside = ~found.ahead.isnan().any(1)
    levels = len(found.groups.unique())
    for when, targets, kept, seen in (
        ("now", found.privileged_state, torch.ones_like(inside), found.visible),
        (f"{found.horizon} ahead", found.ahead, inside, found.visible_ahead),
    ):
        groups = found.groups[kept]
        if len(groups.unique()) < 3:
            continue  # episodes too short to look ahead
        made = {}
        for name, states in found.representations.items():
            rng = named_generator(seed, "probe", when)  # the same folds and control for all
            made[name] = probe(states[kept], targets[kept], groups, found.cells[kept], rng, seen[kept])
            probes[f"{name} {when}"] = made[name].probe
        controls = [each.read for name, each in made.items() if name.startswith(UNTRAINED)]
        beyond_each = [beyond(made[TRAINED].read, each, targets[kept], groups) for each in controls]
        for name, each in made.items():
            for column, quantity in enumerate(quantities):
                told = [others[column] for others in beyond_each] if name == TRAINED else []
                counted = seen[kept][:, column]
                readings.append(
                    ProbeScore(
                        name, quantity, when, each.score[column], each.control[column].value,
                        each.selectivity[column], min(told, key=lambda one: one.low, default=None),
                        float(counted.float().mean()), int(counted.sum()), levels,
                    )
                )  # fmt: skip
    return readings, probes


def is_known(reading: ProbeScore) -> bool:
    """Whether the memory holds what is read.

    The intervals of R^2, of the score beyond the control task and beyond the best untrained core are above 0, and the
    last is worth mentioning: 0.05.
    """
    best = reading.beyond
    if best is None or not reading.seen:
        return False
    return reading.score.low > 0 and reading.selectivity.low > 0 and best.low > 0 and best.value > WORTH


def in_words(reading: ProbeScore) -> str:
    """What was compared."""
    if not reading.seen:
        return f"cannot be seen: in view in {reading.visible:.0%} of the steps"
    if reading.beyond is None:
        return f"R^2 {reading.score}"
    if is_known(reading):
        return f"known: {reading.beyond} beyond the best untrained core"
    if not reading.score.low > 0:
        return f"not told: R^2 {reading.score}"
    if not reading.selectivity.low > 0:
        return f"not beyond a control task: {reading.selectivity}"
    return f"told, but not beyond an untrained core: {reading.beyond}"
