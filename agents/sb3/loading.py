"""Models that a Stable-Baselines3 script saved, as policies that our suites can evaluate."""

import importlib
import json
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor

from clutr.agents.sb3.preprocessing import View, views_of_saved_models
from clutr.agents.sb3.randomness import fork_global_rng, seed_globally
from clutr.agents.sb3.requirement import require_sb3
from clutr.envs.domain import Observation

ALGORITHMS = {
    "ppo": "stable_baselines3:PPO",
    "a2c": "stable_baselines3:A2C",
    "dqn": "stable_baselines3:DQN",
    "sac": "stable_baselines3:SAC",
    "td3": "stable_baselines3:TD3",
    "recurrent-ppo": "sb3_contrib:RecurrentPPO",
    "qrdqn": "sb3_contrib:QRDQN",
    "tqc": "sb3_contrib:TQC",
    "trpo": "sb3_contrib:TRPO",
}
"""Module and class of each algorithm."""

# Attributes in the JSON part of a saved model by which its algorithm is recognised, the most specific first.
_ATTRIBUTES = (
    ("top_quantiles_to_drop_per_net", "tqc"),
    ("cg_max_steps", "trpo"),
    ("target_kl", "ppo"),
    ("n_quantiles", "qrdqn"),
    ("exploration_rate", "dqn"),
    ("target_entropy", "sac"),
    ("policy_delay", "td3"),
    ("gae_lambda", "a2c"),
)

_UNUSED = {"n_steps": 1, "n_envs": 1, "buffer_size": 1}
"""Sizes of buffers that are made on loading, though nothing is going to be learnt."""


class ModelError(ValueError):
    """A saved model that cannot be used; the message says why."""


class LoadedPolicy:
    """A saved model that acts.

    Args:
        model: of Stable-Baselines3.
        view: what it sees of an engine's observations.
    """

    def __init__(self, model: Any, view: View) -> None:
        self.model, self.view = model, view

    def initial_state(self, n: int) -> Tensor:
        """Zeros: hidden and cell state `[n, 2, layers, width]`, or of width 0."""
        core = getattr(self.model.policy, "lstm_actor", None)
        return torch.zeros(n, 0) if core is None else torch.zeros(n, 2, core.num_layers, core.hidden_size)

    def act(
        self, observation: Observation, state: Tensor, rng: torch.Generator, deterministic: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Actions `[N, ...]` and the next state, by the model's own `predict`."""
        shown = self.view.show({name: value.cpu() for name, value in observation.items()})
        shown = {name: part.numpy() for name, part in shown.items()} if isinstance(shown, dict) else shown.numpy()
        memory = tuple(part.transpose(0, 1).numpy() for part in state.unbind(1)) if state.ndim == 4 else None
        # `predict` decides once for all environments whether to explore: here each decides for itself
        epsilon = 0.0 if deterministic else getattr(self.model, "exploration_rate", None)
        greedy = deterministic or epsilon is not None
        with fork_global_rng(self.model.device):
            seed_globally(int(torch.randint(2**62, (), generator=rng, device=rng.device)))
            chosen, after = self.model.predict(shown, state=memory, deterministic=greedy)
            actions = torch.from_numpy(chosen)
            if epsilon:
                any_action = torch.randint(int(self.model.action_space.n), actions.shape)
                actions = torch.where(torch.rand(actions.shape) < epsilon, any_action, actions)
        if memory is not None:
            state = torch.stack([torch.from_numpy(part) for part in after], 1).permute(2, 1, 0, 3)
        return actions, state


def load_policy(
    path: Path, observation_space: spaces.Dict, action_space: gymnasium.Space[Any], algorithm: str | None = None
) -> tuple[LoadedPolicy, str]:
    """Load a model for an engine's spaces. **This runs code that the file holds**: load none that you do not trust.

    Args:
        path: what `model.save` wrote.
        observation_space: of one environment of an engine.
        action_space: of one environment of an engine.
        algorithm: one of `ALGORITHMS`; None: what the file looks like.

    Returns:
        The policy, and the name of its algorithm.

    Raises:
        ImportError: if Stable-Baselines3 is not installed.
        ModelError: if the file is no such model, or its spaces are not the engine's in any known view.
    """
    require_sb3()
    described = _description(path)
    algorithm = algorithm or _algorithm_of(described)
    if algorithm not in ALGORITHMS:
        raise ModelError(f"which algorithm made {path}? Name one of: {', '.join(ALGORITHMS)}")
    module, _, name = ALGORITHMS[algorithm].partition(":")
    unused = {key: value for key, value in _UNUSED.items() if key in described}
    try:
        model = getattr(importlib.import_module(module), name).load(path, device="cpu", **unused)
    except Exception as error:  # whatever the file's own code raises
        raise ModelError(f"cannot load {path} as {algorithm}: {type(error).__name__}: {error}") from error
    return policy_of(model, observation_space, action_space, f"the model in {path}"), algorithm


def policy_of(
    model: Any, observation_space: spaces.Dict, action_space: gymnasium.Space[Any], name: str = "the model"
) -> LoadedPolicy:
    """A model as a policy for an engine's spaces. Raises `ModelError` if its own are not these in any known view."""
    if model.action_space != action_space:
        raise ModelError(f"{name} takes actions of {model.action_space}, this environment those of {action_space}")
    for view in views_of_saved_models(observation_space):
        if view.space == model.observation_space:
            return LoadedPolicy(model, view)
    raise ModelError(
        f"{name} sees {_short(model.observation_space)}, this environment shows {_short(observation_space)}, or "
        + "its image alone, all in one vector, or as MiniGrid's FlatObsWrapper"
    )


def _description(path: Path) -> dict[str, Any]:
    """The JSON part of a saved model; reading it runs nothing."""
    try:
        with zipfile.ZipFile(path) as file:
            described: dict[str, Any] = json.loads(file.read("data"))
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}") from None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is not a model that Stable-Baselines3 saved ({error})") from error
    return described


def _algorithm_of(described: dict[str, Any]) -> str | None:
    """The algorithm of a saved model, by its JSON part."""
    if "recurrent" in str(described.get("policy_class", {}).get("__module__")):
        return "recurrent-ppo"
    return next((name for key, name in _ATTRIBUTES if key in described), None)


def _short(space: gymnasium.Space[Any]) -> str:
    """A space in a line, without the bounds of every number."""
    if isinstance(space, spaces.Dict):
        return f"Dict({', '.join(f'{name}: {_short(part)}' for name, part in space.items())})"
    if isinstance(space, spaces.Box):
        return f"Box({space.low.min():g}, {space.high.max():g}, {space.shape}, {space.dtype})"
    return str(space)
