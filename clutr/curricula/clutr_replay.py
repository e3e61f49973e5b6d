"""CLUTR with replay: what the teacher finds on the task manifold is kept, and played again while its regret lasts.

CLUTR (arXiv 2210.10243) forgets every task after one rollout. Here tasks go into a level buffer with the regret that
they caused, as in prioritised level replay (arXiv 2110.02439); both students replay the same ones, so that a replayed
task has a regret, too. The teacher learns from its own proposals only. Own construction.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.curricula.base import CURRICULA, Context, Outcome, Pending, Proposal
from clutr.curricula.buffer import LevelBuffer, Priority, ReplayOptions
from clutr.curricula.clutr import CLUTR, CLUTROptions
from clutr.curricula.regret import regret_by_level
from clutr.envs.state import Stateful


@CURRICULA.register("clutr-replay")
@dataclass(frozen=True)
class CLUTRReplayConfig(CLUTROptions):
    """CLUTR's teacher and a buffer of the tasks with the most regret."""

    capacity: int = 1_000
    """Most tasks that the buffer holds."""
    priority: Priority = "rank"
    """How regrets become probabilities: by rank, or proportional to them."""
    temperature: float = 0.3
    """Weights are raised to one over this; towards 0 only the task with the most regret is replayed."""
    staleness: float = 0.3
    """Fraction of the probability that goes to tasks by how long they were not replayed."""
    replay_probability: float = 0.5
    """How often a batch is replayed instead of new."""
    minimum_fill: float = 0.5
    """Nothing is replayed before the buffer is filled to this fraction."""
    replacement: bool = True
    """Whether a task may be drawn for several environments of a batch while others are left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.replay()

    def replay(self) -> ReplayOptions:
        """The buffer's options. Raises `ValueError` if one is out of its range."""
        names = (
            "capacity",
            "priority",
            "temperature",
            "staleness",
            "replay_probability",
            "minimum_fill",
            "replacement",
        )
        return ReplayOptions(**{name: getattr(self, name) for name in names})

    def build(self, context: Context) -> "CLUTRReplay":
        """Make the curriculum. Raises `ValueError` if the experiment has no manifold."""
        return CLUTRReplay(self, context)


class CLUTRReplay(Stateful):
    """Regret-maximising curriculum on a task manifold, with replay.

    Args:
        config: the options.
        context: the experiment; its manifold is needed.
    """

    saved = ("_pending", "teacher", "buffer", "rng")

    def __init__(self, config: CLUTRReplayConfig, context: Context) -> None:
        self.teacher = CLUTR(config, context, "clutr-replay")
        self.students = self.teacher.students
        self.buffer = LevelBuffer(config.replay(), context.domain.level_type, columns=("latent",))
        self.rng = context.generator("replay")
        self._pending: Pending[bool] = Pending()  # whether the proposal is replayed

    def propose(self, n: int) -> Proposal:
        """New tasks of the teacher's choice, or tasks from the buffer."""
        self._pending.require_none()
        replay = float(torch.rand((), generator=self.rng)) < self.buffer.replay_chance
        self._pending.put(replay)
        if not replay:
            return self.teacher.propose(n)
        rows, index = self.buffer.draw(n, self.rng).unique(return_inverse=True)
        assignment = index.expand(len(self.students), n)
        train = torch.ones(len(rows), dtype=torch.bool)
        return Proposal(self.buffer.levels[rows], assignment, train, self.buffer.columns["latent"][rows])

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Teach the teacher what its new tasks were worth; the buffer keeps or updates every task's regret.

        Returns:
            `regret` `[B]`, the teacher's metrics where it learnt, and `buffer/replayed`, 1 or 0.
        """
        replayed = self._pending.take()
        regret = self.teacher.regret
        found = {"regret": regret_by_level(regret, outcome)} if replayed else self.teacher.observe(outcome)
        latents = outcome.proposal.latents
        assert latents is not None
        self.buffer.insert(outcome.proposal.levels, found["regret"], latent=latents)
        return {**found, "buffer/replayed": torch.tensor(float(replayed))}
