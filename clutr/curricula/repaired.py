"""REPAIRED: PAIRED's teacher makes levels, and each student replays the best of them from a buffer of its own.

Source: "Replay-Guided Adversarial Environment Design", arXiv 2110.02439, algorithm 2. One coin decides for both
students whether a batch is replayed. They learn on replayed levels only, and the teacher learns only from the regret of
what it has just made: on replayed batches the students play different levels, and their difference is no regret.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clutr.curricula.base import CURRICULA, Context, Outcome, Pending, Proposal
from clutr.curricula.buffer import LevelBuffer, ReplayOptions
from clutr.curricula.paired import PAIRED, PAIREDOptions
from clutr.curricula.scores import Scorer
from clutr.envs.state import Stateful


@CURRICULA.register("repaired")
@dataclass(frozen=True)
class REPAIREDConfig(PAIREDOptions, ReplayOptions):
    """REPAIRED: the options of PAIRED's teacher and of the students' buffers."""

    replay_probability: float = 0.95
    """How often a batch is replayed instead of new."""
    train_on_new: bool = False
    """Whether students learn on the teacher's new levels, too, or only have them scored."""

    def __post_init__(self) -> None:
        PAIREDOptions.__post_init__(self)
        ReplayOptions.__post_init__(self)
        if self.regret == "minimax":
            raise ValueError("REPAIRED compares two students, so regret must be paired or flexible, got 'minimax'")

    def build(self, context: Context) -> "REPAIRED":
        """Make the curriculum. Raises `ValueError` if the domain cannot compute the score."""
        return REPAIRED(self, context)


class REPAIRED(Stateful):
    """PAIRED with a replay buffer for each student.

    Args:
        config: the options.
        context: the experiment.
    """

    saved = ("_pending", "teacher", "buffers", "rng")

    def __init__(self, config: REPAIREDConfig, context: Context) -> None:
        self.config = config
        self.level_type = context.domain.level_type
        self.teacher = PAIRED(config, context)
        self.students = self.teacher.students
        self.buffers = [LevelBuffer(config, self.level_type) for _ in self.students]
        self.score = Scorer(config.score, context.domain)
        self.rng = context.generator("replay")
        self._pending: Pending[bool] = Pending()  # whether the proposal is replayed

    def propose(self, n: int) -> Proposal:
        """The teacher's new levels, or for each student levels from its own buffer."""
        self._pending.require_none()
        chance = min(buffer.replay_chance for buffer in self.buffers)
        replay = float(torch.rand((), generator=self.rng)) < chance
        self._pending.put(replay)
        if replay:
            return self._replay(n)
        made = self.teacher.propose(n)
        return Proposal(made.levels, made.assignment, torch.full((n,), self.config.train_on_new))

    def _replay(self, n: int) -> Proposal:
        """Each student's draws behind one another, each level once; all are learnt on."""
        levels, assignment, first = [], [], 0
        for buffer in self.buffers:
            rows, index = buffer.draw(n, self.rng).unique(return_inverse=True)
            levels.append(buffer.levels[rows])
            assignment.append(first + index)
            first += len(rows)
        return Proposal(
            self.level_type.concatenate(levels), torch.stack(assignment), torch.ones(first, dtype=torch.bool)
        )

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Teach the teacher what its new levels were worth, and score what each student played.

        Returns:
            `score` `[B]`, of the first student where both played a level; of new levels what PAIRED returns; and
            `buffer/replayed`, 1 or 0.
        """
        replayed = self._pending.take()
        found = {} if replayed else self.teacher.observe(outcome)
        score = torch.zeros(len(outcome.proposal.levels))
        for student in reversed(range(len(self.students))):
            played = outcome.proposal.assignment[student].unique()
            score[played] = self._store(outcome, student, played)
        return {**found, "score": score, "buffer/replayed": torch.tensor(float(replayed))}

    def _store(self, outcome: Outcome, student: int, played: Tensor) -> Tensor:
        """Scores of the levels `played` `[P]` by a student, whose buffer takes them."""
        statistics, buffer = outcome.by_level(student), self.buffers[student]
        levels = outcome.proposal.levels
        best = buffer.best_return(levels, statistics)
        score = self.score(levels, statistics, best)[played]
        buffer.insert(levels[played], score, best_return=best[played])
        return score
