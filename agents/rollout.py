"""Playing levels: T steps of N environments, with the masks that the update needs."""

from typing import Protocol

import torch
from torch import Tensor

from clutr.agents.distributions import Distribution
from clutr.agents.maze_rollout import play_compiled
from clutr.agents.normaliser import ReturnNormaliser
from clutr.agents.student import Trajectories
from clutr.envs.domain import Engine, LevelBatch, Observation


class RolloutPolicy(Protocol):
    """What `collect` needs of a network; see `clutr.agents.networks.Network`."""

    def initial_state(self, n: int) -> Tensor:
        """The recurrent state at an episode's start: zeros `[n, ...]`."""
        ...

    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """Distributions over actions `[N]`, values `[N]` and the next state for one step."""
        ...


@torch.no_grad()
def collect(
    network: RolloutPolicy,
    engine: Engine,
    levels: LevelBatch,
    steps: int,
    rng: torch.Generator,
    discount: float,
    gae_lambda: float,
    normaliser: ReturnNormaliser | None = None,
) -> Trajectories:
    """Let every environment play its own level again and again for T steps, or several levels, an episode each.

    A time limit and the rollout's end bootstrap from the value of the last observation; zero follows only where the
    environment terminated (Pardo et al., "Time Limits in Reinforcement Learning", arXiv 1712.00378).

    Args:
        network: the policy and its value function.
        engine: N environments.
        levels: N levels, one an environment; or K N: environment i plays level i for an episode, then level i + N, and
            so on, and the last of its own from then on.
        steps: T.
        rng: draws the actions, on the engine's device.
        discount: gamma.
        gae_lambda: lambda of generalised advantage estimation.
        normaliser: turns rewards into what values and advantages are made of; None takes them as they are.

    Raises:
        ValueError: if the environments do not divide the levels evenly.
    """
    if not len(levels) or len(levels) % engine.num_envs:
        raise ValueError(f"{len(levels)} levels cannot be shared evenly by {engine.num_envs} environments")
    observation = engine.reset(levels[: engine.num_envs])
    compiled = play_compiled(network, engine, levels, steps, rng)
    columns, following = compiled or _play(network, engine, observation, levels, steps, rng)
    next_values = torch.cat([columns["values"][1:], following.unsqueeze(0)])
    next_values = torch.where(columns["truncated"], columns.pop("last_values"), next_values)
    next_values = next_values.masked_fill(columns["terminated"], 0.0)
    seen = {name: columns.pop(name) for name in engine.observation_space.spaces}
    played = Trajectories(observations=seen, next_values=next_values, advantages=torch.empty(0), **columns)
    estimate(played, discount, gae_lambda, normaliser)
    return played


def _play(
    network: RolloutPolicy,
    engine: Engine,
    observation: Observation,
    levels: LevelBatch,
    steps: int,
    rng: torch.Generator,
) -> tuple[dict[str, Tensor], Tensor]:
    """What happens, `[T, N, ...]` by name, and the values `[N]` of what is seen after the last step."""
    num_envs, device = engine.num_envs, engine.device
    playing, last = torch.arange(num_envs), len(levels) - num_envs
    state = network.initial_state(num_envs)
    episode_starts = torch.ones(num_envs, dtype=torch.bool, device=device)
    seen = {name: value.new_empty(steps, *value.shape) for name, value in observation.items()}
    columns: dict[str, list[Tensor]] = {
        name: []
        for name in (
            *("actions", "log_probs", "rewards", "terminated", "truncated", "solved", "episode_starts", "values"),
            "last_values",
        )
    }
    nothing = torch.zeros(num_envs, device=device)
    for t in range(steps):
        policy, values, state = network.step(observation, state)
        actions = policy.sample(rng)
        for name, value in observation.items():
            seen[name][t] = value
        observation, reward, terminated, truncated = engine.step(policy.to_engine(actions))
        dones = terminated | truncated
        last_values = nothing
        any_done = bool(dones.any())
        if any_done and bool((truncated & ~terminated).any()):
            # the value of an episode's last observation, with the recurrent state of that episode
            _, last_values, _ = network.step(observation, state)
        row = {
            "actions": actions,
            "log_probs": policy.log_prob(actions),
            "rewards": reward,
            "terminated": terminated,
            "truncated": truncated & ~terminated,
            "solved": engine.solved & dones,
            "episode_starts": episode_starts,
            "values": values,
            "last_values": last_values,
        }
        for name, value in row.items():
            columns[name].append(value)
        if any_done:
            if last:
                playing += num_envs * (dones.cpu() & (playing < last))
            observation = engine.reset(levels[playing] if last else None, dones)
            state = state.masked_fill(dones.view(-1, *[1] * (state.ndim - 1)), 0)
        episode_starts = dones
    _, following, _ = network.step(observation, state)
    return {name: torch.stack(column) for name, column in columns.items()} | seen, following


def estimate(played: Trajectories, discount: float, gae_lambda: float, normaliser: ReturnNormaliser | None) -> None:
    """Fill in `played.advantages`, from all else that is in it; see `collect` for the arguments."""
    dones = played.terminated | played.truncated
    rewards = played.rewards if normaliser is None else normaliser(played.rewards, dones)
    played.advantages = generalised_advantages(rewards, played.values, played.next_values, dones, discount, gae_lambda)


def generalised_advantages(
    rewards: Tensor, values: Tensor, next_values: Tensor, dones: Tensor, discount: float, gae_lambda: float
) -> Tensor:
    """Generalised advantage estimates (arXiv 1506.02438, equation 16), all tensors `[T, N]`.

    Args:
        rewards: of each step.
        values: V of the observation before it.
        next_values: V of the observation after it, 0 where the environment terminated.
        dones: bool; nothing after this step belongs to its episode.
        discount: gamma.
        gae_lambda: lambda.
    """
    errors = rewards + discount * next_values - values
    carry = discount * gae_lambda * (~dones).to(errors.dtype)
    running = torch.zeros_like(errors[0])
    advantages = torch.empty_like(errors)
    for t in range(len(errors) - 1, -1, -1):
        running = errors[t] + carry[t] * running
        advantages[t] = running
    return advantages
