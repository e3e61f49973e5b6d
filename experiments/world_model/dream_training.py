"""A student trained in the dream only, beside the same one trained in the environment, both tested in the environment.

Both see latents and memory of the same world model, take as many decisions, and are tested on the same levels, which
nobody has played. The dream is made of the recording alone: its student never takes a real step.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from rich.table import Table
from torch import Tensor

from clutr.agents.ppo import PPOStudent
from clutr.agents.student import Policy
from clutr.envs.domain import Engine, LevelBatch
from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_above, require_at_least, require_one_of
from clutr.experiments.files import read_json, require_writable
from clutr.experiments.storage import CorruptFileError, RunError, load_state, save_state, write_atomically
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, encoded, load_world_model
from clutr.world_model.dream import LATENT_CLIP
from clutr.world_model.dream_engine import RewardRange
from clutr.world_model.latent_engines import MOST_SEEN, LatentDream, LatentEngine, Sees, observation, recorded_starts
from clutr.world_model.latent_student import LATENT, LatentActorCritic, LatentPPOConfig
from clutr.world_model.memory import Scale

PLACES = ("dream", "environment")
"""Where students are trained."""
STARTS = 512
"""Recorded steps at which dreams begin."""
RESAMPLES = 4_000
SAVE_EVERY = 5
"""Updates after which a training is saved."""


@dataclass(frozen=True)
class DreamTrainOptions:
    """How the two students are trained and tested."""

    decisions: int = 262_144
    """Actions that each student takes in training, at most."""
    num_envs: int = 64
    """Episodes side by side in training."""
    rollout_steps: int = 128
    """Steps of each between two updates."""
    horizon: int = 50
    """Steps after which a dream is cut."""
    temperature: float = 1.0
    """Of the draws of next latents."""
    sees: Literal["auto", "latent", "both"] = "auto"
    """What students see: the latent alone, or latent and memory; auto: both, unless the memory's state is a map."""
    episodes: int = 96
    """Levels, which nobody has played, on which every student is tested, to the end of the episode."""
    hidden: int = 64
    """Width of the students' layers."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    seed: int = 1
    """Of students, levels and dreams."""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "decisions", "num_envs", "rollout_steps", "horizon", "hidden")
        require_at_least(self, 2, "episodes")
        require_at_least(self, 0, "temperature", "seed")
        require_above(self, 0, "learning_rate")
        require_one_of(self, ("auto", "latent", "both"), "sees")
        if self.decisions < self.num_envs * self.rollout_steps:
            raise ValueError(
                f"decisions must be at least those of one rollout, {self.num_envs} x {self.rollout_steps}, "
                + f"got {self.decisions}"
            )

    @property
    def updates(self) -> int:
        """Of each student."""
        return self.decisions // (self.num_envs * self.rollout_steps)


@torch.no_grad()
def play(policy: Policy, engine: Engine, levels: LevelBatch, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns `[N]`, and whether levels were solved `[N]` bool, of one episode on each level.

    Actions in a box are the policy's mean ones; discrete ones are drawn, since who never errs may turn for ever.
    """
    surely = isinstance(engine.action_space, spaces.Box)
    seen, state = engine.reset(levels), policy.initial_state(engine.num_envs)
    total, solved = torch.zeros(engine.num_envs), torch.zeros(engine.num_envs, dtype=torch.bool)
    alive = torch.ones(engine.num_envs, dtype=torch.bool)
    while alive.any():
        actions, state = policy.act(seen, state, rng, deterministic=surely)
        seen, reward, terminated, truncated = engine.step(actions)
        total += torch.where(alive, reward.cpu(), 0.0)
        solved |= alive & engine.solved.cpu()
        alive &= ~(terminated | truncated).cpu()
    return total, solved


def share(dream: Tensor, real: Tensor, untrained: Tensor) -> dict[str, Any]:
    """What the dream's student reached of what the real one did, both on the same levels `[N]`.

    Returns:
        `of_return`, the ratio of mean returns, None unless the real one's is above 0; `of_gain`, the same of what
        either has beyond the student before training, None unless the real one gained; each with a 95 % interval by
        resampling levels.
    """
    drawn = np.random.default_rng(0).integers(len(dream), size=(RESAMPLES, len(dream)))
    means = {
        name: np.concatenate([[values.double().mean()], values.double().numpy()[drawn].mean(1)])
        for name, values in (("dream", dream), ("real", real), ("before", untrained))
    }

    def ratio(upper: Any, lower: Any) -> dict[str, Any]:
        if not lower[0] > 0:
            return {"value": None, "interval": None}
        all_ratios = np.where(lower[1:] > 0, upper[1:] / np.where(lower[1:] > 0, lower[1:], 1.0), np.nan)
        low, high = np.nanquantile(all_ratios, [0.025, 0.975])
        return {"value": float(upper[0] / lower[0]), "interval": [float(low), float(high)]}

    return {
        "of_return": ratio(means["dream"], means["real"]),
        "of_gain": ratio(means["dream"] - means["before"], means["real"] - means["before"]),
    }


def greatest_latents(scale: Scale, latents: Tensor) -> Tensor:
    """`[D]`: the greatest recorded sizes of latents `[n, D]`, in standard deviations, and at least `LATENT_CLIP`.

    What is rare and matters, such as a goal in view, may be the one thing that lies beyond.
    """
    return scale.normalise(latents).abs().amax(0).clamp(min=LATENT_CLIP)


class DreamTraining:
    """The trainings and tests of one world model, each resumed from wherever an earlier one stopped.

    Args:
        run: a trained world model.
        options: how.

    Raises:
        RunError: the run is not trained, or was used with other options.
    """

    def __init__(self, run: WorldModelRun, options: DreamTrainOptions) -> None:
        self.options, self.domain = options, run.experiment.domain
        self.folder = run.path / "dream-train" / f"seed-{options.seed}"
        self.model = load_world_model(run)
        self.dreamer = self.model.dreamers[MEMORIES[0]]
        state = self.dreamer.memory.initial_state(1).shape[1]
        chosen: Sees = "both" if state <= MOST_SEEN else "latent"
        self.sees: Sees = chosen if options.sees == "auto" else options.sees
        dataset = run.dataset()
        episodes = encoded(dataset, self.model.backbone, "train", most=STARTS)
        self.dreamer.limit = greatest_latents(self.dreamer.scale, torch.cat([each.mean for each in episodes]))
        self.starts = recorded_starts(self.dreamer, episodes, self._rng("starts"), STARTS)
        self.rewards = RewardRange.of(
            torch.cat([each.rewards for each in episodes]), torch.cat([each.terminated for each in episodes])
        )
        self.recorded = sum(each.rows - 1 for each in dataset.played("train"))
        self.found: dict[str, Any] = {}
        if self.path.exists():
            self.found = read_json(self.path, options=dict)
            if self.found["options"] != asdict(options):
                raise RunError(
                    f"{self.path} was made with other options: use the same, or remove {self.folder} to begin anew"
                )
            _require_tests(self.path, self.found.setdefault("tests", {}), options.episodes)

    @property
    def path(self) -> Path:
        """Where the results are kept."""
        return self.folder / "result.json"

    def _rng(self, *purpose: str | int) -> torch.Generator:
        return named_generator(self.options.seed, "dream-train", *purpose)

    def student(self, engine: Engine) -> PPOStudent:
        """The student before training; the same for both places."""
        config = LatentPPOConfig(
            rollout_steps=self.options.rollout_steps,
            hidden=self.options.hidden,
            learning_rate=self.options.learning_rate,
        )
        made = config.build(engine.observation_space, engine.action_space, self.options.seed, "dream-train")
        network = made.network
        assert isinstance(network, LatentActorCritic)
        network.standardise(observation(self.starts, self.sees)[LATENT])
        return made

    def engine(self, place: str, update: int, num_envs: int) -> Engine:
        """Environments, or dreams whose chances are those of an update."""
        if place == "environment":
            return LatentEngine(self.domain, self.model.backbone, self.dreamer, num_envs, self.sees)
        return LatentDream(
            self.dreamer,
            self.model.backbone,
            self.starts,
            num_envs,
            self.domain.engine(1).action_space,
            self.sees,
            horizon=self.options.horizon,
            temperature=self.options.temperature or None,
            rewards=self.rewards,
            rng=self._rng("dream", update),
        )

    def train(self, place: str, progress: Progress = lambda *_: None) -> PPOStudent:
        """Train the student of a place."""
        options, path = self.options, self.folder / f"student-{place}.safetensors"
        real = self.engine("environment", 0, options.num_envs) if place == "environment" else None
        student = self.student(real or self.engine(place, 0, 1))
        first = 0
        if path.exists():
            try:
                state = load_state(path)
                student.load_state_dict(state["student"])
                first = int(state["updates"])
            except CorruptFileError:
                path.unlink()
        for update in range(first, options.updates):
            engine = real or self.engine(place, update, options.num_envs)
            levels = self.domain.sample(options.num_envs, self._rng("levels", update))
            trajectories = student.rollout(engine, levels)
            learnt = student.learn(trajectories)
            reward = float(trajectories.rewards.sum(0).mean()) / options.rollout_steps
            if (update + 1) % SAVE_EVERY == 0 or update + 1 == options.updates:
                save_state(path, {"student": student.state_dict(), "updates": update + 1})
            progress(update + 1, options.updates, {"reward a step": reward, "entropy": learnt.get("entropy", 0.0)})
        return student

    def test(self, student: PPOStudent) -> dict[str, Any]:
        """Play the levels of the test in the environment."""
        count = self.options.episodes
        engine = self.engine("environment", 0, count)
        levels = self.domain.sample(count, self._rng("test levels"))
        returns, solved = play(student, engine, levels, self._rng("test actions"))
        return {"returns": [round(value, 4) for value in returns.tolist()], "solved": float(solved.float().mean())}

    def run(self, progress_of: Callable[[str], Progress] = lambda _: lambda *_: None) -> dict[str, Any]:
        """Train and test what is missing, and write `result.json`.

        Args:
            progress_of: gives for each of `PLACES` what is told of its updates.
        """
        require_writable(self.folder, "Nothing was trained.")
        self.folder.mkdir(parents=True, exist_ok=True)
        options = self.options
        self.found |= {
            "options": asdict(options),
            "sees": self.sees,
            "decisions": options.updates * options.num_envs * options.rollout_steps,
            "recorded_steps": self.recorded,
        }
        tests = self.found.setdefault("tests", {})
        if "untrained" not in tests:
            tests["untrained"] = self.test(self.student(self.engine("dream", 0, 1)))
            self._write()
        for place in PLACES:
            if place not in tests:
                tests[place] = self.test(self.train(place, progress_of(place)))
                self._write()
        dream, real, before = (torch.tensor(tests[name]["returns"]) for name in (*PLACES, "untrained"))
        self.found["share"] = share(dream, real, before)
        self._write()
        return self.found

    def _write(self) -> None:
        write_atomically(self.path, json.dumps(self.found, indent=1).encode())


def _require_tests(path: Path, tests: Any, episodes: int) -> None:
    """Raises `CorruptFileError` unless each test has as many returns as there are episodes, and a share solved."""
    known = tests if isinstance(tests, dict) else {"tests": tests}
    for name, test in known.items():
        returns, solved = (test.get("returns"), test.get("solved")) if isinstance(test, dict) else (None, None)
        numbers = returns if isinstance(returns, list) and len(returns) == episodes else [None]
        if not all(isinstance(each, int | float) for each in (*numbers, solved)):
            raise CorruptFileError(f"{path} is damaged: {name!r} is not the test of a student in {episodes} episodes")


def result_table(found: dict[str, Any]) -> Table:
    """The students side by side."""
    table = Table(title="tested in the environment", title_justify="left", title_style="bold")
    for heading in ("trained in", "real steps", "mean return", "± 95 %", "solved"):
        table.add_column(heading, justify="left" if heading == "trained in" else "right")
    steps = {"untrained": 0, "dream": 0, "environment": found["decisions"]}
    for name, real in steps.items():
        returns = torch.tensor(found["tests"][name]["returns"])
        spread = 1.96 * float(returns.std()) / len(returns) ** 0.5
        cells = name, f"{real:,}", f"{float(returns.mean()):,.2f}", f"{spread:,.2f}"
        table.add_row(*cells, f"{found['tests'][name]['solved']:.0%}")
    return table


def in_words(found: dict[str, Any]) -> str:
    """The share as a sentence."""
    parts = []
    for key, what in (("of_return", "of the real student's return"), ("of_gain", "of what it gained by training")):
        value, interval = found["share"][key]["value"], found["share"][key]["interval"]
        if value is not None:
            parts.append(f"{value:.0%} [{interval[0]:.0%}, {interval[1]:.0%}] {what}")
    told = " and ".join(parts) or "no share can be told, since the student that was trained for real gained nothing"
    return f"the student of the dream reaches {told}" if parts else told
