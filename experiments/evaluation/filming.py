"""Episodes as moving pictures: what happened step by step, what the student expected, and what it looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.agents.student import Policy
from clutr.envs.capabilities import PathDrawing
from clutr.envs.domain import Domain, LevelBatch, Task
from clutr.experiments.storage import RunError
from clutr.probes.student_saliency import occlusion_saliency

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class FilmOptions:
    """What a film shows beside the environment."""

    paths: bool = False
    """The way so far, instead of what the environment shows."""
    values: bool = False
    """The return that the student expects, as a curve."""
    saliency: bool = False
    """How much each part of the observation matters to the next action."""


@dataclass(frozen=True)
class FilmedEpisode:
    """One episode of one player."""

    player: str
    level: str
    frames: Pictures
    """`[T + 1, H, W, 3]`: before each of T steps, and at the end."""
    solved: bool
    value: float
    """The episode's return."""
    fps: float
    expected: NDArray[np.float64] | None = None
    """`[T + 1]`, the student's values, if they were asked for."""
    saliency: NDArray[np.float64] | None = None
    """`[T + 1, h, w]` in [0, 1], if it was asked for."""


@torch.no_grad()
def film(
    player: str, policy: Policy, domain: Domain, task: Task, level: LevelBatch, rng: torch.Generator, show: FilmOptions
) -> FilmedEpisode:
    """Play one episode and keep its pictures.

    Args:
        player: what the policy is called.
        policy: plays, sampling its actions.
        domain: draws the paths.
        task: makes the engine.
        level: one level.
        rng: draws the actions.
        show: what to show.

    Raises:
        RunError: if the environment cannot be drawn, or the policy has no values to show.
    """
    engine: Any = task.engine(1)
    if not hasattr(engine, "render"):
        raise RunError(f"{task.name} cannot be filmed: its environment draws no pictures")
    network: Any = getattr(policy, "network", None)
    if (show.values or show.saliency) and not hasattr(network, "step"):
        kind = type(policy).__name__
        raise RunError(f"values and saliency need a student of this library's PPO; {player} is a {kind}")
    observation, state = engine.reset(level), policy.initial_state(1)
    frames, positions, expected, saliency = [], [engine.agent_position.clone()], [], []
    total, ended = 0.0, False
    while True:
        frames.append(_picture(domain, engine, level, positions if show.paths else None))
        if show.values:
            expected.append(float(network.step(observation, state)[1]))
        if show.saliency:
            saliency.append(occlusion_saliency(network, observation, state))
        if ended:
            break
        action, state = policy.act(observation, state, rng)
        observation, reward, terminated, truncated = engine.step(action)
        total += float(reward)
        ended = bool(terminated | truncated)
        positions.append(engine.agent_position.clone())
    return FilmedEpisode(
        player,
        task.name,
        np.stack(frames),
        bool(engine.solved[0]),
        total,
        float(getattr(engine, "render_fps", 10.0)),
        np.array(expected) if show.values else None,
        np.stack(saliency) if show.saliency else None,
    )


def _picture(domain: Domain, engine: Any, level: LevelBatch, positions: Sequence[Tensor] | None) -> Pictures:
    """The environment as it is now `[H, W, 3]`, with the way so far if there are `positions`."""
    if positions is not None and isinstance(domain, PathDrawing):
        present = {"agent": positions[-1], "heading": getattr(engine, "heading", None)}
        here: Any = level  # mazes are drawn with the agent where it is
        if set(present) <= {field.name for field in fields(here)}:
            here = replace(here, **present)
        drawn = domain.draw_paths(here, torch.stack(list(positions), 1))
        if drawn is not None:
            return drawn.pictures[0].cpu().numpy()
    return np.array(engine.render()[0])
