"""A curriculum in a script for Stable-Baselines3: prioritised level replay chooses the mazes that PPO plays."""

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from clutr.agents.sb3.vec_env import LevelVecEnv
from clutr.curricula.base import Context
from clutr.curricula.plr import PLRConfig
from clutr.envs.maze.domain import MazeDomain
from clutr.sb3 import CurriculumCallback

STEPS = 200_000


def main(steps: int = STEPS) -> PPO:
    """Train for that many environment steps and return the model."""
    domain = MazeDomain(height=7, width=7, max_obstacles=10, max_steps=50)
    first_levels = domain.sample(32, torch.Generator().manual_seed(1))
    env = VecMonitor(LevelVecEnv(domain.engine(32), first_levels, view="symbols"))
    curriculum = PLRConfig(capacity=500).build(Context(domain, seed=1))
    model = PPO("MlpPolicy", env, n_steps=128, batch_size=512, n_epochs=4, seed=1, verbose=1, device="cpu")
    model.learn(steps, callback=CurriculumCallback(curriculum))
    model.save("maze_ppo.zip")  # test it: clutr eval --sb3 maze_ppo.zip --suite small --trust
    return model


if __name__ == "__main__":
    main()
