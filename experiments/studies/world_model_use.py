"""What a trained world model of cars is good for: do its dreams rank policies, and does its memory help a controller?

    python -m clutr.experiments.studies.world_model_use WORLD OUT.json [--generations N]

WORLD is a directory that `clutr world train` finished. 24 road followers of different quality drive in the environment
and in the dream. Linear controllers are evolved in the environment on the latent alone, with the memory, and with the
memory whose core was never trained. What OUT.json has already is left alone.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.reports.world_model_report import read_out_of
from clutr.experiments.storage import write_atomically
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, WorldModel, encoded, load_world_model
from clutr.world_model.controller import ControllerOptions, Sees, controller_returns, evolve
from clutr.world_model.dream import Dreamer, LatentState
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe
from clutr.world_model.policy_ranking import dream_returns, policy_ranking, proportional_drivers, real_returns

LEVELS = 32
"""Roads on which each policy drives, the same for all."""
DREAMS = 64
HORIZON = 150
"""Actions of each drive and of each dream; 6 seconds of the preset `car`."""
EVOLVED = 200
"""Most actions of the episodes that controllers are judged by."""
CONTROLLERS: dict[str, tuple[Sees, str]] = {
    "latent alone": ("latent", MEMORIES[0]),
    "latent and memory": ("both", MEMORIES[0]),
    "latent and untrained memory": ("both", MEMORIES[1]),
}
FINAL_EPISODES = 64
"""Fresh roads on which an evolved controller is judged in the end."""


def rank_policies(
    run: WorldModelRun, model: WorldModel, read_out: LinearProbe, test: list[LatentEpisode]
) -> dict[str, Any]:
    """Mean returns of the road followers in the environment and in dreams, and their correlation, beside a control."""
    dataset = run.dataset()
    levels = run.experiment.domain.sample(LEVELS, named_generator(run.experiment.seed, "validity"))
    followers = proportional_drivers(read_out, dataset.quantities)
    real = [
        float(
            real_returns(
                each, run.experiment.domain, levels, model.backbone, model.dreamers[MEMORIES[0]], HORIZON
            ).mean()
        )
        for each in followers
    ]
    found: dict[str, Any] = {}
    for name, dreamer in model.dreamers.items():
        rng = named_generator(run.experiment.seed, "validity", name)
        starts = _starts(dreamer, test)
        dreamt = [float(dream_returns(each, dreamer, starts, HORIZON, rng).mean()) for each in followers]
        found[name] = policy_ranking(real, dreamt)._asdict()
    found["policies"] = [{"speed": each.speed, "gain": each.gain} for each in followers]
    return found


def _starts(dreamer: Dreamer, episodes: list[LatentEpisode]) -> LatentState:
    """Steps right after the first action of recorded episodes, which begin at rest like those in the environment."""
    chosen = [episodes[i % len(episodes)] for i in range(DREAMS)]
    latents = torch.stack([episode.mean[:2] for episode in chosen], 1)
    actions = torch.stack([episode.actions[:1] for episode in chosen], 1)
    return dreamer.observe(latents, actions)[0]


def controller(run: WorldModelRun, model: WorldModel, name: str, generations: int) -> dict[str, Any]:
    """Evolve one controller and judge it on fresh roads."""
    sees, memory = CONTROLLERS[name]
    options = ControllerOptions(sees=sees, generations=generations, horizon=EVOLVED)
    domain, seed = run.experiment.domain, run.experiment.seed
    found = evolve(domain, model.backbone, model.dreamers[memory], options, seed)
    final = ControllerOptions(sees=sees, episodes=1, horizon=EVOLVED)
    returns = [
        controller_returns(
            found.weights[None],
            domain,
            model.backbone,
            model.dreamers[memory],
            final,
            named_generator(seed, "final", i),
        )
        for i in range(FINAL_EPISODES)
    ]
    scores = torch.cat(returns)
    interval = 1.96 * float(scores.std()) / FINAL_EPISODES**0.5
    return {
        "return": float(scores.mean()),
        "plus_minus": interval,
        "episodes": FINAL_EPISODES,
        "history": found.history,
    }


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("world", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--generations", type=int, default=40)
    arguments = parser.parse_args()
    run = WorldModelRun(arguments.world)
    model, dataset = load_world_model(run), run.dataset()
    train, test = (encoded(dataset, model.backbone, split) for split in ("train", "test"))
    read_out, quality = read_out_of(dataset, train, test)
    found: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    found |= {"machine": describe_machine(), "seed": run.experiment.seed, "horizon": HORIZON}
    found["read_out_r2"] = dict(zip(dataset.quantities, quality.tolist(), strict=True))
    if "policy_ranking" not in found:
        found["policy_ranking"] = rank_policies(run, model, read_out, test)
        write_atomically(arguments.out, json.dumps(found, indent=1).encode())
    known = found.setdefault("controllers", {})
    for name in CONTROLLERS:
        if name not in known:
            known[name] = controller(run, model, name, arguments.generations)
            print(name, known[name]["return"], flush=True)
            write_atomically(arguments.out, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main()
