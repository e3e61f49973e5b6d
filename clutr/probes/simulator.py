"""Recorded moments in the simulator: played anew to there, so that one can ask what else would have happened.

A dataset holds levels and actions, and environments are deterministic. Roads are entered anywhere, which the car's
first recorded place tells. Whether a moment was really reached, its true state shows.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clutr.envs.capabilities import PrivilegedState
from clutr.envs.domain import LevelBatch

TOLERANCE = 1e-3
"""Difference of the true state, relative to 1 + its size, up to which a moment counts as the recorded one."""


class RecordedMoment(NamedTuple):
    """A step of a recorded episode."""

    actions: Tensor
    """`[t, A]` float32: all that was done before, as it was recorded."""
    first: Tensor
    """`[Q]`: the true state of the episode's first frame."""
    state: Tensor
    """`[Q]`: the true state now."""


class SimulatedMoments(NamedTuple):
    """M environments that stand at recorded moments."""

    engine: Any
    """To be copied before it plays on."""
    reached: Tensor
    """`[M]` bool: whether the true state is the recorded one."""


def simulated(
    domain: PrivilegedState, levels: LevelBatch, moments: Sequence[RecordedMoment], quantities: Sequence[str]
) -> SimulatedMoments:
    """Play M episodes anew, each to its moment. Shorter ones begin later, so that all get there at once.

    Args:
        domain: of the environment.
        levels: `[M]`, of the moments.
        moments: how to get there.
        quantities: names of the true state.

    Raises:
        ValueError: if there is no moment, or not one level each.
    """
    count = len(moments)
    if not count or len(levels) != count:
        raise ValueError(f"{count} moments on {len(levels)} levels: each needs one")
    engine: Any = domain.engine(count)
    observer = domain.observer(engine)
    engine.reset(levels)
    observer.reset()
    if hasattr(engine, "start_at"):
        places = torch.stack([each.first[[quantities.index("x"), quantities.index("y")]] for each in moments])
        engine.start_at(_shares(engine.tracks, places))
        engine.reset()
    steps = torch.tensor([len(each.actions) for each in moments])
    last, discrete = int(steps.max()), hasattr(engine.action_space, "n")
    actions = torch.zeros(last, count, moments[0].actions.shape[1])  # whoever has not begun does nothing
    for row, each in enumerate(moments):
        actions[last - len(each.actions) :, row] = each.actions
    for time in range(last + 1):
        begins = steps == last - time
        if bool(begins.any()):
            engine.reset(mask=begins)
            observer.reset(begins)
        if time < last:
            if discrete:
                observer.privileged_state()  # mazes remember where one was
            engine.step(actions[time, :, 0].long() if discrete else actions[time])
    recorded = torch.stack([each.state for each in moments])
    near = (true_state(observer) - recorded).abs() <= TOLERANCE * (1 + recorded.abs())
    return SimulatedMoments(engine, near.all(1))


def true_state(observer: Any) -> Tensor:
    """`[M, Q]`: all that a privileged observer tells."""
    return torch.stack(list(observer.privileged_state().values()), 1)


def _shares(tracks: Sequence[Any], places: Tensor) -> Tensor:
    """Of each road's tiles the share at which a car began that was first seen at places `[M, 2]`."""
    shares = []
    for track, place in zip(tracks, places.double(), strict=True):
        nearest = int((torch.from_numpy(track.points) - place).square().sum(1).argmin())
        shares.append((nearest + 0.5) / len(track))
    return torch.tensor(shares)


class PlayedOn(NamedTuple):
    """What M environments did under other actions."""

    states: Tensor
    """`[H + 1, M, Q]`: the true state, the present first."""
    pictures: Tensor
    """`[M, H, W, 3]` uint8: the last."""


def played_on(domain: PrivilegedState, engine: Any, options: Mapping[str, Tensor]) -> dict[str, PlayedOn]:
    """What would happen under each option.

    Args:
        domain: of the environment.
        engine: M environments, which stay as they are.
        options: by name actions `[H, M, A]`, as the engine takes them.
    """
    found = {}
    for name, actions in options.items():
        copied = deepcopy(engine)
        observer = domain.observer(copied)
        states = [true_state(observer)]
        for action in actions:
            copied.step(action)
            states.append(true_state(observer))
        found[name] = PlayedOn(torch.stack(states), observer.pictures())
    return found
