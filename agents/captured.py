"""Rollouts and updates of recurrent maze students as CUDA graphs: what one step launches is recorded once and replayed.

On a GPU a step of thousands of mazes is a hundred short kernels, and launching them from Python takes longer than
running them. A graph replays them all at once, on the same memory each time. On a processor nothing is recorded and
the same functions run as they are, so that tests there hold them to the ordinary student.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from clutr.agents.distributions import sample_actions
from clutr.agents.losses import normalise
from clutr.agents.networks import ActorCritic, Sequences
from clutr.agents.ppo import Batch, PPOStudent
from clutr.agents.rollout import estimate
from clutr.agents.student import Trajectories
from clutr.envs.domain import LevelBatch
from clutr.envs.maze.engine import MazeEngine

WARM_UP = 3
"""Calls before a recording, as torch advises: they choose algorithms and allocate what stays."""


def captured(function: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """`function` as a CUDA graph; itself on other devices.

    It must read and write the same tensors in each call, and wait for no result. It is called a few times first: what
    it changes, the caller sets back.
    """
    if device.type != "cuda":
        return function
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


class CapturedRollout:
    """The same as `PPOStudent.rollout` for one engine, with the same random numbers.

    Args:
        student: a recurrent maze student.
        engine: N mazes on the student's device.
    """

    _STATE = ("_position", "_heading", "_codes", "_clock")

    def __init__(self, student: PPOStudent, engine: MazeEngine) -> None:
        network = student.network
        if not isinstance(network, ActorCritic):
            raise TypeError(f"only recurrent maze students can be recorded, not {type(network).__name__}")
        self.student, self.network, self.engine = student, network, engine
        self._graph: Callable[[], None] | None = None

    @torch.no_grad()
    def __call__(self, levels: LevelBatch) -> Trajectories:
        """Play each level in its own environment for T steps, and estimate advantages."""
        config, engine = self.student.config, self.engine
        engine.reset(levels)
        if self._graph is None:
            self._allocate(config.rollout_steps)
            self._keep()
            self._graph = captured(self._step, engine.device)
            engine.reset(levels)
        self._keep()
        self.noise.copy_(
            torch.stack(
                [
                    torch.rand(engine.num_envs, generator=self.student.action_rng, device=engine.device)
                    for _ in range(config.rollout_steps)
                ]
            )
        )
        self.state.zero_()
        self.starts.fill_(True)
        self.time.zero_()
        for _ in range(config.rollout_steps):
            self._graph()
        _, following, _ = self.network.step(engine.observation, self.state)
        columns = {name: column.clone() for name, column in self.columns.items()}
        next_values = torch.cat([columns["values"][1:], following.unsqueeze(0)])
        next_values = torch.where(columns["truncated"], columns.pop("last_values"), next_values)
        next_values = next_values.masked_fill(columns["terminated"], 0.0)
        seen = {name: columns.pop(name) for name in engine.observation_space.spaces}
        played = Trajectories(observations=seen, next_values=next_values, advantages=torch.empty(0), **columns)
        estimate(played, config.discount, config.gae_lambda, self.student.normaliser)
        return played

    def _allocate(self, steps: int) -> None:
        """What the graph reads and writes."""
        engine = self.engine
        device, num_envs, view = engine.device, engine.num_envs, engine.view
        self.noise = torch.zeros(steps, num_envs, device=device)
        self.state = self.network.initial_state(num_envs)
        self.starts = torch.ones(num_envs, dtype=torch.bool, device=device)
        self.time = torch.zeros(1, dtype=torch.int64, device=device)
        kinds = {
            torch.float32: ("log_probs", "rewards", "values", "last_values"),
            torch.int64: ("actions", "direction"),
        }
        kinds[torch.bool] = ("terminated", "truncated", "solved", "episode_starts")
        self.columns = {
            name: torch.zeros(steps, num_envs, dtype=dtype, device=device)
            for dtype, names in kinds.items()
            for name in names
        }
        self.columns["image"] = torch.zeros(steps, num_envs, view, view, 3, dtype=torch.uint8, device=device)
        self._kept: dict[str, Tensor] = {}
        self._start: dict[str, Tensor] = {}

    def _keep(self) -> None:
        """Move the engine's levels and state to the memory that the graph knows."""
        for kept, names in (
            (self._kept, self._STATE),
            (self._start, ("_grid", "_start", "_start_heading", "_start_codes")),
        ):
            for name in names:
                value = getattr(self.engine, name)
                if name not in kept:
                    kept[name] = value.clone()
                elif kept[name] is not value:
                    kept[name].copy_(value)
                setattr(self.engine, name, kept[name])

    def _step(self) -> None:
        engine = self.engine
        observation = engine.observation
        row = {name: value.clone() for name, value in observation.items()}
        policy, values, state = self.network.step(observation, self.state)
        actions = sample_actions(policy.log_probs, self.noise.index_select(0, self.time).squeeze(0))
        observation, reward, terminated, truncated = engine.step(actions)
        dones = terminated | truncated
        _, last_values, _ = self.network.step(observation, state)
        truncated = truncated & ~terminated
        row |= {
            "actions": actions,
            "log_probs": policy.log_prob(actions),
            "rewards": reward,
            "terminated": terminated,
            "truncated": truncated,
            "solved": engine.solved & dones,
            "episode_starts": self.starts,
            "values": values,
            "last_values": last_values.masked_fill(~truncated, 0.0),
        }
        for name, value in row.items():
            self.columns[name].index_copy_(0, self.time, value.unsqueeze(0))
        engine.reset(mask=dones)
        self._keep()
        self.state.copy_(state.masked_fill(dones.unsqueeze(1), 0.0))
        self.starts.copy_(dones)
        self.time.add_(1)
        # the recording itself may step once too often
        self.time.clamp_(max=len(self.noise) - 1)


class CapturedUpdate:
    """The same as `PPOStudent.optimise` with gradient steps that are recorded, for batches of one size.

    Every minibatch must have as many environments as the first. Observations count as distinct, as always on a GPU.

    Args:
        student: a recurrent maze student whose Adam can be recorded (`capturable`).
        minibatches: parts of a pass.
    """

    def __init__(self, student: PPOStudent, minibatches: int) -> None:
        self.student, self.minibatches = student, minibatches
        self._graph: Callable[[], None] | None = None

    def __call__(self, trajectories: Trajectories) -> Tensor:
        """All gradient steps of an update. Returns the metrics of the last, `[6]`."""
        student = self.student
        batch = Batch.of(student.network, trajectories, None)
        for _ in range(student.config.epochs):
            for part in batch.split(self.minibatches, student.batch_rng):
                self._load(part)
                assert self._graph is not None
                self._graph()
        return self.metrics

    def _load(self, part: Batch) -> None:
        """Copy a minibatch to the memory that the graph knows."""
        prepared = part.prepared
        assert isinstance(prepared, Sequences)
        if self._graph is None:
            self.batch = replace(
                part, **{name: value.clone() for name, value in vars(part).items() if name != "prepared"}
            )
            self.rows, self.index = (
                prepared.rows[prepared.index].clone(),
                torch.arange(prepared.index.numel(), device=prepared.index.device).view_as(prepared.index),
            )
            self.batch = replace(self.batch, prepared=Sequences(self.rows.flatten(0, 1), self.index))
            self._record()
            return
        self.rows.copy_(prepared.rows[prepared.index])
        for name, value in vars(part).items():
            if name != "prepared":
                getattr(self.batch, name).copy_(value)

    def _record(self) -> None:
        student = self.student
        self.metrics = torch.zeros(6, device=student.device)
        weights = [one.detach().clone() for one in student.network.parameters()]
        self._graph = captured(self._step, student.device)
        if student.device.type != "cuda":
            return
        with torch.no_grad():  # as if the warm-up had never been
            for parameter, value in zip(student.network.parameters(), weights, strict=True):
                parameter.copy_(value)
            for state in student.optimiser.state.values():
                for value in state.values():
                    value.zero_()

    def _step(self) -> None:
        student, batch = self.student, self.batch
        loss, metrics = student.loss(replace(batch, advantages=normalise(batch.advantages)))
        parameters = list(student.network.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.copy_(gradient)
        norm = nn.utils.clip_grad_norm_(parameters, student.config.max_gradient_norm)
        student.optimiser.step()
        self.metrics.copy_(torch.cat([metrics, norm.unsqueeze(0)]))
