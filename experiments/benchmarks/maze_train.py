"""How fast a student trains on mazes, beside JaxUED's mazes in JAX and a plain loop of LSTM cells."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clutr.agents.networks import ActorCritic
from clutr.agents.ppo import PPOConfig, PPOStudent
from clutr.agents.recurrent import LSTM
from clutr.envs.domain import Engine, LevelBatch
from clutr.envs.home import at_home
from clutr.envs.maze.domain import MazeDomain
from clutr.envs.randomness import named_generator
from clutr.envs.workers import run_parts, use_workers, worker_count
from clutr.experiments.benchmarks.measurement import Measurement
from clutr.experiments.training.presets import LIGHT_STUDENT
from clutr.experiments.training.threads import use_cores

NUM_ENVS = 32
UPDATES = 6
"""The best of so many is reported, so that another program's burst does not count."""
PEERS_PYTHON = "CLUTR_PEERS_PYTHON"
"""The environment variable that names the interpreter in which JaxUED is installed, if it is not this one."""


class LoopedLSTM(LSTM):
    """The same layer as most torch code writes it: an `LSTMCell` step at a time under autograd."""

    def forward(
        self, inputs: Tensor, episode_starts: Tensor, state: Tensor, index: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `LSTM.forward`."""
        inputs = inputs if index is None else inputs[index]
        hidden, cell = state.split(self.hidden_size, 1)
        weights = self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0
        hiddens = []
        for t in range(len(inputs)):
            keep = (~episode_starts[t]).to(inputs.dtype).unsqueeze(1)
            hidden, cell = torch.lstm_cell(inputs[t], (hidden * keep, cell * keep), *weights)
            hiddens.append(hidden)
        return torch.stack(hiddens), torch.cat([hidden, cell], 1)


def run(progress: Callable[[str], None]) -> list[Measurement]:
    """Measure full updates: sampling levels, rolling out, learning. Needs about two minutes."""
    use_cores()
    cores = worker_count()
    progress("matrix multiplication")
    peak = matrix_multiply_peak(cores)
    domain = MazeDomain()
    engine = domain.engine(NUM_ENVS)
    config = PPOConfig(shards=cores)
    light_config = replace(LIGHT_STUDENT, shards=cores)
    progress("the published student")
    ours, ours_alone = on_all_and_on_one(config, domain, engine)
    progress("the published student with a loop of LSTM cells")
    looped_student = _student(config, engine)
    network = looped_student.network
    assert isinstance(network, ActorCritic)
    flops = training_flops(network, config)
    network.core = LoopedLSTM(network.torso.width, config.hidden, named_generator(0, "bench", "loop"))
    looped_student.optimiser = torch.optim.Adam(looped_student.network.parameters(), config.learning_rate, fused=True)
    loop = steps_per_second(looped_student, domain, engine, updates=2)
    progress("JaxUED's mazes and the published student in JAX")
    jaxued, jax_rate = jaxued_steps_per_second()
    progress("the light student")
    light, light_alone = on_all_and_on_one(light_config, domain, engine)
    progress("two light students")
    two = pairs_per_second(light_config, domain, engine)
    progress("one LSTM layer")
    mine, torchs = _layer_seconds()
    published = f"published student (LSTM {config.hidden}), {_shape(config)}, domain randomisation"
    light_name = f"light student (LSTM {light_config.hidden}), {_shape(light_config)}"
    on_one, many = "the same on one core", f"on {cores} cores"
    return [
        Measurement.beside(published, ours, "steps/s", "the same with torch.lstm_cell in a loop", loop),
        Measurement(published, ours, "steps/s", jaxued, jax_rate, ours / jax_rate if jax_rate else None),
        Measurement.beside(light_name, light, "steps/s", "published student", ours),
        Measurement.beside(f"published student {many}", ours, "steps/s", on_one, ours_alone),
        Measurement.beside(f"light student {many}", light, "steps/s", on_one, light_alone),
        Measurement.beside(f"each of two light students {many}", two, "steps/s", "one light student", light),
        Measurement.beside(
            "arithmetic of the published student's training, as if no observation came twice",
            ours * flops / 1e9,
            "GFLOP/s",
            f"matrix multiplication 2048^3 in float32 {many}",
            peak / 1e9,
        ),
        Measurement.beside(
            "LSTM 149 -> 256 with resets, 256 steps of 32, forward and backward, one core",
            1 / mine,
            "passes/s",
            "torch.nn.LSTM, which cannot reset",
            1 / torchs,
        ),
    ]


def _shape(config: PPOConfig) -> str:
    return f"{NUM_ENVS} x 256, {config.epochs} epochs of {config.minibatches}"


def on_all_and_on_one(config: PPOConfig, domain: MazeDomain, engine: Engine) -> tuple[float, float]:
    """Steps per second of one student on all cores and on one."""
    cores = worker_count()
    on_all = steps_per_second(_student(config, engine), domain, engine)
    try:
        use_workers(1)
        return on_all, steps_per_second(_student(config, engine), domain, engine)
    finally:
        use_workers(cores)


def pairs_per_second(config: PPOConfig, domain: MazeDomain, engine: Engine) -> float:
    """Steps per second of each of two students that play the same levels, as under PAIRED and CLUTR."""
    students = [_student(config, engine, name) for name in ("protagonist", "antagonist")]

    def update(levels: LevelBatch) -> None:
        played = [student.rollout(engine, levels) for student in students]
        run_parts(lambda index: students[index].learn(played[index]), range(2))

    return NUM_ENVS * students[0].config.rollout_steps / best_seconds(update, domain, engine, UPDATES)


def jaxued_steps_per_second() -> tuple[str, float | None]:
    """The peer's name with its versions, and its steps per second; None, and how to get it, where it is missing."""
    name, found = run_jaxued("the same on JaxUED's mazes in JAX, all compiled", "--updates", str(UPDATES))
    return name, found["steps_per_second"] if found else None


def run_jaxued(name: str, *arguments: str) -> tuple[str, dict[str, Any] | None]:
    """Run the peer's program: its `name` with its versions, and what it printed.

    Where it is missing or fails: what to do or what went wrong, and None.
    """
    given = os.environ.get(PEERS_PYTHON, "")
    python = str(at_home(given)) if given else ""
    if not python and not all(importlib.util.find_spec(name) for name in ("jaxued", "optax")):
        return f'JaxUED is not installed: pip install "clutr[peers]", or {PEERS_PYTHON}=PYTHON of another place', None
    script = Path(__file__).with_name("jaxued_peer.py")
    command = [python or sys.executable, "-P", str(script), *arguments]  # -P: not what lies beside it
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"JaxUED did not run: {error}", None
    if done.returncode:
        return f"JaxUED did not run: {(done.stderr.strip() or 'no message').splitlines()[-1]}", None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    versions = ", ".join(f"{name} {found[name]}" for name in ("jax", "flax", "jaxued"))
    return f"{name} ({versions}; {found['backend']})", found


def _student(config: PPOConfig, engine: Engine, name: str = "bench") -> PPOStudent:
    config = replace(config, rollout_steps=256)
    return config.build(engine.observation_space, engine.action_space, 1, name)


def steps_per_second(student: PPOStudent, domain: MazeDomain, engine: Engine, updates: int = UPDATES) -> float:
    """Environment steps per second of the best of some updates, after one to warm up."""
    steps = student.config.rollout_steps * engine.num_envs
    return steps / best_seconds(lambda levels: student.learn(student.rollout(engine, levels)), domain, engine, updates)


def best_seconds(update: Callable[[LevelBatch], object], domain: MazeDomain, engine: Engine, updates: int) -> float:
    """Seconds of the best of some updates on new levels, their sampling included, after one to warm up."""
    rng = named_generator(0, "bench", "levels")
    best = float("inf")
    for number in range(updates + 1):
        started = time.perf_counter()
        update(domain.sample(engine.num_envs, rng))
        if number:
            best = min(best, time.perf_counter() - started)
    return best


def matrix_multiply_peak(cores: int = 1, size: int = 2048, repetitions: int = 8) -> float:
    """Floating-point operations per second of the best of some square matrix products, one on each core at a time."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    best = float("inf")
    for _ in range(repetitions):
        started = time.perf_counter()
        run_parts(lambda _: torch.mm(a, b), range(cores))
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 * cores / best


def training_flops(network: ActorCritic, config: PPOConfig) -> float:
    """Floating-point operations of matrix products for one environment step of training.

    The rollout's forward pass, and in each epoch a forward and a backward pass, which is twice a forward pass.
    """
    windows = getattr(network.torso, "windows", 1)
    forward = 0
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            forward += 2 * parameter.numel() * (windows if "convolution" in name else 1)
    return forward * (1 + 3 * config.epochs)


def _layer_seconds() -> tuple[float, float]:
    """Seconds of a forward and backward pass of our layer and of torch's."""
    ours, theirs = LSTM(149, 256, named_generator(0, "bench", "layer")), nn.LSTM(149, 256)
    inputs = torch.rand(256, NUM_ENVS, 149)
    episode_starts = torch.zeros(256, NUM_ENVS, dtype=torch.bool)
    state = torch.zeros(NUM_ENVS, 512)

    def best(forward: Callable[[], Tensor]) -> float:
        seconds = []
        for _ in range(UPDATES):
            started = time.perf_counter()
            forward().sum().backward()
            seconds.append(time.perf_counter() - started)
        return min(seconds[1:])

    return best(lambda: ours(inputs, episode_starts, state)[0]), best(lambda: theirs(inputs)[0])
