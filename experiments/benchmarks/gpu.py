"""What a GPU computes beside a processor, and how fast it trains 4,096 mazes with recorded steps and without."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from clutr.agents.captured import CapturedRollout, CapturedUpdate
from clutr.agents.ppo import Batch, PPOConfig, PPOStudent
from clutr.agents.student import Trajectories
from clutr.envs.domain import Observation
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.measurement import Measurement
from clutr.experiments.storage import RunError
from clutr.experiments.training.presets import LIGHT_STUDENT

NUM_ENVS = 4_096
STEPS = 256
CHECKED_ENVS = 64
"""Mazes of the checks, small enough for the processor."""
UPDATES = 3
"""The best of so many is reported, after one to warm up."""


def run(progress: Callable[[str], None]) -> list[Measurement]:
    """Check, then measure. Needs under eight minutes. Raises `RunError` without a CUDA GPU."""
    if not torch.cuda.is_available():
        raise RunError("this bench needs a CUDA GPU, and torch finds none: `clutr bench maze-train` needs no GPU")
    device = torch.device("cuda")
    progress("the engine beside itself on the processor")
    figures = [engine_differences(device, CHECKED_ENVS, 500)]
    for name, student in (("published", PPOConfig()), ("light", LIGHT_STUDENT)):
        config = replace(student, rollout_steps=STEPS)
        progress(f"gradients of the {name} student beside the processor's")
        figures += gradient_differences(name, replace(config, rollout_steps=64), device, CHECKED_ENVS)
        progress(f"the {name} student's recorded steps beside plain ones")
        figures += captured_differences(name, replace(config, rollout_steps=64), device, CHECKED_ENVS)
        for captured in (False, True):
            progress(f"training the {name} student, {'recorded' if captured else 'plain'} steps")
            figures += speed(name, config, device, NUM_ENVS, captured)
    return figures


def _pair(config: PPOConfig, device: torch.device, num_envs: int, capturable: bool) -> tuple[MazeEngine, PPOStudent]:
    engine = MazeDomain().engine(num_envs, device)
    assert isinstance(engine, MazeEngine)
    student = config.build(engine.observation_space, engine.action_space, 1, "bench", device)
    if capturable:
        student.optimiser = torch.optim.Adam(
            student.network.parameters(), config.learning_rate, eps=1e-5, fused=True, capturable=device.type == "cuda"
        )
    return engine, student


def engine_differences(device: torch.device, num_envs: int, steps: int) -> Measurement:
    """Numbers in which an engine on `device` differs from one on the processor, over random steps with resets."""
    domain = MazeDomain()
    rng = named_generator(1, "bench", "levels")
    levels = domain.sample(num_envs, rng)
    engines = [domain.engine(num_envs, where) for where in ("cpu", device)]
    seen = [engine.reset(levels) for engine in engines]
    differences = _differing(*seen)
    for _ in range(steps):
        actions = torch.randint(3, (num_envs,), generator=rng)
        here, there = (engine.step(actions.to(engine.device)) for engine in engines)
        differences += _differing(here.observation, there.observation)
        for name in ("reward", "terminated", "truncated"):
            differences += int((getattr(here, name) != getattr(there, name).cpu()).sum())
        done = here.terminated | here.truncated
        seen = [engine.reset(mask=done.to(engine.device)) for engine in engines]
        differences += _differing(*seen)
    what = f"numbers that differ from the processor's: engine, {steps} random steps of {num_envs} mazes"
    return Measurement(what, float(differences), "numbers")


def _differing(here: Observation, there: Observation) -> int:
    return sum(int((value != there[name].cpu()).sum()) for name, value in here.items())


def gradient_differences(name: str, config: PPOConfig, device: torch.device, num_envs: int) -> list[Measurement]:
    """The largest difference of a parameter's gradient from the processor's, over that gradient's largest number."""
    engine, student = _pair(config, torch.device("cpu"), num_envs, capturable=False)
    played = student.rollout(engine, MazeDomain().sample(num_envs, named_generator(2, "bench", "levels")))
    _, other = _pair(config, device, num_envs, capturable=False)
    other.network.load_state_dict(student.network.state_dict())
    gradients = []
    for each in (student, other):
        batch = Batch.of(each.network, _moved(played, each.device), None)
        each.backward(batch, len(batch))
        gradients.append(
            [parameter.grad.cpu() for parameter in each.network.parameters() if parameter.grad is not None]
        )
    worst = max(
        float((one - two).abs().max() / one.abs().max().clamp(min=1e-12)) for one, two in zip(*gradients, strict=True)
    )
    return [Measurement(f"{name} student: largest relative difference of a gradient from the processor's", worst, "")]


def captured_differences(name: str, config: PPOConfig, device: torch.device, num_envs: int) -> list[Measurement]:
    """What recorded rollouts and updates change: actions that differ, and the largest difference of a weight."""
    engine, student = _pair(config, device, num_envs, capturable=True)
    other_engine, other = _pair(config, device, num_envs, capturable=True)
    rollout, update = CapturedRollout(other, other_engine), CapturedUpdate(other, config.minibatches)
    rng, actions = named_generator(3, "bench", "levels"), 0
    for _ in range(2):
        levels = MazeDomain().sample(num_envs, rng)
        plain, recorded = student.rollout(engine, levels), rollout(levels)
        actions += int((plain.actions != recorded.actions).sum())
        student.learn(plain)
        update(recorded)
    worst = max(
        float((one - two).detach().abs().max())
        for one, two in zip(student.network.parameters(), other.network.parameters(), strict=True)
    )
    return [
        Measurement(f"{name} student: actions that differ in two recorded rollouts", float(actions), "actions"),
        Measurement(f"{name} student: largest difference of a weight after two recorded updates", worst, ""),
    ]


@dataclass(frozen=True)
class _Seconds:
    rollout: float
    update: float


def speed(name: str, config: PPOConfig, device: torch.device, num_envs: int, captured: bool) -> list[Measurement]:
    """Steps per second of rollouts, updates and both, and the device's peak of memory."""
    engine, student = _pair(config, device, num_envs, capturable=captured)
    rollout = CapturedRollout(student, engine) if captured else lambda levels: student.rollout(engine, levels)
    update = CapturedUpdate(student, config.minibatches) if captured else student.learn
    domain, rng, found = MazeDomain(), named_generator(4, "bench", "levels"), []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(UPDATES + 1):
        levels = domain.sample(num_envs, rng)
        started = _now(device)
        played = rollout(levels)
        between = _now(device)
        update(played)
        found.append(_Seconds(between - started, _now(device) - between))
    steps = num_envs * config.rollout_steps
    best = min(found[1:], key=lambda each: each.rollout + each.update)
    what = f"{name} student, {num_envs:,} x {config.rollout_steps}, {'recorded' if captured else 'plain'} steps"
    figures = [
        Measurement(f"{what}: rollout", steps / best.rollout, "steps/s"),
        Measurement(f"{what}: update", steps / best.update, "steps/s"),
        Measurement(f"{what}: both", steps / (best.rollout + best.update), "steps/s"),
    ]
    if device.type == "cuda":
        figures.append(Measurement(f"{what}: peak of memory", torch.cuda.max_memory_allocated(device) / 1e9, "GB"))
    return figures


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _moved(played: Trajectories, device: torch.device) -> Trajectories:
    """The same trajectories on another device."""
    columns: dict[str, Any] = {
        name: {key: one.to(device) for key, one in value.items()} if isinstance(value, dict) else value.to(device)
        for name, value in vars(played).items()
    }
    return Trajectories(**columns)
