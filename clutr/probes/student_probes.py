"""Student probes: what a maze student's recurrent core tells of its position, the visited cells and the goal.

The student plays random levels. Linear probes read the true state from its hidden state and cells and, as controls,
from its present view and from the core of an untrained student that saw the same. Splits are by level. What can be
read from the core and not from the view is remembered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clutr.agents.networks import ActorCritic
from clutr.agents.student import Student
from clutr.envs.capabilities import PrivilegedState, require
from clutr.envs.domain import Domain
from clutr.envs.randomness import named_generator
from clutr.probes.linear_probes import probe


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
    domain: Domain, student: Student, untrained: Student, levels: int, seed: int, most_steps: int = 100
) -> StudentSteps:
    """Let a student play random levels, one episode each.

    Args:
        domain: mazes.
        student: who chooses the actions.
        untrained: the same kind of student as it was drawn; it sees what the other sees.
        levels: how many.
        seed: of levels and actions.
        most_steps: of an episode.

    Raises:
        ValueError: if the students have no recurrent core of their own, or the environment is no maze.
    """
    networks = [getattr(each, "network", None) for each in (student, untrained)]
    if not all(isinstance(network, ActorCritic) for network in networks):
        raise ValueError("only recurrent students of mazes have a core to probe")
    rng = named_generator(seed, "probe", "walk")
    engine: Any = domain.engine(levels)
    observation = engine.reset(domain.sample(levels, rng))
    observer = require(domain, PrivilegedState, "the student probes").observer(engine)
    quantities = list(observer.quantities)
    observer.reset(torch.ones(levels, dtype=torch.bool))
    states = [each.initial_state(levels) for each in (student, untrained)]
    alive = torch.ones(levels, dtype=torch.bool)
    been = torch.zeros(levels, engine.height * engine.width)
    columns: dict[str, list[Tensor]] = {name: [] for name in ("view", "hidden", "cells", "untrained hidden")}
    privileged_state, visited, groups, places = [], [], [], []
    for _ in range(most_steps):
        true = torch.stack(list(observer.privileged_state().values()), 1)
        cell, heading = engine.cell.cpu().long(), engine.heading.cpu().long()
        been[torch.arange(levels), cell] = 1.0
        actions, states[0] = student.act(observation, states[0], rng)
        _, states[1] = untrained.act(observation, states[1], rng)
        image = observation["image"][..., 0].flatten(1).long()
        view = torch.cat(
            [torch.nn.functional.one_hot(image, 11).flatten(1), torch.nn.functional.one_hot(heading, 4)], 1
        ).float()
        hidden, cells = states[0].chunk(2, 1)
        for name, values in {
            "view": view,
            "hidden": hidden,
            "cells": cells,
            "untrained hidden": states[1].chunk(2, 1)[0],
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
        `readings`: by representation and quantity `score` (R^2 on held-out levels), `control` and `selectivity`;
        "visited cells" is the mean over cells that were visited in 2 to 98 % of steps; `memory`: by quantity the
        score of the hidden state beyond those of the view and of the untrained core; `rows` and `levels`.

    Raises:
        ValueError: with fewer than three levels.
    """
    share = steps.visited.mean(0)
    known = (share > 0.02) & (share < 0.98)
    targets = torch.cat([steps.privileged_state, steps.visited[:, known]], 1)
    count = len(steps.quantities)
    readings = []
    scores: dict[str, dict[str, float]] = {}
    for name, states in steps.representations.items():
        rng = named_generator(seed, "probe", "students")
        found = probe(states, targets, steps.groups, steps.cells, rng)
        rows = dict(enumerate(steps.quantities))
        for column, quantity in rows.items():
            parts = (found.score[column], found.control[column], found.selectivity[column])
            readings.append(_reading(name, quantity, parts))
        if bool(known.any()):
            parts = (found.score[count:].mean(), found.control[count:].mean(), found.selectivity[count:].mean())
            readings.append(_reading(name, "visited cells", parts))
        scores[name] = {each["quantity"]: each["score"] for each in readings if each["representation"] == name}
    memory = {
        quantity: {
            "hidden": value,
            "beyond_view": value - max(0.0, scores["view"][quantity]),
            "beyond_untrained": value - max(0.0, scores["untrained hidden"][quantity]),
        }
        for quantity, value in scores["hidden"].items()
    }
    return {"readings": readings, "memory": memory, "rows": len(targets), "levels": len(steps.groups.unique())}


def _reading(name: str, quantity: str, parts: tuple[Tensor, Tensor, Tensor]) -> dict[str, Any]:
    score, control, selectivity = (float(part) for part in parts)
    return {
        "representation": name,
        "quantity": quantity,
        "score": score,
        "control": control,
        "selectivity": selectivity,
    }


def is_remembered(memory: Mapping[str, float]) -> bool:
    """Whether the core tells a quantity: R^2 0.05 above both the view's and the untrained core's."""
    return memory["beyond_view"] > 0.05 and memory["beyond_untrained"] > 0.05
