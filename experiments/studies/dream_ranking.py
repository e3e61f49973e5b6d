"""Do dreams rank policies whose real returns spread evenly? Cars: imitations with noise, and students at several ages.

    python -m clutr.experiments.studies.dream_ranking WORLD OUT.json [--updates N]

WORLD is a directory that `clutr world train` finished. An imitation of the recorded expert, with and without the
memory, drives with more and more noise; a student is trained in the environment and kept at ages that double. All drive
on the same fresh roads, and in dreams that begin as recorded episodes do. What OUT.json has already is left alone; the
student's ages lie beside it.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from clutr.agents.ppo import PPOStudent
from clutr.envs.randomness import named_generator
from clutr.experiments.benchmarks.measurement import describe_machine
from clutr.experiments.storage import RunError, load_state, save_state, write_atomically
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, WorldModel, encoded, load_world_model
from clutr.world_model.dream import Dreamer, LatentPolicy, LatentState
from clutr.world_model.imitation import Imitation, imitate
from clutr.world_model.latent_engines import MOST_SEEN, LatentEngine, Sees, observation
from clutr.world_model.latent_student import LatentPPOConfig
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.policy_ranking import dream_returns, policy_ranking, real_returns

NOISE = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
"""Of the imitations: with the memory all of them, and of the latent alone those but chance."""
AGES = 10
"""Of the student: before training, and after updates that double up to the last."""
LEVELS, DREAMS, HORIZON = 32, 64, 150
"""Roads and dreams of each policy, and most actions on each."""
NUM_ENVS = 16
"""In the student's training."""


class Student:
    """A student on latents as a policy that acts in both.

    Args:
        student: what acts, by its mean actions.
        dreamer: normalises latents.
        sees: what it observes.
    """

    def __init__(self, student: PPOStudent, dreamer: Dreamer, sees: Sees) -> None:
        self._student, self._dreamer, self._sees = student, dreamer, sees

    def __call__(self, latents: Tensor, state: Tensor) -> Tensor:
        """Actions `[N, A]`."""
        now = LatentState(state, self._dreamer.clip(self._dreamer.scale.normalise(latents)))
        nothing = self._student.initial_state(len(latents))
        return self._student.act(observation(now, self._sees), nothing, torch.Generator(), deterministic=True)[0]


def ages(updates: int) -> list[int]:
    """Updates after which the student is kept: none, and about `AGES - 1` numbers that grow evenly by ratio."""
    ratio = updates ** (1 / max(1, AGES - 2))
    return sorted({0, *(round(ratio**k) for k in range(AGES - 1))})


def imitations(run: WorldModelRun, dreamer: Dreamer, episodes: list[LatentEpisode], sees: Sees) -> Iterator[Any]:
    """Name and policy of the imitations of one kind, from good to bad; and R^2 of its actions on other episodes."""
    space = run.experiment.domain.engine(1).action_space
    assert isinstance(space, spaces.Box)
    fitted, quality = imitate(dreamer, episodes, sees, torch.from_numpy(space.low), torch.from_numpy(space.high))
    for noise in NOISE if sees == "both" else NOISE[:-1]:
        rng = named_generator(run.experiment.seed, "dream-ranking", sees, str(noise))
        policy = Imitation(fitted.probe, dreamer, sees, fitted.low, fitted.high, noise, rng)
        yield f"imitation of {'latent and memory' if sees == 'both' else 'the latent'}, noise {noise}", policy, quality


def students(
    run: WorldModelRun, model: WorldModel, sees: Sees, folder: Path, updates: int
) -> Iterator[tuple[str, LatentPolicy]]:
    """The student at its ages, each kept in `folder`, trained from the last one that is there."""
    dreamer, domain, seed = model.dreamers[MEMORIES[0]], run.experiment.domain, run.experiment.seed
    engine = LatentEngine(domain, model.backbone, dreamer, NUM_ENVS, sees)
    student = LatentPPOConfig().build(engine.observation_space, engine.action_space, seed, "dream-ranking")
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    for age in ages(updates):
        path = folder / f"student-{age}.safetensors"
        if path.exists():
            student.load_state_dict(load_state(path))
        else:
            for update in range(done, age):
                levels = domain.sample(NUM_ENVS, named_generator(seed, "dream-ranking", "levels", update))
                student.learn(student.rollout(engine, levels))
            save_state(path, student.state_dict())
        done = age
        yield f"student after {age} updates", Student(student, dreamer, sees)


def first_steps(dreamer: Dreamer, episodes: list[LatentEpisode]) -> LatentState:
    """States after the first action of recorded episodes, which begin at rest like those in the environment."""
    chosen = [episodes[i % len(episodes)] for i in range(DREAMS)]
    latents = torch.stack([episode.mean[:2] for episode in chosen], 1)
    return dreamer.observe(latents, torch.stack([episode.actions[:1] for episode in chosen], 1))[0]


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("world", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--updates", type=int, default=64)
    asked = parser.parse_args(arguments)
    run = WorldModelRun(asked.world)
    domain, dataset, seed = run.experiment.domain, run.dataset(), run.experiment.seed
    if not isinstance(domain.engine(1).action_space, spaces.Box):
        raise RunError(f"{run.path} is of discrete actions: imitations with noise are of actions in a box, as of cars")
    model = load_world_model(run)
    dreamer = model.dreamers[MEMORIES[0]]
    sees: Sees = "both" if dreamer.memory.initial_state(1).shape[1] <= MOST_SEEN else "latent"
    train, test = (encoded(dataset, model.backbone, split) for split in ("train", "test"))
    if not test:
        raise RunError(f"{run.path} has no test episode at whose first steps dreams could begin: record more")
    expert = [each for each, about in zip(train, dataset.played("train"), strict=True) if about.policy == "expert"]
    levels = domain.sample(LEVELS, named_generator(seed, "dream-ranking", "roads"))
    budget = {"updates": asked.updates, "levels": LEVELS, "dreams": DREAMS, "horizon": HORIZON}
    found: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {"budget": budget}
    if found["budget"] != budget:
        raise RunError(f"{asked.out} was made with the budget {found['budget']}: name another file")
    found |= {"machine": describe_machine(), "seed": seed, "frames": len(dataset)}
    known = found.setdefault("policies", {})

    def judge(name: str, policy: LatentPolicy) -> None:
        if name in known:
            return
        returns = {"real": float(real_returns(policy, domain, levels, model.backbone, dreamer, HORIZON).mean())}
        for memory, each in model.dreamers.items():
            rng = named_generator(seed, "dream-ranking", memory)
            starts = first_steps(each, test)
            returns[memory] = float(dream_returns(policy, each, starts, HORIZON, rng).mean())
        known[name] = returns
        print(name, returns, flush=True)
        write_atomically(asked.out, json.dumps(found, indent=1).encode())

    for kind in dict.fromkeys((sees, "latent")):
        for name, policy, quality in imitations(run, dreamer, expert, kind):
            found.setdefault("imitation_r2", {})[kind] = [round(value, 4) for value in quality.tolist()]
            judge(name, policy)
    for name, policy in students(run, model, sees, asked.out.with_suffix(""), asked.updates):
        judge(name, policy)
    real = [returns["real"] for returns in known.values()]
    for memory in model.dreamers:
        ranking = policy_ranking(real, [returns[memory] for returns in known.values()])
        found.setdefault("ranking", {})[memory] = ranking._asdict()
    write_atomically(asked.out, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main()
