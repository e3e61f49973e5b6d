"""What a student looks at: which parts of its picture change the next action, and whether a map of that is right.

A map is scored by deletion and insertion (Petsiuk et al. 2018): parts are hidden, or shown again, by falling saliency,
and the action ought to change faster, or come back faster, than in random order, and than by the map of an untrained
student, which finds the same edges salient. A map of something else may be better than chance by luck, in all moments
alike: so it also has to gain half of what the order of the parts' own effects gains.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.domain import Observation
from clutr.probes.intervals import Interval, mean_over
from clutr.probes.student_probes import acted, action_distance, span_of
from clutr.probes.student_steps import StudentMoments

BLOCKS = 12
"""Squares along a side of a picture that are hidden one by one; a smaller observation is hidden cell by cell."""
STAGES = 8
"""Steps from nothing to everything hidden."""
ORDERS = 4
"""Random orders of the control."""


def parts_of(image: Tensor) -> tuple[int, int, int]:
    """Side of a part in pixels, and rows and columns of parts, of pictures `[N, H, W, C]`."""
    height, width = image.shape[1:3]
    block = max(1, height // BLOCKS)
    return block, -(-height // block), -(-width // block)


def _without(image: Tensor, hidden: Tensor) -> Tensor:
    """Pictures `[N, H, W, C]` of one picture `[1, H, W, C]` with parts `[N, rows * columns]` bool set to 0."""
    block, rows, columns = parts_of(image)
    where = hidden.view(-1, rows, columns).repeat_interleave(block, 1).repeat_interleave(block, 2)
    return image.masked_fill(where[:, : image.shape[1], : image.shape[2], None], 0)


@torch.no_grad()
def _actions(network: Any, observation: Observation, state: Tensor, hidden: Tensor) -> Any:
    """The action's distributions for one observation with parts `[N, P]` bool hidden."""
    pictures = _without(observation["image"], hidden)
    batch = {name: value.expand(len(pictures), *value.shape[1:]) for name, value in observation.items()}
    return network.step({**batch, "image": pictures}, state.expand(len(pictures), *state.shape[1:]))[0]


def occlusion_saliency(network: Any, observation: Observation, state: Tensor) -> NDArray[np.float64]:
    """How much hiding a part of the picture changes the distribution of the next action, `[h, w]` in [0, 1].

    Each part of the observation `image` is set to zero, which is "unseen" in mazes and black on roads, and the total
    variation between the distributions is taken (Greydanus et al. 2018, arXiv 1711.00138, with a square for a blur).
    Where actions are continuous, it is the change of the most probable action, relative to the largest one.
    """
    _, rows, columns = parts_of(observation["image"])
    hidden = torch.cat([torch.zeros(1, rows * columns, dtype=torch.bool), torch.eye(rows * columns, dtype=torch.bool)])
    actions = _actions(network, observation, state, hidden.to(observation["image"].device))
    log_probs = getattr(actions, "log_probs", None)
    if log_probs is not None:
        likely = log_probs.exp()
        change = (likely[1:] - likely[:1]).abs().sum(-1) / 2
    else:
        best = actions.mode().flatten(1)
        change = (best[1:] - best[:1]).abs().sum(-1)
        change = change / change.max().clamp(min=1e-9)
    return np.asarray(change.view(rows, columns).double().cpu())


def curves(network: Any, observation: Observation, state: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance of the action from the undisturbed one while parts are hidden, and while they are shown again.

    Args:
        network: of the student.
        observation: of one moment.
        state: at that moment.
        orders: `[K, P]` int64: numbers of parts, the first to go first.

    Returns:
        `[K]` each: the areas under deletion (large for a right order) and insertion (small for a right one).
    """
    count = orders.shape[1]
    place = torch.empty_like(orders).scatter_(1, orders, torch.arange(count).expand_as(orders))
    stages = torch.linspace(0, count, STAGES + 1).round()[1:-1, None, None]
    gone = (place < stages).flatten(0, 1)  # [S * K, P]
    hidden = torch.cat([torch.zeros(1, count, dtype=torch.bool), gone, ~gone])
    actions = acted(_actions(network, observation, state, hidden))
    away = action_distance(actions[1:], actions[:1], span_of(network)).view(2, -1, len(orders)).mean(1)
    return away[0], away[1]


_INTERVALS = ("deletion", "insertion", "beyond_untrained", "beyond_half")


@dataclass(frozen=True)
class SaliencyCheck:
    """What a student's maps of saliency are worth, over M moments."""

    deletion: Interval
    """By how much more hiding by falling saliency changes the action than hiding in random order."""
    insertion: Interval
    """By how much nearer showing by falling saliency brings it than showing in random order."""
    beyond_untrained: Interval
    """By how much more hiding changes it than hiding by the untrained student's map."""
    beyond_half: Interval
    """By how much `deletion` exceeds half of what the order of the parts' single effects gains."""
    size: float
    """Mean change of the action while parts are hidden in random order: the unit to judge the others by."""
    moments: int

    @property
    def passed(self) -> bool:
        """Whether all intervals lie above 0."""
        return all(getattr(self, name).low > 0 for name in _INTERVALS)

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        intervals = {name: list(getattr(self, name)) for name in _INTERVALS}
        return vars(self) | intervals | {"passed": self.passed}


def saliency_maps(network: Any, moments: StudentMoments) -> Tensor:
    """Maps `[M, h, w]` of moments."""
    found = []
    for n in range(len(moments)):
        one = moments.rows(torch.tensor([n]))
        found.append(torch.from_numpy(occlusion_saliency(network, one.observation, one.state)))
    return torch.stack(found).float()


def check_saliency(
    network: Any, maps: Tensor, untrained: Tensor, effects: Tensor, moments: StudentMoments, seed: int
) -> SaliencyCheck:
    """Score maps `[M, h, w]` of moments.

    Args:
        network: of the student.
        maps: to score.
        untrained: the maps of a student that is only drawn.
        effects: what hiding each part alone does, which `saliency_maps` measures.
        moments: M.
        seed: of random orders.
    """
    rng = torch.Generator().manual_seed(seed)
    rows = []
    for n in range(len(moments)):
        one = moments.rows(torch.tensor([n]))
        orders = [each[n].flatten().argsort(descending=True, stable=True) for each in (maps, untrained, effects)]
        orders += [torch.randperm(maps[n].numel(), generator=rng) for _ in range(ORDERS)]
        deleted, inserted = curves(network, one.observation, one.state, torch.stack(orders))
        chance, gain = deleted[3:].mean(), deleted[0] - deleted[3:].mean()
        brought, half = inserted[3:].mean() - inserted[0], (deleted[2] - chance) / 2
        rows.append(torch.stack([gain, brought, deleted[0] - deleted[1], gain - half, chance]))
    table = torch.stack(rows)
    deletion, insertion, beyond, more = (mean_over(column, moments.groups) for column in table[:, :4].T)
    return SaliencyCheck(deletion, insertion, beyond, more, float(table[:, 4].mean()), len(moments))
