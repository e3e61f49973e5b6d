"""A student as other code knows policies: `predict`, with numpy arrays, for one environment or a batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clutr.agents.student import Policy

Arrays = Mapping[str, NDArray[Any]] | NDArray[Any]


class Predictor:
    """A trained student with the `predict` of Stable-Baselines3.

    ```python
    observation, _ = environment.reset()
    state = None
    action, state = player.predict(observation, state)
    ```

    Args:
        policy: the student.
        single: number of axes of each part of a single observation, by name.
        seed: of actions that are sampled.
    """

    def __init__(self, policy: Policy, single: Mapping[str, int], seed: int = 0) -> None:
        self.policy, self._single = policy, dict(single)
        self._rng = torch.Generator().manual_seed(seed)

    def predict(
        self,
        observation: Arrays,
        state: NDArray[np.float32] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Actions, and the state to hand over with the next observation.

        Args:
            observation: arrays by name, or the only one as such; of one environment, or `[N, ...]`.
            state: what the last call gave; None at the beginning of an episode.
            episode_start: `[N]`, where episodes begin, so that the state is forgotten there.
            deterministic: take the most probable action instead of sampling.

        Raises:
            ValueError: if parts of the observation are missing or have other numbers of axes.
        """
        parts = observation if isinstance(observation, Mapping) else {next(iter(self._single)): observation}
        tensors, batched = {}, True
        for name, axes in self._single.items():
            if name not in parts:
                raise ValueError(f"the observation has no {name!r}; the student sees {', '.join(self._single)}")
            value = torch.as_tensor(np.array(parts[name]))
            if value.ndim not in (axes, axes + 1):
                raise ValueError(f"{name} must have {axes} axes, or {axes + 1} in a batch, got {value.ndim}")
            batched = value.ndim == axes + 1
            tensors[name] = value if batched else value[None]
        count = len(next(iter(tensors.values())))
        memory = self.policy.initial_state(count) if state is None else torch.as_tensor(np.array(state))
        if episode_start is not None:
            begins = torch.as_tensor(np.array(episode_start)).bool().reshape(count, *(1,) * (memory.ndim - 1))
            memory = torch.where(begins, torch.zeros_like(memory), memory)
        with torch.no_grad():
            actions, memory = self.policy.act(tensors, memory, self._rng, deterministic)
        chosen = actions.cpu().numpy()
        return (chosen if batched else chosen[0]), memory.cpu().numpy()
