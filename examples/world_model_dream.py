"""Act in a dream: a world model of mazes as a Gymnasium environment.

`python examples/world_model_dream.py RUN` takes a trained world model, such as `clutr world record --preset maze` and
`clutr world train` make; without RUN a tiny one is recorded and trained first.
"""

import sys
import tempfile
from pathlib import Path

import torch

from clutr.experiments.world_model.config import WORLD_PRESETS
from clutr.experiments.world_model.run_directory import WorldModelRun, record
from clutr.experiments.world_model.training import encoded, fit_backbone, load_world_model, train_memories
from clutr.world_model.dream_engine import DreamEngine, DreamEnv


def train_tiny(path: Path) -> WorldModelRun:
    """Record and train a world model of 5x5 mazes in a few seconds."""
    run = WorldModelRun.create(path, WORLD_PRESETS["maze-debug"])
    dataset = record(run)
    train_memories(run, dataset, fit_backbone(run, dataset))
    return run


def make_env(run: WorldModelRun) -> DreamEnv:
    """The dream, which begins after the first step of recorded test episodes."""
    model = load_world_model(run)
    dreamer = model.dreamers["trained"]
    episodes = encoded(run.dataset(), model.backbone, "test")
    latents = torch.stack([episode.mean[:2] for episode in episodes], 1)
    actions = torch.stack([episode.actions[:1] for episode in episodes], 1)
    starts, _ = dreamer.observe(latents, actions)
    space = run.experiment.domain.engine(1).action_space
    rng = torch.Generator().manual_seed(1)
    return DreamEnv(DreamEngine(dreamer, model.backbone, starts, 1, space, horizon=50, rng=rng))


def main(run: WorldModelRun, episodes: int = 3) -> list[float]:
    """Play episodes with random actions. Returns their returns."""
    env = make_env(run)
    env.action_space.seed(1)
    returns = []
    for episode in range(episodes):
        env.reset(seed=episode)
        total, done = 0.0, False
        while not done:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, done = total + reward, terminated or truncated
        returns.append(total)
        print(f"episode {episode + 1}: dreamt return {total:.2f}")
    return returns


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(WorldModelRun(sys.argv[1]) if len(sys.argv) > 1 else train_tiny(Path(folder)))
