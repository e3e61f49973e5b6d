"""PACE: levels are worth what the student's parameters change on them.

Source: "PACE: Parameter Change for Unsupervised Environment Design", arXiv 2605.01358. To first order a step along the
gradient g improves the objective by its size times |g|^2, which is the squared norm of the parameters' change. Levels
are scored without learning, the best are kept in a buffer, and students learn on levels from there: robust PLR with
another score. Left open by what could be read of the source: the optimiser of the temporary update (here one
plain gradient step of the policy's objective), and how levels are drawn (here by rank and staleness, as in PLR). Its
buffer replaces the level that scores least; ours the one that is least likely to be drawn.
"""

from dataclasses import dataclass

from torch import Tensor

from clutr.agents.student import EpisodeStatistics, ParameterChange, Student, Trajectories
from clutr.curricula.base import CURRICULA, Context
from clutr.curricula.buffer import Priority
from clutr.curricula.plr import PLR, RobustPLRConfig
from clutr.envs.domain import LevelBatch

SCORE = "parameter_change"


@CURRICULA.register("pace")
@dataclass(frozen=True)
class PACEConfig:
    """PACE, with the buffer of robust PLR."""

    capacity: int = 4_000
    """Most levels that the buffer holds."""
    priority: Priority = "rank"
    """How parameter changes become probabilities: by rank, or proportional to them."""
    temperature: float = 0.3
    """Weights are raised to one over this; towards 0 only the best level is replayed."""
    staleness: float = 0.3
    """Fraction of the probability that goes to levels by how long they were not replayed."""
    replay_probability: float = 0.5
    """How often a batch is replayed, and learnt on, instead of new."""
    minimum_fill: float = 0.5
    """Nothing is replayed before the buffer is filled to this fraction."""

    def __post_init__(self) -> None:
        self.replay()

    def replay(self) -> RobustPLRConfig:
        """The options of replay. Raises `ValueError` if one is out of its range."""
        return RobustPLRConfig(replacement=False, **vars(self))

    def build(self, context: Context) -> "PACE":
        """Make the curriculum."""
        return PACE(self, context)


class PACE(PLR):
    """Robust PLR by parameter change.

    Args:
        config: the options.
        context: the experiment.
    """

    def __init__(self, config: PACEConfig, context: Context) -> None:
        super().__init__(config.replay(), context)
        self.score = parameter_change

    def require_student(self, student: Student) -> None:
        """See `Measuring`."""
        if not isinstance(student, ParameterChange):
            kind = type(student).__name__
            raise ValueError(f"the curriculum 'pace' trains the students ppo and pixel-ppo, not a {kind}")

    def measure(self, student: Student, played: Trajectories) -> dict[str, Tensor]:
        """See `Measuring`."""
        self.require_student(student)
        assert isinstance(student, ParameterChange)
        return {SCORE: student.parameter_change(played).cpu()}


def parameter_change(levels: LevelBatch, statistics: EpisodeStatistics, best_return: Tensor) -> Tensor:  # noqa: ARG001
    """What was measured, averaged over the environments that played a level. `[B]`."""
    return statistics.scores[SCORE]
