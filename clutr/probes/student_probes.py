"""Student probes: what a maze student's recurrent core tells of its position, the visited cells and the goal.

The student plays random levels. Linear probes read the true state from its hidden state and cells and, as controls,
from its present view and from the cores of untrained students that saw the same. Each level is read by probes of other
levels, and intervals are over levels. What can be read from the core and not from the view is remembered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.agents.networks import ActorCritic
from clutr.agents.student import Student
from clutr.envs.capabilities import PrivilegedState, require
from clutr.envs.domain import Domain
from clutr.envs.randomness import named_generator
from clutr.probes.intervals import Interval, interval_of, r2_draws
from clutr.probes.linear_probes import probe

WORTH = 0.05
"""R^2 beyond the controls that is worth mentioning."""
UNTRAINED = "untrained hidden"
"""Representations of untrained cores; all names that begin so."""


@dataclass(frozen=True)
class StudentSteps:
    """Steps of episodes, with what the student saw and remembered."""

    representations: dict[str, Tensor]
    """`[n, H]` by name."""
    privileged_state: Tensor
    """`[n, Q]`."""
    quantities: list[str]
    visited: Tensor
    """`[n, cells]` float32: 1 for each cell of the maze that was stood on before."""
    groups: Tensor
    """`[n]` int64: levels."""
    cells: Tensor
    """`[n]` int64: where the agent stands and looks."""


@torch.no_grad()
def collect_steps(
    domain: Domain, student: Student, untrained: Sequence[Student], levels: int, seed: int, most_steps: int = 100
) -> StudentSteps:
    """Let a student play random levels, one episode each.

    Args:
        domain: mazes.
        student: who chooses the actions.
        untrained: the same kind of student as it is drawn, at least one; they see what the other sees.
        levels: how many.
        seed: of levels and actions.
        most_steps: of an episode.

    Raises:
        ValueError: if the students have no recurrent core of their own, or the environment is no maze.
    """
    networks = [getattr(each, "network", None) for each in (student, *untrained)]
    if not all(isinstance(network, ActorCritic) for network in networks):
        raise ValueError("only recurrent students of mazes have a core to probe")
    rng, others = named_generator(seed, "probe", "walk"), named_generator(seed, "probe", "walk of controls")
    engine: Any = domain.engine(levels)
    observation = engine.reset(domain.sample(levels, rng))
    observer = require(domain, PrivilegedState, "the student probes").observer(engine)
    quantities = list(observer.quantities)
    observer.reset(torch.ones(levels, dtype=torch.bool))
    states = [each.initial_state(levels) for each in (student, *untrained)]
    alive = torch.ones(levels, dtype=torch.bool)
    been = torch.zeros(levels, engine.height * engine.width)
    controls = [UNTRAINED if not number else f"{UNTRAINED} {number + 1}" for number in range(len(untrained))]
    columns: dict[str, list[Tensor]] = {name: [] for name in ("view", "hidden", "cells", *controls)}
    privileged_state, visited, groups, places = [], [], [], []
    for _ in range(most_steps):
        true = torch.stack(list(observer.privileged_state().values()), 1)
        cell, heading = engine.cell.cpu().long(), engine.heading.cpu().long()
        been[torch.arange(levels), cell] = 1.0
        actions, states[0] = student.act(observation, states[0], rng)
        for number, each in enumerate(untrained, 1):
            _, states[number] = each.act(observation, states[number], rng if number == 1 else others)
        image = observation["image"][..., 0].flatten(1).long()
        view = torch.cat(
            [torch.nn.functional.one_hot(image, 11).flatten(1), torch.nn.functional.one_hot(heading, 4)], 1
        ).float()
        hidden, cells = states[0].chunk(2, 1)
        for name, values in {
            "view": view,
            "hidden": hidden,
            "cells": cells,
            **{name: state.chunk(2, 1)[0] for name, state in zip(controls, states[1:], strict=True)},
        }.items():
            columns[name].append(values[alive].clone())
        privileged_state.append(true[alive])
        visited.append(been[alive].clone())
        groups.append(torch.arange(levels)[alive])
        places.append((cell * 4 + heading)[alive])
        result = engine.step(actions)
        observation = result.observation
        alive = alive & ~(result.terminated | result.truncated).cpu()
        if not bool(alive.any()):
            break
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    return StudentSteps(
        joined, torch.cat(privileged_state), quantities, torch.cat(visited), torch.cat(groups), torch.cat(places)
    )


def probe_memory(steps: StudentSteps, seed: int) -> dict[str, Any]:
    """Probe every representation for the true state, and for each cell whether it was visited.

    Returns:
        `readings`: by representation and quantity `score` (R^2 on other levels than the probe's, with its interval
        over levels), `control` and `selectivity`; "visited cells" is the mean over cells that were visited in 2 to
        98 % of steps; `memory`: by quantity the score of the hidden state, and with its interval by how much it exceeds
        that of the view, and that of the best untrained core; `rows` and `levels`. Intervals are `[value, low, high]`.

    Raises:
        ValueError: with fewer than three levels.
    """
    share = steps.visited.mean(0)
    known = (share > 0.02) & (share < 0.98)
    targets = torch.cat([steps.privileged_state, steps.visited[:, known]], 1)
    count = len(steps.quantities)
    columns = {quantity: [column] for column, quantity in enumerate(steps.quantities)}
    if bool(known.any()):
        columns["visited cells"] = list(range(count, targets.shape[1]))
    readings = []
    draws: dict[str, tuple[Tensor, Tensor]] = {}
    for name, states in steps.representations.items():
        rng = named_generator(seed, "probe", "students")
        found = probe(states, targets, steps.groups, steps.cells, rng)
        draws[name] = r2_draws(found.read, targets, steps.groups)
        for quantity, mine in columns.items():
            control, selectivity = (
                sum(each[column].value for column in mine) / len(mine) for each in (found.control, found.selectivity)
            )
            readings.append(
                {
                    "representation": name,
                    "quantity": quantity,
                    "score": list(_mean_of(draws[name], mine)),
                    "control": control,
                    "selectivity": selectivity,
                }
            )
    nothing = tuple(torch.zeros_like(each) for each in draws["hidden"])
    others = [each for name, each in draws.items() if name.startswith(UNTRAINED)]
    memory = {
        quantity: {
            "hidden": list(_mean_of(draws["hidden"], mine)),
            "beyond_view": list(_beyond(draws["hidden"], [draws["view"]], mine)),
            "beyond_untrained": list(_beyond(draws["hidden"], others or [nothing], mine)),
        }
        for quantity, mine in columns.items()
    }
    return {"readings": readings, "memory": memory, "rows": len(targets), "levels": len(steps.groups.unique())}


def _mean_of(draws: tuple[Tensor, ...], columns: Sequence[int]) -> Interval:
    """The mean over columns of scores `[Q]` with resamples `[B, Q]`."""
    score, resampled = (each[..., list(columns)].mean(-1) for each in draws)
    return interval_of(float(score), resampled)


def _beyond(draws: tuple[Tensor, ...], controls: Sequence[tuple[Tensor, ...]], columns: Sequence[int]) -> Interval:
    """By how much the mean score exceeds those of controls, or 0: of the control that leaves least."""
    mine = [each[..., list(columns)].mean(-1) for each in draws]
    found = []
    for control in controls:
        score, resampled = (a - b[..., list(columns)].mean(-1).clamp(min=0) for a, b in zip(mine, control, strict=True))
        found.append(interval_of(float(score), resampled))
    return min(found, key=lambda one: one.low)


def is_remembered(memory: Mapping[str, Sequence[float]]) -> bool:
    """Whether the core tells a quantity beyond the view's and the best untrained core's intervals, by 0.05 or more."""
    return all(memory[name][0] > WORTH and memory[name][1] > 0 for name in ("beyond_view", "beyond_untrained"))
