"""Policies of one's own for the suites: a function, a model with `predict`, or one of Stable-Baselines3."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gymnasium import Space
from torch import Tensor

from clutr.agents.sb3.loading import ModelError, load_policy, policy_of
from clutr.agents.student import Policy
from clutr.envs.domain import Domain, Engine, Observation
from clutr.envs.gym_env import require_actions
from clutr.experiments.evaluation.runs import require_suite
from clutr.experiments.storage import RunError


class FunctionPolicy:
    """A policy without memory.

    Args:
        choose: gives actions `[N, ...]` for a batch of observations, and whether to take the most probable ones.
        space: of one action.
    """

    def __init__(self, choose: Callable[[Observation, bool], Any], space: Space[Any]) -> None:
        self._choose, self._space = choose, space

    def initial_state(self, n: int) -> Tensor:
        """`[n, 0]`: nothing is remembered."""
        return torch.zeros(n, 0)

    def act(
        self,
        observation: Observation,
        state: Tensor,
        rng: torch.Generator,  # noqa: ARG002
        deterministic: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Actions `[N, ...]`, and the state as it was. Raises `RunError` unless there is an action an environment."""
        actions = torch.as_tensor(self._choose(observation, deterministic))
        if actions.shape[:1] != state.shape[:1]:
            raise RunError(f"the policy gave actions of shape {tuple(actions.shape)} to {len(state)} environments")
        try:
            require_actions(self._space, actions.detach().cpu().numpy())
        except ValueError as error:
            raise RunError(f"the policy gave no actions of this environment: {error}") from None
        return actions.float() if actions.is_floating_point() else actions, state


def load_model(
    path: Path, domain: Domain, suite: str | None = None, algorithm: str | None = None
) -> tuple[Policy, str]:
    """A model that a Stable-Baselines3 script saved, for a suite of `domain`, and the name of its algorithm.

    See `clutr.agents.sb3.loading.load_policy`: **this runs code that the file holds**.

    Raises:
        RunError: if the suite is unknown, the package is not installed, or the model does not fit.
    """
    engine = require_suite(domain, suite).tasks[0].engine(1)
    try:
        return load_policy(path, engine.observation_space, engine.action_space, algorithm)
    except (ModelError, ImportError) as error:
        raise RunError(str(error)) from error


def as_policy(player: Any, engine: Engine) -> Policy:
    """`player` as a policy for environments like those of `engine`; what it may be: `clutr.evaluate`.

    Raises:
        RunError: if it is nothing of the kind, or a model of other spaces.
    """
    if hasattr(player, "initial_state") and hasattr(player, "act"):
        policy: Policy = player
        return policy
    if hasattr(player, "predict") and hasattr(player, "observation_space") and hasattr(player, "policy"):
        try:
            return policy_of(player, engine.observation_space, engine.action_space)
        except ModelError as error:
            raise RunError(str(error)) from error
    space = engine.action_space
    if hasattr(player, "predict"):
        return FunctionPolicy(lambda seen, greedy: player.predict(_arrays(seen), deterministic=greedy)[0], space)
    if callable(player):
        return FunctionPolicy(lambda seen, _: player(seen), space)
    raise RunError(f"{player!r} is no policy: it has neither `act` nor `predict`, and cannot be called")


def _arrays(observation: Observation) -> dict[str, Any]:
    return {name: value.cpu().numpy() for name, value in observation.items()}
