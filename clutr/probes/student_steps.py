"""Steps of a student's episodes, with what it saw, what its actor read, and the true state: mazes and roads alike."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clutr.agents.networks import Network
from clutr.agents.student import Student
from clutr.envs.capabilities import PrivilegedState, require
from clutr.envs.domain import Domain, Observation
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.maze.level import MazeLevels
from clutr.envs.maze.paths import actions_to_goal
from clutr.envs.randomness import named_generator
from clutr.probes.state_probes import grid_cells
from clutr.world_model.scene import visible_quantities
from clutr.world_model.views import view_of

UNTRAINED = "untrained hidden"
"""Representations of untrained students; all names that begin so."""
COARSE = 12
"""Squares along the side of a picture of which the present view is made, as a control."""
SAMPLED = (3, 8, 15, 26, 45, 80)
"""Steps of each episode at which observation and state are kept, for saliency."""


@dataclass(frozen=True)
class StudentSteps:
    """Steps of episodes, with what the student saw and remembered."""

    representations: dict[str, Tensor]
    """`[n, H]` by name: "view", "hidden" (what actor and critic read), "cells" of an LSTM, and untrained students'."""
    privileged_state: Tensor
    """`[n, Q]`."""
    quantities: list[str]
    visited: Tensor
    """`[n, cells]` float32: 1 for each cell of the maze that was stood on before; no columns on roads."""
    groups: Tensor
    """`[n]` int64: levels."""
    cells: Tensor
    """`[n]` int64: where the agent stands and looks, for the control task."""
    counted: Tensor
    """`[n, Q]` bool: where a quantity is defined, and can be seen if it has to be in view."""


@dataclass(frozen=True)
class StudentMoments:
    """M moments of those episodes, whole."""

    observation: Observation
    state: Tensor
    pictures: Tensor
    """`[M, 64, 64, 3]` uint8: as the privileged observer sees it."""
    masks: Tensor
    """`[M, 64, 64]` uint8."""
    objects: tuple[str, ...]
    groups: Tensor
    """`[M]` int64: levels."""
    steps: Tensor
    """`[M]` int64: of the episode."""

    def __len__(self) -> int:
        return len(self.groups)

    def rows(self, index: Tensor) -> "StudentMoments":
        """Some of them."""
        observation = {name: values[index] for name, values in self.observation.items()}
        return StudentMoments(
            observation, self.state[index], self.pictures[index], self.masks[index], self.objects, self.groups[index],
            self.steps[index],
        )  # fmt: skip


@contextmanager
def watched(network: Any) -> Iterator[list[Tensor]]:
    """What the actor is given, `[N, H]`, in each step of the network within."""
    seen: list[Tensor] = []

    def keep(_: Any, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].detach())

    handle = network.actor.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def network_of(student: Student) -> Any:
    """The network of a student. Raises `ValueError` if it is none of this library's PPO."""
    network = getattr(student, "network", None)
    if not isinstance(network, Network) or not hasattr(network, "actor"):
        raise ValueError(f"only students of this library's PPO can be probed, not {type(student).__name__}")
    return network


@torch.no_grad()
def collect(
    domain: Domain, student: Student, untrained: Sequence[Student], levels: int, seed: int, most_steps: int = 100
) -> tuple[StudentSteps, StudentMoments]:
    """Let a student play random levels, one episode each.

    Args:
        domain: mazes or roads.
        student: who chooses the actions.
        untrained: the same kind of student as it is drawn, at least one; they see what the other sees.
        levels: how many.
        seed: of levels and actions.
        most_steps: of an episode.

    Raises:
        ValueError: if a student has no network of this library's PPO.
    """
    networks = [network_of(each) for each in (student, *untrained)]
    rng, others = named_generator(seed, "probe", "walk"), named_generator(seed, "probe", "walk of controls")
    engine: Any = domain.engine(levels)
    observation = engine.reset(domain.sample(levels, rng))
    observer = require(domain, PrivilegedState, "the student probes").observer(engine)
    observer.reset(torch.ones(levels, dtype=torch.bool))
    states = [each.initial_state(levels) for each in (student, *untrained)]
    alive = torch.ones(levels, dtype=torch.bool)
    been = torch.zeros(levels, engine.height * engine.width if isinstance(engine, MazeEngine) else 0)
    controls = [UNTRAINED if not number else f"{UNTRAINED} {number + 1}" for number in range(len(untrained))]
    columns: dict[str, list[Tensor]] = {}
    parts: list[list[Tensor]] = [[] for _ in range(5)]
    kept: list[tuple[Observation, Tensor, Tensor, Tensor, Tensor, Tensor]] = []
    quantities: list[str] = []
    for step in range(most_steps):
        masks = observer.masks()
        told, counted, places = _truth(domain, engine, observer, masks)
        quantities = list(told)
        true = torch.stack(list(told.values()), 1)
        if been.shape[1]:
            been[torch.arange(levels), engine.cell.cpu().long()] = 1.0
        mine = alive & ((torch.arange(levels) == 0) | (step in SAMPLED))
        if bool(mine.any()):
            here = mine.nonzero().flatten()
            seen = {name: values[here].clone() for name, values in observation.items()}
            at = torch.full((len(here),), step)
            kept.append((seen, states[0][here].clone(), observer.pictures()[here], masks[here], here, at))
        found = {"view": _view(observation)}
        for number, (network, each) in enumerate(zip(networks, (student, *untrained), strict=True)):
            with watched(network) as given:
                actions, states[number] = each.act(observation, states[number], rng if number < 2 else others)
            name = "hidden" if not number else controls[number - 1]
            found[name] = given[0]
            if not number:
                chosen = actions
                if states[0].ndim == 2 and states[0].shape[1] == 2 * given[0].shape[1]:
                    found["cells"] = states[0].chunk(2, 1)[1]
        for name, values in found.items():
            columns.setdefault(name, []).append(values[alive].clone())
        for part, values in zip(parts, (true, been, torch.arange(levels), places, counted), strict=True):
            part.append(values[alive].clone())
        result = engine.step(chosen)
        observation = result.observation
        alive = alive & ~(result.terminated | result.truncated).cpu()
        if not bool(alive.any()):
            break
    true, visited, groups, places, counted = (torch.cat(part) for part in parts)
    if not isinstance(engine, MazeEngine):
        places = grid_cells(true, quantities)
    steps = StudentSteps(
        {name: torch.cat(each) for name, each in columns.items()}, true, quantities, visited, groups, places, counted
    )
    return steps, _joined(kept, tuple(observer.objects))


def _joined(kept: Sequence[Any], objects: tuple[str, ...]) -> StudentMoments:
    observation = {name: torch.cat([each[0][name] for each in kept]) for name in kept[0][0]}
    state, pictures, masks, groups, steps = (torch.cat([each[n] for each in kept]) for n in range(1, 6))
    return StudentMoments(observation, state, pictures, masks, objects, groups, steps)


def _truth(domain: Any, engine: Any, observer: Any, masks: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Quantities `[N]` by name, where they count `[N, Q]`, and a place `[N]` for the control task."""
    told = dict(observer.privileged_state())
    if isinstance(engine, MazeEngine):
        cell, heading = engine.cell.cpu().long(), engine.heading.cpu().long()
        left = actions_to_goal(MazeLevels(engine.walls.cpu(), cell, heading, engine.goal.cpu())).float()
        told["actions_to_goal"] = left
        told["wall_ahead"] = (engine.observation["image"][:, engine.view // 2, -2, 0].cpu() == 2).float()
        counted = torch.ones(len(cell), len(told), dtype=torch.bool)
        counted[:, list(told).index("actions_to_goal")] = left >= 0
        return told, counted, cell * 4 + heading
    view = view_of(domain, list(told))
    needs = {} if view is None else view.needs
    counted = visible_quantities(masks, list(observer.objects), list(told), needs)
    return told, counted, torch.zeros(len(masks), dtype=torch.int64)


def _view(observation: Observation) -> Tensor:
    """What is in view now `[N, F]`, as a linear probe can use it: symbols one by one, or a coarse picture."""
    image = observation["image"]
    if "direction" in observation:
        symbols = F.one_hot(image[..., 0].flatten(1).long(), 11).flatten(1)
        return torch.cat([symbols, F.one_hot(observation["direction"].cpu().long(), 4)], 1).float()
    small = F.adaptive_avg_pool2d(image.float().permute(0, 3, 1, 2) / 255, COARSE)
    return small.flatten(1)
