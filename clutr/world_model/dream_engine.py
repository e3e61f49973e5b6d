"""The dream as an environment: an engine and a Gymnasium environment whose dynamics are the memory's.

A student that sees pictures can be trained or tested in it. Episodes begin at recorded latent states, and end when the
memory predicts a termination or the horizon is reached.
"""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor

from clutr.envs.domain import LevelBatch, Observation, Step
from clutr.world_model.backbones.base import Backbone
from clutr.world_model.dream import Dreamer, LatentState


class RewardRange(NamedTuple):
    """The least and the greatest recorded rewards.

    A predicted reward that is a little off, step after step, teaches more than a goal that is reached once.
    """

    going_on: tuple[float, float]
    """Of steps after which the episode went on."""
    ended: tuple[float, float]
    """Of steps that terminated it."""

    @classmethod
    def of(cls, rewards: Tensor, terminated: Tensor) -> "RewardRange":
        """Of rewards `[n]` and whether each step terminated its episode `[n]`; a kind without a step is as the other.

        Raises:
            ValueError: there are no steps.
        """
        if not len(rewards):
            raise ValueError("the range of rewards is told by recorded steps, and there are none")
        kinds = [rewards[terminated == kind] for kind in (0, 1)]
        going_on, ended = ((float(kind.min()), float(kind.max())) if len(kind) else None for kind in kinds)
        whole = going_on or ended
        assert whole is not None
        return cls(going_on or whole, ended or whole)

    def expected(self, rewards: Tensor, chance: Tensor) -> Tensor:
        """Predicted rewards `[N]` of steps that end their episode with a chance `[N]`, as far as either may be."""
        return chance * rewards.clamp(*self.ended) + (1 - chance) * rewards.clamp(*self.going_on)


class DreamEngine:
    """N dreams, an `clutr.envs.domain.Engine` without levels.

    Args:
        dreamer: whose dreams.
        backbone: draws them.
        starts: latent states at which episodes may begin, as `Dreamer.observe` gives them.
        num_envs: N.
        action_space: of one environment, as in the domain.
        horizon: steps after which an episode is truncated.
        side: pixels along either side of the pictures that students see.
        temperature: of the draws of next latents; None takes the expected ones.
        rewards: the range in which predicted rewards are; None: they stay as they are.
        rng: draws starts, latents and terminations.

    Raises:
        ValueError: an argument is out of its range, or there is no state to begin at.
    """

    def __init__(
        self,
        dreamer: Dreamer,
        backbone: Backbone,
        starts: LatentState,
        num_envs: int,
        action_space: gymnasium.Space[Any],
        *,
        horizon: int = 100,
        side: int = 64,
        temperature: float | None = 1.0,
        rewards: RewardRange | None = None,
        rng: torch.Generator,
    ) -> None:
        if num_envs < 1 or horizon < 1 or side < 1:
            raise ValueError("a dream needs at least one environment, one step and one pixel")
        if not len(starts.latent):
            raise ValueError("a dream needs at least one latent state to begin at")
        self.num_envs, self.device, self.action_space = num_envs, torch.device("cpu"), action_space
        self.observation_space = spaces.Dict({"image": spaces.Box(0, 255, (side, side, 3), np.uint8)})
        self.solved = torch.zeros(num_envs, dtype=torch.bool)
        self._dreamer, self._backbone, self._starts = dreamer, backbone, starts
        self._horizon, self._side, self._temperature, self._rng = horizon, side, temperature, rng
        self._rewards = rewards
        self._now: LatentState | None = None
        self._clock = torch.zeros(num_envs, dtype=torch.int64)

    @property
    def agent_position(self) -> Tensor:
        """`[N, D]`: the latents of the dreams, in the backbone's units."""
        assert self._now is not None
        return self._dreamer.scale.restore(self._now.latent)

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        """Begin anew in the environments of `mask` `[N]` bool (None: all), each at a random start.

        Raises:
            TypeError: levels were given: a dream has none.
        """
        if levels is not None:
            raise TypeError("a dream plays no levels")
        chosen = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else mask
        rows = torch.randint(len(self._starts.latent), (self.num_envs,), generator=self._rng)
        fresh = self._starts.branch(rows)
        now = fresh if self._now is None else self._now
        pick = chosen[:, None]
        self._now = LatentState(torch.where(pick, fresh.state, now.state), torch.where(pick, fresh.latent, now.latent))
        self._clock = torch.where(chosen, 0, self._clock)
        return self._observation()

    def step(self, actions: Tensor) -> Step:
        """Dream one step. Raises `RuntimeError` before the first reset."""
        if self._now is None:
            raise RuntimeError("reset the dream before stepping")
        self._now, expected = self._dreamer.step(self._now, self._numbers(actions), self._temperature, self._rng)
        self._clock = self._clock + 1
        chance = expected.termination.sigmoid()
        drawn = torch.rand(self.num_envs, generator=self._rng)
        terminated = chance > (0.5 if self._temperature is None else drawn)
        reward = expected.reward * self._dreamer.scale.reward_std
        if self._rewards is not None:
            reward = self._rewards.expected(reward, chance)
        return Step(self._observation(), reward, terminated, self._clock >= self._horizon)

    def _numbers(self, actions: Tensor) -> Tensor:
        """Actions as the memory takes them: `[N, A]`, one-hot where they are discrete."""
        if isinstance(self.action_space, spaces.Discrete):
            return F.one_hot(actions.long(), int(self.action_space.n)).float()
        return actions.float()

    def _observation(self) -> Observation:
        pictures = self._backbone.decode(self.agent_position).clamp(0, 1)
        if pictures.shape[1] != self._side:
            planes = pictures.permute(0, 3, 1, 2)
            pictures = F.interpolate(planes, self._side, mode="bilinear", antialias=True).permute(0, 2, 3, 1)
        return {"image": (255 * pictures).round().to(torch.uint8).contiguous()}


class DreamEnv(gymnasium.Env[dict[str, Any], Any]):
    """One dream as a Gymnasium environment.

    Args:
        engine: a dream engine with one environment.

    Raises:
        ValueError: the engine has more environments.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012 (Gymnasium's own form)
    render_mode = "rgb_array"

    def __init__(self, engine: DreamEngine) -> None:
        if engine.num_envs != 1:
            raise ValueError(f"a Gymnasium environment is one dream, this engine has {engine.num_envs}")
        self._engine = engine
        self.observation_space, self.action_space = engine.observation_space, engine.action_space
        self._seen: Observation = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin at a random one of the engine's starts."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            self._engine._rng.manual_seed(seed)
        self._seen = self._engine.reset()
        return self._one(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Dream one step."""
        result = self._engine.step(torch.as_tensor(np.asarray(action))[None])
        self._seen = result.observation
        return self._one(), float(result.reward[0]), bool(result.terminated[0]), bool(result.truncated[0]), {}

    def render(self) -> np.ndarray[Any, Any]:  # type: ignore[override]
        """The picture."""
        picture: np.ndarray[Any, Any] = self._one()["image"]
        return picture

    def _one(self) -> dict[str, Any]:
        return {name: value[0].numpy() for name, value in self._seen.items()}
