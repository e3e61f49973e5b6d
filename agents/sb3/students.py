"""Students whose networks, losses and optimisers are Stable-Baselines3's; levels, rollouts and masks are ours.

A rollout is `clutr.agents.rollout.collect`, as for our own students, so values, advantages and time limits mean the
same. Learning is Stable-Baselines3's own `train()`: on-policy on a rollout buffer that holds the trained levels
alone, off-policy (`clutr.agents.sb3.off_policy`) on a replay buffer into which only their transitions go.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from clutr.agents.normaliser import ReturnNormaliser
from clutr.agents.rollout import collect
from clutr.agents.sb3.configs import OnPolicyOptions, SB3Options, SB3PPOConfig
from clutr.agents.sb3.policies import Player
from clutr.agents.sb3.randomness import OwnRandomness, seed_globally, untouched
from clutr.agents.student import Trajectories
from clutr.envs.domain import Engine, LevelBatch, Observation

_CONSTANTS = ("learning_rate", "n_updates", "clip_range", "exploration_rate")
"""What Stable-Baselines3 reports and the configuration or the update's number says anyway."""


class SB3Student:
    """What on-policy and off-policy students share.

    Args:
        config: the options.
        model: Stable-Baselines3's algorithm.
        player: its policy.
        randomness: its generators.
    """

    def __init__(self, config: SB3Options, model: Any, player: Player, randomness: OwnRandomness) -> None:
        self.config, self.model, self.player, self.randomness = config, model, player, randomness
        self.device: torch.device = model.device

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, ...]`, what the policy remembers at an episode's start."""
        return self.player.initial_state(n)

    def act(
        self, observation: Observation, state: Tensor, rng: torch.Generator, deterministic: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Actions `[N, ...]` and the next state; unless `deterministic` sampled, with one number of `rng` as seed."""
        self.model.policy.set_training_mode(False)
        observation = {name: value.to(self.device) for name, value in observation.items()}
        policy, _, state = self.player.step(observation, state)
        if deterministic:
            return policy.to_engine(policy.mode()), state
        with untouched(self.device):
            seed_globally(int(torch.randint(2**62, (), generator=rng, device=rng.device)))
            return policy.to_engine(policy.sample(rng)), state

    def _collect(self, engine: Engine, levels: LevelBatch, normaliser: ReturnNormaliser | None = None) -> Trajectories:
        config, steps = self.config, self.config.rollout_steps
        player = cast("Any", self.player)  # all that `collect` asks of a network
        unused = torch.Generator(device=self.device)  # players draw from the generators that are in place
        self.model.policy.set_training_mode(False)
        with self.randomness():
            return collect(player, engine, levels, steps, unused, config.discount, config.gae_lambda, normaliser)

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Around `model.train()`: it draws from the student's generators."""
        self.model.logger.name_to_value.clear()
        with self.randomness():
            yield

    def _metrics(self) -> dict[str, float]:
        """What the last `model.train()` reported."""
        reported = {name.partition("/")[2]: float(value) for name, value in self.model.logger.name_to_value.items()}
        # the explained variance of returns that do not vary is reported as not a number
        return {name: 0.0 if np.isnan(value) else value for name, value in reported.items() if name not in _CONSTANTS}

    def state_dict(self) -> dict[str, Any]:
        """Weights, the optimisers' slots, other learnt numbers, generators and the count of updates."""
        _, variables = self.model._get_torch_save_params()
        return {
            "parameters": self.model.get_parameters(),
            "variables": {name: getattr(self.model, name).detach() for name in variables},
            "randomness": self.randomness.state_dict(),
            "updates": self.model._n_updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.model.set_parameters(dict(state["parameters"]), exact_match=True, device=self.device)
        for name, value in state["variables"].items():
            getattr(self.model, name).data.copy_(value)
        self.randomness.load_state_dict(state["randomness"])
        self.model._n_updates = state["updates"]


class OnPolicyStudent(SB3Student):
    """PPO and A2C."""

    config: OnPolicyOptions
    buffer_type: type[Any] = RolloutBuffer

    def __init__(self, config: OnPolicyOptions, model: Any, player: Player, randomness: OwnRandomness) -> None:
        super().__init__(config, model, player, randomness)
        normalise, device = config.normalise_returns, model.device
        self.normaliser = ReturnNormaliser(config.discount, device=device) if normalise else None
        del model.rollout_buffer  # each update makes one of the levels that it trains on

    def rollout(self, engine: Engine, levels: LevelBatch) -> Trajectories:
        """Play each level in its own environment for `rollout_steps` steps."""
        return self._collect(engine, levels, self.normaliser)

    def learn(self, trajectories: Trajectories, train: Tensor | None = None) -> dict[str, float]:
        """Update from the environments in `train` `[N]` bool (None: all); none of them leaves the weights as they are.

        Returns:
            What Stable-Baselines3 reports of its update.
        """
        chosen = chosen_environments(trajectories, train)
        if len(chosen) == 0:
            return {}
        config = self.config
        if isinstance(config, SB3PPOConfig):
            self.model.batch_size = batch_size(len(trajectories.rewards) * len(chosen), config.minibatches)
        self.model.rollout_buffer = self._buffer(trajectories, chosen)
        with self._training():
            self.model.train()
        del self.model.rollout_buffer
        return self._metrics()

    def _buffer(self, trajectories: Trajectories, chosen: Tensor) -> Any:
        """A full rollout buffer of the chosen environments."""
        columns = {
            name: getattr(trajectories, name)[:, chosen].cpu().numpy()
            for name in ("actions", "log_probs", "rewards", "values", "advantages", "returns")
        }
        steps, num_envs = columns["rewards"].shape
        columns["actions"] = columns["actions"].reshape(steps, num_envs, -1)
        columns["episode_starts"] = trajectories.episode_starts[:, chosen].cpu().numpy().astype(np.float32)
        observations = {name: value[:, chosen] for name, value in trajectories.observations.items()}
        columns["observations"] = self.player.view.show(observations).cpu().numpy()
        buffer = self._empty_buffer(steps, num_envs)
        vars(buffer).update(columns, **self._memories(observations, trajectories.episode_starts[:, chosen]))
        buffer.pos, buffer.full = steps, True
        return buffer

    def _empty_buffer(self, steps: int, num_envs: int, *shape: tuple[int, ...]) -> Any:
        model, config = self.model, self.config
        options = {"gamma": config.discount, "gae_lambda": config.gae_lambda, "n_envs": num_envs, "device": self.device}
        return self.buffer_type(steps, model.observation_space, model.action_space, *shape, **options)

    def _memories(self, observations: Observation, episode_starts: Tensor) -> dict[str, np.ndarray]:  # noqa: ARG002
        """What the policy remembered before each step, as the rollout buffer names it: nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """As any student's, and the moments of the returns if rewards are normalised."""
        state = super().state_dict()
        return state if self.normaliser is None else state | {"moments": self.normaliser.moments}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        if self.normaliser is not None:
            self.normaliser.moments = state["moments"].to(self.normaliser.moments.device)


def chosen_environments(trajectories: Trajectories, train: Tensor | None) -> Tensor:
    """Indices of the environments in `train` `[N]` bool (None: all), on the trajectories' device."""
    device = trajectories.rewards.device
    if train is None:
        return torch.arange(trajectories.rewards.shape[1], device=device)
    return train.to(device).nonzero().squeeze(1)


def batch_size(samples: int, parts: int) -> int:
    """Size of minibatches, at most `parts` of them, none of a single sample: its advantage cannot be normalised."""
    size = max(-(-samples // parts), 2)
    while samples % size == 1 and size < samples:
        size += 1
    return size
