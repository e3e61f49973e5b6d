"""CLUTR: a teacher picks points of a pretrained task manifold that maximise regret.

Source: "CLUTR: Curriculum Learning via Unsupervised Task Representation Learning", arXiv 2210.10243, algorithm 1. Each
update: the teacher samples latents, the frozen decoder turns them into tasks, protagonist and antagonist play and
learn, and the teacher learns from the regret.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from clutr.curricula.bandit import LatentBandit
from clutr.curricula.base import CURRICULA, Context, Outcome, Proposal
from clutr.curricula.ppo import TeacherOptions
from clutr.curricula.regret import OBJECTIVES, RunningStd, regret_by_level, students_of
from clutr.envs.state import Stateful
from clutr.envs.validation import require_at_least, require_one_of


@dataclass(frozen=True)
class CLUTROptions(TeacherOptions):
    """CLUTR's teacher. The defaults are the published teacher for mazes, tiny and slow: it took two million tasks.

    A stronger teacher is the same one with a larger `learning_rate` and `hidden`, a `target_kl` that keeps its steps
    small, an `entropy_coefficient` above 0 to keep it from closing in on few tasks, and a uniform `start`.
    """

    regret: Literal["paired", "flexible"] = "paired"
    """Antagonist's best minus protagonist's mean return, or whichever student is better minus the other."""
    normalise_regret: bool = False
    """Divide regret by its running standard deviation (published for car racing)."""
    noise: int = 50
    """Width of the noise that the teacher sees (4 for car racing)."""
    hidden: int = 10
    """Width of the teacher's linear torso (8 for car racing)."""
    start: Literal["published", "uniform"] = "published"
    """What the untrained teacher proposes: random distributions around the middle of the box, or its uniform prior."""
    rounds: int = 1
    """Batches of tasks that the teacher learns from at once: the more, the less its steps follow the regret's noise."""
    environments: int = 1
    """Environments of each student that play the same task, so that its regret is known better, and fewer tasks are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(self, ("paired", "flexible"), "regret")
        require_one_of(self, ("published", "uniform"), "start")
        require_at_least(self, 1, "noise", "hidden", "rounds", "environments")


@CURRICULA.register("clutr")
@dataclass(frozen=True)
class CLUTRConfig(CLUTROptions):
    """CLUTR: a regret-maximising teacher on the frozen task manifold, and two students."""

    def build(self, context: Context) -> "CLUTR":
        """Make the curriculum. Raises `ValueError` if the experiment has no manifold."""
        return CLUTR(self, context)


class CLUTR(Stateful):
    """Regret-maximising curriculum on a task manifold.

    Args:
        config: the options.
        context: the experiment; its manifold is needed.
        name: what the curriculum is called, for the error if there is no manifold.
    """

    saved: ClassVar[tuple[str, ...]] = ("teacher", "scale")

    def __init__(self, config: CLUTROptions, context: Context, name: str = "clutr") -> None:
        self.students = students_of(config.regret)
        self.manifold = context.require_manifold(name)
        self.regret = OBJECTIVES[config.regret]
        self.environments = config.environments
        self.scale = RunningStd() if config.normalise_regret else None
        rng = context.generator("teacher")
        uniform, rounds = config.start == "uniform", config.rounds
        size = self.manifold.dim, config.noise, config.hidden
        self.teacher = LatentBandit(*size, config, rng, uniform=uniform, rounds=rounds)

    def propose(self, n: int) -> Proposal:
        """Decode latents of the teacher's choice, as many as n environments can share.

        Raises:
            RuntimeError: unless the last proposal was observed.
        """
        low, high = self.manifold.bounds
        tasks = max(1, n // self.environments)
        latents = low + (high - low) * self.teacher.act(tasks)
        assignment = (torch.arange(n) % tasks).expand(len(self.students), n)
        return Proposal(self.manifold.decode(latents), assignment, torch.ones(tasks, dtype=torch.bool), latents)

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Teach the teacher. Returns `regret` `[B]` and the teacher's metrics."""
        regret = regret_by_level(self.regret, outcome)
        rewards = regret if self.scale is None else self.scale.normalise(regret)
        return {"regret": regret, **self.teacher.learn(rewards)}
