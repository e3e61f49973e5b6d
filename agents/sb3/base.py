"""What students share: networks, losses and optimisers are Stable-Baselines3's; levels, rollouts and masks are ours.

A rollout is `clutr.agents.rollout.collect`, as for our own students, so values, advantages and time limits mean the
same. Learning is Stable-Baselines3's own `train()`: on-policy on a rollout buffer that holds the trained levels alone,
off-policy on a replay buffer into which only their transitions go.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from clutr.agents.normaliser import ReturnNormaliser
from clutr.agents.rollout import collect
from clutr.agents.sb3.policies import SB3Policy
from clutr.agents.sb3.preprocessing import View, student_view
from clutr.agents.sb3.randomness import OwnRandomness, fork_global_rng, seed_globally
from clutr.agents.sb3.requirement import require_sb3
from clutr.agents.student import Student, Trajectories
from clutr.envs.domain import Engine, LevelBatch, Observation
from clutr.envs.randomness import derive_seed
from clutr.envs.state import Stateful
from clutr.envs.validation import require_above, require_at_least, require_within


class Setup(NamedTuple):
    """What a student is made of beside its options."""

    view: View
    """What it sees."""
    action_space: gymnasium.Space[Any]
    """Of one environment."""
    randomness: OwnRandomness
    """Every draw comes from it. Its device is the student's."""

    def require_actions(self, kind: type[gymnasium.Space[Any]], name: str) -> None:
        """Raise `ValueError` for another kind of actions."""
        if not isinstance(self.action_space, kind):
            raise ValueError(f"this student takes {name} actions, not {self.action_space}")


@dataclass(frozen=True)
class SB3Options(ABC):
    """Options of every algorithm. Names are those of our own students where both mean the same.

    Values differ from Stable-Baselines3's own defaults where those are made for single steps of few environments.
    """

    rollout_steps: int = 256
    """Steps T of each environment between two updates."""
    learning_rate: float = 3e-4
    """The optimiser's step size, constant."""
    discount: float = 0.99
    """Gamma."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation; off-policy, of the curriculum's scores alone."""
    hidden: int = 128
    """Width of both hidden layers of actor and critic."""
    features: int = 256
    """Features of a picture: width of the convolutions' last layer. Mazes have none."""
    shrink: int = 2
    """Pictures are averaged over squares of this many pixels a side."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "rollout_steps", "hidden", "features", "shrink")
        require_above(self, 0, "learning_rate")
        require_within(self, 0, 1, "discount", "gae_lambda")

    @abstractmethod
    def student(self, setup: Setup) -> Student:
        """Make the algorithm, its policy and the student. Raises `ValueError` if it cannot take such actions."""

    def build(
        self,
        observation_space: gymnasium.spaces.Dict,
        action_space: gymnasium.Space[Any],
        seed: int,
        name: str,
        device: torch.device | str = "cpu",
    ) -> Student:
        """Make the student called `name`.

        Raises:
            ImportError: if Stable-Baselines3 is not installed.
            ValueError: if the student cannot play in these spaces.
        """
        require_sb3()
        view = student_view(observation_space, self.shrink)
        randomness = OwnRandomness(derive_seed(seed, name, "sb3"), torch.device(device))
        return self.student(Setup(view, copy.deepcopy(action_space), randomness))

    def model(self, algorithm: Any, setup: Setup, policy: str = "{}Policy", **options: Any) -> Any:
        """An algorithm of Stable-Baselines3 that knows spaces but no environment, as after loading one.

        Args:
            algorithm: its class.
            setup: what it sees and does, and the generators that draw its weights.
            policy: name of the policy, with {} for "Cnn" or "Mlp".
            options: of the algorithm.
        """
        from stable_baselines3.common.logger import Logger  # noqa: PLC0415 (only when a student is made)

        sees_pictures = len(setup.view.space.shape or ()) == 3
        policy_options = options.pop("policy_kwargs", {}) | {"net_arch": [self.hidden, self.hidden]}
        if sees_pictures:
            policy_options["features_extractor_kwargs"] = {"features_dim": self.features}
        options |= {"learning_rate": self.learning_rate, "gamma": self.discount, "device": setup.randomness.device}
        name = policy.format("Cnn" if sees_pictures else "Mlp")
        with setup.randomness():
            model = algorithm(name, None, policy_kwargs=policy_options, _init_setup_model=False, **options)
            model.observation_space, model.action_space, model.n_envs = setup.view.space, setup.action_space, 1
            model._setup_model()
        model.set_logger(Logger(None, []))
        return model


_CONSTANTS = ("learning_rate", "n_updates", "clip_range", "exploration_rate")
"""What Stable-Baselines3 reports and the configuration or the update's number says anyway."""


class SB3Student(Stateful):
    """What on-policy and off-policy students share.

    Args:
        config: the options.
        model: Stable-Baselines3's algorithm.
        policy: its policy.
        randomness: its generators.
    """

    saved: ClassVar[tuple[str, ...]] = ("randomness",)

    def __init__(self, config: SB3Options, model: Any, policy: SB3Policy, randomness: OwnRandomness) -> None:
        self.config, self.model, self.policy, self.randomness = config, model, policy, randomness
        self.device: torch.device = model.device

    def initial_state(self, n: int) -> Tensor:
        """Zeros `[n, ...]`, the policy's recurrent state at an episode's start."""
        return self.policy.initial_state(n)

    def act(
        self, observation: Observation, state: Tensor, rng: torch.Generator, deterministic: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Actions `[N, ...]` and the next state; unless `deterministic` sampled, with one number of `rng` as seed."""
        self.model.policy.set_training_mode(False)
        observation = {name: value.to(self.device) for name, value in observation.items()}
        actions, _, state = self.policy.step(observation, state)
        if deterministic:
            return actions.to_engine(actions.mode()), state
        with fork_global_rng(self.device):
            seed_globally(int(torch.randint(2**62, (), generator=rng, device=rng.device)))
            return actions.to_engine(actions.sample(rng)), state

    def _collect(self, engine: Engine, levels: LevelBatch, normaliser: ReturnNormaliser | None = None) -> Trajectories:
        config, steps = self.config, self.config.rollout_steps
        unused = torch.Generator(device=self.device)  # policies draw from the generators that are in place
        self.model.policy.set_training_mode(False)
        with self.randomness():
            return collect(self.policy, engine, levels, steps, unused, config.discount, config.gae_lambda, normaliser)

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
        """Weights, the optimisers' slots, other learnt numbers, the count of updates, and what is `saved`."""
        _, variables = self.model._get_torch_save_params()
        return super().state_dict() | {
            "parameters": self.model.get_parameters(),
            "variables": {name: getattr(self.model, name).detach() for name in variables},
            "updates": self.model._n_updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        self.model.set_parameters(dict(state["parameters"]), exact_match=True, device=self.device)
        for name, value in state["variables"].items():
            getattr(self.model, name).data.copy_(value)
        self.model._n_updates = state["updates"]


def chosen_environments(trajectories: Trajectories, train: Tensor | None) -> Tensor:
    """Indices of the environments in `train` `[N]` bool (None: all), on the trajectories' device."""
    device = trajectories.rewards.device
    if train is None:
        return torch.arange(trajectories.rewards.shape[1], device=device)
    return train.to(device).nonzero().squeeze(1)
