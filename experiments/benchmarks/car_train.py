"""How fast a student trains on cars, beside the same update on whole stacks of pictures, as libraries keep them."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clutr.agents.distributions import ScaledBeta
from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.agents.pixels import PixelActorCritic, Stacks
from clutr.agents.ppo import PPOStudent
from clutr.agents.student import Trajectories
from clutr.envs.car.domain import CarDomain
from clutr.envs.domain import Engine, LevelBatch, Observation, Step
from clutr.envs.randomness import named_generator
from clutr.envs.workers import worker_count
from clutr.experiments.benchmarks.maze_train import matrix_multiply_peak
from clutr.experiments.benchmarks.measurement import Measurement
from clutr.experiments.training.presets import LIGHT_CAR_STUDENT
from clutr.experiments.training.threads import use_cores

NUM_ENVS = 16
UPDATES = 3
"""The best of so many is reported, so that another program's burst does not count."""
PLAIN = "the same with whole stacks kept as bytes, channels first, a minibatch at once"


class WholeStacks(PixelActorCritic):
    """The same network as most libraries feed it: each stack kept whole, channels first, a minibatch at once."""

    chunk = None

    def prepare(self, observations: Observation, episode_starts: Tensor) -> Any:
        """Bytes `[1, T * N, channels, height, width]`, every frame in up to four places."""
        parts = [
            Stacks.of(observations["image"], episode_starts)[:, index]
            for index in torch.arange(episode_starts.numel()).split(50)
        ]
        return torch.cat([part.pixels().to(torch.uint8).permute(0, 3, 1, 2) for part in parts]).contiguous()[None]

    def forward(self, prepared: Any, episode_starts: Tensor) -> tuple[ScaledBeta, Tensor]:
        """See `Network`."""
        features = prepared.flatten(0, 1).float() / 128 - 1
        for weight, bias, (_, _, stride) in zip(self.torso.weights, self.torso.biases, self.torso.layers, strict=True):
            features = F.relu(F.conv2d(features, weight.permute(0, 3, 1, 2).contiguous(), bias, stride))
        return self._heads(features.flatten(1).view(*episode_starts.shape, -1))


class TimedEngine:
    """An engine that adds up the seconds spent in it.

    Args:
        engine: who does the work.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.num_envs, self.device = engine.num_envs, engine.device
        self.observation_space, self.action_space = engine.observation_space, engine.action_space
        self.seconds = 0.0

    @property
    def solved(self) -> Tensor:
        """See `Engine`."""
        return self.engine.solved

    @property
    def agent_position(self) -> Tensor:
        """See `Engine`."""
        return self.engine.agent_position

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        """See `Engine`."""
        started = time.perf_counter()
        observation = self.engine.reset(levels, mask)
        self.seconds += time.perf_counter() - started
        return observation

    def step(self, actions: Tensor) -> Step:
        """See `Engine`."""
        started = time.perf_counter()
        outcome = self.engine.step(actions)
        self.seconds += time.perf_counter() - started
        return outcome


@dataclass(frozen=True)
class Seconds:
    """Of one update, by part."""

    engine: float
    policy: float
    learning: float

    @property
    def total(self) -> float:
        """Of all parts."""
        return self.engine + self.policy + self.learning


def run(progress: Callable[[str], None]) -> list[Measurement]:
    """Measure full updates: sampling tracks, driving, learning. Needs about a minute."""
    use_cores()
    cores = worker_count()
    progress("matrix multiplication")
    peak = matrix_multiply_peak(cores)
    domain = CarDomain()
    engine = TimedEngine(domain.engine(NUM_ENVS))
    config = PixelPPOConfig(shards=cores)
    progress("the published student")
    published = _student(config, engine)
    ours, trajectories = seconds(published, domain, engine)
    progress("the published student on whole stacks")
    plain = learning_seconds(_plain(config, engine), trajectories)
    progress("the light student")
    light_config = replace(LIGHT_CAR_STUDENT, shards=cores)
    light, _ = seconds(_student(light_config, engine), domain, engine)
    decisions = NUM_ENVS * config.rollout_steps
    shape = f"{NUM_ENVS} x {config.rollout_steps}, {config.epochs} epochs"
    whole = ours.engine + ours.policy + plain
    multiply = f"matrix multiplication 2048^3 in float32 on {cores} cores"
    updates = learning_flops(_network(published)) * config.epochs * decisions / ours.learning
    return [
        Measurement.beside(f"published student, {shape}", decisions / ours.total, "decisions/s", PLAIN, decisions /
        whole), Measurement.beside(
            f"update of the published student, {shape}", decisions / ours.learning, "decisions/s", PLAIN,
            decisions / plain,
        ),
        Measurement.beside(
            f"light student, {NUM_ENVS} x 125, {light_config.epochs} epochs of {light_config.minibatches}",
            decisions / light.total, "decisions/s", "published student",
            decisions / ours.total,
        ),
        Measurement(f"engine in the published student's rollout, {NUM_ENVS} cars", decisions / ours.engine,
        "decisions/s"), Measurement(f"policy in the published student's rollout, {NUM_ENVS} cars", decisions /
        ours.policy, "decisions/s"), Measurement.beside("arithmetic of the published student's update", updates / 1e9,
        "GFLOP/s", multiply, peak / 1e9),
    ]  # fmt: skip


def _student(config: PixelPPOConfig, engine: Engine) -> PPOStudent:
    return config.build(engine.observation_space, engine.action_space, 1, "bench")


def _network(student: PPOStudent) -> PixelActorCritic:
    assert isinstance(student.network, PixelActorCritic)
    return student.network


def _plain(config: PixelPPOConfig, engine: Engine) -> PPOStudent:
    rng = named_generator(1, "bench", "weights")
    network = WholeStacks(engine.observation_space, engine.action_space, config.torso, config.head, rng)
    return PPOStudent(config, network, 1, "bench", "cpu")


def seconds(student: PPOStudent, domain: CarDomain, engine: TimedEngine) -> tuple[Seconds, Trajectories]:
    """The best of some updates, after one to warm up, and what was played last."""
    rng = named_generator(0, "bench", "tracks")
    best: Seconds | None = None
    for update in range(UPDATES + 1):
        engine.seconds = 0.0
        started = time.perf_counter()
        trajectories = student.rollout(engine, domain.sample(NUM_ENVS, rng))
        played = time.perf_counter()
        student.learn(trajectories)
        learned = time.perf_counter()
        parts = Seconds(engine.seconds, played - started - engine.seconds, learned - played)
        if update and (best is None or parts.total < best.total):
            best = parts
    assert best is not None
    return best, trajectories


def learning_seconds(student: PPOStudent, trajectories: Trajectories, updates: int = UPDATES - 1) -> float:
    """The best of some updates from the same trajectories, after one to warm up."""
    best = math.inf
    for update in range(updates + 1):
        started = time.perf_counter()
        student.learn(trajectories)
        if update:
            best = min(best, time.perf_counter() - started)
    return best


def learning_flops(network: PixelActorCritic) -> float:
    """Floating-point operations of matrix products and convolutions for one sample in one epoch.

    A layer takes its products once forward, once for the gradient of its weights, and once for that of its input, which
    the first convolution does without.
    """
    total = 0.0
    rows, columns, _ = network.torso.picture
    for layer, (weight, (_, side, stride)) in enumerate(zip(network.torso.weights, network.torso.layers, strict=True)):
        rows, columns = (rows - side) // stride + 1, (columns - side) // stride + 1
        total += 2 * weight.numel() * rows * columns * (2 if layer == 0 else 3)
    heads = [p for name, p in network.named_parameters() if p.ndim == 2 and not name.startswith("torso")]
    return total + sum(6 * parameter.numel() for parameter in heads)
