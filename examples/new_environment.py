"""A new environment, a corridor with a goal, and a student that trains on it by domain randomisation."""

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces

import clutr
from clutr.envs.domain import LevelBatch, Observation, Step, Suite, Task


@dataclass(frozen=True)
class CorridorLevels(LevelBatch):
    start: torch.Tensor  # [B] int64, one of 15 cells
    goal: torch.Tensor  # [B] int64


class CorridorEngine:
    observation_space = spaces.Dict(image=spaces.Box(0, 255, (3, 3, 3), "uint8"), direction=spaces.Discrete(4))
    action_space: Any = spaces.Discrete(2)  # left, right

    def __init__(self, n: int, device: torch.device | str = "cpu") -> None:
        self.num_envs, self.device = n, torch.device("cpu")  # one that plays on a GPU, too, would take `device`
        self.start = self.goal = self.agent_position = self.steps = torch.zeros(n, dtype=torch.int64)

    def reset(self, levels: Any = None, mask: torch.Tensor | None = None) -> Observation:
        chosen, levels = torch.tensor(True) if mask is None else mask, levels or self
        self.start, self.goal = (torch.where(chosen, getattr(levels, n), getattr(self, n)) for n in ("start", "goal"))
        self.agent_position = torch.where(chosen, self.start, self.agent_position)
        self.steps = torch.where(chosen, 0, self.steps)
        return self.observe()

    def step(self, actions: torch.Tensor) -> Step:
        self.agent_position = (self.agent_position + 2 * actions - 1).clamp(0, 14)
        self.steps, self.solved = self.steps + 1, self.agent_position == self.goal
        return Step(self.observe(), self.solved * (1 - self.steps / 30), self.solved, self.steps >= 30)

    def observe(self) -> Observation:  # in MiniGrid's symbols: the goal (8) lies left or right of the agent
        image = 8 * ((self.goal - self.agent_position).sign().view(-1, 1, 1, 1) == torch.arange(-1, 2).view(3, 1, 1))
        return {"image": image.byte().expand(-1, 3, 3, 3), "direction": torch.zeros_like(self.steps)}


@clutr.DOMAINS.register("corridor")
@dataclass(frozen=True)
class CorridorDomain:
    level_type, engine = CorridorLevels, CorridorEngine

    def sample(self, n: int, rng: torch.Generator) -> CorridorLevels:
        return CorridorLevels(*torch.randint(15, (2, n), generator=rng))

    def suites(self) -> dict[str, Suite]:
        return {"random": Suite("random", "fresh corridors", (Task("random", self.sample, self.engine),))}

    def describe(self, levels: Any) -> dict[str, torch.Tensor]:
        return {"distance": (levels.goal - levels.start).abs().float(), "solvable": torch.ones(len(levels))}

    def render(self, levels: Any) -> torch.Tensor:  # the start is cyan, the goal red
        empty = torch.stack([levels.start, levels.goal, levels.goal], 1)[:, None] != torch.arange(15)[:, None]
        return empty.byte()[:, None].repeat_interleave(16, 1).repeat_interleave(16, 2) * 255


if __name__ == "__main__":
    student = {"torso": "symbols", "hidden": 64, "head": 32, "learning_rate": 3e-3, "rollout_steps": 64}
    options = {"total_steps": 20_000, "evaluate_every": 0, "evaluate_suite": "random"}
    run = clutr.train("maze-dr", domain=CorridorDomain(), student=student, run="runs/corridor", **options)
    print("mean return of each update:", run.metrics()["protagonist/mean_return"].round(2))
