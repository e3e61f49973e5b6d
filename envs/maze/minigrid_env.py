"""Real `minigrid` environments: played as they are, or their levels read out."""

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from clutr.envs.domain import LevelBatch, Observation, SeedLevels, Step
from clutr.envs.maze.level import MazeLevels

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv


def make_minigrid(env_id: str, view: int) -> "MiniGridEnv":
    """A bare `minigrid` environment, without Gymnasium's wrappers, that sees `view` x `view` cells."""
    # not before it is needed: it brings pygame and networkx. It registers its environments with Gymnasium
    from minigrid.minigrid_env import MiniGridEnv  # noqa: PLC0415

    environment = gymnasium.make(env_id, agent_view_size=view, disable_env_checker=True).unwrapped
    if not isinstance(environment, MiniGridEnv):
        raise ValueError(f"{env_id} is not a MiniGrid environment")
    return environment


def levels_from_minigrid(env_id: str, seeds: Tensor) -> MazeLevels:
    """The mazes that a `minigrid` environment draws from seeds `[B]`.

    Raises:
        ValueError: a maze holds something other than walls, floor and one goal.
    """
    environment = make_minigrid(env_id, view=3)
    width, height = environment.width - 2, environment.height - 2
    walls = torch.zeros(len(seeds), height, width, dtype=torch.bool)
    agent, heading, goal = (torch.zeros(len(seeds), dtype=torch.int64) for _ in range(3))
    for row, seed in enumerate(seeds.tolist()):
        environment.reset(seed=seed)
        kinds = ["floor" if thing is None else thing.type for thing in environment.grid.grid]
        unknown = set(kinds) - {"floor", "wall", "goal"}
        if unknown or kinds.count("goal") != 1:
            raise ValueError(f"{env_id} with seed {seed} is no plain maze: it holds {', '.join(sorted(set(kinds)))}")
        grid = np.array(kinds).reshape(environment.height, environment.width)[1:-1, 1:-1]
        walls[row] = torch.from_numpy(grid == "wall")
        goal[row] = int((grid == "goal").argmax())
        x, y = environment.agent_pos
        agent[row] = int((y - 1) * width + x - 1)
        heading[row] = int(environment.agent_dir)
    return MazeLevels(walls, agent, heading, goal)


class MinigridEngine:
    """A batch of real `minigrid` environments behind the `Engine` protocol; its levels are `SeedLevels`.

    Args:
        env_id: name under which the package registers the environment with Gymnasium.
        num_envs: number of environments N, stepped one after the other.
        view: side of the square of cells that the agent sees.
    """

    def __init__(self, env_id: str, num_envs: int, view: int = 5) -> None:
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self.environments = [make_minigrid(env_id, view) for _ in range(num_envs)]
        self.observation_space = gymnasium.spaces.Dict(
            image=gymnasium.spaces.Box(0, 255, (view, view, 3), np.uint8), direction=gymnasium.spaces.Discrete(4)
        )
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(7)
        self._seeds: list[int] | None = None
        self._image = np.zeros((num_envs, view, view, 3), dtype=np.uint8)
        self._direction = np.zeros(num_envs, dtype=np.int64)
        self.solved = torch.zeros(num_envs, dtype=torch.bool)

    def reset(self, levels: LevelBatch | None = None, mask: Tensor | None = None) -> Observation:
        """Start episodes; see `Engine.reset`.

        Raises:
            ValueError: there is not one level for each environment, or none was ever given.
        """
        which = [True] * self.num_envs if mask is None else mask.tolist()
        if levels is None:
            if self._seeds is None:
                raise ValueError("the first reset needs levels")
            seeds = self._seeds
        else:
            if not isinstance(levels, SeedLevels):
                raise TypeError(f"a MinigridEngine plays SeedLevels, got {type(levels).__name__}")
            if len(levels) != self.num_envs:
                raise ValueError(f"{self.num_envs} environments need as many levels, got {len(levels)}")
            seeds = levels.seed.tolist()
            held = self._seeds or seeds
            self._seeds = [new if chosen else old for new, old, chosen in zip(seeds, held, which, strict=True)]
        for row, chosen in enumerate(which):
            if chosen:
                self._remember(row, self.environments[row].reset(seed=seeds[row])[0])
        return self._observation()

    def step(self, actions: Tensor) -> Step:
        """Advance every environment by one action, `[N]` int64 from 0 to 6."""
        reward = torch.zeros(self.num_envs)
        terminated = torch.zeros(self.num_envs, dtype=torch.bool)
        truncated = torch.zeros(self.num_envs, dtype=torch.bool)
        for row, action in enumerate(actions.tolist()):
            answer: tuple[Any, ...] = self.environments[row].step(action)
            self._remember(row, answer[0])
            reward[row], terminated[row], truncated[row] = float(answer[1]), answer[2], answer[3]
        self.solved = terminated & (reward > 0)
        return Step(self._observation(), reward, terminated, truncated)

    @property
    def agent_position(self) -> Tensor:
        """The cells inside the outer walls, row by row, where the agents are: `[N]` int64."""
        cells = [
            (environment.agent_pos[1] - 1) * (environment.width - 2) + environment.agent_pos[0] - 1
            for environment in self.environments
        ]
        return torch.tensor(cells, dtype=torch.int64)

    def _remember(self, row: int, observation: dict[str, Any]) -> None:
        self._image[row] = observation["image"]
        self._direction[row] = observation["direction"]

    def _observation(self) -> Observation:
        return {"image": torch.from_numpy(self._image.copy()), "direction": torch.from_numpy(self._direction.copy())}
