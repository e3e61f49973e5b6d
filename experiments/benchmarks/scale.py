"""How fast mazes are played and learnt on Ray RLlib, beside one process, plain RLlib, and many runners predicted."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from clutr.agents.backend import NativeBackend
from clutr.agents.networks import ActorCritic
from clutr.agents.ppo import PPOConfig
from clutr.agents.rllib import RLlibBackend, require_ray
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.randomness import named_generator
from clutr.envs.workers import use_workers
from clutr.experiments.benchmarks.maze_train import training_flops
from clutr.experiments.benchmarks.measurement import Measurement
from clutr.experiments.benchmarks.plain_rllib import minigrids_maze, our_maze, plain_rllib
from clutr.experiments.storage import RunError
from clutr.experiments.training.presets import LIGHT_STUDENT

ENVS = 32
"""Environments of each runner."""
WIDE = 256
"""Environments of one runner where the batch is large, as a student with small memory needs allows."""
RUNNERS = (1, 2, 4)
PREDICTED = (8, 16, 32, 64, 128, 256, 512)
REPETITIONS = 5
"""The best of so many is reported, so that another program's burst does not count."""
BANDWIDTH = 1.25e9
"""Bytes per second of the driver's network, assumed: 10 Gbit/s."""
LATENCY = 5e-4
"""Seconds from a message's start to its arrival, assumed."""
RUNNERS_PER_LEARNER = 8
"""Assumed for the prediction of whole updates."""


@dataclass(frozen=True)
class Rollouts:
    """The best of some rollouts of one size."""

    runners: int
    seconds: float
    """From the call to the trajectories."""
    play_seconds: float
    """Of these, in which the slowest runner played."""

    @property
    def overhead(self) -> float:
        """Seconds in which no level was played."""
        return max(0.0, self.seconds - self.play_seconds)


@dataclass(frozen=True)
class CostModel:
    """Seconds of an update of R runners with `ENVS` environments each.

    rollout(R) = play + fixed + each * R + 2 * LATENCY + bytes * R / BANDWIDTH: each runner has a processor of its own,
    they play at once, and the driver deals with their results one after the other through one network card.
    update(R) = rollout(R) + learn * R / learners + (weights * (learners + R) + bytes * R) / BANDWIDTH.
    """

    play: float
    """Of one runner's shard."""
    fixed: float
    """Of the driver for each rollout."""
    each: float
    """Of the driver for each runner."""
    sent: float
    """Bytes to and from each runner in a rollout."""
    learn: float
    """For one runner's shard on one learner."""
    weights: float
    """Bytes of the network."""

    def rollout(self, runners: int) -> float:
        """Seconds until all trajectories are there."""
        return self.play + self.fixed + runners * (self.each + self.sent / BANDWIDTH) + 2 * LATENCY

    def update(self, runners: int) -> float:
        """Seconds of a rollout and of learning from it, with a learner for every `RUNNERS_PER_LEARNER` runners."""
        learners = math.ceil(runners / RUNNERS_PER_LEARNER)
        sharing = self.weights * (learners + runners) / BANDWIDTH + self.sent * runners / BANDWIDTH
        return self.rollout(runners) + self.learn * runners / learners + sharing


def fit(rollouts: Sequence[Rollouts], sent: float, learn: float, weights: float) -> CostModel:
    """A cost model from measured rollouts: least squares of the overhead on the number of runners, no part below 0.

    `play` is that of the smallest measurement, whose runners did not wait for each other's processor.
    """
    runners = np.array([each.runners for each in rollouts], dtype=float)
    overhead = np.array([each.overhead for each in rollouts])
    slope = float(np.polyfit(runners, overhead, 1)[0]) if len(rollouts) > 1 else 0.0
    intercept = float(overhead.mean() - slope * runners.mean())
    if slope < 0:
        slope, intercept = 0.0, float(overhead.mean())
    if intercept < 0:
        slope, intercept = float((runners * overhead).sum() / (runners * runners).sum()), 0.0
    return CostModel(rollouts[0].play_seconds, intercept, slope, sent, learn, weights)


def run(progress: Callable[[str], None]) -> list[Measurement]:
    """Measure. Needs about two minutes, and Ray. Raises `RunError` without it."""
    try:
        require_ray()
    except ImportError as error:
        raise RunError(str(error)) from error
    import ray  # noqa: PLC0415 (start-up of the command line must not wait for it)

    from clutr.agents.rllib.cluster import start_ray  # noqa: PLC0415

    threads = torch.get_num_threads()
    start_ray(RLlibBackend(runners=RUNNERS[-1], learners=1))
    torch.set_num_threads(1)  # as Ray does in a runner that has one processor
    use_workers(1)
    try:
        return _measure(progress, LIGHT_STUDENT, MazeDomain())
    finally:
        torch.set_num_threads(threads)
        use_workers(None)
        ray.shutdown()


def _measure(progress: Callable[[str], None], config: PPOConfig, domain: MazeDomain) -> list[Measurement]:
    progress("one process")  # before other processes take their share of the processor
    alone = _student(NativeBackend(), config, domain, ENVS)
    here = _best_rollouts(alone, domain, ENVS, 1)
    learning = _learn_seconds(alone, domain)
    steps = ENVS * config.rollout_steps
    native_speed = steps / here.seconds
    rollouts, cores = [], len(_affinity())
    student: Any = None
    for runners in RUNNERS:
        progress(f"{runners} runners")
        student = None  # let go of the last one's processes before others start
        student = _student(RLlibBackend(runners=runners), config, domain, ENVS * runners)
        rollouts.append(_best_rollouts(student, domain, ENVS * runners, runners))
    payloads = _payloads(student, domain, runners=RUNNERS[-1])
    progress(f"1 runner, {WIDE} mazes")
    student = None
    wide = _best_rollouts(_student(RLlibBackend(runners=1), config, domain, WIDE), domain, WIDE, 1)
    size = f"{ENVS} mazes x {config.rollout_steps} steps a runner"
    figures = [Measurement(f"rollout in one process, {size}", native_speed, "steps/s")]
    for each in rollouts:
        speed = steps * each.runners / each.seconds
        label = f"rollout, {each.runners} runners on {cores} cores, {size}"
        figures.append(Measurement.beside(label, speed, "steps/s", "one process", native_speed))
        per_core = speed / min(each.runners, cores)
        figures.append(Measurement.beside(f"{label}: per core", per_core, "steps/s", "one process", native_speed))
    speed, wide_speed = steps / rollouts[0].seconds, WIDE * config.rollout_steps / wide.seconds
    update = steps / (rollouts[0].seconds + learning)
    native = steps / (here.seconds + learning)
    what = f"update, 1 runner, {ENVS} mazes, {config.epochs} epochs: per core"
    figures.append(Measurement.beside(what, update, "steps/s", "one process on one core", native))
    for mazes, make in (("clutr/Maze-v0", our_maze(domain)), ("minigrid's mazes", minigrids_maze(domain))):
        progress(f"plain RLlib on {mazes}")
        plain = f"RLlib's own PPO, 1 runner, no memory, {{}} x {mazes}"
        sampling, training = plain_rllib(make, config, ENVS, config.epochs)
        figures.append(
            Measurement.beside(f"rollout, 1 runner, {ENVS} mazes", speed, "steps/s", plain.format(ENVS), sampling)
        )
        what = f"update, 1 runner, {ENVS} mazes, {config.epochs} epochs, the driver learns"
        figures.append(Measurement.beside(what, update, "steps/s", plain.format(ENVS), training))
        progress(f"plain RLlib with a recurrent network on {mazes}")
        recurrent = f"RLlib's own PPO, 1 runner, LSTM of the same size, {ENVS} x {mazes}"
        sampling, training = plain_rllib(make, config, ENVS, config.epochs, recurrent=True)
        what_rollout = f"rollout, 1 runner, {ENVS} mazes"
        figures.append(Measurement.beside(what_rollout, speed, "steps/s", recurrent, sampling))
        figures.append(Measurement.beside(what, update, "steps/s", recurrent, training))
        sampling, _ = plain_rllib(make, config, WIDE, 1)
        figures.append(
            Measurement.beside(f"rollout, 1 runner, {WIDE} mazes", wide_speed, "steps/s", plain.format(WIDE), sampling)
        )
    figures += [
        Measurement(f"serialised, for each runner and update: {name}", size_, "bytes")
        for name, size_ in payloads.items()
    ]
    lost = rollouts[0].overhead / rollouts[0].seconds
    figures.append(Measurement("share of a rollout lost to serialisation and transport, 1 runner", lost, "of the time"))
    weights, sent = payloads["weights"], sum(payloads.values())
    return figures + _predictions(fit(rollouts, sent, learning, weights), steps, alone.network, config)


def _predictions(model: CostModel, steps: int, network: ActorCritic, config: PPOConfig) -> list[Measurement]:
    """What the model says, and what it was fitted to."""
    forward = training_flops(network, config) / (1 + 3 * config.epochs)
    figures = [
        Measurement("cost model: arithmetic of the policy", forward, "floating-point operations a step"),
        Measurement("cost model: a runner's playing", model.play, "s an update"),
        Measurement("cost model: the driver, fixed", model.fixed, "s an update"),
        Measurement("cost model: the driver, for each runner", model.each, "s an update"),
        Measurement("cost model: learning from a runner's shard on one learner", model.learn, "s an update"),
    ]
    one = steps / model.rollout(1)
    network_said = f"assuming {BANDWIDTH * 8e-9:.0f} Gbit/s to one driver, {LATENCY * 1e3:g} ms, a core a runner"
    for runners in PREDICTED:
        speed = steps * runners / model.rollout(runners)
        what = f"predicted rollout, {runners} runners, {network_said}"
        figures.append(Measurement.beside(what, speed, "steps/s", "as many single runners", one * runners))
        speed = steps * runners / model.update(runners)
        what = f"predicted update, {runners} runners, a learner for {RUNNERS_PER_LEARNER} of them, {network_said}"
        figures.append(Measurement(what, speed, "steps/s"))
    return figures


def _affinity() -> set[int]:
    import os  # noqa: PLC0415

    return os.sched_getaffinity(0)


def _student(backend: Any, config: PPOConfig, domain: MazeDomain, envs: int) -> Any:
    engine = domain.engine(envs)
    return backend.students(config, ("student",), domain, engine, 1, torch.device("cpu"))["student"]


def _best_rollouts(student: Any, domain: MazeDomain, envs: int, runners: int) -> Rollouts:
    """The fastest of some rollouts, after one to warm up."""
    engine, rng, found = domain.engine(envs), named_generator(0, "bench", "levels"), []
    for _ in range(REPETITIONS + 1):
        levels = domain.sample(envs, rng)
        started = time.perf_counter()
        student.rollout(engine, levels)
        seconds = time.perf_counter() - started
        cluster = getattr(student, "cluster", None)
        found.append(Rollouts(runners, seconds, max(cluster.play_seconds) if cluster else seconds))
    return min(found[1:], key=lambda each: each.seconds)


def _learn_seconds(student: Any, domain: MazeDomain) -> float:
    played = student.rollout(domain.engine(ENVS), domain.sample(ENVS, named_generator(0, "bench", "learning")))
    best = math.inf
    for _ in range(3):
        started = time.perf_counter()
        student.learn(played)
        best = min(best, time.perf_counter() - started)
    return best


def _payloads(student: Any, domain: MazeDomain, runners: int) -> dict[str, float]:
    """Bytes of what goes to and comes from each runner, as Ray serialises it."""
    from ray import cloudpickle  # noqa: PLC0415

    from clutr.agents.rllib.serialization import pack, pack_levels, pack_trajectories, select  # noqa: PLC0415

    levels = domain.sample(ENVS * runners, named_generator(0, "bench", "parcels"))
    played = student.rollout(domain.engine(ENVS * runners), levels)
    payloads = {
        "weights": pack(dict(student.local.network.state_dict())),
        "levels": pack_levels(levels[torch.arange(ENVS)]),
        "trajectories": pack_trajectories(select(played, torch.arange(ENVS))),
    }
    return {name: float(len(cloudpickle.dumps(payload, protocol=5))) for name, payload in payloads.items()}
